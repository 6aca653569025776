"""Where the start line, the body and the headers wanted lie in thousands of SIP messages.

Two ways that give the same: one in C (labkit/native) where that is built, and one with arrays, in which all
line starts are found at once and the headers wanted are told by the first eight bytes of their lines.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from labkit import native
from labkit.capture.decode.arrays import Array, Flags, Ints, Raw, at, bytes_of, looked_up
from labkit.capture.decode.columns import array_of, numbers

FROM, TO, VIA, CALL_ID, CSEQ = range(5)
_OTHER, _ODD = 5, 6
_HEADERS = {
    **{b"from": FROM, b"to": TO, b"via": VIA, b"call-id": CALL_ID, b"cseq": CSEQ},
    **{b"f": FROM, b"t": TO, b"v": VIA, b"i": CALL_ID},
}
"""The headers wanted, by their names in lower case."""
_COLUMNS = 14
_TOKEN_END = bytes(
    1 if byte in b';,"' or 9 <= byte < 14 or 28 <= byte < 33 else 2 if byte >= 0x80 else 0 for byte in range(256)
)
_BRANCH = int.from_bytes(b";branch=", "little")
_MOST_PARAMETERS = 4
"""So many parameters of a Via are passed over quickly in search of the branch."""
_WINDOW = 64


@dataclass(slots=True)
class Heads:
    """What was found in n messages: offsets in their buffer, and sizes in bytes."""

    start: Ints
    """Of the start line."""
    end: Ints
    """Behind the message."""
    line_end: Ints
    """Behind the start line and its line end."""
    body: Ints
    """Of the body: behind the first empty line; the end of the message where there is none."""
    value: Ints
    """Of the value of the first header of each name wanted, without one space before it: (5, n)."""
    size: Ints
    """Of that value, without the line end: (5, n)."""
    branch: Ints
    """Of the branch in the top Via."""
    branch_size: Ints
    """Of that; 0 where it is not written plainly and must be looked for."""
    odd: Flags
    """True where a message must be read one by one: a header is missing, or written in an unusual way."""

    def take(self, which: Flags) -> Heads:
        """Those where a mask is true."""
        return Heads(*(getattr(self, field.name)[..., which] for field in fields(self)))


def heads_of(raw: Raw, start: Ints, end: Ints) -> Heads:
    """Find them.

    Args:
        raw: bytes in which the messages lie, in order, followed by some padding.
        start: offset of each start line.
        end: offset behind each message.
    """
    if native.compiled is None:
        return _by_arrays(raw, start, end)
    columns = np.empty((_COLUMNS, len(start)), np.int64)
    odd = np.empty(len(start), bool)
    start, end = np.ascontiguousarray(start), np.ascontiguousarray(end)
    native.compiled.sip_heads(raw, start, end, columns, odd)
    return Heads(start, end, columns[0], columns[1], columns[2:7], columns[7:12], columns[12], columns[13], odd)


def _by_arrays(raw: Raw, start: Ints, end: Ints) -> Heads:
    u8, count = bytes_of(raw), len(start)
    found = np.flatnonzero(u8[: int(end[-1]) if count else 0] == 10)
    since = np.searchsorted(found, start)
    upto = np.searchsorted(found, end)
    newline = np.append(found, len(raw))  # so that there is always a next one
    line_end = np.minimum(newline[since] + 1, end)
    head_stop, body = _ends_of_heads(u8, newline, since, upto, end)
    value, value_end, odd = _headers(raw, newline, since, head_stop, end)
    value_end -= u8[value_end - 1] == 0x0D
    value = np.minimum(value + (u8[value] == 0x20), value_end)
    size = value_end - value
    branch, branch_size = _branches(raw, value[VIA], size[VIA])
    return Heads(start, end, line_end, body, value, size, branch, branch_size, odd)


def _ends_of_heads(u8: Array, newline: Ints, since: Ints, upto: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Number of the newline that ends the last header of each message, and where the body begins."""
    before, after = newline[:-1], newline[1:]
    short = np.flatnonzero(after - before <= 2)
    empty = short[(after[short] - before[short] == 1) | (u8[before[short] + 1] == 0x0D)]
    empty = np.append(empty, len(newline))
    first = empty[np.searchsorted(empty, since)]
    ended = first + 1 < upto
    head_stop = np.where(ended, first, upto)
    # Behind the last newline of a message without an empty line there may be no line at all.
    head_stop -= ~ended & (upto > since) & (newline[upto - 1] + 1 >= end)
    body = end.copy()
    body[ended] = newline[first[ended] + 1] + 1
    return head_stop, body


def _headers(raw: Raw, newline: Ints, since: Ints, head_stop: Ints, end: Ints) -> tuple[Ints, Ints, Flags]:
    """Where the first header of each name wanted lies in each message, behind its colon up to its newline."""
    count = len(since)
    per_message = head_stop - since
    before = np.cumsum(per_message) - per_message
    message = np.repeat(np.arange(count), per_message)
    line = np.arange(len(message)) + np.repeat(since - before, per_message)
    begin = newline[line] + 1
    word_of, words = _distinct_words(at(raw, "<u8", begin))
    kinds, skip = np.array([_header_of(word) for word in words], np.int64).reshape(-1, 2).T
    header = kinds.astype(np.int8)[word_of]
    odd = np.zeros(count, bool)
    odd[message[header == _ODD]] = True
    value, value_end = np.zeros((5, count), np.int64), np.ones((5, count), np.int64)
    named = np.flatnonzero(header < _OTHER)
    first = np.full(5 * count, len(line))
    np.minimum.at(first, header[named].astype(np.int64) * count + message[named], named)
    slot = np.flatnonzero(first < len(line))
    first = first[slot]
    value.reshape(-1)[slot] = begin[first] + skip[word_of[first]]
    value_end.reshape(-1)[slot] = np.minimum(newline[line[first] + 1], end[message[first]])
    odd |= (value == 0).any(axis=0)
    return value, value_end, odd


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


def _branches(raw: Raw, start: Ints, size: Ints) -> tuple[Ints, Ints]:
    """Where the branch lies in each Via; of size 0 where it is not plainly ";branch=token"."""
    found = _plain_branches(raw, start, size)
    begin = start + found + 8
    room = start + size - begin
    stop = looked_up(_TOKEN_END, _windows(raw, begin))
    length = _first(stop != 0)
    ends_well = (length < _WINDOW) & (stop[np.arange(len(stop)), np.minimum(length, _WINDOW - 1)] == 1)
    good = (found >= 0) & (length > 0) & (room > 0) & (ends_well | (length >= room))
    return np.where(good, begin, start), np.where(good, np.minimum(length, room), 0)


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
