"""Pieces of a buffer as Arrow text, without a Python object for each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from labkit import native
from labkit.capture.decode.arrays import Array, Ints, Raw, at
from labkit.capture.decode.columns import array_of, coded, numbers, texts
from labkit.wire.pcap_records import PADDING

_INLINE = 12
"""Arrow keeps so many bytes inside a view; longer pieces point into the buffer."""
_INSIDE = np.array([[b"\xff" * size + bytes(_INLINE - size)] for size in range(_INLINE + 1)]).view(np.uint32)
"""For each size up to that the bytes inside a view that belong to the piece."""


def views(raw: Raw, starts: Array, sizes: Array, present: Array | None = None) -> pa.Array:
    """Give pieces of `raw` as a binary_view array; nothing is copied but pieces of up to 12 bytes.

    Args:
        raw: the buffer; must reach 12 bytes beyond each start.
        starts: offset of each piece.
        sizes: its bytes.
        present: False where the piece is absent (null).
    """
    count = len(starts)
    words = np.empty((count, 4), np.uint32)
    words[:, 0] = sizes
    words[:, 1:] = at(raw, f"V{_INLINE}", starts).view(np.uint32).reshape(count, 3)
    short = sizes <= _INLINE
    if short.any():
        words[:, 1:] &= _INSIDE[np.minimum(sizes, _INLINE)]
        long = np.flatnonzero(~short)
        words[long, 2] = 0
        words[long, 3] = starts[long]
    else:
        words[:, 2] = 0
        words[:, 3] = starts
    valid = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(pa.binary_view(), count, [valid, pa.py_buffer(words), pa.py_buffer(raw)])


def gathered(sources: Sequence[Raw], which: Array, starts: Array, sizes: Array) -> tuple[memoryview, Ints]:
    """Copy pieces of buffers, one after the other and PADDING behind them; give the bytes and where each piece lies.

    Arrow does so when it casts views, several times as fast as slices can be made and joined.

    Args:
        sources: the buffers.
        which: number of the buffer of each piece.
        starts: offset of each piece.
        sizes: its bytes.
    """
    count = len(starts)
    words = np.zeros((count + 1, 4), np.uint32)
    words[:count, 0], words[:count, 2], words[:count, 3] = sizes, which, starts
    words[count] = len(PADDING), 0, len(sources), 0
    for index in np.flatnonzero(sizes <= _INLINE).tolist():
        piece = bytes(sources[which[index]][starts[index] : starts[index] + sizes[index]])
        words[index, 1:] = np.frombuffer(piece.ljust(_INLINE, b"\0"), np.uint32)
    buffers = [pa.py_buffer(part) for part in (words, *sources, PADDING)]
    pieces = pa.Array.from_buffers(pa.binary_view(), count + 1, [None, *buffers])
    copied = pieces.cast(pa.large_binary(), memory_pool=pa.system_memory_pool())  # it gives back what is free
    _, offsets, together = copied.buffers()
    return memoryview(together).cast("B"), np.frombuffer(offsets, np.int64, count)


def distinct(raw: Raw, starts: Array, sizes: Array) -> tuple[Array, list[bytes]]:
    """Give the number of each piece's value, and the distinct values."""
    if native.compiled is not None:
        which = np.empty(len(starts), np.int32)
        parts = (np.ascontiguousarray(part, np.int64) for part in (starts, sizes))
        return which, native.compiled.distinct(raw, *parts, which)
    encoded = views(raw, starts, sizes).dictionary_encode()
    return array_of(encoded.indices), encoded.dictionary.to_pylist()


def strings(raw: Raw, starts: Array, sizes: Array, present: Array | None = None) -> pa.Array:
    """Give pieces as strings; bytes that are no UTF-8 are replaced."""
    found = views(raw, starts, sizes, present)
    try:
        return found.cast(pa.string())
    except pa.ArrowInvalid:
        return texts([None if value is None else value.decode("utf-8", "replace") for value in found.to_pylist()])


def encoded_strings(raw: Raw, starts: Array, sizes: Array, present: Array) -> pa.DictionaryArray:
    """Give pieces as a dictionary of strings; absent where `present` is false."""
    which = np.flatnonzero(present)
    encoded = views(raw, starts[which], sizes[which]).dictionary_encode()
    codes: Array = np.zeros(len(present), np.int32)
    codes[which] = array_of(encoded.indices)
    try:
        values = encoded.dictionary.cast(pa.string())
        return pa.DictionaryArray.from_arrays(numbers(codes, present), values, safe=False)
    except pa.ArrowInvalid:
        return strings(raw, starts, sizes, present).dictionary_encode()


def chosen(values: Sequence[str | None], which: Array) -> pa.DictionaryArray:
    """Give values[which] as a dictionary of strings; the values may repeat and be None."""
    index: dict[str, int] = {}
    places = [-1 if value is None else index.setdefault(value, len(index)) for value in values]
    if len(index) == len(values):
        return coded(which.astype(np.int32, copy=False), list(index))
    codes = np.array(places, np.int32)[which]
    indices = numbers(codes) if None not in values else numbers(np.maximum(codes, 0), codes >= 0)
    return pa.DictionaryArray.from_arrays(indices, texts(list(index)), safe=False)


def integers(values: Sequence[int | None], which: Array, dtype: type) -> pa.Array:
    """Give values[which] as integers of a type."""
    filled: Array = np.array([value or 0 for value in values], dtype)[which]
    return numbers(filled, np.array([value is not None for value in values])[which] if None in values else None)
