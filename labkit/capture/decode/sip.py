"""Thousands of SIP messages to columns at once.

The messages lie one after the other in one buffer. All line starts are found at once, the headers wanted are told by
the first eight bytes of their lines, and only distinct values are ever looked at in Python, by the very functions that
read a single message (`capture.fields`). A message that is written unusually (a folded line, a space before a colon, a
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
from labkit.capture.decode.arrays import Array, Flags, Ints, at, bytes_of, first_of_each, looked_up
from labkit.capture.decode.columns import numbers, texts
from labkit.capture.decode.schema import in_order
from labkit.capture.fields import Row, branch_of, cseq_columns, sip_row, start_line_columns, user_and_tag
from labkit.capture.media import simple_address, simple_port
from labkit.capture.streams import looks_like_sip

_NONE = np.int64(1 << 62)
_FROM, _TO, _VIA, _CALL_ID, _CSEQ = range(5)
_LETTERS = {"f": 1, "t": 2, "v": 3, "i": 4, "c": 5}
_FOLD, _BLANK, _MEDIA, _ATTRIBUTE = 6, 7, 8, 9
_SDP_LETTERS = {"m": _MEDIA, "a": _ATTRIBUTE}
_NAMES = {
    1: ((b"from", _FROM), (b"f", _FROM)),
    2: ((b"to", _TO), (b"t", _TO)),
    3: ((b"via", _VIA), (b"v", _VIA)),
    4: ((b"i", _CALL_ID),),
    5: ((b"cseq", _CSEQ), (b"call-id", _CALL_ID)),
}


def _kind_of_letter(letter: str) -> int:
    return _SDP_LETTERS.get(letter) or _LETTERS.get(letter.lower(), 0)


_LINE_KIND = bytes(
    _FOLD if byte in b" \t" else _BLANK if byte in b"\r\n" else _kind_of_letter(chr(byte)) for byte in range(256)
)
_TOKEN_END = bytes(
    1 if byte in b';,"' or 9 <= byte < 14 or 28 <= byte < 33 else 2 if byte >= 0x80 else 0 for byte in range(256)
)
_PLAIN_ADDRESS = re.compile(
    rb'(?:"[ !#-;=\x3f-[\]-~]*" ?)?<sip:([!#-9=?A-Z[-~]+)@[!#-;=?-~]*>(?:;tag=([!#-+\-.-:<-~]+))?'
).fullmatch
"""The usual form of From and To; of any other, `fields.user_and_tag` knows better."""
_BRANCH = int.from_bytes(b";branch=", "little")
_CONNECTION, _MEDIA_LINE, _VERSION = (int.from_bytes(word, "little") for word in (b"c=", b"m=", b"v="))
_RTCP_ATTRIBUTE = np.void(b"a=rtcp:")
_MOST_PARAMETERS = 4
"""So many parameters of a Via are passed over quickly in search of the branch."""
_WINDOW = 64
_LOWER = 0x2020202020202020


@dataclass(slots=True)
class SipColumns:
    """Columns of some messages."""

    which: Ints
    """The message of each row: those given that are SIP, in the order of their frames."""
    columns: dict[str, pa.Array]
    """The SIP columns."""
    sessions: list[tuple[str, int]]
    """Address and port of SDP with one stream of media and nothing unusual, each once."""
    bodies: list[bytes]
    """The distinct other bodies."""


def sip_columns(raw: bytes, start: Ints, end: Ints, frame: Ints) -> SipColumns:
    """Read messages.

    Args:
        raw: bytes in which they lie, in order, followed by some padding.
        start: offset of each start line.
        end: offset behind each message.
        frame: number of its frame.
    """
    lines = _Lines(raw, start, end)
    which = np.flatnonzero(lines.keep_sip())
    if not len(which):
        return SipColumns(which, {}, [], [])
    lines.find_headers()
    sessions, bodies = lines.sessions()
    if not in_order(frame[which]):
        order = np.argsort(frame[which], kind="stable")
        which = which[order]
        lines.reorder(order)
    return SipColumns(which, _columns(lines, lines.odd_rows()), sessions, bodies)


class _Lines:
    """The lines of some messages."""

    def __init__(self, raw: bytes, start: Ints, end: Ints) -> None:
        self.raw, self.u8 = raw, bytes_of(raw)
        self.start, self.end = start, end
        stop = int(end[-1]) if len(end) else 0
        self.newline = np.flatnonzero(self.u8[:stop] == 10)
        self.since = np.searchsorted(self.newline, start)
        self.upto = np.searchsorted(self.newline, end)
        self.line = np.full((5, 0), _NONE)
        self.skip = np.zeros((5, 0), np.int64)

    def keep_sip(self) -> Flags:
        """Leave out what does not start like SIP; note what the start lines say."""
        some = self.upto > self.since
        padded = np.append(self.newline, 0)
        line_end = np.where(some, padded[np.where(some, self.since, -1)] + 1, self.end)
        numbers, values = text.distinct(self.raw, self.start, line_end - self.start)
        self.start_lines = [_start_line(value) for value in values]
        good = np.array([parsed is not None for parsed in self.start_lines], bool)
        valid: Flags = good[numbers]
        if not valid.all():
            self.start, self.end = self.start[valid], self.end[valid]
            self.since, self.upto, numbers = self.since[valid], self.upto[valid], numbers[valid]
        self.start_line_numbers = numbers
        return valid

    def find_headers(self) -> None:
        """Find the first line of each header wanted in each message, the empty line, and what is unusual."""
        count = len(self.start)
        per_message = self.upto - self.since
        total = int(per_message.sum())
        before = np.cumsum(per_message) - per_message
        self.message = np.repeat(np.arange(count), per_message)
        if total != len(self.newline):  # lines of what is no SIP are among them
            self.newline = self.newline[np.arange(total) + np.repeat(self.since - before, per_message)]
            self.since, self.upto = before, before + per_message
        self.begin = self.newline + 1
        self.newline = np.append(self.newline, _NONE)  # so that the last line has an end, behind that of its message
        kind = looked_up(_LINE_KIND, self.u8[self.begin]).copy()
        last = (before + per_message - 1)[per_message > 0]
        kind[last[self.begin[last] >= self.end[per_message > 0]]] = 0  # behind the last newline there is no line
        self.line = np.full((5, count), _NONE)
        self.skip = np.zeros((5, count), np.int64)
        self.odd = np.zeros(count, bool)
        self.head_line = np.full(count, _NONE)
        attributes = np.flatnonzero(kind == _ATTRIBUTE)
        kind[attributes] = 0
        self.rtcp_line = attributes[at(self.raw, "V7", self.begin[attributes]) == _RTCP_ATTRIBUTE]
        kept = np.flatnonzero(kind)
        kind = kind[kept]
        self._find_empty_lines(kept[kind == _BLANK])
        in_head = kept < self.head_line[self.message[kept]]
        self.odd[self.message[kept[in_head & (kind == _FOLD)]]] = True
        for number, names in _NAMES.items():
            self._find_names(kept[in_head & (kind == number)], names)
        pair = at(self.raw, "<u2", self.begin[kept])
        self.connection = kept[~in_head & (pair == _CONNECTION)]
        self.media = kept[~in_head & (pair == _MEDIA_LINE)]

    def _find_empty_lines(self, lines: Ints) -> None:
        begin = self.begin[lines]
        pair = at(self.raw, "<u2", begin)
        message = self.message[lines]
        empty = (pair & 0xFF == 0x0A) | ((pair == 0x0A0D) & (begin + 1 < self.end[message]))
        lines, message = lines[empty], message[empty]
        first = first_of_each(message)
        self.head_line[message[first]] = lines[first]

    def _find_names(self, lines: Ints, names: tuple[tuple[bytes, int], ...]) -> None:
        word = at(self.raw, "<u8", self.begin[lines])
        message = self.message[lines]
        for name, header in names:
            size = len(name)
            dash = 0xFF << 32 if name == b"call-id" else 0  # lower case must not touch it
            lower = (word | np.uint64(_LOWER & ~dash)) & np.uint64((1 << 8 * size) - 1)
            named = lower == np.uint64(int.from_bytes(name, "little"))
            following = (word >> np.uint64(8 * size)) & np.uint64(0xFF)
            self.odd[message[named & ((following == 0x20) | (following == 0x09))]] = True
            found = np.flatnonzero(named & (following == 0x3A))
            found = found[first_of_each(message[found])]
            earlier = lines[found] < self.line[header, message[found]]
            found = found[earlier]
            self.line[header, message[found]] = lines[found]
            self.skip[header, message[found]] = size + 1

    def reorder(self, order: Ints) -> None:
        """Put the messages into another order; only what `value` and `odd_rows` need goes with them."""
        self.start, self.end = self.start[order], self.end[order]
        self.start_line_numbers, self.odd = self.start_line_numbers[order], self.odd[order]
        self.line, self.skip = self.line[:, order], self.skip[:, order]

    def odd_rows(self) -> dict[int, Row]:
        """Rows of the messages that must be read one by one."""
        odd = self.odd | (self.line == _NONE).any(axis=0)
        numbers = np.flatnonzero(odd)
        self.line[:, numbers] = 0
        starts, ends = self.start[numbers].tolist(), self.end[numbers].tolist()
        return {
            number: sip_row(self.raw[start:end])
            for number, start, end in zip(numbers.tolist(), starts, ends, strict=True)
        }

    def value(self, header: int) -> tuple[Ints, Ints]:
        """Offset and size of the value of a header in each message, without a space before it and the line end."""
        line, skip = self.line[header], self.skip[header]
        if not len(self.begin):
            return self.start, np.zeros(len(self.start), np.int64)
        start = self.begin[line] + skip
        end = np.minimum(self.newline[line + 1], self.end)
        end = end - (self.u8[end - 1] == 0x0D)
        start = start + (self.u8[start] == 0x20)
        start = np.minimum(start, end)
        return start, end - start

    def sessions(self) -> tuple[list[tuple[str, int]], list[bytes]]:
        """Give address and port of each plain SDP body (one stream, see `media.simple_port`), and the other bodies."""
        which = np.flatnonzero(self.head_line < len(self.begin))
        begin = self.begin[self.head_line[which]]
        start = begin + np.where(self.u8[begin] == 0x0D, 2, 1)
        size = self.end[which] - start
        plain = np.zeros(len(self.start), bool)
        plain[which] = (size > 2) & (at(self.raw, "<u2", start) == _VERSION)
        plain[self.message[self.rtcp_line]] = False
        found = []
        for lines in (self.connection, self.media):
            message = self.message[lines]
            plain &= np.bincount(message, minlength=len(plain)) == 1
            only = np.zeros(len(plain), np.int64)
            only[message] = lines
            found.append(only)
        numbers = np.flatnonzero(plain)
        address_of, addresses = self._read_lines(found[0][numbers], numbers, simple_address)
        port_of, ports = self._read_lines(found[1][numbers], numbers, simple_port)
        sessions = []
        pairs, pair_of = np.unique(address_of.astype(np.int64) * len(ports) + port_of, return_inverse=True)
        usual = np.ones(len(pairs), bool)
        for index, pair in enumerate(pairs.tolist()):
            address, port = addresses[pair // len(ports)], ports[pair % len(ports)]
            if address and port:
                sessions.append((address, port))
            else:
                usual[index] = False
        plain[numbers] = usual[pair_of]
        others = (size > 0) & ~plain[which]
        return sessions, text.distinct(self.raw, start[others], size[others])[1]

    def _read_lines(self, lines: Ints, messages: Ints, reader: Callable[[bytes], Any]) -> tuple[Array, list[Any]]:
        """Read a line of each of some messages: the number of its value, and the values."""
        start = self.begin[lines]
        end = np.minimum(self.newline[lines + 1], self.end[messages])
        which, values = text.distinct(self.raw, start, end - start)
        return which, [reader(value) for value in values]


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
    readers: tuple[tuple[int, Callable[[bytes], Any], tuple[str, ...]], ...] = (
        (_CALL_ID, _call_id, ("call_id",)),
        (_CSEQ, _cseq, ("cseq", "cseq_method")),
        (_FROM, _user_and_tag, ("from_user", "from_tag")),
        (_TO, _user_and_tag, ("to_user", "to_tag")),
    )
    for header, reader, names in readers:
        which, values = text.distinct(raw, *lines.value(header))
        add(which, [reader(value) for value in values], names)
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
    patches = {n: branch_of(_text(raw[start[n] : start[n] + size[n]])) for n in np.flatnonzero(~good).tolist()}
    patches |= {number: row.get("branch") for number, row in odd.items()}  # type: ignore[misc]
    if not patches:
        return branches
    mask = np.zeros(len(start), bool)
    mask[list(patches)] = True
    return pc.replace_with_mask(branches, numbers(mask), texts([patches[number] for number in sorted(patches)]))


def _plain_branches(raw: bytes, start: Ints, size: Ints) -> Ints:
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


def _windows(raw: bytes, start: Ints) -> Array:
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


def _call_id(value: bytes) -> tuple[str]:
    return (_text(value),)


@lru_cache(maxsize=4096)
def _cseq(value: bytes) -> tuple[int | None, str | None]:
    return cseq_columns(_text(value))


@lru_cache(maxsize=16384)
def _user_and_tag(value: bytes) -> tuple[str | None, str | None]:
    plain = _PLAIN_ADDRESS(value)
    if plain is None:
        return user_and_tag(_text(value))
    user, tag = plain.groups()
    return user.decode(), tag.decode() if tag is not None else None
