"""TCP segments to messages: put each direction's bytes in order and let `framing` cut them.

A message belongs to the frame that completes it. A lost segment costs the messages that it was part of: reading goes on
at the next place that looks like the start of one. Memory is bounded, whatever comes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from labkit.capture.framing import DIAMETER, HEP, SIP, WEBSOCKET, Framer, looks_like_diameter, looks_like_sip
from labkit.capture.packets import Segment
from labkit.capture.rpc_framing import RPC
from labkit.wire.pcap import TCP_RST, TCP_SYN

__all__ = ["Message", "StreamReader", "looks_like_diameter", "looks_like_sip"]

_MOST_WAITING_SEGMENTS = 64
"""Segments beyond a gap that are kept for its filling; more mean that the missing one is lost."""
_MOST_DIRECTIONS = 1 << 16
"""Directions of connections that are remembered; beyond, those that were silent longest are forgotten."""
_MOST_BYTES = 64 << 20
"""Bytes of unfinished messages that are kept over all connections."""
_ROUGHLY_A_DIRECTION = 600
"""Bytes that the memory of one direction costs by itself."""

Piece = tuple[int, bytes | memoryview, int, int, int]
"""Sequence number, payload, frame, time in nanoseconds, flags of a segment."""
Ends = tuple[str, int, str, int]
"""Source address and port, destination address and port."""


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message and where it was seen."""

    frame: int
    """The frame that completed it."""
    time_ns: int
    """Time of that frame."""
    ends: Ends
    """Where it came from and went to."""
    transport: str
    """"udp", "tcp", "sctp" or "ws"."""
    protocol: str
    """"sip", "diameter", "hep", "evapi" or "jsonrpc"."""
    raw: bytes
    """The message, byte for byte."""


def _numbers(some: Iterable[int] = ()) -> array[int]:
    return array("q", some)


@dataclass(slots=True)
class Joined:
    """Payload that follows, without a gap, what a direction has in its buffer."""

    parts: list[bytes | memoryview] = field(default_factory=list)
    """The payload, as far as it is new."""
    ends: array[int] = field(default_factory=_numbers)
    """Bytes up to the end of each segment's payload."""
    frames: array[int] = field(default_factory=_numbers)
    """The frame that brought each, or a later one that was needed before it."""
    times: array[int] = field(default_factory=_numbers)
    """Time of that frame."""
    size: int = 0
    """Bytes of all parts."""


@dataclass(frozen=True, slots=True)
class Found:
    """Messages of one direction, cut from a piece of its stream."""

    ends: Ends
    """Where they came from and went to."""
    transport: str
    """"tcp" or "ws"."""
    protocol: str
    """"sip", "diameter", "evapi" or "jsonrpc"."""
    raw: bytes
    """Bytes in which they lie."""
    starts: list[int]
    """Offset of each message."""
    stops: list[int]
    """Offset behind each."""
    joined: Joined
    """The pieces of the stream that completed them."""
    before: int
    """Bytes at the front that came before those pieces."""

    def messages(self) -> Iterator[Message]:
        """Give them one by one."""
        joined = self.joined
        for start, stop in zip(self.starts, self.stops, strict=True):
            place = bisect_left(joined.ends, stop - self.before)
            raw = self.raw[start:stop]
            yield Message(joined.frames[place], joined.times[place], self.ends, self.transport, self.protocol, raw)


@dataclass(slots=True)
class _Direction:
    """One direction of one connection."""

    next_sequence: int
    touched: int = 0
    waiting: dict[int, Piece] = field(default_factory=dict)
    buffer: bytes | bytearray = b""
    held: int = 0
    frame: int = 0
    time_ns: int = 0
    framer: Framer = field(default_factory=Framer)


class StreamReader:
    """Puts TCP streams together; feed it segments in file order."""

    def __init__(self) -> None:
        self._directions: dict[Ends, _Direction] = {}
        self._held = 0
        self.forgotten = 0
        """Directions given up because there were too many, or too much of them was waiting."""
        self.lost = 0
        """How often reading had to look for the next message."""

    def feed(self, segment: Segment) -> Iterator[Found]:
        """Take a segment and give the messages that it completes."""
        ends = (segment.src, segment.src_port, segment.dst, segment.dst_port)
        piece = (segment.sequence, segment.payload, segment.frame, segment.time_ns, segment.flags)
        yield from self.feed_pieces(ends, (piece,))

    def feed_pieces(self, ends: Ends, pieces: Sequence[Piece]) -> Iterator[Found]:
        """Take segments of one direction, in file order, and give the messages that they complete."""
        direction = self._directions.get(ends)
        joined = Joined()
        for piece in pieces:
            sequence, payload, frame, _time_ns, flags = piece
            if flags & TCP_SYN:
                if direction is not None:
                    yield from self._finish(ends, direction, joined)
                    joined = Joined()
                direction = self._open(ends, (sequence + 1) & 0xFFFFFFFF, frame)
                continue
            if len(payload):
                if direction is None:
                    direction = self._open(ends, sequence, frame)
                direction.touched = frame
                if sequence == direction.next_sequence and not direction.waiting:
                    self._append(direction, piece, joined)
                else:
                    self._place(direction, piece, joined)
                if len(direction.waiting) > _MOST_WAITING_SEGMENTS:
                    yield from self._skip_gap(ends, direction, joined)
                    joined = Joined()
            if flags & TCP_RST and direction is not None:
                yield from self._finish(ends, direction, joined)
                direction, joined = None, Joined()
                self._forget(ends)
        if direction is not None and joined.parts:
            yield from self._cut(ends, direction, joined)
        if self._held > _MOST_BYTES:
            self._make_room()

    def open_end(self, ends: Ends) -> int | None:
        """The next sequence number of a direction: -1 where nothing is known of it, None while it has a gap."""
        direction = self._directions.get(ends)
        if direction is None:
            return -1
        return None if direction.waiting else direction.next_sequence

    def feed_joined(self, ends: Ends, joined: Joined, first: int) -> Iterator[Found]:
        """Take payload that follows without a gap, when `open_end` was not None.

        Args:
            ends: the direction.
            joined: the payload; its frames never go down.
            first: sequence number of its first byte.
        """
        direction = self._directions.get(ends) or self._open(ends, first, joined.frames[0])
        direction.touched = joined.frames[-1]
        direction.frame, direction.time_ns = joined.frames[-1], joined.times[-1]
        direction.next_sequence = (direction.next_sequence + joined.size) & 0xFFFFFFFF
        yield from self._cut(ends, direction, joined)
        if self._held > _MOST_BYTES:
            self._make_room()

    def finish(self) -> Iterator[Found]:
        """Give what was still waiting for a lost segment."""
        for ends, direction in list(self._directions.items()):
            yield from self._finish(ends, direction, Joined())
            self._note_loss(direction)
        self._directions.clear()
        self._held = 0

    def _open(self, ends: Ends, next_sequence: int, frame: int) -> _Direction:
        self._forget(ends)
        if len(self._directions) >= _MOST_DIRECTIONS:
            self._make_room()
        direction = self._directions[ends] = _Direction(next_sequence, frame, held=_ROUGHLY_A_DIRECTION)
        self._held += direction.held
        return direction

    def _forget(self, ends: Ends) -> None:
        direction = self._directions.pop(ends, None)
        if direction is not None:
            self._held -= direction.held
            self._note_loss(direction)

    def _note_loss(self, direction: _Direction) -> None:
        if direction.framer.protocol in (SIP, DIAMETER, WEBSOCKET, HEP, *RPC):
            self.lost += direction.framer.lost

    def _make_room(self) -> None:
        """Forget the half that was silent longest."""
        order = sorted(self._directions, key=lambda ends: self._directions[ends].touched)
        for ends in order[: len(order) // 2 + 1]:
            self._forget(ends)
            self.forgotten += 1

    def _place(self, direction: _Direction, piece: Piece, joined: Joined) -> None:
        """Append a segment to what is joined, or let it wait; then append what waited for it."""
        ahead = (piece[0] - direction.next_sequence) & 0xFFFFFFFF
        if ahead and ahead < 0x80000000:
            kept = direction.waiting.get(piece[0])
            if kept is None or len(kept[1]) < len(piece[1]):
                direction.waiting[piece[0]] = (piece[0], bytes(piece[1]), *piece[2:])
                self._hold(direction, len(piece[1]) - (len(kept[1]) if kept else -_ROUGHLY_A_DIRECTION))
            return
        self._append(direction, piece, joined)
        while direction.waiting:
            base = direction.next_sequence
            nearest = min(direction.waiting, key=lambda sequence: _distance(sequence, base))
            if _distance(nearest, base) > 0:
                return
            waited = direction.waiting.pop(nearest)
            self._hold(direction, -len(waited[1]) - _ROUGHLY_A_DIRECTION)
            self._append(direction, waited, joined)

    def _append(self, direction: _Direction, piece: Piece, joined: Joined) -> None:
        sequence, payload, frame, time_ns, _flags = piece
        behind = _distance(direction.next_sequence, sequence)
        fresh = payload[behind:] if behind else payload
        if len(fresh):
            if frame > direction.frame:
                direction.frame, direction.time_ns = frame, time_ns
            joined.parts.append(fresh)
            joined.size += len(fresh)
            joined.ends.append(joined.size)
            joined.frames.append(direction.frame)
            joined.times.append(direction.time_ns)
            direction.next_sequence = (sequence + len(payload)) & 0xFFFFFFFF

    def _hold(self, direction: _Direction, more: int) -> None:
        direction.held += more
        self._held += more

    def _cut(self, ends: Ends, direction: _Direction, joined: Joined) -> Iterator[Found]:
        """Cut messages from the buffer with what was joined to it."""
        if not joined.parts:
            return
        before, framer = len(direction.buffer), direction.framer
        if before + joined.size < framer.needed:
            if isinstance(direction.buffer, bytes):
                direction.buffer = bytearray(direction.buffer)
            for part in joined.parts:
                direction.buffer += part
            self._hold(direction, joined.size)
            return
        raw = b"".join((direction.buffer, *joined.parts))
        cut = framer.cut(raw)
        direction.buffer = raw[cut.done :]
        self._hold(direction, len(direction.buffer) - before)
        if not cut.starts:
            return
        if cut.unwrapped:
            places = [bisect_left(joined.ends, end - before) for end in cut.ends]
            stops = list(accumulate(map(len, cut.unwrapped)))
            frames, times = (_numbers(column[i] for i in places) for column in (joined.frames, joined.times))
            came = Joined([], _numbers(stops), frames, times)
            yield Found(ends, WEBSOCKET, SIP, b"".join(cut.unwrapped), [0, *stops[:-1]], stops, came, 0)
            return
        yield Found(ends, "tcp", framer.protocol, raw, cut.starts, cut.ends, joined, before)

    def _finish(self, ends: Ends, direction: _Direction, joined: Joined) -> Iterator[Found]:
        yield from self._cut(ends, direction, joined)
        while direction.waiting:
            yield from self._skip_gap(ends, direction, Joined())

    def _skip_gap(self, ends: Ends, direction: _Direction, joined: Joined) -> Iterator[Found]:
        """Give up the missing segment: cut what came before it, go on with what came behind it."""
        yield from self._cut(ends, direction, joined)
        if not direction.waiting:
            return
        base = direction.next_sequence
        nearest = min(direction.waiting, key=lambda sequence: (sequence - base) & 0xFFFFFFFF)
        direction.next_sequence = nearest
        self._hold(direction, -len(direction.buffer))
        direction.buffer = b""
        direction.framer.lose()
        behind = Joined()
        waited = direction.waiting.pop(nearest)
        self._hold(direction, -len(waited[1]) - _ROUGHLY_A_DIRECTION)
        self._place(direction, waited, behind)
        yield from self._cut(ends, direction, behind)


def _distance(sequence: int, base: int) -> int:
    """How far a sequence number lies ahead of (positive) or behind (negative) another, modulo 2**32."""
    return ((sequence - base + 0x80000000) & 0xFFFFFFFF) - 0x80000000
