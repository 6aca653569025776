"""Arrow columns out of numpy arrays and Python values, and back.

`pyarrow.array` and `to_numpy` would do, but each imports pandas at its first call when that is installed: as long as it
takes to decode some thousand packets. Here the buffers are handed over as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from labkit.capture.decode.arrays import Array, Flags, is_constant

_TIME, _LARGE_BINARY = pa.timestamp("ns", "UTC"), pa.large_binary()
_MANY = 1024
"""So many repetitions are remembered: more take longer to use than to make."""
_FEW = 64
"""So many words are looked up among those that were made before."""

_arrow_type = lru_cache(pa.from_numpy_dtype)


def numbers(values: Array, present: Flags | None = None) -> pa.Array:
    """Give an array of numbers or truth values as a column; absent where `present` is false."""
    if is_constant(values) and present is None and len(values) <= _MANY:
        return _repeated_number(values.item(0), values.dtype, len(values))
    packed = np.packbits(values, bitorder="little") if values.dtype == bool else np.ascontiguousarray(values)
    return _column(_arrow_type(values.dtype), len(values), present, packed)


def times(nanoseconds: Array) -> pa.Array:
    """Give nanoseconds since 1970 as a column."""
    return _column(_TIME, len(nanoseconds), None, np.ascontiguousarray(nanoseconds))


def texts(values: Sequence[str | None]) -> pa.Array:
    """Give strings as a column, absent where None."""
    return _pieces(pa.string(), [None if value is None else value.encode() for value in values], np.int32)


def column(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    """Give Python values as a column of a type of `schema.types`; text becomes a dictionary."""
    if pa.types.is_dictionary(kind):
        index: dict[object, int] = {}
        places = [None if value is None else index.setdefault(value, len(index)) for value in values]
        return pa.DictionaryArray.from_arrays(column(places, kind.index_type), texts(list(index)))  # type: ignore[arg-type]
    if kind == pa.string():
        return texts(values)  # type: ignore[arg-type]
    if kind == pa.large_binary():
        return _pieces(kind, values, np.int64)  # type: ignore[arg-type]
    dtype = np.dtype(np.int64 if pa.types.is_timestamp(kind) else kind.to_pandas_dtype())
    present = np.array([value is not None for value in values], bool)
    filled = np.array([value or 0 for value in values], dtype)
    if pa.types.is_timestamp(kind):
        return _column(kind, len(values), present, filled)
    return numbers(filled, present)


def coded(codes: Array, values: Sequence[str]) -> pa.DictionaryArray:
    """Give values[codes] as a dictionary; the values must differ from each other."""
    words = _few_texts(tuple(values)) if len(values) <= _FEW else texts(values)
    return pa.DictionaryArray.from_arrays(numbers(codes), words, safe=False)


_few_texts = lru_cache(texts)  # those of one batch are mostly those of the next


@lru_cache(maxsize=1024)
def repeated(word: str, count: int, kind: type) -> pa.DictionaryArray:
    """Give one string `count` times as a dictionary with indices of a type; batches of live media are much alike."""
    return coded(np.zeros(count, kind), (word,))


@lru_cache(maxsize=1024)
def _repeated_number(value: int, dtype: np.dtype[Any], count: int) -> pa.Array:
    return _column(_arrow_type(dtype), count, None, np.full(count, value, dtype))


def equal_pieces(pieces: Array) -> pa.Array:
    """Give an array of `V` (so many bytes) as a column of bytes."""
    return _column(_LARGE_BINARY, len(pieces), None, _ends_of_equal(len(pieces), pieces.itemsize), pieces)


@lru_cache
def _ends_of_equal(count: int, size: int) -> Array:
    return np.arange(0, count * size + 1, size)


def array_of(found: pa.Array | pa.ChunkedArray) -> Array:
    """Give a column of numbers without absent values as an array."""
    if isinstance(found, pa.ChunkedArray):
        chunks = [np.from_dlpack(chunk) for chunk in found.chunks]
        return np.concatenate(chunks) if chunks else np.zeros(0, np.int64)
    array: Array = np.from_dlpack(found)
    return array


def values_of(found: pa.Array) -> list[Any]:
    """Give a column as Python values, absent ones as None; times as nanoseconds.

    For words and times `to_pylist` takes fifty times as long: it makes an Arrow scalar of each.
    """
    if pa.types.is_dictionary(found.type):
        words = dict(enumerate(found.dictionary.to_pylist()))
        return list(map(words.get, found.indices.to_pylist()))
    values: list[Any] = (found.view(pa.int64()) if pa.types.is_timestamp(found.type) else found).to_pylist()
    return values


def _pieces(kind: pa.DataType, values: Sequence[bytes | None], offset: type) -> pa.Array:
    filled = [value or b"" for value in values]
    ends: Array = np.zeros(len(filled) + 1, offset)
    np.cumsum(np.fromiter(map(len, filled), offset, len(filled)), out=ends[1:])
    present = np.array([value is not None for value in values], bool) if None in values else None
    return _column(kind, len(filled), present, ends, b"".join(filled))


def _column(kind: pa.DataType, count: int, present: Flags | None, *buffers: Array | bytes) -> pa.Array:
    valid = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(kind, count, [valid, *map(pa.py_buffer, buffers)])
