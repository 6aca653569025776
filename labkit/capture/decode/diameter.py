"""Thousands of Diameter messages to columns at once: all walk over their AVPs in step, one AVP of each a round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from labkit.capture.decode import text
from labkit.capture.decode.arrays import Array, Flags, Ints, Raw, Rows, at
from labkit.capture.decode.columns import numbers
from labkit.capture.fields import AVP_COLUMNS, EXPERIMENTAL_RESULT, EXPERIMENTAL_RESULT_CODE, TEXT
from labkit.wire.diameter_names import command_name

_HEADER = np.dtype([("size", ">u4"), ("command", ">u4"), ("application", ">u4"), ("hop", ">u4"), ("end", ">u4")])
_NAMES = [name for name, _ in AVP_COLUMNS.values()]
_IS_TEXT = np.array([kind == TEXT for _, kind in AVP_COLUMNS.values()] + [False])
_VENDOR_OF = np.array([vendor for _, vendor in AVP_COLUMNS] + [0], np.uint32)
_GROUP = len(_NAMES)
_SMALL_CODES = 1024
_COLUMN_OF = np.full(_SMALL_CODES + 1, -1, np.int64)
for _column, (_code, _vendor) in enumerate(AVP_COLUMNS):
    _COLUMN_OF[_code] = _column
_COLUMN_OF[EXPERIMENTAL_RESULT[0]] = _GROUP

_HAS_VENDOR = np.uint64(0x80000000)
_SIZE = np.uint64(0xFFFFFF)


@dataclass(slots=True)
class _Avps(Rows):
    """One AVP of each of some messages."""

    message: Ints
    """Index of the message."""
    code: Ints
    """Its code."""
    begin: Ints
    """Offset of its value."""
    end: Ints
    """Offset behind its value."""
    has_vendor: Flags
    """Whether its vendor stands before the value."""


def diameter_columns(raw: Raw, start: Ints, end: Ints) -> dict[str, pa.Array]:
    """Read messages.

    Args:
        raw: Raw in which they lie, followed by some padding.
        start: offset of each header.
        end: offset behind each message.
    """
    header = at(raw, _HEADER, start)
    command = header["command"].astype(np.uint32)
    code, flags = command & 0xFFFFFF, (command >> 24).astype(np.uint8)
    pairs, which = np.unique(code.astype(np.int64) * 2 + (flags >> 7), return_inverse=True)
    names: list[str | None] = [command_name(pair >> 1, bool(pair & 1)) for pair in pairs.tolist()]
    columns = {
        "command_code": numbers(code),
        "command": text.chosen(names, which),
        "request": numbers(flags >= 0x80),
        "flags": numbers(flags),
        "application_id": numbers(header["application"].astype(np.uint32)),
        "hop_by_hop_id": numbers(header["hop"].astype(np.uint32)),
        "end_to_end_id": numbers(header["end"].astype(np.uint32)),
    }
    place, size, groups = _find_avps(raw, start + 20, end)
    for column, name in enumerate(_NAMES):
        if _IS_TEXT[column]:
            columns[name] = text.encoded_strings(raw, np.maximum(place[column], 0), size[column], place[column] >= 0)
        else:
            columns[name] = _numbers(raw, place[column])
    columns["experimental_result_code"] = _numbers(raw, _experimental_results(raw, len(start), groups))
    return columns


def _numbers(raw: Raw, place: Ints) -> pa.Array:
    return numbers(at(raw, ">u4", np.maximum(place, 0)).astype(np.uint32), place >= 0)


def _find_avps(raw: Raw, start: Ints, end: Ints) -> tuple[Array, Array, list[tuple[Ints, Ints, Ints]]]:
    """Place and size of the first AVP of each column in each message (-1 where absent), and the groups with results."""
    place = np.full((len(_NAMES), len(start)), -1, np.int64)
    size = np.zeros((len(_NAMES), len(start)), np.int64)
    groups = []
    for avps in _rounds(raw, start, end):
        column = _COLUMN_OF[np.minimum(avps.code, _SMALL_CODES)]
        known = np.flatnonzero(column >= 0)
        column, avps = column[known], avps.take(known)
        ours = _vendors(raw, avps) == _VENDOR_OF[column]
        in_group = ours & (column == _GROUP)
        if in_group.any():
            group = avps.take(in_group)
            groups.append((group.message, group.begin, group.end))
        length = avps.end - avps.begin
        slot = column * len(start) + avps.message
        wanted = np.flatnonzero(ours & ~in_group & (_IS_TEXT[column] | (length == 4)))
        wanted = wanted[place.reshape(-1)[slot[wanted]] < 0]
        place.reshape(-1)[slot[wanted]], size.reshape(-1)[slot[wanted]] = avps.begin[wanted], length[wanted]
    return place, size, groups


def _experimental_results(raw: Raw, count: int, groups: list[tuple[Ints, Ints, Ints]]) -> Ints:
    found = np.full(count, -1, np.int64)
    for owner, start, end in groups:
        for avps in _rounds(raw, start, end):
            four = avps.end - avps.begin == 4
            hit = (avps.code == EXPERIMENTAL_RESULT_CODE[0]) & (_vendors(raw, avps) == 0) & four
            place, which = avps.begin[hit], owner[avps.message[hit]]
            fresh = found[which] < 0
            found[which[fresh]] = place[fresh]
    return found


def _rounds(raw: Raw, start: Ints, end: Ints) -> Iterator[_Avps]:
    """Give the first AVP of each message, then the second, ..."""
    message = np.arange(len(start))
    position = start
    while True:
        active = position + 8 <= end
        if not active.all():
            message, position, end = message[active], position[active], end[active]
        if not len(message):
            return
        head = at(raw, ">u8", position).astype(np.uint64)  # code, flags and size
        size = (head & _SIZE).astype(np.int64)
        header = np.where(head & _HAS_VENDOR, 12, 8)
        fits = (size >= header) & (position + size <= end)
        if not fits.all():
            message, position, end = message[fits], position[fits], end[fits]
            head, size, header = head[fits], size[fits], header[fits]
        yield _Avps(message, (head >> np.uint64(32)).astype(np.int64), position + header, position + size, header == 12)
        position = position + ((size + 3) & ~3)


def _vendors(raw: Raw, avps: _Avps) -> Array:
    """The vendor of each AVP, 0 where it has none."""
    return np.where(avps.has_vendor, at(raw, ">u4", avps.begin - 4), 0)
