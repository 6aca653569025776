"""Gzip unwrapped as it comes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_MOST_BYTES = 4 << 20


class Gunzip:
    """Unwraps gzip as it comes, several members too; bytes that are none pass."""

    def __init__(self) -> None:
        self._plain: bool | None = None
        self._start = b""
        self._unpacker = zlib.decompressobj(31)
        self._fed = 0
        self._damage = ""

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """Give the plain bytes, in pieces of bounded size."""
        if self._plain is None:
            self._start += raw
            if len(self._start) < 2:
                return
            self._plain, raw = self._start[:2] != b"\x1f\x8b", self._start
        if self._plain:
            yield raw
            return
        parts: list[bytes] = []
        size = 0
        # In small steps: an error in the last step must not cost what came before it.
        for start in range(0, len(raw), 4096):
            for plain in self._unpack(raw[start : start + 4096]):
                parts.append(plain)
                size += len(plain)
                if size >= _MOST_BYTES:
                    yield b"".join(parts)
                    parts, size = [], 0
        if parts:
            yield b"".join(parts)

    def _unpack(self, raw: bytes) -> Iterator[bytes]:
        while raw and not self._damage:
            if self._unpacker.eof:
                self._unpacker = zlib.decompressobj(31)
            try:
                plain = self._unpacker.decompress(raw, _MOST_BYTES)
            except zlib.error:
                self._damage = f"The gzip data is damaged near byte {self._fed}"
                return
            if plain:
                yield plain
            raw = self._unpacker.unconsumed_tail or self._unpacker.unused_data
        self._fed += 4096

    def warning(self) -> str:
        """What is wrong with the gzip data, empty when nothing is."""
        if self._plain is not False:
            return ""
        return self._damage or ("" if self._unpacker.eof else "The gzip data ends too early")
