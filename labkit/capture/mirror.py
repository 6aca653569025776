"""Mirrored messages: from the copies that nodes send, the messages that really travelled, as frames.

Every CSCF sends a copy of each SIP message that it sends or receives, the HSS one of each Diameter message. Between
two CSCFs both ends send a copy; the receiver's is kept. A node that talks to itself sends two copies; the second is
kept. The sender's copy of a message that nobody received stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from labkit.errors import CaptureError
from labkit.wire.hep import HepPacket
from labkit.wire.pcap import TCP_ACK, TCP_PSH, tcp_frame, udp_frame

_BIGGEST_SEGMENT = 60000

_Key = tuple[str, str, bytes]


class CopyMatcher:
    """Tells which copies are needed; feed it copies in the order in which they come."""

    def __init__(self) -> None:
        self._alone: dict[_Key, list[tuple[int, HepPacket]]] = defaultdict(list)
        self._superfluous: set[int] = set()

    def add(self, position: int, copy: HepPacket, reporter: str) -> None:
        """Take a copy.

        Args:
            position: its place in the log of all copies.
            copy: the copy.
            reporter: address of the node that sent the copy, as far as known.
        """
        key = (copy.src, copy.dst, copy.payload)
        waiting = self._alone[key]
        for index, (other_position, other) in enumerate(waiting):
            if copy.src == copy.dst or other.capture_id != copy.capture_id:
                del waiting[index]
                # Normally the sender's copy comes first; where it was overtaken, the reporter tells.
                overtaken = reporter == copy.src != copy.dst
                self._superfluous.add(position if overtaken else other_position)
                break
        else:
            waiting.append((position, copy))
        if not waiting:
            del self._alone[key]

    def needed(self, position: int) -> bool:
        """Whether the copy at a position of the log stands for a message of its own."""
        return position not in self._superfluous


def frames_of(copies: Iterable[HepPacket]) -> list[tuple[int, bytes]]:
    """Make Ethernet frames with the true addresses: (time in nanoseconds, frame), in order of time.

    A message over TCP becomes one segment; sequence numbers are made up, but fit together.
    """
    frames: list[tuple[int, bytes]] = []
    sent: dict[tuple[str, int, str, int], int] = defaultdict(lambda: 1)
    for number, copy in enumerate(sorted(copies, key=lambda copy: copy.time_us), start=1):
        here, there = (copy.src, copy.src_port), (copy.dst, copy.dst_port)
        try:
            if copy.transport != "tcp":
                frames.append((copy.time_us * 1000, udp_frame(*here, *there, copy.payload, ip_id=number)))
                continue
            for start in range(0, len(copy.payload), _BIGGEST_SEGMENT):
                part = copy.payload[start : start + _BIGGEST_SEGMENT]
                segment = tcp_frame(
                    *here,
                    *there,
                    part,
                    sequence=sent[(*here, *there)],
                    acknowledgment=sent[(*there, *here)],
                    flags=TCP_PSH | TCP_ACK,
                    ip_id=number,
                )
                sent[(*here, *there)] += len(part)
                frames.append((copy.time_us * 1000, segment))
        except CaptureError:  # a copy with nonsense in it must not cost the others
            continue
    return frames
