"""TCP segments to messages: put each direction's bytes in order, cut them where SIP or Diameter says.

A message belongs to the frame that completes it. Lost segments are skipped, and reading starts again at the
next place that looks like the start of a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from labkit.capture.packets import Segment
from labkit.wire.pcap import TCP_RST, TCP_SYN

_MOST_WAITING_SEGMENTS = 64
"""Segments beyond a gap that are kept for its filling; more mean that the missing one is lost."""
_LONGEST_HEAD = 65536
"""A SIP message whose header section has not ended after so many bytes is none."""
_LONGEST_SIP_BODY = 16 << 20
_LONGEST_DIAMETER = 1 << 20
"""RFC 6733 allows 16 MiB; nobody sends that; waiting longer would swallow what follows a damaged length."""

_START_LINE = rb"(?:SIP/2\.0 [1-6]\d\d[ \r\n]|[A-Za-z0-9.!%*_+`'~-]{1,32} [^\s]{1,2048} SIP/2\.0\r?\n)"
_SIP_START = re.compile(_START_LINE, re.IGNORECASE)
_SIP_START_SEARCH = re.compile(rb"(?:\A|\n)(" + _START_LINE + rb")", re.IGNORECASE)
_LONGEST_START_LINE = 2200
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CONTENT_LENGTH = re.compile(rb"\n(?:content-length|l)[ \t]*:[ \t]*(?:\r?\n[ \t]+)?(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message and where it was seen."""

    frame: int
    """The frame that completed it."""
    time_ns: int
    """Time of that frame."""
    segment: Segment
    """A segment of the message: gives addresses, ports and transport."""
    protocol: str
    """"sip" or "diameter"."""
    raw: bytes
    """The message, byte for byte."""


def looks_like_sip(raw: bytes) -> bool:
    """Tell whether bytes start like a SIP message (RFC 3261 section 7)."""
    return _SIP_START.match(raw) is not None


def looks_like_diameter(raw: bytes) -> bool:
    """Tell whether bytes start with a believable Diameter header (RFC 6733 section 3); needs 20 bytes."""
    return (
        len(raw) >= 20
        and raw[0] == 1
        and 20 <= int.from_bytes(raw[1:4], "big") <= _LONGEST_DIAMETER
        and raw[3] % 4 == 0
        and raw[4] & 0x0F == 0
        and _believable_first_avp(raw)
    )


def _believable_first_avp(raw: bytes) -> bool:
    if len(raw) < 28:
        return True
    size = int.from_bytes(raw[1:4], "big")
    avp_size = int.from_bytes(raw[25:28], "big")
    return size == 20 or (raw[24] & 0x1F == 0 and 8 <= avp_size <= size - 20)


@dataclass(slots=True)
class _Direction:
    """One direction of one connection."""

    next_sequence: int | None = None
    waiting: dict[int, Segment] = field(default_factory=dict)
    buffer: bytearray = field(default_factory=bytearray)
    frame: int = 0
    time_ns: int = 0
    protocol: str = ""
    synchronised: bool = True


class StreamReader:
    """Puts TCP streams together; feed it segments in file order."""

    def __init__(self) -> None:
        self._directions: dict[tuple[str, int, str, int], _Direction] = {}

    def feed(self, segment: Segment) -> Iterator[Message]:
        """Take a segment and give the messages that it completes."""
        key = (segment.src, segment.src_port, segment.dst, segment.dst_port)
        if segment.flags & TCP_SYN:
            yield from self._flush(self._directions.pop(key, None))
            self._directions[key] = _Direction(next_sequence=(segment.sequence + 1) & 0xFFFFFFFF)
            return
        direction = self._directions.get(key)
        if segment.payload:
            if direction is None:
                direction = self._directions[key] = _Direction(next_sequence=segment.sequence)
            yield from self._add(direction, segment)
        if segment.flags & TCP_RST:
            yield from self._flush(self._directions.pop(key, None))

    def finish(self) -> Iterator[Message]:
        """Give what was still waiting for a lost segment."""
        for direction in self._directions.values():
            yield from self._flush(direction)
        self._directions.clear()

    def _add(self, direction: _Direction, segment: Segment) -> Iterator[Message]:
        kept = direction.waiting.get(segment.sequence)
        if kept is None or len(kept.payload) < len(segment.payload):
            direction.waiting[segment.sequence] = segment
        yield from self._advance(direction)
        if len(direction.waiting) > _MOST_WAITING_SEGMENTS:
            yield from self._skip_gap(direction)

    def _flush(self, direction: _Direction | None) -> Iterator[Message]:
        while direction is not None and direction.waiting:
            yield from self._skip_gap(direction)

    def _skip_gap(self, direction: _Direction) -> Iterator[Message]:
        base = direction.next_sequence or 0
        nearest = min(direction.waiting, key=lambda sequence: (sequence - base) & 0xFFFFFFFF)
        direction.next_sequence = nearest
        direction.buffer.clear()
        direction.synchronised = False
        yield from self._advance(direction)

    def _advance(self, direction: _Direction) -> Iterator[Message]:
        """Move waiting segments that now join on into the buffer."""
        progress = True
        while progress and direction.waiting:
            progress = False
            for sequence in sorted(direction.waiting, key=lambda s: _distance(s, direction.next_sequence or 0)):
                ahead = _distance(sequence, direction.next_sequence or 0)
                if ahead > 0:
                    break
                segment = direction.waiting.pop(sequence)
                fresh = segment.payload[-ahead:] if ahead else segment.payload
                if fresh:
                    direction.buffer += fresh
                    direction.next_sequence = (segment.sequence + len(segment.payload)) & 0xFFFFFFFF
                    if segment.frame > direction.frame:
                        direction.frame, direction.time_ns = segment.frame, segment.time_ns
                    yield from _cut(direction, segment)
                progress = True


def _distance(sequence: int, base: int) -> int:
    """How far a sequence number lies ahead of (positive) or behind (negative) another, modulo 2**32."""
    return ((sequence - base + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def _cut(direction: _Direction, segment: Segment) -> Iterator[Message]:
    """Cut whole messages from the front of the buffer."""
    while direction.buffer:
        if not direction.protocol or not direction.synchronised:
            if not _synchronise(direction):
                return
            continue
        size = _message_size(direction)
        if size is None:
            return
        if size == 0:  # not the start of a message: look for the next one
            direction.synchronised = False
            continue
        raw = bytes(direction.buffer[:size])
        del direction.buffer[:size]
        if raw.strip(b"\r\n"):
            yield Message(direction.frame, direction.time_ns, segment, direction.protocol, raw)


def _synchronise(direction: _Direction) -> bool:
    """Find the start of a message; drop what is before it. False when more bytes are needed."""
    raw = bytes(direction.buffer)
    for start in _candidate_starts(raw, direction.protocol):
        direction.protocol = "sip" if _SIP_START.match(raw, start) else "diameter"
        del direction.buffer[:start]
        direction.synchronised = True
        return True
    del direction.buffer[:-_LONGEST_START_LINE]  # the start of the next message may be in the tail already
    return False


def _candidate_starts(raw: bytes, protocol: str) -> Iterator[int]:
    if protocol != "diameter":
        for match in _SIP_START_SEARCH.finditer(raw):
            yield match.start(1)
            break
    if protocol != "sip":
        position = raw.find(b"\x01")
        while position >= 0:
            if looks_like_diameter(raw[position : position + 28]):
                yield position
            position = raw.find(b"\x01", position + 1)


def _message_size(direction: _Direction) -> int | None:
    """Bytes of the message at the front; None when it is not whole yet, 0 when there is none."""
    if direction.protocol == "diameter":
        return _diameter_size(direction.buffer)
    return _sip_size(direction.buffer)


def _diameter_size(buffer: bytearray) -> int | None:
    if len(buffer) < 20:
        return None if buffer[0] == 1 else 0
    if not looks_like_diameter(bytes(buffer[:28])):
        return 0
    size = int.from_bytes(buffer[1:4], "big")
    return size if len(buffer) >= size else None


def _sip_size(buffer: bytearray) -> int | None:
    blank = len(buffer) - len(buffer.lstrip(b"\r\n"))
    if blank:  # keep-alive between messages (RFC 5626 section 3.5.1)
        return blank
    head_end = _HEAD_END.search(buffer)
    if head_end is None:
        return None if len(buffer) < _LONGEST_HEAD else 0
    if not looks_like_sip(bytes(buffer[: head_end.end()])):
        return 0
    length = _CONTENT_LENGTH.search(buffer, 0, head_end.end())
    body = int(length.group(1)) if length else 0
    if body > _LONGEST_SIP_BODY:
        return 0
    size = head_end.end() + body
    return size if len(buffer) >= size else None
