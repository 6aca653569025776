"""The table: one row a message, the same columns whatever the protocol.

Everything that draws or checks starts here. Absent is <NA>; types are pandas' nullable ones.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.capture.decode import COLUMNS, Decoded, decode
from labkit.errors import CaptureError

if TYPE_CHECKING:
    import pandas as pd

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
    for side in ("src", "dst"):
        columns[f"{side}_node"] = [
            node_name(str(address), port, names)
            for address, port in zip(columns[side], columns[f"{side}_port"], strict=True)
        ]
    series: dict[str, object] = {}
    for name in COLUMNS:
        if name == "time":
            series[name] = pd.to_datetime(pd.Series(columns[name], dtype="int64"), unit="ns", utc=True)
        else:
            dtype = "Int64" if name in _INTEGER else "boolean" if name in _BOOLEAN else "string"
            series[name] = pd.array(columns[name], dtype=dtype)  # type: ignore[call-overload]
    return pd.DataFrame(series, columns=list(COLUMNS))


def node_name(address: str, port: object, names: Mapping[str, str]) -> str | None:
    """Look up the name of a node; "address:port" (IPv6: "[address]:port") wins over "address"."""
    text = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return names.get(text) or names.get(address)


# ---------------------------------------------------------------- what is still open


def settled(messages: Messages) -> list[str]:
    """Name what was asked and is not answered yet; empty when a capture may end.

    A SIP request needs a final response at each hop, an INVITE may also ring; what answers an INVITE needs its ACK. A
    Diameter request needs its answer.

    Returns:
        For example ["INVITE pcscf -> scscf", "UAR icscf -> hss"].
    """
    rows = plain_rows(messages.table)
    return [*_open_requests(rows), *_missing_acks(rows), *_open_diameter(rows)]


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the rows as dictionaries of plain Python values; absent is None, time is in nanoseconds since 1970."""
    columns: dict[str, list[Any]] = {}
    for name in table.columns:
        if name == "time":
            columns[name] = [int(value) for value in table[name].astype("int64")]
        else:
            column = table[name].astype(object)
            columns[name] = list(column.where(table[name].notna(), None))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _hop(row: dict[str, Any]) -> tuple[str, str]:
    return row["src_node"] or row["src"], row["dst_node"] or row["dst"]


def _transaction(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a SIP request and its responses share at one hop (RFC 3261 section 17.1.3)."""
    method = row["method"] or row["cseq_method"]
    return row["branch"], row["call_id"], row["cseq"], "INVITE" if method == "ACK" else method


def _named(what: str, hop: tuple[str, str]) -> str:
    return f"{what} {hop[0]} -> {hop[1]}"


def _open_requests(rows: list[dict[str, Any]]) -> Iterator[str]:
    answered = {
        (*_transaction(row), *_hop(row))
        for row in rows
        if row["status"] and (row["status"] >= 200 or (row["status"] > 100 and row["cseq_method"] == "INVITE"))
    }
    seen = set()
    for row in rows:
        key = (*_transaction(row), *reversed(_hop(row)))
        if row["method"] and row["method"] != "ACK" and key not in answered and key not in seen:
            seen.add(key)
            yield _named(row["method"], _hop(row))


def _missing_acks(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Final responses to INVITE whose ACK has not arrived: a 2xx is acknowledged end to end, others hop by hop."""
    finals = [row for row in rows if row["cseq_method"] == "INVITE" and (row["status"] or 0) >= 200]
    acks = [row for row in rows if row["method"] == "ACK"]
    hop_by_hop = {(*_transaction(row), *_hop(row)) for row in acks}
    arrived = {(row["call_id"], row["cseq"], _hop(row)[1]) for row in acks}
    passed_on = {(row["call_id"], row["cseq"], _hop(row)[1]) for row in finals if row["status"] < 300}
    seen = set()
    for row in finals:
        here, there = _hop(row)
        if row["status"] >= 300:
            missing = (*_transaction(row), there, here) not in hop_by_hop
        else:
            end = (row["call_id"], row["cseq"], here)
            missing = end not in passed_on and end not in arrived
        key = (*_transaction(row), here)
        if missing and key not in seen:
            seen.add(key)
            yield _named(f"ACK of {row['status']}", (there, here))


def _open_diameter(rows: list[dict[str, Any]]) -> Iterator[str]:
    answered = {
        (row["hop_by_hop_id"], row["end_to_end_id"], *_hop(row))
        for row in rows
        if row["protocol"] == "diameter" and not row["request"]
    }
    for row in rows:
        if row["protocol"] == "diameter" and row["request"]:
            key = (row["hop_by_hop_id"], row["end_to_end_id"], *reversed(_hop(row)))
            if key not in answered:
                yield _named(row["command"], _hop(row))
