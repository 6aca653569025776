"""RTP packets by the thousand: those that SDP has announced now, and those that it announces later."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from labkit.capture.decode.arrays import Addresses, Array, Flags, Ints, Keys, Raw, at, constant, is_constant, picked
from labkit.capture.decode.columns import array_of, equal_pieces, numbers
from labkit.capture.decode.meta import Meta
from labkit.capture.decode.text import gathered, views
from labkit.capture.media import IS_RTP, Endpoint, MediaBook

RTP = np.dtype([("first", "u1"), ("second", "u1"), ("sequence", ">u2"), ("timestamp", ">u4"), ("ssrc", ">u4")])
"""The header (RFC 3550 section 5.1)."""
_UNMARKED = np.array([False])
_MOST_WAITING = 1 << 20
_MOST_ADDRESSES = 1 << 18
"""So many are remembered from one piece of a capture to the next, beside those of waiting candidates."""


@dataclass(slots=True)
class Candidates:
    """Datagrams that look like RTP."""

    meta: Meta
    """Where they were seen."""
    header: Array
    """Their RTP headers: the fields of RTP, maybe among others."""
    raw: Raw
    """The bytes in which they lie."""
    start: Ints
    """Offset of each."""
    size: Ints
    """Bytes of each."""

    @classmethod
    def read(cls, raw: Raw, start: Ints, size: Ints, meta: Meta) -> Candidates:
        """Read the headers."""
        return cls(meta, at(raw, RTP, start), raw, start, size)

    def take(self, which: Array) -> Candidates:
        """Those at some indices, or those where a mask is true."""
        start, size = self.start[which], self.size[which]
        return Candidates(self.meta.take(which), picked(self.header, which), self.raw, start, size)

    def kept(self, whole: bool) -> Candidates:
        """The same without the bytes around them; without their own too where only the headers are wanted."""
        if not self.raw:  # kept before
            return self
        header = at(self.raw, RTP, self.start)
        if not whole:
            return Candidates(self.meta, header, b"", self.start, self.size)
        raw, start = gathered([self.raw], np.zeros(len(header), np.int64), self.start, self.size)
        return Candidates(self.meta, header, raw, start, self.size)

    def columns(self) -> dict[str, pa.Array]:
        """Read the columns of RTP packets (RFC 3550 section 5.1)."""
        header = self.header
        told = header[:1] if self.meta.one_stream else header
        unmarked = header["second"].tobytes().isascii()  # a byte below 128 has no marker
        marker = constant(_UNMARKED, len(header)) if unmarked else header["second"] >= 0x80
        kind, ssrc = told["second"] & 0x7F, told["ssrc"].astype(np.uint32)
        if self.meta.one_stream:
            kind, ssrc = constant(kind, len(header)), constant(ssrc, len(header))
        return {
            "payload_type": numbers(kind),
            "ssrc": numbers(ssrc),
            "sequence": numbers(header["sequence"].astype(np.uint16)),
            "rtp_timestamp": numbers(header["timestamp"].astype(np.uint32)),
            "marker": numbers(marker),
        }

    def packets(self) -> pa.Array:
        """Give the bytes of each, as a column."""
        size = int(self.size[0])
        if is_constant(self.size) or (self.size == size).all():
            return equal_pieces(at(self.raw, np.dtype((np.void, size)), self.start))
        return views(self.raw, self.start, self.size).cast(pa.large_binary())


class LateMedia:
    """Tells RTP by the announcements; keeps what nothing has announced yet."""

    def __init__(self, book: MediaBook, addresses: Addresses, keep_raw: bool) -> None:
        self._book, self._addresses, self._keep_raw = book, addresses, keep_raw
        self._media: set[int] = set()  # endpoints of RTP, as address << 16 | port: told without a look at their text
        self._waiting: deque[tuple[Candidates, frozenset[Endpoint]]] = deque()
        self._count = 0
        self._most_addresses = _MOST_ADDRESSES
        self.dropped = 0
        """Candidates forgotten because too many were waiting."""

    def sift(self, candidates: Candidates) -> Candidates:
        """Give the candidates that are RTP; keep the others."""
        if candidates.meta.one_stream and any(map(self._is_media, candidates.meta.ends())):
            return candidates
        known, endpoints = self._known(candidates.meta)
        if known.all():
            return candidates
        rest = candidates.take(~known).kept(self._keep_raw)
        self._waiting.append((rest, endpoints))
        self._count += len(rest.header)
        while self._count > _MOST_WAITING:
            size = len(self._waiting.popleft()[0].header)
            self._count -= size
            self.dropped += size
        return candidates.take(known)

    def announced(self) -> list[Candidates]:
        """Give those that were kept and that the fresh announcements speak of."""
        fresh = self._book.fresh
        if not fresh or not self._waiting:
            return []
        waiting, self._waiting, self._count = self._waiting, deque(), 0
        found = []
        for candidates, endpoints in waiting:
            if endpoints.isdisjoint(fresh):
                self._waiting.append((candidates, endpoints))
                self._count += len(candidates.header)
                continue
            rows = self.sift(candidates)
            if len(rows.header):
                found.append(rows)
        return found

    def forget_addresses(self) -> None:
        """Forget those that no candidate has, once there are very many: a capture may hold millions."""
        if len(self._addresses) <= self._most_addresses:
            return
        sides = [side for candidates, _ in self._waiting for side in (candidates.meta.src, candidates.meta.dst)]
        wanted = np.unique(np.concatenate(sides)).tolist() if sides else []
        self._addresses.keep_only(wanted)
        self._media.clear()
        self._most_addresses = _MOST_ADDRESSES + len(wanted)

    def headers(self) -> Iterator[tuple[tuple[str, int, str, int], int, int, int]]:
        """Ends, SSRC, payload type and sequence number of the candidates that are kept."""
        text_of = self._addresses.text
        for candidates, _ in self._waiting:
            meta, header = candidates.meta, candidates.header
            ends = (meta.src.tolist(), meta.src_port.tolist(), meta.dst.tolist(), meta.dst_port.tolist())
            fields = (header["ssrc"].tolist(), (header["second"] & 0x7F).tolist(), header["sequence"].tolist())
            for src, src_port, dst, dst_port, ssrc, kind, sequence in zip(*ends, *fields, strict=True):
                yield (text_of(src), src_port, text_of(dst), dst_port), ssrc, kind, sequence

    def _known(self, meta: Meta) -> tuple[Flags, frozenset[Endpoint]]:
        """Which candidates come from or go to an announced endpoint, and all endpoints among them if not all do."""
        both: Keys = np.concatenate((meta.src, meta.dst)) << np.uint64(16)
        both |= np.concatenate((meta.src_port, meta.dst_port))
        encoded = numbers(both).dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        media = np.fromiter(map(self._is_media, distinct), bool, len(distinct))
        by_source, by_target = media[array_of(encoded.indices)].reshape(2, -1)
        known = by_source | by_target
        return known, frozenset(map(self._endpoint, distinct)) if not known.all() else frozenset()

    def _is_media(self, key: int) -> bool:
        """Ask the book of an endpoint; what it has announced stays announced."""
        if key in self._media:
            return True
        if not self._book.kinds.get(self._endpoint(key), 0) & IS_RTP:
            return False
        self._media.add(key)
        return True

    def _endpoint(self, key: int) -> Endpoint:
        return self._addresses.text(key >> 16), key & 0xFFFF
