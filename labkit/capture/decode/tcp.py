"""TCP segments of a run to streams: orderly directions at once, the others segment by segment (`capture.streams`)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from labkit.capture.decode.arrays import Addresses, Array, Ints, Keys, Raw, at, picked
from labkit.capture.decode.layers import Bodies
from labkit.capture.decode.meta import TRANSPORTS, Meta
from labkit.capture.decode.text import gathered
from labkit.capture.streams import Ends, Found, Joined, Piece, StreamReader
from labkit.wire.pcap import TCP_RST, TCP_SYN

_HEAD = np.dtype(
    [("src", ">u2"), ("dst", ">u2"), ("sequence", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1")]
)
_CONTROL = TCP_SYN | TCP_RST
_FEW_SEGMENTS = 16
"""So many segments of one direction are worth the fixed cost of arrays."""
_HALF = 1 << 31


@dataclass(slots=True)
class Segments:
    """Segments with payload (or SYN or RST), direction by direction, in file order within each."""

    first: list[int]
    """Index of the first segment of each direction."""
    src: list[int]
    """Address and port of each direction, as key << 16 | port."""
    dst: list[int]
    """Where it goes to."""
    sequence: Ints
    """Of each segment."""
    size: Ints
    """Bytes of its payload."""
    frame: Ints
    """Number of its frame."""
    time: Ints
    """Time of its frame."""
    flags: Ints
    """TCP flags."""
    source: Ints
    """Number of the buffer in which its payload lies."""
    start: Ints
    """Where it lies there."""
    sources: list[Raw]
    """The buffers."""


def segments_of(parts: list[tuple[Raw, Bodies]], first_number: int, times: Ints) -> Segments | None:
    """Read the TCP headers of IP packets; None when none has anything to say."""
    columns: list[list[Array]] = []
    for number, (raw, bodies) in enumerate(parts):
        bodies = bodies.take(bodies.start + 14 <= bodies.end)
        head = at(raw, _HEAD, bodies.start)
        start = np.minimum(bodies.start + np.maximum((head["offset"] >> 4).astype(np.int64) * 4, 20), bodies.end)
        kept = (bodies.end > start) | (head["flags"] & _CONTROL != 0)
        head, start, bodies = picked(head, kept), start[kept], bodies.take(kept)
        if not len(start):
            continue
        ends = [(bodies.src << np.uint64(16)) | head["src"], (bodies.dst << np.uint64(16)) | head["dst"]]
        fields = [head["sequence"].astype(np.int64), bodies.frame, head["flags"].astype(np.int64)]
        columns.append([*ends, *fields, start, bodies.end, np.full(len(start), number)])
    if not columns:
        return None
    together = columns[0] if len(columns) == 1 else [np.concatenate(column) for column in zip(*columns, strict=True)]
    order = np.lexsort((together[3], together[1], together[0]))
    src, dst, sequence, frame, flags, start, end, part = (column[order] for column in together)
    first = np.flatnonzero(np.concatenate(([True], (src[1:] != src[:-1]) | (dst[1:] != dst[:-1]))))
    return Segments(
        first.tolist(),
        src[first].tolist(),
        dst[first].tolist(),
        sequence,
        end - start,
        frame + first_number,
        times[frame],
        flags,
        part,
        start,
        [raw for raw, _ in parts],
    )


def reassembled(segments: Segments, streams: StreamReader, addresses: Addresses) -> Iterator[tuple[int, int, Found]]:
    """Give the messages that each direction completes, with its two ends as in `Segments`."""
    stops = [*segments.first[1:], len(segments.size)]
    for begin, stop, source, target in zip(segments.first, stops, segments.src, segments.dst, strict=True):
        ends = (addresses.text(source >> 16), source & 0xFFFF, addresses.text(target >> 16), target & 0xFFFF)
        for found in _messages(segments, begin, stop, ends, streams):
            yield source, target, found


def _messages(segments: Segments, begin: int, stop: int, ends: Ends, streams: StreamReader) -> Iterator[Found]:
    """The messages that one direction completes."""
    opened = stop
    if stop - begin >= _FEW_SEGMENTS:
        control = np.flatnonzero(segments.flags[begin:stop] & _CONTROL)
        opened = begin + int(control[-1]) + 1 if len(control) else begin
    if stop - opened >= _FEW_SEGMENTS:
        yield from streams.feed_pieces(ends, _pieces(segments, begin, opened))
        begin = opened
        after = streams.open_end(ends)
        joined = _orderly(segments, begin, stop, after) if after is not None else None
        if joined is not None:
            if joined.parts:
                yield from streams.feed_joined(ends, joined, int(segments.sequence[begin]))
            return
    yield from streams.feed_pieces(ends, _pieces(segments, begin, stop))


def _pieces(segments: Segments, begin: int, stop: int) -> list[Piece]:
    """The segments of a direction one by one."""
    place = (segments.source, segments.start, segments.size)
    columns = (segments.sequence, *place, segments.frame, segments.time, segments.flags)
    views = [memoryview(raw) for raw in segments.sources]
    return [
        (sequence, views[source][start : start + size], frame, time, flags)
        for sequence, source, start, size, frame, time, flags in zip(
            *(column[begin:stop].tolist() for column in columns), strict=True
        )
    ]


def _orderly(segments: Segments, begin: int, stop: int, after: int) -> Joined | None:
    """Join the segments of a direction when each goes on where those before it ended, or repeats them."""
    sequence = segments.sequence[begin:stop]
    ahead = (sequence - (int(sequence[0]) if after < 0 else after) + _HALF & 0xFFFFFFFF) - _HALF
    end = ahead + segments.size[begin:stop]
    covered = np.maximum(np.maximum.accumulate(end), 0)
    before = np.concatenate(([0], covered[:-1]))
    fresh = ahead == before
    if not (fresh | (end <= before)).all():
        return None
    which = begin + np.flatnonzero(fresh & (end > before))
    if not len(which):
        return Joined()
    payload, _ = gathered(segments.sources, segments.source[which], segments.start[which], segments.size[which])
    size = int(covered[-1])
    ends, frames, times = (
        array("q", column.tobytes()) for column in (end[which - begin], segments.frame[which], segments.time[which])
    )
    return Joined([payload[:size]], ends, frames, times, size)


@dataclass(slots=True)
class Flows:
    """Messages of one protocol out of many directions."""

    parts: list[bytes] = field(default_factory=list)
    """The bytes in which they lie."""
    _flow: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    _found: list[Found] = field(default_factory=list)
    _size: int = 0

    def add(self, source: int, target: int, found: Found) -> None:
        """Add what one direction gave."""
        transport = TRANSPORTS.index(found.transport)
        self._flow.append((source, target, transport, self._size, found.before))
        self._found.append(found)
        self.parts.append(found.raw)
        self._size += len(found.raw)

    def columns(self) -> tuple[Ints, Ints, Ints, Meta]:
        """Number of the part, offset and size of each message, and where it was seen."""
        found = self._found
        messages = np.fromiter((len(one.starts) for one in found), np.int64, len(found))
        pieces = np.fromiter((len(one.joined.ends) for one in found), np.int64, len(found))
        flow = np.array(self._flow, np.uint64)
        source, target, transport, offset, before = flow.T
        part = np.repeat(np.arange(len(found)), messages)
        starts, ends = _chained([one.starts for one in found]), _chained([one.stops for one in found])
        # One scale for all parts, so that one search finds the pieces in which messages end.
        piece_ends = _joined([one.joined.ends for one in found]) + np.repeat(_ints(offset + before), pieces)
        place = np.searchsorted(piece_ends, ends + _ints(offset)[part])
        src, dst = np.repeat(source, messages), np.repeat(target, messages)
        meta = Meta(
            _joined([one.joined.frames for one in found])[place],
            _joined([one.joined.times for one in found])[place],
            _address(src),
            _port(src),
            _address(dst),
            _port(dst),
            np.repeat(transport.astype(np.int8), messages),
        )
        return part, starts, ends - starts, meta


def _address(key: Keys) -> Keys:
    return key >> np.uint64(16)


def _port(key: Keys) -> Array:
    return (key & np.uint64(0xFFFF)).astype(np.uint16)


def _ints(values: Keys) -> Ints:
    return values.astype(np.int64)


def _chained(lists: list[list[int]]) -> Ints:
    return np.fromiter(chain.from_iterable(lists), np.int64)


def _joined(columns: list[array[int]]) -> Ints:
    return np.frombuffer(b"".join(columns), np.int64)
