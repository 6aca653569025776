"""Thousands of Diameter messages to columns at once: all walk over their AVPs in step, one AVP of each a round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from labkit.capture.decode import text
from labkit.capture.decode.arrays import Array, Ints, Raw, at
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

_CODE, _FLAGS_AND_SIZE, _VENDOR = range(3)
_HAS_VENDOR = 0x80000000

_Round = tuple[Ints, Ints, Ints, Ints]


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
    for message, avp, begin, length in _rounds(raw, start, end):
        column = _COLUMN_OF[np.minimum(avp[:, _CODE], _SMALL_CODES)]
        found = np.flatnonzero(column >= 0)
        column = column[found]
        ours = _vendors(avp[found]) == _VENDOR_OF[column]
        column, found = column[ours], found[ours]
        which, begin, length = message[found], begin[found], length[found]
        in_group = column == _GROUP
        if in_group.any():
            groups.append((which[in_group], begin[in_group], begin[in_group] + length[in_group]))
        wanted = ~in_group & (_IS_TEXT[column] | (length == 4))
        column, which, begin, length = column[wanted], which[wanted], begin[wanted], length[wanted]
        fresh = place[column, which] < 0
        column, which = column[fresh], which[fresh]
        place[column, which], size[column, which] = begin[fresh], length[fresh]
    return place, size, groups


def _experimental_results(raw: Raw, count: int, groups: list[tuple[Ints, Ints, Ints]]) -> Ints:
    found = np.full(count, -1, np.int64)
    for owner, start, end in groups:
        for message, avp, begin, length in _rounds(raw, start, end):
            hit = (avp[:, _CODE] == EXPERIMENTAL_RESULT_CODE[0]) & (_vendors(avp) == 0) & (length == 4)
            place, which = begin[hit], owner[message[hit]]
            fresh = found[which] < 0
            found[which[fresh]] = place[fresh]
    return found


def _rounds(raw: Raw, start: Ints, end: Ints) -> Iterator[_Round]:
    """Give the first AVP of each message, then the second, ...: message, header, place and size of the value."""
    message = np.arange(len(start))
    position = start
    while True:
        active = position + 8 <= end
        if not active.all():
            message, position, end = message[active], position[active], end[active]
        if not len(message):
            return
        avp = at(raw, "V12", position).view(">u4").reshape(-1, 3).astype(np.int64)
        word = avp[:, _FLAGS_AND_SIZE]
        size = word & 0xFFFFFF
        header = np.where(word < _HAS_VENDOR, 8, 12)
        fits = (size >= header) & (position + size <= end)
        if not fits.all():
            message, position, end = message[fits], position[fits], end[fits]
            avp, size, header = avp[fits], size[fits], header[fits]
        yield message, avp, position + header, size - header
        position = position + ((size + 3) & ~3)


def _vendors(avp: Ints) -> Ints:
    """The vendor of each AVP, 0 where it has none."""
    return np.where(avp[:, _FLAGS_AND_SIZE] < _HAS_VENDOR, 0, avp[:, _VENDOR])
