"""The table: one row a message, the same columns whatever the protocol.

Everything that draws or checks starts here. Absent is <NA>; types are pandas' nullable ones.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.capture.decode import COLUMNS, PROTOCOLS, Decoder
from labkit.capture.decode.decoder import PIECE_BYTES
from labkit.capture.decode.schema import join
from labkit.capture.derived import calls, dialogs, diameter_pairs, registrations, rpc_pairs, rtp_streams, transactions
from labkit.capture.folder import CAPTURE_FILE
from labkit.capture.messages import Messages, raw_messages
from labkit.capture.naming import node_columns
from labkit.capture.settling import settled
from labkit.errors import CaptureError, LabkitError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "COLUMNS",
    "Messages",
    "calls",
    "dialogs",
    "diameter_pairs",
    "read_capture",
    "registrations",
    "rpc_pairs",
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

Source = bytes | bytearray | memoryview | str | os.PathLike[str]
Where = str | Callable[["pd.DataFrame"], Any]


def read_capture(
    source: Source,
    names: Mapping[str, str] | None = None,
    *,
    protocols: Collection[str] = PROTOCOLS,
    where: Where | None = None,
    guess_rtp: bool = False,
) -> Messages:
    """Read a capture into a table.

    Args:
        source: path of a pcap or pcapng file (plain or gzip), or its bytes; or a folder of such files, which are read
            in the order of their names as the one capture that was cut into them.
        names: node names by "address" or "address:port" (the latter wins); names that the file itself
            holds serve where these say nothing.
        protocols: those to read, of "sip", "diameter", "rtp", "rtcp", "evapi", "jsonrpc".
        where: the rows to keep: an expression as for `DataFrame.query` ("status >= 400"), or what takes the table and
            gives a boolean for each row.
        guess_rtp: take for RTP what behaves like it although no SDP announced it.
    Returns:
        The messages. What a capture lacks (it is truncated, packets are cut short, a segment is lost) costs only the
        messages that it was part of, and one Python warning says it all.
    Raises:
        CaptureError: there is no such file, or it is no capture; an unknown protocol; a `where` that cannot be.
    """
    if unknown := sorted(set(protocols) - set(PROTOCOLS)):
        raise CaptureError(f"{', '.join(unknown)} cannot be read from a capture; known are {', '.join(PROTOCOLS)}.")
    decoder = Decoder(protocols=protocols, keep_raw=True, guess_rtp=guess_rtp)
    batches = [batch for piece in _pieces(source, decoder) for batch in decoder.feed(piece).batches()]
    rows = join(batches + decoder.finish().batches(), raw=True)
    if said := " ".join(filter(None, (decoder.warning, *decoder.notes))):
        warnings.warn(said, stacklevel=2)
    all_names = {**decoder.names, **(names or {})}
    raw = raw_messages(rows["raw"])
    table = _dataframe(rows, raw, all_names)
    if where is not None:
        kept = _kept(table, where)
        table, raw = table[kept].reset_index(drop=True), raw_messages(rows["raw"].filter(_arrow_mask(kept)))
    return Messages(table, raw, all_names, decoder.warning, tuple(decoder.notes))


def _pieces(source: Source, decoder: Decoder) -> Iterator[bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
        return
    for number, path in enumerate(_files(Path(source))):
        if number:
            decoder.next_file()
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        except OSError as error:
            raise CaptureError(f"Cannot read the capture {path}: {error.strerror}.") from error


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if CAPTURE_FILE.search(file.name))
    if not found:
        raise CaptureError(f"There is no capture in the folder {path}: no file's name ends in .pcap, .pcapng or .gz.")
    return found


def _dataframe(rows: pa.Table, raw: Sequence[bytes], names: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    kinds: dict[str, tuple[Any, Any]] = {name: (pa.int64(), pd.Int64Dtype()) for name in _INTEGER}
    kinds |= {name: (pa.bool_(), pd.BooleanDtype()) for name in _BOOLEAN}
    text: tuple[Any, Any] = (pa.large_string(), pd.StringDtype())
    nodes = node_columns(rows, raw, names)
    series: dict[str, Any] = {}
    for name in COLUMNS:
        if name == "time":
            series[name] = rows[name].to_pandas()
            continue
        arrow, dtype = kinds.get(name, text)
        series[name] = dtype.__from_arrow__((nodes[name] if name in nodes else rows[name]).cast(arrow))
    return pd.DataFrame(series, columns=list(COLUMNS))


def _kept(table: pd.DataFrame, where: Where) -> Any:
    """The rows to keep, as numpy booleans; absent is no."""
    import numpy as np

    try:
        answer = table.eval(where) if isinstance(where, str) else where(table)
        kept = np.asarray(answer.fillna(False) if hasattr(answer, "fillna") else answer, dtype=bool)
    except LabkitError:
        raise
    except Exception as error:  # whatever pandas makes of an expression that somebody typed
        raise CaptureError(f"where={where!r} cannot be asked of the table: {error}") from error
    if kept.shape != (len(table),):
        raise CaptureError(f"where={where!r} must give a yes or no for each of the {len(table)} rows.")
    return kept


def _arrow_mask(kept: Any) -> pa.Array:
    import pyarrow as pa

    return pa.array(kept)
