"""The columns of each protocol as Arrow types, rows as batches, and batches joined to the one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from labkit.capture.fields import Row

if TYPE_CHECKING:
    import pyarrow as pa

# fmt: off
COLUMNS = (
    "frame", "time", "src", "src_port", "dst", "dst_port", "src_node", "dst_node", "transport", "protocol",
    "method", "status", "reason", "call_id", "cseq", "cseq_method", "from_user", "to_user", "from_tag",
    "to_tag", "branch",
    "command_code", "command", "request", "flags", "application_id", "hop_by_hop_id", "end_to_end_id",
    "session_id",
    "result_code", "experimental_result_code", "user_name", "public_identity", "visited_network",
    "server_name",
    "user_authorization_type", "server_assignment_type", "origin_host",
    "payload_type", "ssrc", "sequence", "rtp_timestamp", "marker",
)
# fmt: on
"""The columns of the table, in order. `time` is in nanoseconds since 1970 here, a timestamp in the table."""

PROTOCOLS = ("sip", "diameter", "rtp", "rtcp", "evapi", "jsonrpc")
"""The protocols that the decoder knows."""

_COMMON = COLUMNS[:6] + COLUMNS[8:10]
_COLUMNS_OF = {
    "sip": _COMMON + COLUMNS[10:21],
    "diameter": _COMMON + COLUMNS[21:38],
    "rtp": _COMMON + COLUMNS[38:],
    "rtcp": (*_COMMON, "payload_type", "ssrc"),
    "evapi": (*_COMMON, "method", "reason", "call_id", "request", "session_id"),
    "jsonrpc": (*_COMMON, "method", "status", "reason", "call_id", "request", "session_id"),
}
_TYPES = {
    **dict.fromkeys(("frame", "command_code", "application_id", "hop_by_hop_id", "end_to_end_id"), "uint32"),
    **dict.fromkeys(("result_code", "experimental_result_code", "ssrc", "rtp_timestamp"), "uint32"),
    **dict.fromkeys(("user_authorization_type", "server_assignment_type"), "uint32"),
    **dict.fromkeys(("src_port", "dst_port", "status", "sequence"), "uint16"),
    **dict.fromkeys(("flags", "payload_type"), "uint8"),
    **dict.fromkeys(("request", "marker"), "bool"),
    **dict.fromkeys(("transport", "protocol"), "word"),
    "cseq": "int64",
    "time": "time",
    "branch": "string",
}
"""Type of each column; those not named are text that repeats."""


@cache
def types() -> dict[str, pa.DataType]:
    """Arrow type of each column."""
    import pyarrow as pa

    named = {
        **{name: getattr(pa, name)() for name in ("uint8", "uint16", "uint32", "int64", "string")},
        "bool": pa.bool_(),
        "time": pa.timestamp("ns", "UTC"),
        "word": pa.dictionary(pa.int8(), pa.string()),
        "text": pa.dictionary(pa.int32(), pa.string()),
    }
    return {name: named[_TYPES.get(name, "text")] for name in COLUMNS} | {"raw": pa.large_binary()}


@cache
def names_of(protocol: str, raw: bool = False) -> tuple[str, ...]:
    """The names of the columns that a protocol's batches have; arguments as for `schema_of`."""
    return (*_COLUMNS_OF[protocol], *(["raw"] * raw))


@cache
def schema_of(protocol: str, raw: bool = False) -> pa.Schema:
    """The schema of a protocol's batches: the columns that it has, in the order of COLUMNS.

    Args:
        protocol: one of PROTOCOLS.
        raw: with the message's bytes as a last column.
    """
    import pyarrow as pa

    return pa.schema([(name, types()[name]) for name in names_of(protocol, raw)])


def batch_of_rows(protocol: str, rows: Sequence[Mapping[str, object]], raw: bool) -> pa.RecordBatch:
    """Make a batch of rows that are Python dicts."""
    import pyarrow as pa

    from labkit.capture.decode.columns import column

    schema = schema_of(protocol, raw)
    columns = [column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def rows_of_batches(batches: Iterable[pa.RecordBatch]) -> list[Row]:
    """Give batches as dicts without absent values, in the order of frames; the opposite of `batch_of_rows`."""
    from labkit.capture.decode.columns import values_of

    rows: list[Row] = []
    for batch in batches:
        names, columns = batch.schema.names, batch.columns
        found = zip(*map(values_of, columns), strict=True)
        if any(column.null_count for column in columns):
            rows += [
                {name: value for name, value in zip(names, row, strict=True) if value is not None} for row in found
            ]
        else:
            rows += [dict(zip(names, row, strict=True)) for row in found]
    rows.sort(key=lambda row: row["frame"])  # type: ignore[arg-type, return-value]
    return rows


def join(batches: Iterable[pa.RecordBatch], raw: bool = False) -> pa.Table:
    """Join batches of all protocols into one table with all COLUMNS (without the nodes), in the order of frames.

    Absent columns of a protocol are null. Text columns stay dictionaries.
    """
    import pyarrow as pa

    from labkit.capture.decode.columns import array_of, numbers

    names = [name for name in COLUMNS if name not in ("src_node", "dst_node")] + ["raw"] * raw
    schema = pa.schema([(name, types()[name]) for name in names])
    wide = [_widened(batch, schema) for batch in batches if len(batch)]
    table = pa.Table.from_batches(wide, schema=schema).unify_dictionaries()
    frames = array_of(table["frame"])
    if in_order(frames):
        return table.combine_chunks() if len(wide) > 1 else table
    return table.combine_chunks().take(numbers(frames.argsort(kind="stable")))


def in_order(frames: Any) -> bool:
    """Tell whether numbers of frames never go down."""
    return bool((frames[1:] >= frames[:-1]).all())


def _widened(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        columns.append(batch.column(index) if index >= 0 else pa.nulls(len(batch), field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
