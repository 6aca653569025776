"""The decoder: link types, fragments, TCP in all its disorder, SIP as people write it, RTP by its announcement."""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from capture_bench import IMS, frames, recording, segment, segments
from decoder_ways import WAY

from labkit.capture import decode as decoder
from labkit.capture.decode import COLUMNS, Decoded
from labkit.wire import pcap

pytestmark = pytest.mark.usefixtures("way")


def decode(raw: bytes) -> Decoded:
    """Decode the way that is being tested."""
    return decoder.decode(raw, **WAY)


SIP = (
    b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:alice@a>;tag=f\r\n"
    b"To: <sip:bob@b>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
)


def diameter() -> list[bytes]:
    """The Diameter messages of a recorded registration."""
    messages = recording("01_first_registration")
    return [raw for raw, protocol in zip(messages.raw, messages.table["protocol"], strict=True) if protocol != "sip"]


def column(raw: bytes, name: str) -> list[object]:
    """One column of a decoded capture."""
    return decode(raw).columns[name]


def udp(payload: bytes, port: int = 5060) -> bytes:
    """A datagram in an Ethernet frame."""
    return pcap.udp_frame("10.0.0.1", 5060, "10.0.0.2", port, payload)


def ip_packet(frame: bytes) -> bytes:
    """Without the Ethernet header."""
    return frame[14:]


@pytest.mark.parametrize(
    ("linktype", "prefix"),
    [
        (1, b"\2" * 12 + b"\x08\0"),
        (1, b"\2" * 12 + b"\x81\0\0\x07\x08\0"),
        (1, b"\2" * 12 + b"\x88\xa8\0\x07\x81\0\0\x09\x08\0"),
        (113, bytes(14) + b"\x08\0"),
        (113, bytes(14) + b"\x81\0\0\x07\x08\0"),
        (276, b"\x08\0" + bytes(18)),
        (276, b"\x81\0" + bytes(18) + b"\0\x07\x08\0"),
        (276, b"\x88\xa8" + bytes(18) + b"\0\x07\x81\0\0\x09\x08\0"),
        (101, b""),
        (228, b""),
        (0, b"\2\0\0\0"),
        (108, b"\0\0\0\2"),
    ],
    ids=["ether", "vlan", "qinq", "sll", "sll vlan", "sll2", "sll2 vlan", "sll2 qinq", "raw", "ipv4", "null", "loop"],
)
def test_link_types(linktype: int, prefix: bytes) -> None:
    """The same packet is found behind each kind of link header."""
    found = decode(frames(prefix + ip_packet(udp(SIP)), linktype=linktype))
    assert found.columns["method"] == ["INVITE"]
    assert found.columns["src"] == ["10.0.0.1"]
    assert found.raw == [SIP]


def fragments(packet: bytes, size: int) -> list[bytes]:
    """Cut an IPv4 packet as a router does."""
    header, body = packet[:20], packet[20:]
    parts = []
    for start in range(0, len(body), size):
        more = 0x2000 if start + size < len(body) else 0
        piece = body[start : start + size]
        head = header[:2] + struct.pack(">HHH", 20 + len(piece), 7, more | start // 8) + header[8:]
        parts.append(b"\2" * 12 + b"\x08\0" + head + piece)
    return parts


def test_fragments_in_any_order_with_duplicates() -> None:
    """The message is whole whatever order its fragments come in; its frame is the one that completes it."""
    parts = fragments(ip_packet(udp(SIP)), 64)
    assert len(parts) == 3
    for order in itertools.permutations(parts):
        found = decode(frames(*order))
        assert found.raw == [SIP]
        assert found.columns["frame"] == [3]
    assert decode(frames(parts[0], parts[0], parts[2], parts[1], parts[1])).columns["frame"] == [4]
    assert decode(frames(*parts[:2])).raw == []


def test_an_identification_that_comes_again() -> None:
    """A packet that lost a fragment does not lend its others to one that has the same number minutes later."""

    def found(*timed: tuple[int, bytes]) -> list[object]:
        raw = pcap.pcapng(pcap.Frame(0, 10**18 + second * 10**9, 1, part) for second, part in timed)
        return decode(raw).columns["call_id"]

    lost, whole = (fragments(ip_packet(udp(SIP.replace(b"c1", call_id))), 64) for call_id in (b"c2", b"c3"))
    assert found((0, lost[0]), (0, lost[1]), *((120, part) for part in whole)) == ["c3"]
    assert found((0, lost[0]), (0, lost[1]), (120, whole[2])) == []
    assert found((0, lost[0]), (30, lost[1]), (59, lost[2])) == ["c2"]


def test_ipv6_with_extension_headers_and_fragments() -> None:
    """Hop-by-hop options and fragment headers are passed over; fragments are joined."""
    frame = pcap.udp_frame("2001:db8::1", 5060, "2001:db8::2", 5060, SIP)
    header, body = frame[14:54], frame[54:]
    options = bytes([17, 0, 1, 4, 0, 0, 0, 0])
    with_options = header[:4] + struct.pack(">HB", len(body) + 8, 0) + header[7:] + options + body
    found = decode(frames(frame[:14] + with_options))
    assert (found.columns["src"], found.columns["dst_port"]) == (["2001:db8::1"], [5060])
    pieces = []
    for start in range(0, len(body), 96):
        more = int(start + 96 < len(body))
        head = struct.pack(">BBHI", 17, 0, start | more, 99)
        part = body[start : start + 96]
        pieces.append(frame[:14] + header[:4] + struct.pack(">HB", 8 + len(part), 44) + header[7:] + head + part)
    assert decode(frames(*reversed(pieces))).raw == [SIP]


def test_a_diameter_stream_cut_anywhere() -> None:
    """Two messages cut at every place are two rows, each at the frame that completes it."""
    one, two = diameter()[:2]
    stream = one + two
    for cut in range(1, len(stream)):
        found = decode(frames(*segments(stream, [cut])))
        assert found.raw == [one, two]
        first = 1 if cut >= len(one) else 2
        assert found.columns["frame"] == [first, 2]


def test_a_stream_byte_by_byte_and_all_at_once() -> None:
    """The number of segments makes no difference to the rows."""
    messages = diameter()
    stream = b"".join(messages)
    assert decode(frames(*segments(stream, range(1, len(stream), 1)))).raw == messages
    assert decode(frames(*segments(stream, []))).raw == messages


def test_disorder_and_repetition() -> None:
    """Reordered, repeated and overlapping segments give the same rows as an orderly stream."""
    messages = diameter()
    stream = b"".join(messages)
    chance = random.Random(7)
    for _ in range(50):
        cuts = [chance.randrange(1, len(stream)) for _ in range(12)]
        parts = segments(stream, cuts)
        for index in range(len(parts) - 1):
            if index and chance.random() < 0.4:
                parts[index], parts[index + 1] = parts[index + 1], parts[index]
        parts.insert(chance.randrange(1, len(parts)), chance.choice(parts[:2]))
        overlap = chance.randrange(len(stream) - 200)
        parts.append(segment(stream[overlap : overlap + 200], 1000 + overlap))
        assert decode(frames(*parts)).raw == messages


def test_a_lost_segment_costs_only_its_messages() -> None:
    """Reading goes on at the next message."""
    messages = diameter()
    stream = b"".join(messages)
    parts = segments(stream, [len(messages[0]) + 50, len(messages[0]) + 90, len(messages[0]) + len(messages[1]) + 30])
    found = decode(frames(parts[0], *parts[2:]))
    assert found.raw == [messages[0], *messages[2:]]
    assert decode(frames(*parts[2:])).raw == messages[2:]


def test_sequence_numbers_that_wrap() -> None:
    """A stream may pass 2**32."""
    messages = diameter()
    stream, start = b"".join(messages), 2**32 - 700
    parts = segments(stream, [300, 699, 700, 701, 900], lambda part, at: segment(part, start + at - 1000))
    parts[1], parts[2] = parts[2], parts[1]
    assert decode(frames(*parts)).raw == messages


def test_a_new_connection_on_the_same_ports() -> None:
    """A SYN starts anew."""
    one, two = diameter()[:2]
    syn = pcap.tcp_frame("10.0.0.1", 40000, "10.0.0.2", 3868, b"", sequence=5, flags=pcap.TCP_SYN)
    raw = frames(segment(one[:40], 1000), syn, segment(two, 6))
    assert decode(raw).raw == [two]


def test_programs_and_sounds_are_not_diameter() -> None:
    """Real message headers are rarer than bytes that look like one; a message behind them is still found."""
    program = bytes.fromhex(
        "7f454c4602010100000000000000000003003e0001000000b0400000000000004000000000000000" + "00" * 60
    )
    chance = random.Random(3)
    quiet = struct.pack(">60000h", *(chance.randrange(-3, 4) for _ in range(60000)))
    numbers = struct.pack("<30000I", *(chance.randrange(300) for _ in range(30000)))
    for other in (program, quiet, numbers):
        messages = diameter()
        found = decode(frames(*segments(other + b"".join(messages), range(1448, len(other), 1448))))
        assert found.raw == messages


def test_sip_over_tcp() -> None:
    """Messages are cut by Content-Length; keep-alives between them are no messages; any port will do."""
    body = b"v=0\r\n"
    with_body = SIP.replace(b"Content-Length: 0", b"l : %d" % len(body)) + body
    stream = b"\r\n\r\n" + SIP + b"\r\n\r\n" + with_body + SIP
    found = decode(frames(*segments(stream, range(50, len(stream), 61))))
    assert found.raw == [SIP, with_body, SIP]
    assert found.columns["transport"] == ["tcp"] * 3


def test_acknowledgements_alone() -> None:
    """Segments that carry nothing, and nothing else of TCP, make no message and no trouble."""
    alone = pcap.tcp_frame("10.0.0.1", 5060, "10.0.0.2", 5060, b"", sequence=1, flags=pcap.TCP_ACK)
    assert decode(frames(alone, alone)).raw == []
    assert decode(frames(alone, udp(SIP), alone)).raw == [SIP]


def test_http_is_not_sip() -> None:
    """Neither by port nor by looks."""
    http = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    raw = frames(
        udp(http),
        pcap.tcp_frame("10.0.0.1", 1, "10.0.0.2", 5060, http, sequence=1),
        pcap.tcp_frame("10.0.0.2", 5060, "10.0.0.1", 1, b"HTTP/1.1 200 OK\r\n\r\n", sequence=1),
    )
    assert decode(raw).raw == []


def test_sip_as_people_write_it() -> None:
    """Compact and lower-case names, folded lines, odd white space, quoted brackets, bare line feeds."""
    raw = (
        b"REGISTER sip:r SIP/2.0\n"
        b"v:SIP/2.0/UDP a ;branch = z9hG4bKtop , SIP/2.0/UDP b;branch=z9hG4bKlow\n"
        b"VIA: SIP/2.0/UDP c;branch=z9hG4bKthird\n"
        b'f: "Bob <sip:no@x>;tag=no" <sip:bob:pw@x;user=phone>;x=1 ; TAG=abc\n'
        b"t:\n  tel:+1555;tag=q\n"
        b"i:  id@h \n"
        b"cseq : 007\t  REGISTER\n\n"
    )
    found = decode(frames(udp(raw))).columns
    wanted = {
        "method": "REGISTER",
        "branch": "z9hG4bKtop",
        "from_user": "bob",
        "from_tag": "abc",
        "to_user": "+1555",
        "to_tag": "q",
        "call_id": "id@h",
        "cseq": 7,
        "cseq_method": "REGISTER",
    }
    assert {name: found[name][0] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("written", "user"),
    [
        ("<sip:+1555;phone-context=ims@h;user=phone>", "+1555;phone-context=ims"),
        ("<sip:+1555;npdi;rn=+1556@h;user=phone>;tag=t", "+1555;npdi;rn=+1556"),
        ("<sips:;x:pw@h>", ";x"),
        ("<sip:h;maddr=10.0.0.9>", None),
        ("sip:h;tag=a@h", None),
        ("<sip:a?b@h?Subject=x>", "a?b"),
    ],
)
def test_a_user_may_hold_parameters(written: str, user: str | None) -> None:
    """Ported and local numbers carry parameters before the "@"; tshark reads these users too."""
    raw = frames(udp(SIP.replace(b"<sip:bob@b>", written.encode()).replace(b"<sip:alice@a>", written.encode())))
    found = decode(raw).columns
    assert [found["from_user"], found["to_user"]] == [[user], [user]]


def test_damaged_messages_still_have_a_row() -> None:
    """What can be read of a broken message is shown, the rest is absent."""
    raw = frames(
        udp(b"OPTIONS sip:x SIP/2.0\r\nCall-ID: cut"),
        udp(b"SIP/2.0 200\r\nCSeq: x INVITE\r\nFrom: nonsense\r\n\r\n"),
        segment(diameter()[0][:19] + b"\x01" + diameter()[0][20:], 1000),
    )
    found = decode(raw).columns
    assert found["call_id"][:2] == ["cut", None]
    assert found["status"][1] == 200
    assert found["cseq"][1] is None
    assert found["from_user"][1] is None
    assert found["command"][2] is not None


def test_rtp_and_rtcp_by_their_announcement() -> None:
    """Only packets from or to an announced address are media, wherever in the capture the announcement stands."""
    sdp = b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 9\r\nm=audio 5000 RTP/AVP 0\r\n"
    sdp += b"c=IN IP4 10.0.0.8\r\na=rtcp:5555\r\n"
    invite = SIP.replace(b"Length: 0", b"Length: %d" % len(sdp)) + sdp
    rtp = struct.pack(">BBHII", 0x80, 0x80 | 8, 77, 160, 0xCAFE) + bytes(160)
    rtcp = struct.pack(">BBHI", 0x80, 200, 6, 0xCAFE) + bytes(20)
    raw = frames(
        pcap.udp_frame("10.0.0.1", 1, "10.0.0.9", 4000, rtp),
        udp(invite),
        pcap.udp_frame("10.0.0.9", 4001, "10.0.0.1", 1, rtcp),
        pcap.udp_frame("10.0.0.1", 2, "10.0.0.8", 5555, rtcp),
        pcap.udp_frame("10.0.0.1", 2, "10.0.0.8", 5000, rtcp),
        pcap.udp_frame("10.0.0.1", 2, "10.0.0.7", 5000, rtp),
        pcap.udp_frame("10.0.0.1", 2, "10.0.0.8", 5000, b"\x00" + rtp[1:]),
    )
    found = decode(raw).columns
    assert list(zip(found["frame"], found["protocol"], strict=True)) == [
        (1, "rtp"),
        (2, "sip"),
        (3, "rtcp"),
        (4, "rtcp"),
        (5, "rtcp"),
    ]
    one = {name: found[name][0] for name in ("payload_type", "marker", "sequence", "rtp_timestamp", "ssrc")}
    assert one == {"payload_type": 8, "marker": True, "sequence": 77, "rtp_timestamp": 160, "ssrc": 0xCAFE}


def test_hostile_frames_are_passed_over() -> None:
    """Frames cut anywhere, and headers that lie about lengths, give no row and no error."""
    whole = udp(SIP)
    for size in range(len(whole)):
        found = decode(frames(whole[:size]))
        assert len(found.raw) <= 1
    lying = whole[:14] + bytes([0x4F]) + whole[15:]
    assert decode(frames(lying, b"", b"\0" * 14)).raw == []


@pytest.mark.parametrize(("ticks", "offset_s"), [(2**64 - 1, 0), (5, 2**62), (5, -(2**62))])
def test_an_absurd_clock_costs_no_rows(ticks: int, offset_s: int) -> None:
    """A damaged time, or offset of an interface, is no time; the message beside it is whole."""

    def block(kind: int, body: bytes) -> bytes:
        size = struct.pack("<I", 12 + len(body))
        return struct.pack("<I", kind) + size + body + size

    frame = udp(SIP) + bytes(-len(udp(SIP)) % 4)
    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, struct.pack("<HHIHHqI", 1, 0, 0, 14, 8, offset_s, 0))
    packet = block(6, struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)) + frame)
    assert decode(section + interface + packet * 2).columns["call_id"] == ["c1", "c1"]


def test_columns_are_those_of_the_contract() -> None:
    """All columns are there, also when nothing was found, and align with the messages."""
    assert list(decode(frames()).columns) == list(COLUMNS)
    found = decode((IMS / "05_call_with_hold.pcap").read_bytes())
    assert {len(values) for values in found.columns.values()} == {len(found.raw)} == {100}


def test_pieces_of_several_buffers_are_gathered_byte_for_byte() -> None:
    """Pieces of any size, also those that Arrow keeps inside its views, stand one after the other; padding follows."""
    import numpy as np

    from labkit.capture.decode.text import gathered
    from labkit.wire.pcap_records import PADDING

    sources = [bytes(range(256)), b"end", b"x" * 40]
    places = [(0, 0, 13), (1, 0, 3), (0, 244, 12), (2, 0, 40), (1, 3, 0), (0, 1, 255)]
    which, starts, sizes = np.array(places).T
    raw, begin = gathered(sources, which, starts, sizes)
    pieces = [sources[number][start : start + size] for number, start, size in places]
    assert bytes(raw) == b"".join((*pieces, PADDING))
    assert [bytes(raw[at : at + len(piece)]) for at, piece in zip(begin.tolist(), pieces, strict=True)] == pieces
