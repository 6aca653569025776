"""The decoder on other people's captures: tunnels, SCTP, WebSocket, HEP, ring files, and captures made to hurt.

The packets are built by scapy; where tshark knows the shape, it must find the same message in them.
"""

from __future__ import annotations

import random
import struct
import subprocess
import tracemalloc
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from capture_bench import frames, segment, segments
from decoder_ways import WAY

from labkit.capture import decode as decoder
from labkit.capture import streams
from labkit.capture.decode import COLUMNS, Decoded, Decoder, media
from labkit.capture.decode.schema import PROTOCOLS, join, rows_of_batches
from labkit.wire import pcap
from labkit.wire.hep import HepPacket

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
    from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
    from scapy.layers.inet import GRE, IP, UDP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
    from scapy.layers.l2 import CookedLinux, Dot1AD, Dot1Q, Ether
    from scapy.layers.sctp import SCTP, SCTPChunkData, SCTPChunkHeartbeatReq
    from scapy.layers.vxlan import VXLAN

SIP = (
    b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:alice@a>;tag=f\r\n"
    b"To: <sip:bob@b>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
)
CER = bytes.fromhex("0100001c8000010100000000000000010000000200000108") + bytes.fromhex("40000008")
pytestmark = pytest.mark.usefixtures("way")


def decode(raw: bytes) -> Decoded:
    """Decode the way that is being tested."""
    return decoder.decode(raw, **WAY)


def inner(raw: bytes = SIP) -> IP:
    """The packet inside of tunnels."""
    return IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5060, dport=5060) / raw


ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
OUTER = ETHERNET / IP(src="192.0.2.1", dst="192.0.2.2")
IN6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
SHAPES = {
    "vlan": ETHERNET / Dot1Q(vlan=7) / inner(),
    "qinq": ETHERNET / Dot1AD(vlan=7) / Dot1Q(vlan=9) / inner(),
    "ip in ip": OUTER / inner(),
    "gre": OUTER / GRE() / inner(),
    "gre with key and sequence": OUTER / GRE(key_present=1, key=5, seqnum_present=1, sequence_number=9) / inner(),
    "gre with ethernet": OUTER / GRE(proto=0x6558) / ETHERNET / inner(),
    "erspan 1": OUTER / GRE(proto=0x88BE) / ETHERNET / inner(),
    "erspan 2": OUTER / GRE(proto=0x88BE, seqnum_present=1, sequence_number=1) / ERSPAN_II() / ETHERNET / inner(),
    "erspan 3": OUTER / GRE(proto=0x22EB, seqnum_present=1, sequence_number=1) / ERSPAN_III() / ETHERNET / inner(),
    "vxlan": OUTER / UDP(sport=40000, dport=4789) / VXLAN(vni=3) / ETHERNET / inner(),
    "vxlan with vlan": OUTER / UDP(sport=40000, dport=4789) / VXLAN(vni=3) / ETHERNET / Dot1Q(vlan=1) / inner(),
    "gtp-u": OUTER / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=1) / inner(),
    "gtp-u with sequence": OUTER / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=1, S=1, seq=4) / inner(),
    "gtp-u of 5g": OUTER
    / UDP(sport=2152, dport=2152)
    / GTP_U_Header(teid=1, E=1, next_ex=0x85)
    / GTPPDUSessionContainer(type=1, QFI=1)
    / inner(),
    "tunnel in a tunnel": OUTER / GRE() / IP() / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=1) / inner(),
    "ipv6 in ipv4": OUTER / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=5060, dport=5060) / SIP,
    "ipv4 in ipv6": ETHERNET / IN6 / inner(),
    "ipv6 options": ETHERNET / IN6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=5060, dport=5060) / SIP,
}


@pytest.mark.parametrize("name", SHAPES)
def test_tunnels_are_peeled(name: str) -> None:
    """The message inside is found with the addresses that it has inside."""
    found = decode(frames(bytes(SHAPES[name])))
    assert found.raw == [SIP]
    wanted = "2001:db8::1" if "ipv6 in" in name or "options" in name else "10.0.0.1"
    assert found.columns["src"] == [wanted]


@pytest.mark.tshark
def test_tshark_sees_the_same_in_all_of_them(tmp_path: Path) -> None:
    """Every shape is one that tshark, too, peels down to the message."""
    path = tmp_path / "shapes.pcapng"
    path.write_bytes(frames(*(bytes(packet) for packet in SHAPES.values())))
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-Y", "sip", "-T", "fields", "-e", "frame.number", "-e", "sip.Call-ID"],
        capture_output=True,
        check=True,
        timeout=60,
        text=True,
    )
    theirs = [int(line.split("\t")[0]) for line in done.stdout.splitlines()]
    assert theirs == decode(path.read_bytes()).columns["frame"]
    assert len(theirs) == len(SHAPES)


def test_a_fragmented_tunnel() -> None:
    """The outer packet is put together before its inside is read; the inner one may be in pieces too."""
    packet = bytes(OUTER / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=1) / inner())[14:]
    header, body = packet[:20], packet[20:]
    parts = []
    for start in range(0, len(body), 96):
        more = 0x2000 if start + 96 < len(body) else 0
        piece = body[start : start + 96]
        parts.append(
            bytes(ETHERNET)[:12] + b"\x08\0" + header[:2] + struct.pack(">HHH", 20 + len(piece), 9, more | start // 8)
        )
        parts[-1] += header[8:] + piece
    assert decode(frames(*parts)).raw == [SIP]
    assert decode(frames(*reversed(parts))).raw == [SIP]


def test_cooked_capture() -> None:
    """Linux cooked capture as scapy writes it."""
    assert decode(frames(bytes(CookedLinux(proto=0x800) / inner()), linktype=113)).raw == [SIP]


def test_sctp_data_chunks() -> None:
    """Messages in DATA chunks: several in a packet, in pieces, repeated; other chunks are passed over."""
    head = OUTER / SCTP(sport=3868, dport=3868)
    first = SCTPChunkData(tsn=1, beginning=1, ending=0, data=CER[:12])
    second = SCTPChunkData(tsn=2, beginning=0, ending=1, data=CER[12:])
    whole = SCTPChunkData(tsn=3, beginning=1, ending=1, data=SIP)
    found = decode(
        frames(
            bytes(head / SCTPChunkHeartbeatReq()),
            bytes(head / second),
            bytes(head / first / whole),
            bytes(head / whole),
        )
    )
    assert found.raw == [CER, SIP]
    assert found.columns["transport"] == ["sctp", "sctp"]
    assert found.columns["frame"] == [3, 3]


def web_frame(payload: bytes, mask: bytes = b"", opcode: int = 1, final: bool = True) -> bytes:
    """A WebSocket frame (RFC 6455 section 5.2)."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
    if mask:
        length = bytes([length[0] | 0x80]) + length[1:]
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([opcode | 0x80 * final]) + length + mask + payload


@pytest.mark.parametrize("mask", [b"", b"\x12\x34\x56\x78"], ids=["plain", "masked"])
def test_sip_over_websocket(mask: bytes) -> None:
    """RFC 7118: with handshake or from the middle, masked or not, in pieces, between pings, however segmented."""
    plain = SIP.replace(b"Content-Length: 0\r\n", b"")
    shake = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    stream = web_frame(SIP, mask) + web_frame(b"hi", mask, 9)
    stream += web_frame(plain[:50], mask, 1, False) + web_frame(plain[50:], mask, 0)
    for raw in (shake + stream, stream):
        for cuts in ([], range(40, len(raw), 53), [len(raw) - 7]):
            found = decode(frames(*segments(raw, cuts)))
            assert found.raw == [SIP, plain]
            assert found.columns["transport"] == ["ws", "ws"]


def test_hep_copies() -> None:
    """A HEP3 packet gives the message with its true addresses; not where the capture has the message itself."""
    copy = HepPacket("10.0.0.1", 5060, "10.0.0.2", 5070, "udp", 1_700_000_000_000_001, 1, SIP).to_bytes()
    wrapped = pcap.udp_frame("10.9.9.9", 9060, "10.9.9.8", 9060, copy)
    found = decode(frames(wrapped))
    assert found.raw == [SIP]
    assert (found.columns["src"], found.columns["dst_port"]) == (["10.0.0.1"], [5070])
    assert found.columns["time"] == [1_700_000_000_000_001_000]
    itself = pcap.udp_frame("10.0.0.1", 5060, "10.0.0.2", 5070, SIP)
    assert decode(frames(wrapped, itself)).columns["frame"] == [2]


def test_hep_over_tcp(project: Path) -> None:
    """The packets that a real Kamailio sent, in a stream: cut anywhere, from the middle on, with a segment lost."""
    recorded = (project / "tests/data/homer/hep3.pcap").read_bytes()
    packets = [
        raw for frame in pcap.read_frames(recorded) if (raw := frame.raw[frame.raw.find(b"HEP3") :])[:4] == b"HEP3"
    ]
    wanted = decode(recorded).raw
    assert len(wanted) > 5
    stream, chance = b"".join(packets), random.Random(4)
    for cuts in ([], range(1, 40), *(chance.sample(range(1, len(stream)), 30) for _ in range(10))):
        found = decode(frames(*segments(stream, cuts)))
        assert found.raw == wanted
    assert decode(frames(*segments(stream[len(packets[0]) // 2 :], range(1000, 9000, 1000)))).raw == wanted[1:]
    with_gap = segments(stream, [len(packets[0]) + 30, len(packets[0]) + 90])
    del with_gap[1]
    assert decode(frames(*with_gap)).raw == [wanted[0], *wanted[2:]]
    reader = Decoder(**WAY)
    reader.feed(frames(*with_gap))
    reader.finish()
    assert reader.notes == ["1 time a TCP stream had a gap or nonsense: reading went on at the next message."]


def test_compound_rtcp() -> None:
    """Each packet in a compound is a row."""
    sdp = b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\n"
    invite = SIP.replace(b"Length: 0", b"Length: %d" % len(sdp)) + sdp
    report = struct.pack(">BBHI", 0x80, 200, 6, 0xCAFE) + bytes(20)
    goodbye = struct.pack(">BBHI", 0x81, 203, 1, 0xCAFE)
    raw = frames(
        pcap.udp_frame("10.0.0.1", 5060, "10.0.0.2", 5060, invite),
        pcap.udp_frame("10.0.0.9", 4001, "10.0.0.1", 9, report + goodbye),
    )
    assert decode(raw).columns["payload_type"][1:] == [200, 203]


SESSIONS = {
    "plain": (b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\n", [4000], [4001]),
    "line feeds only": (b"v=0\nc=IN IP4 10.0.0.9\nm=audio 4000 RTP/AVP 0\n", [4000], [4001]),
    "address behind the stream": (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.9\r\n", [4000], [4001]),
    "no line end": (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.9", [4000], [4001]),
    "control port": (b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:4005\r\n", [4000], [4005]),
    "two streams": (
        b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\nm=video 5000 RTP/SAVPF 9\r\n",
        [4000, 5000],
        [4001, 5001],
    ),
    "several ports": (b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000/2 RTP/AVP 0\r\n", [4000, 4002], [4001, 4003]),
    "secure": (b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n", [4000], [4001]),
    "refused": (b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 0 RTP/AVP 0\r\n", [], []),
    "no RTP": (b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=message 4000 TCP/MSRP *\r\n", [], []),
    "multicast": (b"v=0\r\nc=IN IP4 10.0.0.9/127\r\nm=audio 4000 RTP/AVP 0\r\n", [4000], [4001]),
    "in parts": (b"--x\r\n\r\nv=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\n--x--\r\n", [4000], [4001]),
    "address missing": (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n", [], []),
    "lines cut short": (b"v=0\r\nc=IN IP4 10.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\nm", [4000], [4001]),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_every_form_of_sdp_announces_its_media(name: str) -> None:
    """Plain SDP is read by the thousand, all other by itself; what it announces is the same."""
    sdp, media, control = SESSIONS[name]
    invite = SIP.replace(b"Length: 0", b"Length: %d" % len(sdp)) + sdp
    other = SIP.replace(b"CSeq", b"c=IN IP4 10.0.0.9\r\nm=audio 5000 RTP/AVP 0\r\nCSeq")  # no body: these are headers
    report = struct.pack(">BBHI", 0x80, 200, 6, 0xCAFE) + bytes(20)
    ports = (4000, 4001, 4002, 4003, 4005, 5000, 5001)
    raw = frames(
        *(pcap.udp_frame("10.0.0.1", 5060, "10.0.0.2", 5060, message) for message in (other, invite, other)),
        *(rtp(1, port) for port in ports),
        *(pcap.udp_frame("10.0.0.1", 9, "10.0.0.9", port, report) for port in ports),
    )
    found = decode(raw).columns
    rows = list(zip(found["protocol"], found["dst_port"], strict=True))[3:]
    assert [port for protocol, port in rows if protocol == "rtp"] == media
    assert [port for protocol, port in rows if protocol == "rtcp"] == [p for p in ports if p in media + control]


def rtp(sequence: int, port: int = 4000) -> bytes:
    """A frame with an RTP packet."""
    head = struct.pack(">BBHII", 0x80, 0, sequence & 0xFFFF, sequence * 160, 0xCAFE)
    return pcap.udp_frame("10.0.0.1", 4444, "10.0.0.9", port, head + bytes(160))


def test_rtp_without_sdp() -> None:
    """Only when asked, and only what behaves like RTP."""
    chance = random.Random(1)
    noise = [pcap.udp_frame("10.0.0.1", 7, "10.0.0.3", 9, b"\x80" + chance.randbytes(50)) for _ in range(30)]
    raw = frames(*(rtp(65530 + number) for number in range(20)), *noise)
    assert decode(raw).raw == []
    asking = Decoder(guess_rtp=True, **WAY)
    rows = asking.feed(raw).rows() + asking.finish().rows()
    assert [row["frame"] for row in rows] == list(range(1, 21))


def test_two_files_of_one_capture() -> None:
    """A stream that goes on in the next file of a ring is one stream; frames count on."""
    parts = segments(SIP, [100])
    ring = Decoder(keep_raw=True, **WAY)
    rows = ring.feed(frames(parts[0])).rows()
    ring.next_file()
    rows += ring.feed(frames(parts[1])).rows() + ring.finish().rows()
    assert [(row["frame"], row["raw"]) for row in rows] == [(2, SIP)]


def test_live_frames_are_the_same_as_a_file() -> None:
    """Frames fed as they come, in groups of any size, give the rows of the file."""
    packets = [bytes(packet) for packet in SHAPES.values()]
    live = Decoder(keep_raw=True, **WAY)
    rows = []
    for start in range(0, len(packets), 5):
        rows += live.feed_frames([(start + n, 1, raw) for n, raw in enumerate(packets[start : start + 5])]).rows()
    assert [row["frame"] for row in rows] == list(range(1, len(packets) + 1))
    assert [row["time"] for row in rows] == list(range(len(packets)))


def test_batches_say_what_rows_say() -> None:
    """The Arrow form has the same values, in types that hold them, and joins to one table in the order of frames."""
    raw = (Path(__file__).parent / "data" / "ims" / "05_call_with_hold.pcap").read_bytes()
    one = Decoder(**WAY)
    batches = one.feed(raw).batches() + one.finish().batches()
    table = join(batches)
    assert table.column_names == [name for name in COLUMNS if not name.endswith("_node")]
    found = decode(raw)
    for name in table.column_names:
        column = table[name].cast("int64") if name == "time" else table[name]
        assert column.to_pylist() == found.columns[name], name
    assert len(rows_of_batches(batches)) == len(found.raw)
    few = Decoder(protocols=["diameter"], **WAY)
    assert {row["protocol"] for row in few.feed(raw).rows()} == {"diameter"} < set(PROTOCOLS)


# ---------------------------------------------------------------- captures made to hurt


def fed(parts: Iterator[bytes], size: int = 4000) -> tuple[Decoder, int, int]:
    """Feed frames in groups; give the decoder, the rows, and the most memory (bytes) that was in use at a time."""
    one, rows, group = Decoder(**WAY), 0, []
    tracemalloc.start()
    for raw in parts:
        group.append((0, 1, raw))
        if len(group) == size:
            rows += len(one.feed_frames(group))
            group = []
    rows += len(one.feed_frames(group)) + len(one.finish())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return one, rows, most


def test_a_storm_of_one_byte_fragments() -> None:
    """Fragments that never become a packet cost bounded memory, and it is told."""
    frame = pcap.udp_frame("10.0.0.1", 1, "10.0.0.2", 2, b"x")
    head = frame[14:34]

    def storm() -> Iterator[bytes]:
        for number in range(6000):
            offset = 0x2000 | number % 8000
            yield frame[:14] + head[:2] + struct.pack(">HHH", 21, number // 4, offset) + head[8:] + b"x"

    one, rows, most = fed(storm())
    assert rows == 0
    assert most < 20 << 20
    assert any("fragmented IP packets" in note for note in one.notes)


def test_a_storm_of_half_open_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of which only a beginning ever comes cost bounded memory, and it is told."""
    monkeypatch.setattr(streams, "_MOST_DIRECTIONS", 1000)

    def storm() -> Iterator[bytes]:
        for number in range(6000):
            source = f"10.{number >> 14 & 63}.{number >> 7 & 127}.{number & 127}"
            yield pcap.tcp_frame(source, 1024 + number % 60000, "10.0.0.2", 5060, b"INVITE sip:x", sequence=number)

    one, rows, most = fed(storm())
    assert rows == 0
    assert most < 20 << 20
    assert any("TCP connections were given up" in note for note in one.notes)


def test_a_storm_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that come once are forgotten; sound that waits for its SDP keeps its own, and no two are mixed up."""
    monkeypatch.setattr(media, "_MOST_ADDRESSES", 100)
    one, sdp = Decoder(**WAY), b"v=0\r\nc=IN IP6 2001:db8::9\r\nm=audio 4000 RTP/AVP 0\r\n"
    invite = SIP.replace(b"Length: 0", b"Length: %d" % len(sdp)) + sdp
    sources = [[f"2001:db8:1::{group + 1:x}:{number + 1:x}" for number in range(200)] for group in range(6)]
    rows, remembered = [], 0
    for group in sources:
        sound = pcap.udp_frame("2001:db8::a", 4000, "2001:db8::9", 4000, b"\x80\0" + bytes(170))
        sent = [pcap.udp_frame(source, 5060, "2001:db8::1", 5060, SIP) for source in group]
        rows += one.feed_frames((0, 1, raw) for raw in (sound, *sent)).rows()
        remembered = max(remembered, len(one._arrays().late._addresses))
    rows += one.feed_frames([(0, 1, pcap.udp_frame("2001:db8::1", 5060, "2001:db8::2", 5060, invite))]).rows()
    rows += one.finish().rows()
    assert [row["src"] for row in rows if row.get("method")] == [*chain(*sources), "2001:db8::1"]
    assert [(row["src"], row["dst"]) for row in rows if "ssrc" in row] == [("2001:db8::a", "2001:db8::9")] * 6
    assert remembered < 310


def test_lengths_that_promise_gigabytes() -> None:
    """A Content-Length, a Diameter length, a WebSocket length or a record length of absurd size ends nothing else."""
    lying = SIP.replace(b"Content-Length: 0", b"Content-Length: 999999999")
    raw = frames(segment(lying, 1000), segment(SIP, 1000 + len(lying)))
    assert decode(raw).raw == [SIP]
    big = b"\x01\x0f\xff\xfc" + CER[4:]
    raw = frames(segment(CER + big, 1000), segment(b"\0" * 900, 1000 + 2 * len(CER)))
    assert decode(raw).raw == [CER]
    web = b"\x82\x7f" + b"\xff" * 8 + SIP
    assert decode(frames(segment(web, 1000))).raw == []


def test_cut_packets_are_counted() -> None:
    """A capture that cuts packets off says so; what is left of a message is shown."""
    whole = pcap.udp_frame("10.0.0.1", 5060, "10.0.0.2", 5060, SIP)
    raw = pcap.pcapng([pcap.Frame(1, 0, 1, whole[:150], "", len(whole)), pcap.Frame(2, 1, 1, whole)])
    one = Decoder(**WAY)
    rows = one.feed(raw).rows()
    assert [row["method"] for row in rows] == ["INVITE", "INVITE"]
    assert one.notes == ["1 packet is cut short in the capture: what was cut off is missing."]


def test_a_link_type_that_is_not_read_is_named() -> None:
    """Not every frame of a wireless capture is silence."""
    one = Decoder(**WAY)
    rows = one.feed(pcap.pcapng([pcap.Frame(1, 0, 1, bytes(SHAPES["vlan"])), pcap.Frame(2, 1, 105, bytes(40))])).rows()
    assert len(rows) == 1
    assert one.notes == ["1 frame is of link type 105: not read."]
