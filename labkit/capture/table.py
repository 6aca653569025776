"""The table: one row a message, the same columns whatever the protocol.

Everything that draws or checks starts here. Absent is <NA>; types are pandas' nullable ones.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.capture.decode import COLUMNS, Decoded, decode
from labkit.capture.derived import dialogs, diameter_pairs, registrations, rtp_streams, transactions
from labkit.capture.naming import Endpoint, EndpointNames
from labkit.capture.settling import settled
from labkit.errors import CaptureError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "Messages",
    "dialogs",
    "diameter_pairs",
    "read_capture",
    "registrations",
    "rtp_streams",
    "settled",
    "transactions",
]

_BOOLEAN = {"request", "marker"}
# fmt: off
_INTEGER = {
    "frame", "src_port", "dst_port", "status", "cseq", "command_code", "flags", "application_id", "hop_by_hop_id",
    "end_to_end_id",
    "result_code", "experimental_result_code", "user_authorization_type", "server_assignment_type",
    "payload_type", "ssrc", "sequence", "rtp_timestamp",
}
# fmt: on


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """The messages of one capture."""

    table: pd.DataFrame
    """One row a message, COLUMNS in order, index 0..n-1 in the order of frames."""
    raw: list[bytes]
    """The messages themselves, raw[i] belongs to row i."""
    names: dict[str, str]
    """Names of nodes by "address" or "address:port"."""
    warning: str = ""
    """Empty, or one sentence on a truncated or damaged capture."""

    def __len__(self) -> int:
        return len(self.raw)


def read_capture(source: bytes | str | os.PathLike[str], names: Mapping[str, str] | None = None) -> Messages:
    """Read a capture into a table.

    Args:
        source: path of a pcap or pcapng file (plain or gzip), or its bytes.
        names: node names by "address" or "address:port" (the latter wins); names that the file itself
            holds serve where these say nothing.
    Returns:
        The messages; a truncated capture gives what is whole and one Python warning.
    Raises:
        CaptureError: there is no such file, or it is no capture.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        raw = bytes(source)
    else:
        try:
            raw = Path(source).read_bytes()
        except OSError as error:
            raise CaptureError(f"Cannot read the capture {os.fspath(source)}: {error.strerror}.") from error
    decoded = decode(raw)
    if decoded.warning:
        warnings.warn(decoded.warning, stacklevel=2)
    all_names = {**decoded.names, **(names or {})}
    return Messages(_dataframe(decoded, all_names), decoded.raw, all_names, decoded.warning)


def _dataframe(decoded: Decoded, names: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    columns = decoded.columns
    ends: dict[str, list[Endpoint]] = {
        side: [
            (str(address), int(str(port))) for address, port in zip(columns[side], columns[f"{side}_port"], strict=True)
        ]
        for side in ("src", "dst")
    }
    lookup = EndpointNames(names)
    lookup.learn(columns["method"], ends["src"], decoded.raw)
    for side, endpoints in ends.items():
        columns[f"{side}_node"] = [lookup.of(*endpoint) for endpoint in endpoints]
    series: dict[str, object] = {}
    for name in COLUMNS:
        if name == "time":
            series[name] = pd.to_datetime(pd.Series(columns[name], dtype="int64"), unit="ns", utc=True)
        else:
            dtype = "Int64" if name in _INTEGER else "boolean" if name in _BOOLEAN else "string"
            series[name] = pd.array(columns[name], dtype=dtype)  # type: ignore[call-overload]
    return pd.DataFrame(series, columns=list(COLUMNS))
