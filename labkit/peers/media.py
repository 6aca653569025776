"""The sound of a call: real RTP and RTCP over UDP, with a clock of its own (RFC 3550).

Every 20 ms a packet of PCMU goes out: a tone, or music for somebody who is held. The RTP timestamp counts samples of
that clock whether or not packets are sent, so that a pause (hold) shows as a jump of the timestamp and none of the
sequence number, and the first packet after it carries the marker.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from labkit.errors import ProtocolError, StackError
from labkit.peers.mirror import Mirror
from labkit.peers.transport import Endpoint
from labkit.wire import rtp, sdp

PACKET_S = 0.02
"""Time from packet to packet."""
MAX_LATE_PACKETS = 10
"""When the event loop was busy for longer than this many packets, they are left out instead of sent in a burst."""


@dataclass(frozen=True, slots=True)
class MediaReport:
    """What one side of a call knows about its sound."""

    sent: int
    """RTP packets sent."""
    received: int
    """RTP packets received of the present stream."""
    lost: int
    """Packets of that stream that did not come, by their sequence numbers."""
    jitter_ms: float
    """Interarrival jitter in milliseconds, by the estimate of RFC 3550 section 6.4.1."""
    rtcp_sent: int
    """RTCP datagrams sent."""
    rtcp_received: int
    """RTCP datagrams received."""


class AudioStream:
    """One audio stream in both directions: an RTP port and the RTCP port above it."""

    def __init__(self, *, tone_hz: int = 400, rtcp_interval_s: float = 5.0, mirror: Mirror | None = None) -> None:
        """Prepare; nothing is opened yet.

        Args:
            tone_hz: what it sounds like, a multiple of 50 Hz.
            rtcp_interval_s: time between RTCP reports, on average.
            mirror: gets a copy of everything that is sent, where packets cannot be sniffed.
        """
        self.port = 0
        """Our RTP port, an even number; RTCP uses the next one."""
        self._tone: tuple[bytes, ...] = (rtp.tone(tone_hz),)
        self._music = rtp.music()
        self._frames: tuple[bytes, ...] = self._tone
        self._frame = 0
        self._rtcp_interval_s = rtcp_interval_s
        self._mirror = mirror
        self._remote: Endpoint | None = None
        self._sending = False
        self._receiving = False
        self._marker = True
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(32)
        self._sent = self._rtcp_sent = self._rtcp_received = 0
        self._reception: rtp.Reception | None = None
        self._reported = (0, 0)
        self._last_sr: tuple[int, float] = (0, 0.0)
        self._due = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._sockets: list[asyncio.DatagramTransport] = []
        self._address = self._cname = ""

    async def open(self, address: str) -> int:
        """Take a free pair of ports and return the even one, for RTP.

        Raises:
            StackError: the address is none of this host, or no pair is free.
        """
        loop = asyncio.get_running_loop()
        pair = _free_pair(address)
        receivers = _Receiver(self._receive_rtp), _Receiver(self._receive_rtcp)
        rtp_socket, _ = await loop.create_datagram_endpoint(lambda: receivers[0], sock=pair[0])
        rtcp_socket, _ = await loop.create_datagram_endpoint(lambda: receivers[1], sock=pair[1])
        self._sockets = [rtp_socket, rtcp_socket]
        self.port = int(pair[0].getsockname()[1])
        self._address, self._cname = address, f"phone@{address}"
        return self.port

    def direct(self, remote: Endpoint | None, direction: str, *, music: bool = False) -> None:
        """Say where the other side listens and which way sound flows, from our point of view; starts the clock.

        Args:
            remote: address and port for RTP; None where neither RTP nor RTCP may go (c=0.0.0.0).
            direction: one of `labkit.wire.sdp.DIRECTIONS`.
            music: send music instead of the tone.
        """
        self._remote = remote
        sending = sdp.sends(direction)
        if sending and not self._sending:
            self._marker = True
        frames = self._music if music else self._tone
        if frames is not self._frames:
            self._frames, self._frame = frames, 0
        self._sending, self._receiving = sending, sdp.receives(direction)
        if not self._timers and self._sockets:
            loop = asyncio.get_running_loop()
            self._due = loop.time()
            self._timers = [loop.call_later(0, self._tick)]
            self._timers.append(loop.call_later(self._rtcp_pause_s() / 2, self._report))

    def report(self) -> MediaReport:
        """What has been sent and received so far."""
        got = self._reception
        return MediaReport(
            sent=self._sent,
            received=got.packets if got else 0,
            lost=got.lost if got else 0,
            jitter_ms=got.jitter * 1000 / rtp.PCMU_RATE_HZ if got else 0.0,
            rtcp_sent=self._rtcp_sent,
            rtcp_received=self._rtcp_received,
        )

    def close(self) -> None:
        """Say goodbye by RTCP and give the ports back."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        if self._sockets:
            self._send_rtcp(rtp.goodbye(self._ssrc))
        for one in self._sockets:
            one.close()
        self._sockets = []

    # ---- the clock --------------------------------------------------------------------------------------------------
    def _tick(self) -> None:
        """Send the packet that is due, and those that are overdue; the clock goes on while nothing is sent."""
        loop = asyncio.get_running_loop()
        late = int((loop.time() - self._due) / PACKET_S)
        if late > MAX_LATE_PACKETS:
            self._advance(late)
            self._marker = True
        while self._due <= loop.time():
            self._send_packet()
            self._advance(1)
        self._timers[0] = loop.call_at(self._due, self._tick)

    def _advance(self, packets: int) -> None:
        self._due += packets * PACKET_S
        self._timestamp = (self._timestamp + packets * rtp.FRAME_SAMPLES) & 0xFFFFFFFF

    def _send_packet(self) -> None:
        if not self._sending or self._remote is None or self._remote[1] == 0:
            return
        payload = self._frames[self._frame]
        packet = rtp.RtpPacket(rtp.PCMU, self._sequence, self._timestamp, self._ssrc, payload, marker=self._marker)
        self._send(0, packet.to_bytes())
        self._marker = False
        self._frame = (self._frame + 1) % len(self._frames)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._sent += 1

    def _send(self, offset: int, raw: bytes) -> None:
        """Send from our RTP port (0) or RTCP port (1) to the other side's."""
        assert self._remote is not None
        target = self._remote[0], self._remote[1] + offset
        self._sockets[offset].sendto(raw, target)
        if self._mirror is not None:
            self._mirror.send(raw, (self._address, self.port + offset), target)

    # ---- what comes in ----------------------------------------------------------------------------------------------
    def _receive_rtp(self, raw: bytes) -> None:
        try:
            packet = rtp.parse_rtp(raw)
        except ProtocolError:
            return
        arrival_s = time.monotonic()
        if self._reception is None or self._reception.ssrc != packet.ssrc:
            self._reception = rtp.Reception.begin(packet, arrival_s)
            self._reported = (0, 0)
        else:
            self._reception = self._reception.receive(packet, arrival_s)

    def _receive_rtcp(self, raw: bytes) -> None:
        try:
            packets = rtp.parse_rtcp(raw)
        except ProtocolError:
            return
        self._rtcp_received += 1
        for packet in packets:
            if packet.sender is not None:
                self._last_sr = (packet.sender.ntp >> 16 & 0xFFFFFFFF, time.monotonic())

    # ---- RTCP -------------------------------------------------------------------------------------------------------
    def _report(self) -> None:
        """Send an SR while sound goes out, else an RR; it goes on while the call is held (RFC 3264 section 8.4)."""
        if self._sending:
            sender = rtp.SenderInfo(
                rtp.ntp_time(time.time()), self._timestamp, self._sent, self._sent * rtp.FRAME_SAMPLES
            )
            self._send_rtcp(rtp.sender_report(self._ssrc, sender, self._blocks()))
        else:
            self._send_rtcp(rtp.receiver_report(self._ssrc, self._blocks()))
        loop = asyncio.get_running_loop()
        self._timers[1] = loop.call_later(self._rtcp_pause_s(), self._report)

    def _rtcp_pause_s(self) -> float:
        """Between half and one and a half times the interval, so that reports of many do not come in step (6.3.1)."""
        return self._rtcp_interval_s * random.uniform(0.5, 1.5)

    def _send_rtcp(self, packet: rtp.RtcpPacket) -> None:
        if self._remote is None or self._remote[1] == 0:
            return
        parts = [packet, rtp.source_description(self._ssrc, self._cname)]
        if packet.packet_type == rtp.BYE:
            parts = [rtp.receiver_report(self._ssrc, self._blocks()), parts[1], packet]
        self._send(1, b"".join(part.to_bytes() for part in parts))
        self._rtcp_sent += 1

    def _blocks(self) -> tuple[rtp.ReportBlock, ...]:
        got = self._reception
        if got is None:
            return ()
        expected, lost = got.expected - self._reported[0], got.lost - self._reported[1]
        self._reported = (got.expected, got.lost)
        fraction = min(255, max(0, lost) * 256 // expected) if expected > 0 else 0
        last_sr, when = self._last_sr
        delay = int((time.monotonic() - when) * 65536) & 0xFFFFFFFF if last_sr else 0
        return (
            rtp.ReportBlock(
                got.ssrc,
                fraction,
                max(-0x800000, min(0x7FFFFF, got.lost)),
                got.highest_sequence & 0xFFFFFFFF,
                int(got.jitter),
                last_sr,
                delay,
            ),
        )


def _free_pair(address: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    last: OSError | None = None
    for _ in range(50):
        first, second = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        try:
            first.bind((address, 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind((address, port + 1))
                first.setblocking(False)
                second.setblocking(False)
                return first, second
        except OSError as error:
            last = error
        first.close()
        second.close()
    raise StackError(f"No pair of free UDP ports for RTP on {address}: {last or 'all were taken'}.")


class _Receiver(asyncio.DatagramProtocol):
    """Hands every datagram on; errors of the network are RTP's daily bread."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive

    def datagram_received(self, raw: bytes, source: object) -> None:
        self._receive(raw)
