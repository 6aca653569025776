"""HEP3: packets of a real Kamailio, round trips, and refusals that say where."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.errors import ProtocolError
from labkit.wire import hep, pcap

RECORDING = Path(__file__).parent / "data" / "homer" / "hep3.pcap"


def recorded() -> list[bytes]:
    """The HEP packets that a Kamailio sent (UDP to port 9060)."""
    return [frame.raw[42:] for frame in pcap.read_frames(RECORDING.read_bytes())]


def test_packets_of_kamailio_are_read() -> None:
    """The first one is a SIP message that arrived at the proxy."""
    packets = [hep.parse_packet(raw) for raw in recorded()]
    first = packets[0]
    assert (first.src, first.src_port, first.dst, first.dst_port) == ("127.31.0.21", 5061, "127.31.0.10", 5060)
    assert (first.transport, first.protocol, first.capture_id) == ("udp", hep.PROTOCOL_SIP, 42)
    assert first.time_us == 1795397610163709
    assert first.payload.startswith(b"INVITE sip:echo@127.31.0.10:5060 SIP/2.0\r\n")
    assert all(packet.payload.endswith(b"\r\n") or b"v=0" in packet.payload for packet in packets)
    assert all(1.7e15 < packet.time_us < 2e15 for packet in packets)


def test_what_we_build_reads_the_same() -> None:
    """Building from the values of a recorded packet gives the same values again."""
    for raw in recorded():
        packet = hep.parse_packet(raw)
        assert hep.parse_packet(packet.to_bytes()) == packet


def test_ipv6_diameter_over_tcp() -> None:
    """The form in which the HSS mirrors."""
    packet = hep.HepPacket("2001:db8::1", 1, "2001:db8::2", 3868, "tcp", 5, hep.PROTOCOL_DIAMETER, b"\x01", 9, "id")
    raw = packet.to_bytes()
    assert raw[:4] == b"HEP3"
    assert int.from_bytes(raw[4:6], "big") == len(raw)
    assert raw[6:13] == b"\0\0\0\x01\0\x07\x0a"  # chunk 1, IP family: AF_INET6 as Linux numbers it
    assert hep.parse_packet(raw) == packet


def test_every_truncation_is_refused() -> None:
    """A packet that is cut anywhere is refused, with the right kind of error."""
    raw = recorded()[0]
    for size in range(len(raw)):
        with pytest.raises(ProtocolError):
            hep.parse_packet(raw[:size])


def test_every_missing_piece_is_refused() -> None:
    """Also when the length field agrees with what is left."""
    raw = recorded()[0]
    for size in range(6, len(raw)):
        cut = raw[:4] + size.to_bytes(2, "big") + raw[6:size]
        with pytest.raises(ProtocolError):
            hep.parse_packet(cut)


def test_a_message_too_long_for_a_packet_is_refused() -> None:
    """The length field has 16 bits."""
    packet = hep.HepPacket("10.0.0.1", 1, "10.0.0.2", 2, "udp", 0, 1, bytes(65500))
    with pytest.raises(ProtocolError, match="does not fit"):
        packet.to_bytes()
