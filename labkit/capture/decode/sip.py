"""Thousands of SIP messages to columns at once.

The messages lie one after the other in one buffer. `sip_heads` says where in them the headers wanted are, and only
distinct values and bodies are ever looked at in Python, by the very functions that read a single message
(`capture.fields`, `capture.media`). A message that is written unusually (a folded line, a space before a colon, a
header missing) goes through `fields.sip_row` whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labkit.capture.decode import text
from labkit.capture.decode.arrays import Array, Ints, Raw
from labkit.capture.decode.columns import numbers, texts
from labkit.capture.decode.sip_heads import CALL_ID, CSEQ, FROM, TO, VIA, Heads, heads_of
from labkit.capture.fields import Row, branch_of, cseq_columns, sip_row, start_line_columns, user_and_tag
from labkit.capture.streams import looks_like_sip

_ADDRESSES = re.compile(
    r'^(?:(?:"[ !#-;=\x3f-[\]-~]*" ?)?<sip:([!#-9=?A-Z[-~]+)@[!#-;=?-~]*>(?:;tag=([!#-+\-.-:<-~]+))?|(.*))$',
    re.MULTILINE,
).findall
"""Values of From and To, a line each: user and tag of the usual form; others whole, for `fields.user_and_tag`."""

StartLine = tuple[str | None, int | None, str | None]
"""Method, status, reason."""


@dataclass(slots=True)
class SipColumns:
    """Columns of some messages."""

    which: Ints
    """The message of each row: those given that are SIP."""
    columns: dict[str, pa.Array]
    """The SIP columns."""
    bodies: list[bytes]
    """The distinct bodies."""


def sip_columns(raw: Raw, start: Ints, end: Ints) -> SipColumns:
    """Read messages.

    Args:
        raw: bytes in which they lie, in order, followed by some padding.
        start: offset of each start line.
        end: offset behind each message.
    """
    heads = heads_of(raw, start, end)
    number, values = text.distinct(raw, start, heads.line_end - start)
    start_lines = [_start_line(value) for value in values]
    valid = np.array([parsed is not None for parsed in start_lines], bool)[number]
    which = np.flatnonzero(valid)
    if not len(which):
        return SipColumns(which, {}, [])
    if len(which) < len(start):
        heads, number = heads.take(valid), number[valid]
    odd = _odd_rows(raw, heads)
    return SipColumns(which, _columns(raw, heads, (number, start_lines), odd), _bodies(raw, heads))


def _bodies(raw: Raw, heads: Heads) -> list[bytes]:
    size = heads.end - heads.body
    filled = size > 0
    return text.distinct(raw, heads.body[filled], size[filled])[1]


def _odd_rows(raw: Raw, heads: Heads) -> dict[int, Row]:
    """Rows of the messages that must be read one by one; their values are left empty."""
    numbers = np.flatnonzero(heads.odd)
    heads.size[:, numbers] = heads.branch_size[numbers] = 0
    starts, ends = heads.start[numbers].tolist(), heads.end[numbers].tolist()
    return {
        number: sip_row(bytes(raw[start:end]))
        for number, start, end in zip(numbers.tolist(), starts, ends, strict=True)
    }


def _columns(
    raw: Raw, heads: Heads, start_lines: tuple[Array, list[StartLine | None]], odd: dict[int, Row]
) -> dict[str, pa.Array]:
    places = np.fromiter(odd, np.int64, len(odd))
    rows = list(odd.values())
    columns: dict[str, pa.Array] = {}

    def add(which: Array, values: list[Any], names: tuple[str, ...]) -> None:
        """Columns from distinct values; a single name takes the value, several take its items."""
        if len(places):
            which = which.copy()
            which[places] = np.arange(len(values), len(values) + len(places))
        for index, name in enumerate(names):
            every = [value[index] for value in values] + [row.get(name) for row in rows]
            if name in ("status", "cseq"):
                columns[name] = text.integers(every, which, np.uint16 if name == "status" else np.int64)
            else:
                columns[name] = text.chosen(every, which)

    which, parsed = start_lines
    add(which, [line or (None, None, None) for line in parsed], ("method", "status", "reason"))
    readers: tuple[tuple[int, Callable[[str], list[Any]], tuple[str, ...]], ...] = (
        (CALL_ID, _call_ids, ("call_id",)),
        (CSEQ, _cseqs, ("cseq", "cseq_method")),
        (FROM, _users_and_tags, ("from_user", "from_tag")),
        (TO, _users_and_tags, ("to_user", "to_tag")),
    )
    for header, reader, names in readers:
        which, values = text.distinct(raw, heads.value[header], heads.size[header])
        add(which, reader(b"\n".join(values).decode("utf-8", "replace")), names)
    columns["branch"] = _branches(raw, heads, odd)
    return columns


def _branches(raw: Raw, heads: Heads, odd: dict[int, Row]) -> pa.Array:
    """The branch of the top Via; what is not plainly ";branch=token" goes through `fields.branch_of`."""
    branches = text.strings(raw, heads.branch, heads.branch_size)
    missing = np.flatnonzero(heads.branch_size == 0)
    if not len(missing):
        return branches
    places = zip(missing.tolist(), heads.value[VIA][missing].tolist(), heads.size[VIA][missing].tolist(), strict=True)
    found = [
        odd[number].get("branch") if number in odd else branch_of(_text(bytes(raw[start : start + size])))
        for number, start, size in places
    ]
    return pc.replace_with_mask(branches, numbers(heads.branch_size == 0), texts(found))  # type: ignore[arg-type]


@lru_cache(maxsize=16384)
def _start_line(value: bytes) -> StartLine | None:
    if not looks_like_sip(value):
        return None
    value = value[:-1] if value[-1:] == b"\n" else value
    return start_line_columns((value[:-1] if value[-1:] == b"\r" else value).decode("utf-8", "replace"))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").strip()


# These read distinct values, a line each: a step for all of them costs less than to remember each.


def _call_ids(values: str) -> list[tuple[str]]:
    return [(value.strip(),) for value in values.split("\n")]


def _cseqs(values: str) -> list[tuple[int | None, str | None]]:
    return [cseq_columns(value.strip()) for value in values.split("\n")]


def _users_and_tags(values: str) -> list[tuple[str | None, str | None]]:
    return [(user, tag or None) if user else user_and_tag(other.strip()) for user, tag, other in _ADDRESSES(values)]
