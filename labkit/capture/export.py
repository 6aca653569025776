"""A capture of any size to a table in a file: read in pieces, written in pieces, with flat memory.

Rows stand in the order in which messages were completed. One exception: a media packet that came before the SDP that
announced it is told apart only then, and stands behind it.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from labkit.capture.decode import PROTOCOLS, Decoder
from labkit.capture.decode.schema import join, types
from labkit.errors import CaptureError
from labkit.wire.diameter_names import command_name

if TYPE_CHECKING:
    import pyarrow as pa

# fmt: off
EXPORTED = (
    "frame", "time", "src", "src_port", "dst", "dst_port", "transport", "protocol",
    "method", "status", "reason", "call_id", "cseq", "cseq_method", "from_user", "to_user", "from_tag", "to_tag",
    "branch",
    "command_code", "flags", "application_id", "hop_by_hop_id", "end_to_end_id", "session_id",
    "result_code", "experimental_result_code", "user_name", "public_identity", "origin_host",
    "ssrc", "sequence", "rtp_timestamp", "payload_type", "marker",
)
# fmt: on
"""The columns of an exported table, in order."""
ENDINGS = (".parquet", ".arrow", ".csv")
"""The formats, by the ending of the file's name."""
_COUNTED = (
    "protocol", "method", "status", "cseq_method", "command_code", "request", "payload_type", "result_code",
    "experimental_result_code",
)  # fmt: skip
PIECE_BYTES = 3 << 20
"""Less than `decoder.PIECE_BYTES`: a fifth slower, but flat memory is what an export is for."""
_WISH = b"labkit"
"""Under this name a Parquet file says what it was asked to hold."""
_ROWS_AT_ONCE = 1 << 14
"""Rows of a row group: enough for a column to pack well, little enough to hold."""


@dataclass(slots=True)
class Export:
    """What was written, and what there is to know of the capture."""

    frames: int = 0
    """Whole frames read."""
    rows: int = 0
    """Messages written."""
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in PROTOCOLS})
    """For each protocol how often what came: methods and statuses, commands with their results, payload types."""
    warning: str = ""
    """Empty, or a sentence on where the capture ends early or is damaged."""
    notes: list[str] = field(default_factory=list)
    """What the reader could not understand or did not keep, a sentence each."""


class _Writer(Protocol):
    """What the writers of all three formats have in common."""

    def write_table(self, table: pa.Table) -> None:
        """Write rows."""

    def close(self) -> None:
        """Finish the file."""


def export_capture(
    source: IO[bytes],
    target: Path | None = None,
    *,
    protocols: Collection[str] = PROTOCOLS,
    guess_rtp: bool = False,
) -> Export:
    """Decode a capture from a file or a pipe, and write its table.

    Args:
        source: read to its end, a piece at a time.
        target: its name ends in one of ENDINGS; it appears when it is whole. None: only count.
        protocols: those to write, of PROTOCOLS.
        guess_rtp: take for RTP what behaves like it although no SDP announced it.
    Raises:
        CaptureError: what was read is no capture, or the target cannot be written.
    """
    done = Export()
    decoder = Decoder(protocols=protocols, guess_rtp=guess_rtp)
    with _writer(target, wish_of(protocols, guess_rtp)) as writer:
        for table in _tables(source, decoder):
            done.rows += len(table)
            _count(table, done.counts)
            if writer is not None:
                table = table.select(EXPORTED).cast(_schema())
                writer.write_table(table)
            del table  # its memory serves the next pieces
    done.frames, done.warning, done.notes = decoder.frames, decoder.warning, decoder.notes
    return done


def wish_of(protocols: Collection[str], guess_rtp: bool) -> str:
    """Say in a line what a table was asked to hold: a Parquet file keeps it, see `wish_in`."""
    return " ".join((*sorted(protocols), *(["guess_rtp"] * guess_rtp)))


def wish_in(path: Path) -> str | None:
    """Give what a Parquet file was asked to hold; None where it does not say, or is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (pq.read_schema(path).metadata or {}).get(_WISH, b"").decode() or None
    except (OSError, pa.ArrowException):
        return None


def _tables(source: IO[bytes], decoder: Decoder) -> Iterator[pa.Table]:
    """Give the rows some ten thousand at a time."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    while piece := source.read(PIECE_BYTES):
        found = decoder.feed(piece)
        waiting += found.batches()
        rows += len(found)
        if rows >= _ROWS_AT_ONCE:
            joined = [join(waiting)]
            waiting, rows = [], 0
            yield joined.pop()  # nothing is kept here while it is written
    waiting += decoder.finish().batches()
    if waiting:
        yield join(waiting)


def _schema() -> pa.Schema:
    """Texts plainly, for a file format numbers repeated values by itself."""
    import pyarrow as pa

    plain = {name: pa.string() if pa.types.is_dictionary(kind) else kind for name, kind in types().items()}
    return pa.schema([(name, plain[name]) for name in EXPORTED])


@contextmanager
def _writer(target: Path | None, wish: str) -> Iterator[_Writer | None]:
    """Write beside the target and rename at the end, so that a target is whole or not there."""
    if target is None:
        yield None
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise CaptureError(f"Cannot write {target}: {error.strerror}.") from error
    try:
        writer = _open(Path(name), target.suffix, wish)
        try:
            yield writer
        finally:
            writer.close()
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError as error:
        raise CaptureError(f"Cannot write {target}: {error.strerror or error}.") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _open(path: Path, ending: str, wish: str) -> Any:
    import pyarrow as pa

    if ending == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, _schema().with_metadata({_WISH: wish.encode()}))
    if ending == ".arrow":
        return pa.ipc.new_file(path, _schema())
    import pyarrow.csv

    return pyarrow.csv.CSVWriter(path, _schema())


def _count(table: pa.Table, counts: dict[str, Counter[str]]) -> None:
    """Add what the rows are to the counts."""
    import numpy as np

    from labkit.capture.decode.columns import numbers

    # Not `group_by`: that imports pyarrow.dataset and pandas, more memory than the rest of an export needs.
    table = table.select(_COUNTED)
    group: Any = np.zeros(len(table), np.int64)
    for column in table.columns:
        codes = _codes(column)
        _, group = np.unique(group * (int(codes.max(initial=0)) + 1) + codes, return_inverse=True)
    _, first, often = np.unique(group, return_index=True, return_counts=True)
    for row, count in zip(table.take(numbers(first)).to_pylist(), often.tolist(), strict=True):
        counts[row["protocol"]][_words(row)] += count


def _codes(column: pa.ChunkedArray) -> Any:
    """Small numbers in place of the values of a column, absent ones too; its dictionaries must be unified."""
    import pyarrow as pa

    from labkit.capture.decode.columns import array_of

    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.indices for chunk in column.chunks], column.type.index_type)
    encoded = column.dictionary_encode(null_encoding="encode")
    return array_of(pa.chunked_array([chunk.indices for chunk in encoded.chunks], pa.int32()))


def _words(row: dict[str, Any]) -> str:
    """What a kind of message is called in a count."""
    if row["protocol"] == "sip":
        return str(row["method"] or f"{row['status']} to {row['cseq_method'] or '?'}")
    if row["protocol"] == "diameter":
        name = command_name(row["command_code"], bool(row["request"]))
        codes = [str(row[key]) for key in ("result_code", "experimental_result_code") if row[key] is not None]
        return " ".join([name, *codes])
    if row["protocol"] in ("evapi", "jsonrpc"):
        return str(row["method"] or "answer")
    return f"payload type {row['payload_type']}"
