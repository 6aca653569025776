"""Arrays over bytes: gather one header from each of thousands of places in one step."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
Raw = bytes | memoryview


def bytes_of(raw: Raw) -> Bytes:
    """The bytes as an array, without copying them."""
    return np.frombuffer(raw, np.uint8)


def at(raw: Raw, kind: np.dtype[Any] | str, offsets: Array) -> Array:
    """Read a value of `kind` at each offset; the offsets need no alignment, but `raw` must reach that far."""
    dtype = np.dtype(kind)
    size = len(raw) - dtype.itemsize + 1
    return picked(np.ndarray((size,), dtype, raw, strides=(1,)), offsets)


def picked(heads: Array, which: Array) -> Array:
    """Give heads[which] of an array of structures.

    Taken as plain bytes: numpy copies a structure field by field, which takes ten times as long.
    """
    dtype = heads.dtype
    found: Array = (heads if dtype.names is None else heads.view(f"V{dtype.itemsize}"))[which]
    return found.view(dtype)


def constant(value: Array, count: int) -> Array:
    """Give the only element of an array `count` times, all of them in one place: see `is_constant`.

    As `numpy.broadcast_to`, in a tenth of its time.
    """
    return np.ndarray((count,), value.dtype, value, strides=(0,))


def is_constant(array: Array) -> bool:
    """Tell at once that all elements are the same one; an array that was not made so may still hold equal ones."""
    return array.strides == (0,) and len(array) > 0


def looked_up(table: bytes, values: Bytes) -> Bytes:
    """Give table[value] of each byte; four times as fast as indexing with bytes."""
    return np.frombuffer(values.tobytes().translate(table), np.uint8).reshape(values.shape)


@dataclass(slots=True)
class Rows:
    """Arrays of one length, one element a packet (or a message)."""

    def take(self, which: Array) -> Self:
        """Those at some indices, or those where a mask is true."""
        indices = np.flatnonzero(which) if which.dtype == bool else which
        return type(self)(*[getattr(self, name)[indices] for name in self._names()])

    @classmethod
    def together(cls, parts: list[Self]) -> Self:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(*[np.concatenate([getattr(part, name) for part in parts]) for name in cls._names()])

    @classmethod
    def _names(cls) -> Iterable[str]:
        """The fields; `dataclasses.fields` takes longer than all that is done with them where there are few rows."""
        return cast("Iterable[str]", cls.__slots__)


class Addresses:
    """Numbers for addresses: IPv4 its own 32 bits, IPv6 a number above them, given out as they are met."""

    _IPV6 = 1 << 40

    def __init__(self) -> None:
        self._next = self._IPV6
        self._texts: dict[int, str] = {}
        self._keys: dict[bytes, int] = {}

    def ipv6_keys(self, packed: Array) -> Keys:
        """Keys of addresses given as (n, 2) words of 64 bits in network order."""
        raw = np.ascontiguousarray(packed).tobytes()
        return np.array([self._ipv6(raw[i : i + 16]) for i in range(0, len(raw), 16)], np.uint64)

    def _ipv6(self, packed: bytes) -> int:
        key = self._keys.get(packed)
        if key is None:
            key = self._keys[packed] = self._next
            self._next += 1
            self._texts[key] = str(ipaddress.IPv6Address(packed))
        return key

    def __len__(self) -> int:
        return len(self._texts)

    def keep_only(self, wanted: Iterable[int]) -> None:
        """Forget all but the addresses with some keys. The key of a forgotten one is never given to another."""
        self._texts = {key: self.text(key) for key in wanted}
        self._keys = {self.packed(key): key for key in self._texts if key >= self._IPV6}

    def packed(self, key: int) -> bytes:
        """The address of a key as it stands in IP headers."""
        return key.to_bytes(4, "big") if key < self._IPV6 else ipaddress.IPv6Address(self.text(key)).packed

    def text(self, key: int) -> str:
        """The address of a key."""
        text = self._texts.get(key)
        if text is None:
            text = f"{key >> 24}.{key >> 16 & 255}.{key >> 8 & 255}.{key & 255}"
            self._texts[key] = text
        return text
