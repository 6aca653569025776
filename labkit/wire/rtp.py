"""RTP and RTCP headers, and PCMU, the audio that every phone speaks (RFC 3550, RFC 3551, ITU-T G.711)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from labkit.errors import ProtocolError

PCMU: Final = 0
"""Payload type of G.711 mu-law, 8000 samples a second (RFC 3551 section 6)."""
PCMU_RATE_HZ: Final = 8000
"""Samples a second, and the step of the RTP timestamp."""
FRAME_SAMPLES: Final = 160
"""Samples (and bytes) in a packet of 20 ms."""

# RFC 3550 section 12.1: RTCP packet types
SR, RR, SDES, BYE, APP = 200, 201, 202, 203, 204
_NTP_EPOCH_S: Final = 2208988800
"""Seconds from 1900, where NTP counts from, to 1970."""

_RTP_HEAD = struct.Struct(">BBHII")
_BLOCK = struct.Struct(">IIIIII")
_SENDER = struct.Struct(">QIII")


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet (RFC 3550 section 5.1)."""

    payload_type: int
    """0 to 127: what the payload is, by static assignment or by SDP."""
    sequence: int
    """0 to 65535, one more for every packet sent."""
    timestamp: int
    """Sampling instant of the first byte, in units of the clock rate, modulo 2**32."""
    ssrc: int
    """The stream's number, chosen at random by its sender."""
    payload: bytes
    """The media itself."""
    marker: bool = False
    """For audio: first packet after silence."""
    csrcs: tuple[int, ...] = ()
    """Sources that a mixer mixed."""
    extension: tuple[int, bytes] | None = None
    """(profile, bytes) of the header extension, a multiple of four bytes."""
    padding: bytes = b""
    """Padding as sent; its last byte is its length."""

    def to_bytes(self) -> bytes:
        """The packet as bytes."""
        first = 0x80 | len(self.csrcs) | (0x20 if self.padding else 0) | (0x10 if self.extension is not None else 0)
        second = self.payload_type | (0x80 if self.marker else 0)
        head = _RTP_HEAD.pack(first, second, self.sequence, self.timestamp, self.ssrc)
        if self.csrcs:
            head += struct.pack(f">{len(self.csrcs)}I", *self.csrcs)
        if self.extension is not None:
            head += struct.pack(">HH", self.extension[0], len(self.extension[1]) // 4) + self.extension[1]
        return head + self.payload + self.padding


def parse_rtp(raw: bytes) -> RtpPacket:
    """Read one RTP packet.

    Raises:
        ProtocolError: shorter than its own header says, not version 2, or padding longer than the payload.
    Spec:
        RFC 3550 section 5.1.
    """
    if len(raw) < 12:
        raise _error(f"{len(raw)} bytes; an RTP header has 12", len(raw))
    first, second, sequence, timestamp, ssrc = _RTP_HEAD.unpack_from(raw)
    if first >> 6 != 2:
        raise _error(f"RTP version {first >> 6}, not 2", 0)
    position = 12 + 4 * (first & 0x0F)
    if len(raw) < position + (4 if first & 0x10 else 0):
        raise _error("the packet ends within its header", len(raw))
    csrcs = struct.unpack_from(f">{first & 0x0F}I", raw, 12)
    extension = None
    if first & 0x10:
        profile, words = struct.unpack_from(">HH", raw, position)
        extension = (profile, bytes(raw[position + 4 : position + 4 + 4 * words]))
        position += 4 + 4 * words
        if len(raw) < position:
            raise _error("the packet ends within its header extension", len(raw))
    end = len(raw) - (raw[-1] if first & 0x20 else 0)
    if end < position or (first & 0x20 and raw[-1] == 0):
        raise _error(f"{raw[-1]} bytes of padding do not fit", len(raw) - 1)
    payload, padding = bytes(raw[position:end]), bytes(raw[end:])
    return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, payload, second > 127, csrcs, extension, padding)


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says about one stream that it gets (RFC 3550 section 6.4.1)."""

    ssrc: int
    """The stream that is reported on."""
    fraction_lost: int
    """Share lost since the last report, in 1/256."""
    packets_lost: int
    """Packets lost since the start; negative when more came twice than got lost."""
    highest_sequence: int
    """Highest sequence number received, with its wrap-arounds in the upper 16 bits."""
    jitter: int
    """Interarrival jitter in timestamp units."""
    last_sr: int = 0
    """Middle 32 bits of the NTP time of the last SR from that source, 0 when none came."""
    delay_since_last_sr: int = 0
    """Time from that SR to this report, in 1/65536 s."""

    def to_bytes(self) -> bytes:
        """The 24 bytes of the block."""
        lost = (self.fraction_lost << 24) | (self.packets_lost & 0xFFFFFF)
        return _BLOCK.pack(self.ssrc, lost, self.highest_sequence, self.jitter, self.last_sr, self.delay_since_last_sr)


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What a sender says about its own stream (RFC 3550 section 6.4.1)."""

    ntp: int
    """Wall clock when the report was sent, 64 bit NTP format."""
    rtp_timestamp: int
    """The same instant on the stream's own clock."""
    packets: int
    """Packets sent so far."""
    payload_bytes: int
    """Bytes of payload sent so far."""


@dataclass(frozen=True, slots=True)
class RtcpPacket:
    """One packet out of a compound RTCP datagram (RFC 3550 section 6.1)."""

    packet_type: int
    """200 SR, 201 RR, 202 SDES, 203 BYE, 204 APP, or a later one."""
    count: int
    """The five bits of the header: number of report blocks, chunks or sources."""
    body: bytes
    """Everything behind the 4 bytes of the header, padding included."""
    padded: bool = False
    """Whether the last bytes of the body are padding."""

    @property
    def ssrc(self) -> int | None:
        """The sender of the packet; None for an empty one."""
        return int.from_bytes(self.body[:4], "big") if len(self.body) >= 4 else None

    @property
    def sender(self) -> SenderInfo | None:
        """The sender's part of an SR, None for every other type."""
        if self.packet_type != SR:
            return None
        return SenderInfo(*_SENDER.unpack_from(self.body, 4))

    @property
    def blocks(self) -> tuple[ReportBlock, ...]:
        """The report blocks of an SR or RR."""
        start = {SR: 24, RR: 4}.get(self.packet_type)
        if start is None:
            return ()
        return tuple(_block(self.body, start + 24 * number) for number in range(self.count))

    def to_bytes(self) -> bytes:
        """The packet as bytes."""
        first = 0x80 | (0x20 if self.padded else 0) | self.count
        return struct.pack(">BBH", first, self.packet_type, len(self.body) // 4) + self.body


def _block(body: bytes, start: int) -> ReportBlock:
    ssrc, lost, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, start)
    packets_lost = lost & 0xFFFFFF
    if packets_lost & 0x800000:
        packets_lost -= 1 << 24
    return ReportBlock(ssrc, lost >> 24, packets_lost, highest, jitter, last_sr, delay)


def parse_rtcp(raw: bytes) -> tuple[RtcpPacket, ...]:
    """Read a compound RTCP datagram.

    Raises:
        ProtocolError: not version 2, a packet longer than the datagram, or a report too short for its blocks.
    Spec:
        RFC 3550 section 6.
    """
    packets: list[RtcpPacket] = []
    position = 0
    while position < len(raw):
        if len(raw) - position < 4:
            raise _error("the datagram ends within an RTCP header", len(raw))
        first, packet_type, words = struct.unpack_from(">BBH", raw, position)
        end = position + 4 + 4 * words
        if first >> 6 != 2:
            raise _error(f"RTCP version {first >> 6}, not 2", position)
        if end > len(raw):
            raise _error("the datagram ends within an RTCP packet", len(raw))
        needed = {SR: 24 + 24 * (first & 0x1F), RR: 4 + 24 * (first & 0x1F)}.get(packet_type, 0)
        if 4 * words < needed:
            raise _error(f"{first & 0x1F} report blocks do not fit the packet", position)
        packets.append(RtcpPacket(packet_type, first & 0x1F, bytes(raw[position + 4 : end]), bool(first & 0x20)))
        position = end
    if not packets:
        raise _error("no RTCP packet in an empty datagram", 0)
    return tuple(packets)


def looks_like_rtcp(raw: bytes) -> bool:
    """Tell RTCP from RTP by the second byte, as multiplexers do (RFC 5761 section 4)."""
    return len(raw) >= 8 and raw[0] >> 6 == 2 and 192 <= raw[1] <= 223


def sender_report(ssrc: int, sender: SenderInfo, blocks: tuple[ReportBlock, ...] = ()) -> RtcpPacket:
    """Make an SR: what was sent, and what was received of others."""
    body = struct.pack(">I", ssrc) + _SENDER.pack(
        sender.ntp, sender.rtp_timestamp, sender.packets, sender.payload_bytes
    )
    return RtcpPacket(SR, len(blocks), body + b"".join(block.to_bytes() for block in blocks))


def receiver_report(ssrc: int, blocks: tuple[ReportBlock, ...] = ()) -> RtcpPacket:
    """Make an RR: what was received, from a side that sends nothing."""
    return RtcpPacket(RR, len(blocks), struct.pack(">I", ssrc) + b"".join(block.to_bytes() for block in blocks))


def source_description(ssrc: int, cname: str) -> RtcpPacket:
    """Make an SDES with the CNAME, which every compound packet carries (RFC 3550 section 6.5.1)."""
    name = cname.encode()[:255]
    chunk = struct.pack(">IBB", ssrc, 1, len(name)) + name + b"\x00"
    return RtcpPacket(SDES, 1, chunk + b"\x00" * (-len(chunk) % 4))


def goodbye(ssrc: int) -> RtcpPacket:
    """Make a BYE: the stream ends (RFC 3550 section 6.6)."""
    return RtcpPacket(BYE, 1, struct.pack(">I", ssrc))


def ntp_time(unix_s: float) -> int:
    """64 bit NTP time of a Unix time (RFC 3550 section 4)."""
    return int((unix_s + _NTP_EPOCH_S) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Reception:
    """What is known of a stream from the packets that came: losses and jitter (RFC 3550 appendix A)."""

    ssrc: int
    """The stream."""
    first_sequence: int
    """Sequence number of the first packet."""
    highest_sequence: int
    """Highest sequence number, with wrap-arounds in the upper bits."""
    packets: int
    """Packets received, duplicates included."""
    jitter: float
    """Interarrival jitter in timestamp units, the running estimate of section 6.4.1."""
    transit: float
    """Arrival minus timestamp of the last packet, in timestamp units."""

    @classmethod
    def begin(cls, packet: RtpPacket, arrival_s: float, rate_hz: int = PCMU_RATE_HZ) -> Reception:
        """Start with the first packet."""
        transit = arrival_s * rate_hz - packet.timestamp
        return cls(packet.ssrc, packet.sequence, packet.sequence, 1, 0.0, transit)

    def receive(self, packet: RtpPacket, arrival_s: float, rate_hz: int = PCMU_RATE_HZ) -> Reception:
        """Count one more packet of the same stream."""
        ahead = (packet.sequence - self.highest_sequence) & 0xFFFF
        highest = self.highest_sequence + ahead if ahead < 0x8000 else self.highest_sequence
        transit = arrival_s * rate_hz - packet.timestamp
        jitter = self.jitter + (abs(transit - self.transit) - self.jitter) / 16
        return replace(self, highest_sequence=highest, packets=self.packets + 1, jitter=jitter, transit=transit)

    @property
    def expected(self) -> int:
        """Packets that should have come, by sequence numbers."""
        return self.highest_sequence - self.first_sequence + 1

    @property
    def lost(self) -> int:
        """Packets that did not come; negative when some came twice."""
        return self.expected - self.packets


_BIAS, _CLIP = 0x84, 32635


def encode_pcmu(sample: int) -> int:
    """Compress one 16 bit sample to a byte of G.711 mu-law."""
    sign = 0x80 if sample < 0 else 0
    # G.711 takes 14 bit samples: the two lowest of 16 are cut off before the sign is
    magnitude = min(abs(sample >> 2) << 2, _CLIP) + _BIAS
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> (exponent + 3) & 0x0F) & 0xFF


def decode_pcmu(byte: int) -> int:
    """Expand one byte of G.711 mu-law to a 16 bit sample."""
    byte = ~byte & 0xFF
    magnitude = ((byte & 0x0F) << 3) + _BIAS << (byte >> 4 & 0x07)
    return _BIAS - magnitude if byte & 0x80 else magnitude - _BIAS


def tone(frequency_hz: int, amplitude: int = 8000) -> bytes:
    """One 20 ms frame of a tone in PCMU.

    Args:
        frequency_hz: a multiple of 50, so that the frame holds whole periods and can be sent again and again.
        amplitude: peak, up to 32635.
    Raises:
        ProtocolError: the frequency is no multiple of 50 Hz between 50 and 4000.
    """
    if frequency_hz % 50 or not 50 <= frequency_hz < 4000:
        raise ProtocolError(f"A tone of {frequency_hz} Hz does not fit 20 ms whole: use a multiple of 50 below 4000")
    step = 2 * math.pi * frequency_hz / PCMU_RATE_HZ
    return bytes(encode_pcmu(round(amplitude * math.sin(step * number))) for number in range(FRAME_SAMPLES))


MUSIC_HZ: Final = (400, 500, 600, 800, 600, 500)
"""A tune for somebody who waits: the notes of a major chord, up and down."""
NOTE_FRAMES: Final = 5
"""Packets that a note lasts: 100 ms."""


def music() -> tuple[bytes, ...]:
    """Frames of 20 ms in PCMU that make a tune, to be sent over and over."""
    return tuple(frame for hertz in MUSIC_HZ for frame in [tone(hertz, 6000)] * NOTE_FRAMES)


def pitch_hz(payload: bytes) -> int:
    """Tell the pitch of PCMU sound: how often it swings from minus to plus in a second.

    Exact for a tone that fits its packet whole, a rough guess for everything else; 0 for silence.
    """
    signs = [sample > 0 for sample in map(decode_pcmu, payload) if sample]
    rising = sum(now and not before for before, now in pairwise([*signs[-1:], *signs]))
    return round(rising * PCMU_RATE_HZ / len(payload)) if payload else 0


def _error(what: str, offset: int) -> ProtocolError:
    return ProtocolError(f"Not RTP: {what}", offset=offset, spec="RFC 3550")
