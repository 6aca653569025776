"""From what was said to the frames that a capture of it holds.

UDP datagrams that do not fit are cut into IP fragments. On TCP, messages that follow each other closely share a
segment, long ones take several, and where asked for segments overtake each other and come twice.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import NamedTuple

from labkit.practice.truth import End, Meaning
from labkit.wire import pcap

_MOST_UDP, _MOST_SEGMENT = 1480, 1400
"""Bytes of an IP packet behind its header, and of a TCP segment."""
_TOGETHER_NS = 200_000
"""So long a TCP sender waits for more to say."""
_CUT_ANYWHERE = 0.06
"""Share of what TCP carries that is cut at an odd place, also inside a header."""
_SEGMENT_APART_NS, _AGAIN_AFTER_NS = 12_000, 3_000_000
_VLAN_TAG = struct.pack(">HH", 0x8100, 210)


@dataclass(slots=True)
class Said:
    """One message, as one node gave it to the next."""

    time_ns: int
    """Nanoseconds since 1970."""
    src: End
    """Who."""
    dst: End
    """To whom."""
    transport: str
    """"udp" or "tcp"."""
    raw: bytes
    """The message."""
    meaning: Meaning
    """What it says, for the row that a decoder must make of it."""
    core: bool = False
    """Seen at the core's interface, whose frames carry a VLAN tag, instead of at the access."""


class Seen(NamedTuple):
    """One frame of the capture."""

    time_ns: int
    """Nanoseconds since 1970."""
    place: int
    """Place among all frames as they were made; keeps equal times in order."""
    core: bool
    """At which interface."""
    raw: bytes
    """Ethernet frame."""


@dataclass(slots=True)
class _Direction:
    """One direction of a TCP connection."""

    sequence: int
    waiting: list[Said] = field(default_factory=list)
    last_ns: int = 0


class Cable:
    """Turns what was said into frames."""

    def __init__(self, chance: random.Random, *, overtaken: float = 0.0, repeated: float = 0.0) -> None:
        """Prepare.

        Args:
            chance: where ports, sequence numbers and cuts come from.
            overtaken: share of TCP segments that are overtaken by their successor.
            repeated: share of TCP segments that come a second time.
        """
        self._chance = chance
        self._overtaken, self._repeated = overtaken, repeated
        self._frames: list[Seen] = []
        self._whole: list[tuple[int, Said]] = []
        self._directions: dict[tuple[End, End], _Direction] = {}
        self._open: list[tuple[End, End]] = []
        self._ip_id = chance.randrange(1 << 16)

    def carry(self, said: Iterable[Said]) -> tuple[list[Seen], list[tuple[int, Said]]]:
        """Give the frames in order of time; and what was said, each with the number of the frame that completes it."""
        for one in sorted(said, key=attrgetter("time_ns")):
            self._flush(one.time_ns)
            if one.transport == "udp":
                self._udp(one)
            else:
                self._tcp(one)
        self._flush(None)
        frames = sorted(self._frames)
        number = {frame.place: at for at, frame in enumerate(frames, start=1)}
        whole = [(number[place], one) for place, one in self._whole]
        whole.sort(key=itemgetter(0))
        return frames, whole

    def _add(self, time_ns: int, core: bool, raw: bytes) -> int:
        place = len(self._frames)
        self._frames.append(Seen(time_ns, place, core, raw[:12] + _VLAN_TAG + raw[12:] if core else raw))
        return place

    def _next_id(self) -> int:
        self._ip_id = (self._ip_id + 1) & 0xFFFF
        return self._ip_id

    # ------------------------------------------------------------ UDP

    def _udp(self, said: Said) -> None:
        frame = pcap.udp_frame(*said.src, *said.dst, said.raw, ip_id=self._next_id())
        pieces = [frame] if len(said.raw) + 8 <= _MOST_UDP else fragments(frame, _MOST_UDP, self._next_id())
        places = [self._add(said.time_ns + at * 2000, said.core, piece) for at, piece in enumerate(pieces)]
        self._whole.append((places[-1], said))

    # ------------------------------------------------------------ TCP

    def _tcp(self, said: Said) -> None:
        ends = (said.src, said.dst)
        if ends not in self._directions:
            self._connect(said)
        direction = self._directions[ends]
        if not direction.waiting:
            self._open.append(ends)
        direction.waiting.append(said)

    def _connect(self, said: Said) -> None:
        here, there = (_Direction(self._chance.getrandbits(32)) for _ in range(2))
        self._directions[(said.src, said.dst)], self._directions[(said.dst, said.src)] = here, there
        time_ns = said.time_ns - 3_000_000
        steps = ((0, pcap.TCP_SYN), (1, pcap.TCP_SYN | pcap.TCP_ACK), (0, pcap.TCP_ACK))
        for at, (back, flags) in enumerate(steps):
            src, dst = (said.dst, said.src) if back else (said.src, said.dst)
            self._segment(time_ns + at * 700_000, src, dst, said.core, b"", flags)
            if flags & pcap.TCP_SYN:
                self._directions[(src, dst)].sequence += 1

    def _flush(self, now_ns: int | None) -> None:
        """Send what has waited long enough."""
        for ends in list(self._open):
            waiting = self._directions[ends].waiting
            if now_ns is None or waiting[0].time_ns + _TOGETHER_NS <= now_ns:
                self._open.remove(ends)
                self._send(*ends, waiting)
                self._directions[ends].waiting = []

    def _send(self, src: End, dst: End, waiting: list[Said]) -> None:
        direction, core = self._directions[(src, dst)], waiting[0].core
        stream = b"".join(said.raw for said in waiting)
        starts = list(range(0, len(stream), _MOST_SEGMENT))
        if self._chance.random() < _CUT_ANYWHERE:
            starts = sorted({*starts, self._chance.randrange(1, len(stream))})
        begin_ns = max(waiting[-1].time_ns, direction.last_ns + 1000)
        times = [begin_ns + at * _SEGMENT_APART_NS for at in range(len(starts))]
        for at in range(len(times) - 1):
            if self._chance.random() < self._overtaken:
                times[at], times[at + 1] = times[at + 1], times[at]
        places = []
        for time_ns, start, end in zip(times, starts, [*starts[1:], len(stream)], strict=True):
            segment = (src, dst, core, stream[start:end])
            places.append(self._segment(time_ns, *segment, offset=start))
            if self._chance.random() < self._repeated:
                self._segment(time_ns + _AGAIN_AFTER_NS, *segment, offset=start)
        direction.sequence += len(stream)
        direction.last_ns = max(times)
        self._acknowledge(src, dst, core, direction.last_ns)
        self._complete_all(waiting, starts, times, places)

    def _complete_all(self, waiting: list[Said], starts: list[int], times: list[int], places: list[int]) -> None:
        """A message belongs to the last to come of the segments up to its end."""
        end = 0
        for said in waiting:
            end += len(said.raw)
            needed = sum(1 for start in starts if start < end)
            self._whole.append((max(zip(times[:needed], places[:needed], strict=True))[1], said))

    def _acknowledge(self, src: End, dst: End, core: bool, time_ns: int) -> None:
        if self._chance.random() < 0.5:
            self._segment(time_ns + 40_000, dst, src, core, b"", pcap.TCP_ACK)

    def _segment(
        self,
        time_ns: int,
        src: End,
        dst: End,
        core: bool,
        payload: bytes,
        flags: int = pcap.TCP_PSH | pcap.TCP_ACK,
        offset: int = 0,
    ) -> int:
        sequence = self._directions[(src, dst)].sequence + offset
        seen = self._directions[(dst, src)].sequence if flags & pcap.TCP_ACK else 0
        frame = pcap.tcp_frame(
            *(*src, *dst, payload), sequence=sequence, acknowledgment=seen, flags=flags, ip_id=self._next_id()
        )
        return self._add(time_ns, core, frame)


def fragments(frame: bytes, most: int, ip_id: int) -> list[bytes]:
    """Cut the IP packet of an Ethernet frame into fragments (RFC 791 section 2.3, RFC 8200 section 4.5).

    Args:
        frame: with one IP packet, without options or extension headers.
        most: bytes that a packet may carry behind its header; a multiple of eight.
        ip_id: identification of an IPv6 packet; an IPv4 packet has its own.
    """
    four = frame[14] >> 4 == 4
    head, body = (frame[:34], frame[34:]) if four else (frame[:54], frame[54:])
    step = most if four else (most - 8 - 20) // 8 * 8
    pieces = []
    for start in range(0, len(body), step):
        piece, more = body[start : start + step], start + step < len(body)
        if four:
            total, word = struct.pack(">H", 20 + len(piece)), struct.pack(">H", more << 13 | start // 8)
            header = head[14:16] + total + head[18:20] + word + head[22:24] + b"\0\0" + head[26:34]
            checksum = struct.pack(">H", pcap.internet_checksum(header))
            pieces.append(head[:14] + header[:10] + checksum + header[12:] + piece)
        else:
            size = struct.pack(">HB", 8 + len(piece), 44)
            extension = struct.pack(">BBHI", head[20], 0, start | more, ip_id)
            pieces.append(head[:18] + size + head[21:] + extension + piece)
    return pieces
