"""Messages out of SCTP packets: DATA chunks, fragments put together (RFC 9260 sections 3.3.1 and 6.9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from labkit.capture.framing import looks_like_diameter, looks_like_sip
from labkit.capture.packets import Segment
from labkit.capture.streams import Ends, Message

_DATA = 0
_UNORDERED, _FIRST, _LAST = 4, 2, 1
_MOST_ASSOCIATIONS = 4096
_MOST_SEEN = 1024
_MOST_PIECES = 512
_LONGEST_MESSAGE = 1 << 20
_MOST_BYTES = 32 << 20


@dataclass(slots=True)
class _Association:
    """One direction of an association."""

    seen: dict[int, None] = field(default_factory=dict)
    pieces: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    held: int = 0


class SctpReader:
    """Gives the messages that SCTP packets complete."""

    def __init__(self) -> None:
        self._associations: dict[Ends, _Association] = {}
        self._held = 0
        self.dropped = 0
        """Fragments of messages given up because too many were open."""

    def feed(self, segment: Segment) -> Iterator[Message]:
        """Take an SCTP packet (its chunks are the payload) and give the messages that it completes."""
        ends = (segment.src, segment.src_port, segment.dst, segment.dst_port)
        raw, position = segment.payload, 0
        while len(raw) - position >= 4:
            size = int.from_bytes(raw[position + 2 : position + 4], "big")
            if size < 4:
                return
            if raw[position] == _DATA and size > 16 and position + size <= len(raw):
                number = int.from_bytes(raw[position + 4 : position + 8], "big")
                message = self._chunk(ends, number, raw[position + 1], raw[position + 16 : position + size])
                if message is not None and (protocol := _protocol(message)):
                    yield Message(segment.frame, segment.time_ns, ends, "sctp", protocol, message)
            position += size + -size % 4

    def _chunk(self, ends: Ends, number: int, flags: int, body: bytes) -> bytes | None:
        association = self._associations.get(ends)
        if association is None:
            if len(self._associations) >= _MOST_ASSOCIATIONS:
                self._forget_oldest()
            association = self._associations[ends] = _Association()
        if number in association.seen:
            return None
        association.seen[number] = None
        if len(association.seen) > _MOST_SEEN:
            del association.seen[next(iter(association.seen))]
        if flags & _FIRST and flags & _LAST:
            return body
        association.pieces[number] = (flags, body)
        self._hold(association, len(body))
        whole = self._whole(association, number)
        while len(association.pieces) > _MOST_PIECES or association.held > _LONGEST_MESSAGE:
            oldest = next(iter(association.pieces))
            self._hold(association, -len(association.pieces.pop(oldest)[1]))
            self.dropped += 1
        while self._held > _MOST_BYTES:
            self._forget_oldest()
        return whole

    def _hold(self, association: _Association, more: int) -> None:
        association.held += more
        self._held += more

    def _forget_oldest(self) -> None:
        association = self._associations.pop(next(iter(self._associations)))
        self._held -= association.held
        self.dropped += len(association.pieces)

    def _whole(self, association: _Association, number: int) -> bytes | None:
        """The message that a fragment belongs to, when all of it is there: consecutive numbers from first to last."""
        pieces = association.pieces
        first = last = number
        while not pieces[first][0] & _FIRST:
            first = (first - 1) & 0xFFFFFFFF
            if first not in pieces or pieces[first][0] & _LAST:
                return None
        while not pieces[last][0] & _LAST:
            last = (last + 1) & 0xFFFFFFFF
            if last not in pieces or pieces[last][0] & _FIRST:
                return None
        count = ((last - first) & 0xFFFFFFFF) + 1
        found = [pieces.pop((first + index) & 0xFFFFFFFF)[1] for index in range(count)]
        self._hold(association, -sum(map(len, found)))
        return b"".join(found)


def _protocol(message: bytes) -> str:
    if looks_like_sip(message):
        return "sip"
    if looks_like_diameter(message) and int.from_bytes(message[1:4], "big") == len(message):
        return "diameter"
    return ""
