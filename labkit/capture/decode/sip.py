"""Thousands of SIP messages to columns at once.

The messages lie one after the other in one buffer. All line starts are found at once, the headers wanted are told by
the first eight bytes of their lines, and only distinct values and bodies are ever looked at in Python, by the very
functions that read a single message (`capture.fields`, `capture.media`). A message that is written unusually (a folded
line, a space before a colon, a header missing) goes through `fields.sip_row` whole.
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
from labkit.capture.decode.arrays import Array, Flags, Ints, Raw, at, bytes_of, looked_up
from labkit.capture.decode.columns import array_of, numbers, texts
from labkit.capture.fields import Row, branch_of, cseq_columns, sip_row, start_line_columns, user_and_tag
from labkit.capture.streams import looks_like_sip

_FROM, _TO, _VIA, _CALL_ID, _CSEQ = range(5)
_OTHER, _ODD = 5, 6
_HEADERS = {
    **{b"from": _FROM, b"to": _TO, b"via": _VIA, b"call-id": _CALL_ID, b"cseq": _CSEQ},
    **{b"f": _FROM, b"t": _TO, b"v": _VIA, b"i": _CALL_ID},
}
"""The headers wanted, by their names in lower case."""
_TOKEN_END = bytes(
    1 if byte in b';,"' or 9 <= byte < 14 or 28 <= byte < 33 else 2 if byte >= 0x80 else 0 for byte in range(256)
)
_ADDRESSES = re.compile(
    r'^(?:(?:"[ !#-;=\x3f-[\]-~]*" ?)?<sip:([!#-9=?A-Z[-~]+)@[!#-;=?-~]*>(?:;tag=([!#-+\-.-:<-~]+))?|(.*))$',
    re.MULTILINE,
).findall
"""Values of From and To, a line each: user and tag of the usual form; others whole, for `fields.user_and_tag`."""
_BRANCH = int.from_bytes(b";branch=", "little")
_MOST_PARAMETERS = 4
"""So many parameters of a Via are passed over quickly in search of the branch."""
_WINDOW = 64


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
    lines = _Lines(raw, start, end)
    which = np.flatnonzero(lines.keep_sip())
    if not len(which):
        return SipColumns(which, {}, [])
    bodies = lines.cut_bodies()
    lines.find_headers()
    return SipColumns(which, _columns(lines, lines.odd_rows()), bodies)


class _Lines:
    """The lines of some messages."""

    def __init__(self, raw: Raw, start: Ints, end: Ints) -> None:
        self.raw, self.u8 = raw, bytes_of(raw)
        self.start, self.end = start, end
        found = np.flatnonzero(self.u8[: int(end[-1]) if len(end) else 0] == 10)
        self.since = np.searchsorted(found, start)
        self.upto = np.searchsorted(found, end)
        self.newline = np.append(found, len(raw))  # so that there is always a next one

    def keep_sip(self) -> Flags:
        """Leave out what does not start like SIP; note what the start lines say."""
        line_end = np.minimum(self.newline[self.since] + 1, self.end)
        numbers, values = text.distinct(self.raw, self.start, line_end - self.start)
        self.start_lines = [_start_line(value) for value in values]
        good = np.array([parsed is not None for parsed in self.start_lines], bool)
        valid: Flags = good[numbers]
        if not valid.all():
            self.start, self.end = self.start[valid], self.end[valid]
            self.since, self.upto, numbers = self.since[valid], self.upto[valid], numbers[valid]
        self.start_line_numbers = numbers
        return valid

    def cut_bodies(self) -> list[bytes]:
        """Note where the header section of each message ends, at the first empty line; give the distinct bodies."""
        newline, after = self.newline[:-1], self.newline[1:]
        short = np.flatnonzero(after - newline <= 2)
        empty = short[(after[short] - newline[short] == 1) | (self.u8[newline[short] + 1] == 0x0D)]
        empty = np.append(empty, len(self.newline))
        first = empty[np.searchsorted(empty, self.since)]
        ended = first + 1 < self.upto
        self.head_stop = np.where(ended, first, self.upto)
        # Behind the last newline of a message without an empty line there may be no line at all.
        self.head_stop -= ~ended & (self.upto > self.since) & (self.newline[self.upto - 1] + 1 >= self.end)
        start = self.newline[first[ended] + 1] + 1
        size = self.end[ended] - start
        filled = size > 0
        return text.distinct(self.raw, start[filled], size[filled])[1]

    def find_headers(self) -> None:
        """Find the value of the first header of each name wanted in each message, and what is unusual."""
        count = len(self.start)
        per_message = self.head_stop - self.since
        before = np.cumsum(per_message) - per_message
        message = np.repeat(np.arange(count), per_message)
        line = np.arange(len(message)) + np.repeat(self.since - before, per_message)
        begin = self.newline[line] + 1
        word_of, words = _distinct_words(at(self.raw, "<u8", begin))
        kinds, skip = np.array([_header_of(word) for word in words], np.int64).reshape(-1, 2).T
        header = kinds.astype(np.int8)[word_of]
        self.odd = np.zeros(count, bool)
        self.odd[message[header == _ODD]] = True
        self.value_start = np.zeros((5, count), np.int64)
        self.value_end = np.zeros((5, count), np.int64)
        named = np.flatnonzero(header < _OTHER)
        first = np.full(5 * count, len(line))
        np.minimum.at(first, header[named].astype(np.int64) * count + message[named], named)
        slot = np.flatnonzero(first < len(line))
        first = first[slot]
        self.value_start.reshape(-1)[slot] = begin[first] + skip[word_of[first]]
        self.value_end.reshape(-1)[slot] = np.minimum(self.newline[line[first] + 1], self.end[message[first]])
        self.odd |= (self.value_start == 0).any(axis=0)

    def odd_rows(self) -> dict[int, Row]:
        """Rows of the messages that must be read one by one."""
        numbers = np.flatnonzero(self.odd)
        self.value_start[:, numbers] = self.value_end[:, numbers] = self.start[numbers]
        starts, ends = self.start[numbers].tolist(), self.end[numbers].tolist()
        return {
            number: sip_row(bytes(self.raw[start:end]))
            for number, start, end in zip(numbers.tolist(), starts, ends, strict=True)
        }

    def value(self, header: int) -> tuple[Ints, Ints]:
        """Offset and size of the value of a header in each message, without a space before it and the line end."""
        start, end = self.value_start[header], self.value_end[header]
        end = end - (self.u8[end - 1] == 0x0D)
        start = np.minimum(start + (self.u8[start] == 0x20), end)
        return start, end - start


def _distinct_words(words: Array) -> tuple[Array, list[int]]:
    """Give the number of each word's value, and the distinct values."""
    encoded = numbers(words).dictionary_encode()
    return array_of(encoded.indices), array_of(encoded.dictionary).tolist()


@lru_cache(maxsize=16384)
def _header_of(word: int) -> tuple[int, int]:
    """Tell a line by its first eight bytes: one of the headers wanted and the size of its name, or _OTHER, or _ODD."""
    begin = word.to_bytes(8, "little").lower()
    name, colon, _ = begin.partition(b":")
    header = _HEADERS.get(name.rstrip(b" \t"), _OTHER)
    if begin[:1] in b" \t" or (header != _OTHER and name[-1:] in b" \t"):
        return _ODD, 0
    return (header, len(name) + 1) if colon else (_OTHER, 0)


def _columns(lines: _Lines, odd: dict[int, Row]) -> dict[str, pa.Array]:
    raw = lines.raw
    which, places = lines.start_line_numbers, np.fromiter(odd, np.int64, len(odd))
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

    add(which, [parsed or (None, None, None) for parsed in lines.start_lines], ("method", "status", "reason"))
    readers: tuple[tuple[int, Callable[[str], list[Any]], tuple[str, ...]], ...] = (
        (_CALL_ID, _call_ids, ("call_id",)),
        (_CSEQ, _cseqs, ("cseq", "cseq_method")),
        (_FROM, _users_and_tags, ("from_user", "from_tag")),
        (_TO, _users_and_tags, ("to_user", "to_tag")),
    )
    for header, reader, names in readers:
        which, values = text.distinct(raw, *lines.value(header))
        add(which, reader(b"\n".join(values).decode("utf-8", "replace")), names)
    columns["branch"] = _branches(lines, odd)
    return columns


def _branches(lines: _Lines, odd: dict[int, Row]) -> pa.Array:
    """The branch of the top Via; what is not plainly ";branch=token" goes through `fields.branch_of`."""
    raw = lines.raw
    start, size = lines.value(_VIA)
    found = _plain_branches(raw, start, size)
    begin = start + found + 8
    room = start + size - begin
    stop = looked_up(_TOKEN_END, _windows(raw, begin))
    length = _first(stop != 0)
    ends_well = (length < _WINDOW) & (stop[np.arange(len(stop)), np.minimum(length, _WINDOW - 1)] == 1)
    good = (found >= 0) & (length > 0) & (room > 0) & (ends_well | (length >= room))
    branches = text.strings(raw, np.where(good, begin, 0), np.where(good, np.minimum(length, room), 0))
    patches = {n: branch_of(_text(bytes(raw[start[n] : start[n] + size[n]]))) for n in np.flatnonzero(~good).tolist()}
    patches |= {number: row.get("branch") for number, row in odd.items()}  # type: ignore[misc]
    if not patches:
        return branches
    mask = np.zeros(len(start), bool)
    mask[list(patches)] = True
    return pc.replace_with_mask(branches, numbers(mask), texts([patches[number] for number in sorted(patches)]))


def _plain_branches(raw: Raw, start: Ints, size: Ints) -> Ints:
    """Where ";branch=" stands in each value, before any comma; -1 where it is not found quickly."""
    window = _windows(raw, start)
    commas = window == 0x2C
    comma = _first(commas) if commas.any() else np.full(len(start), _WINDOW)
    semicolons = window == 0x3B
    found = np.full(len(start), -1, np.int64)
    which = np.arange(len(start))
    for _ in range(_MOST_PARAMETERS):
        place = _first(semicolons[which])
        hit = at(raw, "<u8", start[which] + place) == _BRANCH
        hit &= (place < comma[which]) & (place + 8 <= size[which])
        found[which[hit]] = place[hit]
        which, place = which[~hit], place[~hit]
        which, place = which[place < _WINDOW], place[place < _WINDOW]
        if not len(which):
            break
        semicolons[which, place] = False
    return found


def _windows(raw: Raw, start: Ints) -> Array:
    """The bytes at and behind each offset, a row for each."""
    return at(raw, f"V{_WINDOW}", start).view(np.uint8).reshape(-1, _WINDOW)


def _first(mask: Array) -> Ints:
    """Index of the first true value in each row; the length of a row where there is none."""
    place = mask.argmax(axis=1)
    found: Ints = np.where(mask[np.arange(len(mask)), place], place, mask.shape[1])
    return found


@lru_cache(maxsize=16384)
def _start_line(value: bytes) -> tuple[str | None, int | None, str | None] | None:
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
