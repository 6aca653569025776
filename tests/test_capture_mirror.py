"""The mirror's choice of copies, and the frames it makes."""

from __future__ import annotations

from capture_bench import copies, recording, retold

from labkit.capture.mirror import CopyMatcher, frames_of
from labkit.capture.table import read_capture
from labkit.wire import pcap
from labkit.wire.hep import HepPacket

P, I, S, PHONE = "127.0.9.13", "127.0.9.11", "127.0.9.12", "127.0.9.101"  # noqa: E741
NUMBER = {P: 1, I: 2, S: 3}


def copy(reporter: str, src: str, dst: str, payload: bytes, time_us: int) -> tuple[HepPacket, str]:
    """A copy that a CSCF sends of a message it sent or received."""
    return HepPacket(src, 5060, dst, 5060, "udp", time_us, 1, payload, NUMBER[reporter]), reporter


def kept(*sent: tuple[HepPacket, str]) -> list[tuple[bytes, int]]:
    """Payload and time of the copies that stand for messages."""
    matcher = CopyMatcher()
    for position, (packet, reporter) in enumerate(sent):
        matcher.add(position, packet, reporter)
    return [(packet.payload, packet.time_us) for n, (packet, _) in enumerate(sent) if matcher.needed(n)]


def test_between_two_nodes_the_receivers_copy_is_kept() -> None:
    """Also when the sender's copy was overtaken."""
    assert kept(copy(P, P, I, b"m", 1), copy(I, P, I, b"m", 2)) == [(b"m", 2)]
    assert kept(copy(I, P, I, b"m", 2), copy(P, P, I, b"m", 3)) == [(b"m", 2)]


def test_a_phones_messages_have_one_copy() -> None:
    """And a retransmission is a message of its own."""
    assert kept(copy(P, PHONE, P, b"m", 1), copy(P, PHONE, P, b"m", 2), copy(P, P, PHONE, b"n", 3)) == [
        (b"m", 1),
        (b"m", 2),
        (b"n", 3),
    ]


def test_a_message_that_nobody_received_is_kept() -> None:
    """So is each of its retransmissions; the one that arrives counts once."""
    sent = [copy(P, P, I, b"m", 1), copy(P, P, I, b"m", 2), copy(P, P, I, b"m", 3), copy(I, P, I, b"m", 4)]
    assert [payload for payload, _ in kept(*sent)] == [b"m"] * 3


def test_of_what_a_node_tells_itself_every_second_copy_is_kept() -> None:
    """Two messages, four copies."""
    sent = [copy(S, S, S, b"m", 1), copy(S, S, S, b"m", 2), copy(S, S, S, b"n", 3), copy(S, S, S, b"n", 4)]
    assert kept(*sent) == [(b"m", 2), (b"n", 4)]


def test_mirrored_frames_decode_to_the_same_messages() -> None:
    """Bytes, addresses and ports of a recording come back, whatever the transport."""
    original = recording("05_call_with_hold")
    again = retold(copies(original))
    assert again.raw == original.raw
    same = [name for name in original.table.columns if name not in ("frame", "time")]
    assert again.table[same].equals(original.table[same])


def test_a_long_message_over_tcp_becomes_several_segments() -> None:
    """A frame holds at most 64 KiB; sequence numbers fit together in both directions."""
    body = b"x" * 150_000
    text = b"MESSAGE sip:x SIP/2.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    reply = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
    packets = [
        HepPacket("10.0.0.1", 9, "10.0.0.2", 5060, "tcp", 1, 1, text),
        HepPacket("10.0.0.2", 5060, "10.0.0.1", 9, "tcp", 2, 1, reply),
    ]
    built = frames_of(packets)
    assert len(built) == 4
    assert int.from_bytes(built[3][1][42:46], "big") == 1 + len(text)  # the reply acknowledges all of it
    raw = pcap.pcapng(pcap.Frame(0, time_ns, 1, frame) for time_ns, frame in built)
    assert read_capture(raw).raw == [text, reply]


def test_a_copy_with_nonsense_in_it_is_passed_over() -> None:
    """Mixed address families cannot be a frame."""
    packets = [
        HepPacket("::1", 1, "10.0.0.1", 2, "udp", 1, 1, b"x"),
        HepPacket("10.0.0.1", 1, "10.0.0.2", 2, "udp", 2, 1, b"y"),
    ]
    assert [raw[42:] for _, raw in frames_of(packets)] == [b"y"]
