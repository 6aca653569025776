"""RTP, RTCP and PCMU, held against bytes laid out by hand from RFC 3550, against the C library's G.711, and tshark."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from labkit.errors import ProtocolError
from labkit.wire.rtp import (
    FRAME_SAMPLES,
    MUSIC_HZ,
    NOTE_FRAMES,
    PCMU_RATE_HZ,
    Reception,
    ReportBlock,
    RtcpPacket,
    RtpPacket,
    SenderInfo,
    decode_pcmu,
    encode_pcmu,
    goodbye,
    looks_like_rtcp,
    music,
    ntp_time,
    parse_rtcp,
    parse_rtp,
    pitch_hz,
    receiver_report,
    sender_report,
    source_description,
    tone,
)

# RFC 3550 section 5.1: V=2 P X CC=2, M PT=96, sequence, timestamp, SSRC, two CSRCs, extension, payload, padding
FULL = bytes.fromhex("b2e01234 89abcdef deadbeef 00000001 00000002 bede0001 10ff0000 616263 00000004")
PLAIN = bytes.fromhex("80000001 000000a0 cafebabe") + b"\xff" * 160
# RFC 3550 section 6.4.1: header, sender's SSRC, NTP, RTP timestamp, packets, bytes, then one block of six words
SR = bytes.fromhex(
    "81c8000c 11111111 e1a2b3c4 00000000 000003e8 00000032 00001f40"
    "22222222 05fffffd 00010005 00000010 b3c40000 00010000"
)


def test_every_field_of_rtp() -> None:
    """Marker, CSRCs, header extension and padding are read from where the RFC puts them, and written back."""
    packet = parse_rtp(FULL)
    assert packet == RtpPacket(
        payload_type=96,
        sequence=0x1234,
        timestamp=0x89ABCDEF,
        ssrc=0xDEADBEEF,
        payload=b"abc",
        marker=True,
        csrcs=(1, 2),
        extension=(0xBEDE, b"\x10\xff\x00\x00"),
        padding=b"\x00\x00\x00\x04",
    )
    assert packet.to_bytes() == FULL
    assert parse_rtp(PLAIN).to_bytes() == PLAIN
    assert parse_rtp(PLAIN).payload == b"\xff" * 160


@pytest.mark.parametrize("raw", [FULL, PLAIN[:20]])
def test_truncated_rtp(raw: bytes) -> None:
    """A packet cut anywhere is read shorter or is a ProtocolError, never another exception."""
    for size in range(len(raw)):
        offset: int | None = 0
        try:
            parse_rtp(raw[:size])
        except ProtocolError as error:
            offset = error.offset
        assert offset is not None


@pytest.mark.parametrize(
    "raw", [b"", b"\x40" + PLAIN[1:], b"\xa0" + PLAIN[1:-1] + b"\xff", b"\xa0" + PLAIN[1:-1] + b"\0"]
)
def test_wrong_rtp(raw: bytes) -> None:
    """Another version and padding that cannot be are refused."""
    with pytest.raises(ProtocolError):
        parse_rtp(raw)


def test_sender_report() -> None:
    """An SR with a block is read field by field, the loss as a signed number, and written back."""
    (packet,) = parse_rtcp(SR)
    assert packet.packet_type == 200
    assert packet.ssrc == 0x11111111
    assert packet.sender == SenderInfo(0xE1A2B3C400000000, 1000, 50, 8000)
    assert packet.blocks == (ReportBlock(0x22222222, 5, -3, 0x10005, 16, 0xB3C40000, 0x10000),)
    assert packet.to_bytes() == SR
    assert packet.sender is not None
    assert sender_report(0x11111111, packet.sender, packet.blocks).to_bytes() == SR


def test_compound_rtcp() -> None:
    """RR, SDES and BYE in one datagram are three packets, and each has a length that is a multiple of four."""
    raw = receiver_report(5).to_bytes() + source_description(5, "phone@127.0.0.1").to_bytes() + goodbye(5).to_bytes()
    packets = parse_rtcp(raw)
    assert [packet.packet_type for packet in packets] == [201, 202, 203]
    assert b"".join(packet.to_bytes() for packet in packets) == raw
    assert all(packet.ssrc == 5 for packet in packets)
    assert packets[1].sender is None
    assert packets[1].blocks == ()
    assert RtcpPacket(203, 0, b"").ssrc is None


def test_truncated_rtcp() -> None:
    """A compound cut anywhere is a ProtocolError or the packets before the cut."""
    raw = SR + goodbye(1).to_bytes()
    assert len(parse_rtcp(raw[: len(SR)])) == 1
    for size in set(range(len(raw))) - {len(SR)}:
        with pytest.raises(ProtocolError):
            parse_rtcp(raw[:size])
    short = bytes.fromhex("82c90001 00000001")
    with pytest.raises(ProtocolError):
        parse_rtcp(short)


def test_rtcp_is_told_from_rtp() -> None:
    """RFC 5761 section 4: the second byte tells them apart."""
    assert looks_like_rtcp(SR)
    assert not looks_like_rtcp(PLAIN)
    assert not looks_like_rtcp(b"\x80")


def test_pcmu_is_g711() -> None:
    """All 65536 samples and all 256 bytes give what the C library's G.711 gives."""
    audioop = pytest.importorskip("audioop", reason="left the standard library in Python 3.13")
    samples = range(-32768, 32768)
    theirs = audioop.lin2ulaw(b"".join(struct.pack("=h", sample) for sample in samples), 2)
    assert bytes(encode_pcmu(sample) for sample in samples) == theirs
    expanded = struct.unpack("=256h", audioop.ulaw2lin(bytes(range(256)), 2))
    assert tuple(decode_pcmu(byte) for byte in range(256)) == expanded


def test_pcmu_values_of_g711() -> None:
    """Silence, full scale and the sign of ITU-T G.711 table 2."""
    assert [encode_pcmu(sample) for sample in (0, 32635, -32635, 32767, -32768)] == [0xFF, 0x80, 0x00, 0x80, 0x00]
    assert decode_pcmu(0x80) == 32124
    assert decode_pcmu(0xFF) == 0


def test_tone_repeats_without_a_click() -> None:
    """A frame of 20 ms holds whole periods: its second half of a 400 Hz tone equals its first half."""
    frame = tone(400)
    assert len(frame) == 160
    assert frame[:80] == frame[80:]
    with pytest.raises(ProtocolError):
        tone(440 + 1)


def test_music_is_a_tune_of_pure_notes() -> None:
    """Each frame's strongest frequency, by a Fourier transform, is the note of that moment; pitch_hz says the same."""
    notes = []
    for frame in music():
        samples = np.array([decode_pcmu(byte) for byte in frame], dtype=float)
        notes.append(int(np.argmax(np.abs(np.fft.rfft(samples)))) * PCMU_RATE_HZ // FRAME_SAMPLES)
        assert pitch_hz(frame) == notes[-1]
    assert notes == [hertz for hertz in MUSIC_HZ for _ in range(NOTE_FRAMES)]
    assert pitch_hz(bytes([0xFF]) * FRAME_SAMPLES) == pitch_hz(b"") == 0
    assert [pitch_hz(tone(hertz)) for hertz in (50, 400, 1000)] == [50, 400, 1000]


def test_loss_and_jitter() -> None:
    """RFC 3550 appendix A: losses by sequence number across the wrap-around, jitter 0 for a steady stream."""
    packets = [RtpPacket(0, (65530 + n) & 0xFFFF, 160 * n, 1, b"") for n in range(20)]
    reception = Reception.begin(packets[0], 0.0)
    for n, packet in enumerate(packets[1:], 1):
        if n not in (5, 11):
            reception = reception.receive(packet, 0.02 * n)
    assert (reception.expected, reception.packets, reception.lost) == (20, 18, 2)
    assert reception.highest_sequence == 65530 + 19
    assert reception.jitter == pytest.approx(0, abs=1e-6)
    late = reception.receive(RtpPacket(0, packets[-1].sequence + 1, 160 * 20, 1, b""), 0.02 * 20 + 0.016)
    assert late.jitter == pytest.approx(0.016 * 8000 / 16)


def test_ntp_time_counts_from_1900() -> None:
    """RFC 3550 section 4: 1970 is 2208988800 s after 1900."""
    assert ntp_time(0.5) == (2208988800 << 32) + (1 << 31)


@pytest.mark.tshark
def test_tshark_reads_our_packets(tmp_path: Path) -> None:
    """tshark finds in our RTP, SR, RR, SDES and BYE the values that we put in, and calls none malformed."""
    report = sender_report(7, SenderInfo(1 << 40, 800, 5, 800), (ReportBlock(9, 64, 3, 70001, 33, 4, 5),))
    compound = report.to_bytes() + source_description(7, "phone@h").to_bytes() + goodbye(7).to_bytes()
    payloads = [(4000, RtpPacket(0, 5, 800, 7, tone(400), marker=True).to_bytes()), (4001, compound)]
    frames = b"".join(_pcap_record(port, payload) for port, payload in payloads)
    path = tmp_path / "rtp.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + frames)
    names = "rtp.seq rtp.timestamp rtp.ssrc rtp.marker rtp.p_type rtcp.pt rtcp.sender.packetcount rtcp.ssrc.fraction"
    names += " rtcp.ssrc.cum_nr rtcp.ssrc.ext_high rtcp.ssrc.jitter rtcp.sdes.text _ws.malformed"
    command = ["tshark", "-r", str(path), "-d", "udp.port==4000,rtp", "-d", "udp.port==4001,rtcp", "-T", "fields"]
    for name in names.split():
        command += ["-e", name]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\n").split("\n")
    assert lines[0].split("\t")[:5] in (
        ["5", "800", "0x00000007", "1", "0"],
        ["5", "800", "0x00000007", "True", "0"],
    )
    rtcp = lines[1].split("\t")[5:]
    assert rtcp[:7] == ["200,202,203", "5", "64", "3", "70001", "33", "phone@h"]
    assert not any(line.split("\t")[-1] for line in lines if line.count("\t") == 12)


def _pcap_record(port: int, payload: bytes) -> bytes:
    udp = struct.pack("!HHHH", 5000, port, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\2") + udp
    return struct.pack("<IIII", 1, 0, len(ip), len(ip)) + ip
