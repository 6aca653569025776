"""Rows of the table as plain Python values, for code that walks through messages one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
"""Column to value; absent is None, time is in nanoseconds since 1970."""


def plain_rows(table: pd.DataFrame) -> list[Row]:
    """Give the rows as dictionaries of plain Python values; absent is None, time is in nanoseconds since 1970."""
    columns: dict[str, list[Any]] = {}
    for name in table.columns:
        if name == "time":
            columns[name] = [int(value) for value in table[name].astype("int64")]
        else:
            column = table[name].astype(object)
            columns[name] = list(column.where(table[name].notna(), None))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def hop(row: Row) -> tuple[str, str]:
    """Names of the two ends, addresses where they have none."""
    return row["src_node"] or row["src"], row["dst_node"] or row["dst"]


def transaction(row: Row) -> tuple[Any, ...]:
    """What a SIP request and its responses share at one hop (RFC 3261 section 17.1.3)."""
    method = row["method"] or row["cseq_method"]
    return row["branch"], row["call_id"], row["cseq"], "INVITE" if method == "ACK" else method
