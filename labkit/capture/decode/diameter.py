"""Thousands of Diameter messages to columns at once: all walk over their AVPs in step, one AVP of each a round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from labkit.capture.decode import text
from labkit.capture.decode.arrays import Array, Flags, Ints, Keys, Raw, Rows, at
from labkit.capture.decode.columns import numbers
from labkit.capture.fields import AVP_COLUMNS, EXPERIMENTAL_RESULT, EXPERIMENTAL_RESULT_CODE, TEXT
from labkit.wire.diameter_names import command_name

_HEADER = np.dtype([("size", ">u4"), ("command", ">u4"), ("application", ">u4"), ("hop", ">u4"), ("end", ">u4")])
_NAMES = [name for name, _ in AVP_COLUMNS.values()]
_ANY_SIZE = np.array([kind == TEXT for _, kind in AVP_COLUMNS.values()] + [True])
_VENDOR_OF = np.array([vendor for _, vendor in AVP_COLUMNS] + [0], np.uint32)
_GROUP = len(_NAMES)
_SMALL_CODES = 1024
_COLUMN_OF = np.full(_SMALL_CODES + 1, -1, np.int64)
for _column, (_code, _vendor) in enumerate(AVP_COLUMNS):
    _COLUMN_OF[_code] = _column
_COLUMN_OF[EXPERIMENTAL_RESULT[0]] = _GROUP

_HAS_VENDOR = np.uint64(0x80000000)
_SIZE_BITS, _SIZE = 24, 0xFFFFFF
_NONE = np.iinfo(np.int64).max


@dataclass(slots=True)
class _Avps(Rows):
    """AVPs of some messages."""

    message: Ints
    """Index of the message."""
    code: Ints
    """Its code."""
    vendor: Array
    """Its vendor, 0 where it has none."""
    place: Ints
    """Offset of its value."""
    size: Ints
    """Bytes of its value."""


def diameter_columns(raw: Raw, start: Ints, end: Ints) -> dict[str, pa.Array]:
    """Read messages.

    Args:
        raw: bytes in which they lie, followed by some padding.
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
    avps = _avps(raw, start, 20, end)
    column = _COLUMN_OF[np.minimum(avps.code, _SMALL_CODES)]
    fits = (avps.vendor == _VENDOR_OF[column]) & (_ANY_SIZE[column] | (avps.size == 4))
    wanted = np.flatnonzero(fits & (column >= 0))
    avps, column = avps.take(wanted), column[wanted]
    first = np.full((_GROUP + 1, len(start)), _NONE)
    np.minimum.at(first.reshape(-1), column * len(start) + avps.message, (avps.place << _SIZE_BITS) | avps.size)
    for name, any_size, found in zip(_NAMES, _ANY_SIZE, first, strict=False):
        present = found != _NONE
        place = np.where(present, found >> _SIZE_BITS, 0)
        if any_size:
            columns[name] = text.encoded_strings(raw, place, np.where(present, found & _SIZE, 0), present)
        else:
            columns[name] = _numbers(raw, place, present)
    codes = _experimental_results(raw, avps.take(column == _GROUP), len(start))
    columns["experimental_result_code"] = _numbers(raw, np.where(codes != _NONE, codes, 0), codes != _NONE)
    return columns


def _numbers(raw: Raw, place: Ints, present: Flags) -> pa.Array:
    return numbers(at(raw, ">u4", place).astype(np.uint32), present)


def _experimental_results(raw: Raw, groups: _Avps, count: int) -> Ints:
    """Place of the first Experimental-Result-Code in each message, _NONE where it has none."""
    inside = _avps(raw, groups.place, 0, groups.place + groups.size)
    hit = (inside.code == EXPERIMENTAL_RESULT_CODE[0]) & (inside.vendor == 0) & (inside.size == 4)
    first = np.full(count, _NONE)
    np.minimum.at(first, groups.message[inside.message[hit]], inside.place[hit])
    return first


def _avps(raw: Raw, start: Ints, header: int, end: Ints) -> _Avps:
    """The AVPs behind the headers of some messages: the first of each, then the second of each, ..."""
    message, position = np.arange(len(start)), start + header
    rounds: list[tuple[Ints, Ints, Keys]] = []
    while True:
        active = position + 8 <= end
        if not active.all():
            message, position, end = message[active], position[active], end[active]
        if not len(message):
            break
        head = at(raw, ">u8", position).astype(np.uint64)  # code, flags, size
        size = (head & _SIZE).astype(np.int64)
        fits = (size >= np.where(head & _HAS_VENDOR, 12, 8)) & (position + size <= end)
        if not fits.all():
            message, position, end = message[fits], position[fits], end[fits]
            head, size = head[fits], size[fits]
        rounds.append((message, position, head))
        position = position + ((size + 3) & ~3)
    if not rounds:
        return _Avps(*np.zeros((5, 0), np.int64))
    message, position, head = (np.concatenate(column) for column in zip(*rounds, strict=True))
    long = head & _HAS_VENDOR != 0
    vendor = np.where(long, at(raw, ">u4", position + 8), 0)
    place = position + np.where(long, 12, 8)
    size = (head & _SIZE).astype(np.int64) - (place - position)
    return _Avps(message, (head >> 32).astype(np.int64), vendor, place, size)
