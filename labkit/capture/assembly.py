"""From frames to messages one by one, with all that must be remembered between frames.

The state here serves both ways of the decoder: few frames go through `frame`, many at once through
`capture.decode.bulk`, which leaves to this module what is rare.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from labkit.capture.fields import Row, diameter_row, sip_row, split_sip
from labkit.capture.framing import HEP, looks_like_diameter, looks_like_sip
from labkit.capture.media import IS_RTP, MediaBook, is_rtcp, rtcp_packets, rtcp_row, rtp_row
from labkit.capture.packets import SCTP, TCP, FragmentStore, PacketReader, Segment
from labkit.capture.rpc_rows import evapi_row, rpc_row
from labkit.capture.sctp import SctpReader
from labkit.capture.streams import Ends, Found, Message, StreamReader
from labkit.errors import ProtocolError
from labkit.wire import hep, pcap

_MOST_UNDECIDED_BYTES = 32 << 20
_MOST_COPIES = 4096
_MOST_FLOWS = 1 << 16

Flow = tuple[tuple[str, int], tuple[str, int]]
"""Two endpoints, the smaller one first."""


class Assembly:
    """Puts messages together."""

    def __init__(self) -> None:
        self.fragments = FragmentStore()
        self.packets = PacketReader(self.fragments)
        self.streams = StreamReader()
        self.sctp = SctpReader()
        self.book = MediaBook()
        self.undecided_dropped = 0
        """Datagrams that may have been RTP or RTCP and were forgotten before any SDP spoke of them."""
        self.undecided: deque[Segment] = deque()
        """Datagrams that are RTP or RTCP if SDP yet to come says so."""
        self._undecided_bytes = 0
        self.copied = False
        """Whether there were HEP3 packets."""
        self._copies: deque[Message] = deque()
        self._flows: dict[Flow, None] = {}

    def frame(self, frame: pcap.Frame) -> Iterator[Message]:
        """Give the messages that a frame completes."""
        for segment in self.packets.segments(frame):
            if segment.protocol == TCP:
                for found in self.streams.feed(segment):
                    yield from self.of_stream(found)
            elif segment.protocol == SCTP:
                yield from self.noted(self.sctp.feed(segment))
            else:
                yield from self.datagram(segment)

    def datagram(self, segment: Segment) -> Iterator[Message]:
        """Give the messages in a UDP datagram."""
        payload = segment.payload
        if payload[:4] == b"HEP3":
            yield from self.copy(segment.frame, payload)
        elif looks_like_sip(plain := payload.lstrip(b"\r\n")):
            yield from self.noted([Message(segment.frame, segment.time_ns, ends_of(segment), "udp", "sip", plain)])
        elif len(payload) >= 8 and payload[0] >> 6 == 2:
            messages, decided = self.media(segment)
            yield from messages
            if not decided:
                self.wait(segment)

    def media(self, segment: Segment) -> tuple[list[Message], bool]:
        """Give the RTP or RTCP packets in a datagram, and whether no further SDP can change that."""
        ends = ends_of(segment)
        kinds = self.book.kinds
        kind = kinds.get(ends[:2], 0) | kinds.get(ends[2:], 0)
        payload = segment.payload
        if is_rtcp(payload[1]):
            parts = rtcp_packets(payload) if kind else ()
            found = [Message(segment.frame, segment.time_ns, ends, "udp", "rtcp", part) for part in parts]
            return found, kind != 0
        if len(payload) < 12:
            return [], True
        if kind & IS_RTP:
            return [Message(segment.frame, segment.time_ns, ends, "udp", "rtp", payload)], True
        return [], False

    def wait(self, segment: Segment) -> None:
        """Keep a datagram until SDP speaks of it."""
        self.undecided.append(segment)
        self._undecided_bytes += len(segment.payload) + 300
        while self._undecided_bytes > _MOST_UNDECIDED_BYTES:
            self._undecided_bytes -= len(self.undecided.popleft().payload) + 300
            self.undecided_dropped += 1

    def late_media(self) -> Iterator[Message]:
        """Give the datagrams that wait and of which SDP spoke since the last call."""
        fresh = self.book.fresh
        if not fresh or not self.undecided:
            return
        waiting, self.undecided, self._undecided_bytes = self.undecided, deque(), 0
        for segment in waiting:
            if (segment.src, segment.src_port) in fresh or (segment.dst, segment.dst_port) in fresh:
                messages, decided = self.media(segment)
                yield from messages
                if decided:
                    continue
            self.wait(segment)

    def finish(self) -> Iterator[Message]:
        """Give what was waiting for bytes that will not come."""
        for found in self.streams.finish():
            yield from self.of_stream(found)
        while self._copies:
            yield from self._next_copy()

    def waiting_headers(self) -> Iterator[tuple[Ends, int, int, int]]:
        """Ends, SSRC, payload type and sequence number of the datagrams that wait and may be RTP."""
        for segment in self.undecided:
            raw = segment.payload
            if len(raw) >= 12 and not is_rtcp(raw[1]):
                yield ends_of(segment), int.from_bytes(raw[8:12], "big"), raw[1] & 0x7F, int.from_bytes(raw[2:4], "big")

    def notes(self) -> list[str]:
        """A sentence for each kind of thing that was missing, that is not read, or that had to be dropped."""
        unread = [
            (n, "frame is", "frames are", f"of link type {kind}: not read.") for kind, n in self.packets.unread.items()
        ]
        again = "a TCP stream had a gap or nonsense: reading went on at the next message."
        never_whole = len(self.fragments.pending) + self.fragments.outdated
        given_up = "given up to keep memory bounded."
        counted = (
            *unread,
            (self.packets.cut, "packet is", "packets are", "cut short in the capture: what was cut off is missing."),
            (self.streams.lost, "time", "times", again),
            (
                self.streams.forgotten,
                "direction of a TCP connection was",
                "directions of TCP connections were",
                given_up,
            ),
            (self.fragments.dropped, "fragmented IP packet was", "fragmented IP packets were", given_up),
            (never_whole, "fragmented IP packet", "fragmented IP packets", "never became whole."),
            (self.sctp.dropped, "piece of an SCTP message was", "pieces of SCTP messages were", given_up),
            (self.undecided_dropped, "datagram", "datagrams", "that may be RTP or RTCP dropped: no SDP came in time."),
        )
        return [f"{count} {one if count == 1 else many} {what}" for count, one, many, what in counted if count]

    def of_stream(self, found: Found) -> Iterator[Message]:
        """Give the messages of a TCP stream."""
        if found.protocol != HEP:
            yield from self.noted(found.messages())
            return
        for packet in found.messages():
            yield from self.copy(packet.frame, packet.raw)

    def copy(self, frame: int, packet: bytes) -> Iterator[Message]:
        """Take a HEP3 packet: the message in it counts where the capture does not show the message itself.

        A copy may come before its original, so that is told later.
        """
        self.copied = True
        for message in unwrapped(frame, packet):
            if message.protocol == "sip":
                self._learn(message)
            self._copies.append(message)
        while len(self._copies) > _MOST_COPIES:
            yield from self._next_copy()

    def _next_copy(self) -> Iterator[Message]:
        message = self._copies.popleft()
        if flow_of(message.ends) not in self._flows:
            yield message

    def note_flow(self, flow: Flow) -> None:
        """Note that messages between two endpoints are in the capture themselves."""
        if len(self._flows) < _MOST_FLOWS:
            self._flows[flow] = None

    def noted(self, messages: Iterator[Message] | list[Message]) -> Iterator[Message]:
        """Remember of messages what others will need to know, and give them on."""
        for message in messages:
            if message.protocol == "sip":
                self._learn(message)
            self.note_flow(flow_of(message.ends))
            yield message

    def _learn(self, message: Message) -> None:
        if b"\nm=" in message.raw:
            self.book.learn(split_sip(message.raw)[2])


def flow_of(ends: Ends) -> Flow:
    """The two endpoints of a message, whichever way it went."""
    source, target = ends[:2], ends[2:]
    return (source, target) if source < target else (target, source)


def ends_of(segment: Segment) -> Ends:
    """Where a segment came from and went to."""
    return (segment.src, segment.src_port, segment.dst, segment.dst_port)


def unwrapped(frame: int, raw: bytes) -> Iterator[Message]:
    """Give the message that a HEP3 packet carries, with the addresses and the time that it had."""
    try:
        packet = hep.parse_packet(raw)
    except ProtocolError:
        return
    ends = (packet.src, packet.src_port, packet.dst, packet.dst_port)
    if looks_like_sip(packet.payload.lstrip(b"\r\n")):
        protocol = "sip"
    elif looks_like_diameter(packet.payload) and int.from_bytes(packet.payload[1:4], "big") == len(packet.payload):
        protocol = "diameter"
    else:
        return
    yield Message(frame, packet.time_us * 1000, ends, packet.transport, protocol, packet.payload)


_READERS = {
    "sip": sip_row,
    "diameter": diameter_row,
    "rtp": rtp_row,
    "rtcp": rtcp_row,
    "evapi": evapi_row,
    "jsonrpc": rpc_row,
}


def row_of(message: Message) -> Row:
    """Read the columns of a message."""
    row = {name: value for name, value in _READERS[message.protocol](message.raw).items() if value is not None}
    row["frame"], row["time"] = message.frame, message.time_ns
    row["src"], row["src_port"], row["dst"], row["dst_port"] = message.ends
    row["transport"] = message.transport
    return row
