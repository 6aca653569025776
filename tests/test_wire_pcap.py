"""Capture files: reading both formats in all their dresses, writing what Wireshark reads, building frames."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from labkit.capture.decode.gunzip import Gunzip
from labkit.errors import CaptureError
from labkit.wire import pcap
from labkit.wire.pcap_records import PADDING, RecordWalker

pytestmark = pytest.mark.usefixtures("loops")

IMS = Path(__file__).parent / "data" / "ims"
RECORDING = IMS / "01_first_registration.pcap"

# Written by hand from the specifications' figures: one frame "abcde" of 9 on the wire, at 1.5 s.
PCAP = {
    "little endian, microseconds": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    + struct.pack("<IIII", 1, 500_000, 5, 9)
    + b"abcde",
    "big endian, microseconds": struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    + struct.pack(">IIII", 1, 500_000, 5, 9)
    + b"abcde",
    "little endian, nanoseconds": struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    + struct.pack("<IIII", 1, 500_000_000, 5, 9)
    + b"abcde",
    "big endian, nanoseconds": struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    + struct.pack(">IIII", 1, 500_000_000, 5, 9)
    + b"abcde",
}


def block(order: str, kind: int, body: bytes) -> bytes:
    """A pcapng block."""
    size = 12 + len(body)
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def section(order: str = "<") -> bytes:
    """A section header block without options."""
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str = "<", linktype: int = 1, options: bytes = b"") -> bytes:
    """An interface description block."""
    return block(order, 1, struct.pack(order + "HHI", linktype, 0, 0) + options)


def packet(order: str, number: int, ticks: int, raw: bytes, options: bytes = b"") -> bytes:
    """An enhanced packet block."""
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(raw), len(raw))
    return block(order, 6, head + raw + bytes(-len(raw) % 4) + options)


@pytest.mark.parametrize("raw", PCAP.values(), ids=PCAP)
def test_pcap_is_read_in_either_byte_order_and_resolution(raw: bytes) -> None:
    """All four dresses of pcap give the same frame."""
    file = pcap.read_capture_file(raw)
    assert file.frames == (pcap.Frame(1, 1_500_000_000, pcap.LINKTYPE_ETHERNET, b"abcde", "", 9),)
    assert file.warning == ""


@pytest.mark.parametrize("order", "<>")
def test_pcapng_is_read_with_resolutions_and_sections(order: str) -> None:
    """Each interface counts time in its own unit, and a new section starts interfaces anew."""
    nano = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
    binary = struct.pack(order + "HHB3xHH", 9, 1, 0x80 | 10, 0, 0)
    late = struct.pack(order + "HHqHH", 14, 8, 100, 0, 0)
    comment = struct.pack(order + "HH", 1, 5) + b"hello\0\0\0" + struct.pack(order + "HH", 0, 0)
    unknown = block(order, 0x0BAD, b"????")
    raw = b"".join(
        [
            section(order),
            interface(order, 1, nano),
            interface(order, 113, binary),
            interface(order, 101, late),
            packet(order, 0, 1_500_000_000, b"one", comment),
            unknown,
            packet(order, 1, 1536, b"two"),
            packet(order, 2, 2_000_000, b"three"),
            section(order),
            interface(order, 276),
            packet(order, 0, 7, b"four"),
            block(order, 3, struct.pack(order + "I", 4) + b"five"),
        ]
    )
    frames = pcap.read_capture_file(raw).frames
    assert [(f.number, f.time_ns, f.linktype, f.raw) for f in frames] == [
        (1, 1_500_000_000, 1, b"one"),
        (2, 1_500_000_000, 113, b"two"),
        (3, 102_000_000_000, 101, b"three"),
        (4, 7_000, 276, b"four"),
        (5, 0, 276, b"five"),
    ]
    assert frames[0].comment == "hello"


def test_gzip_is_unwrapped() -> None:
    """A .pcap.gz is read like the file in it, also when it consists of several gzip members."""
    raw = RECORDING.read_bytes()
    plain = pcap.read_capture_file(raw)
    assert pcap.read_capture_file(gzip.compress(raw)) == plain
    assert pcap.read_capture_file(gzip.compress(raw[:1000]) + gzip.compress(raw[1000:])) == plain


def test_every_truncation_gives_the_whole_frames_and_one_warning() -> None:
    """Whatever is cut off: the frames before are there, a sentence says that the file ends early."""
    whole = b"".join([section(), interface(), *(packet("<", 0, n, b"frame%d" % n) for n in range(3))])
    ends = [0] * 3
    for count in range(3):
        ends[count] = len(section() + interface()) + (count + 1) * len(packet("<", 0, 0, b"frame0"))
    for size in range(12, len(whole)):
        file = pcap.read_capture_file(whole[:size])
        complete = sum(end <= size for end in ends)
        assert len(file.frames) == complete
        on_a_boundary = size in (len(section()), len(section() + interface()), *ends)
        assert bool(file.warning) != on_a_boundary


def test_truncated_pcap_and_gzip_say_how_much_was_read() -> None:
    """The warning counts the whole frames."""
    raw = RECORDING.read_bytes()
    cut = pcap.read_capture_file(raw[:-1])
    assert len(cut.frames) == 20
    assert cut.warning == "The capture ends inside frame 21: 20 whole frames were read."
    second = 40 + int.from_bytes(raw[32:36], "little")
    assert (
        pcap.read_capture_file(raw[: second + 5]).warning == "The capture ends inside frame 2: 1 whole frame was read."
    )
    packed = pcap.read_capture_file(gzip.compress(raw)[:-100])
    assert 0 < len(packed.frames) <= 21
    assert "whole frames were read" in packed.warning


@pytest.mark.parametrize("raw", [b"", b"\xd4\xc3", b"GIF89a" + bytes(40), b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(40)])
def test_what_is_no_capture_is_refused_in_one_sentence(raw: bytes) -> None:
    """Other files are refused by name of what was expected."""
    with pytest.raises(CaptureError, match="no capture file"):
        pcap.read_capture_file(raw)


@pytest.mark.parametrize(
    "damage",
    [
        struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0) + b"x",
        struct.pack("<IIII", 0, 0, 65 << 20, 0) + b"x",
    ],
)
def test_an_absurd_length_ends_reading_and_is_told(damage: bytes) -> None:
    """A damaged length field costs the rest, not the program."""
    file = pcap.read_capture_file(PCAP["little endian, microseconds"] + damage)
    assert len(file.frames) == 1
    assert "after frame 1" in file.warning


def test_damaged_pcapng_blocks_end_reading() -> None:
    """A block that contradicts itself ends the file there."""
    for broken in (
        struct.pack("<II", 6, 8) + bytes(8),
        struct.pack("<II", 6, 13) + bytes(8),
        packet("<", 7, 0, b"no such interface"),
        block("<", 6, b"\0" * 4),
        struct.pack("<III", 0x0A0D0D0A, 28, 0x12345678) + bytes(16),
    ):
        file = pcap.read_capture_file(section() + interface() + packet("<", 0, 0, b"one") + broken)
        assert len(file.frames) == 1
        assert "after frame 1" in file.warning


def test_a_stream_may_come_byte_by_byte() -> None:
    """Feeding single bytes gives what reading the whole file gives."""
    for raw in (RECORDING.read_bytes()[:4000], pcap.pcapng(pcap.read_frames(RECORDING.read_bytes()[:4000]))):
        reader = pcap.StreamReader()
        frames = [frame for index in range(len(raw)) for frame in reader.feed(raw[index : index + 1])]
        assert tuple(frames) == pcap.read_capture_file(raw).frames


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("over", [0, 1, 7, 15, 16, 17, 116, 200, 1515, 1516, 3000])
def test_big_pieces_are_walked_where_they_lie(order: str, over: int) -> None:
    """Wherever a piece ends, in a record's header, its frame or between two, the frames are those of the file."""
    head = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    frames = [bytes([n % 251]) * ((100, 1500, 40)[n % 3]) for n in range(5000)]
    records = [struct.pack(order + "IIII", n, 0, len(raw), len(raw)) + raw for n, raw in enumerate(frames)]
    whole = head + b"".join(records)
    walker = RecordWalker()
    found: list[tuple[int, int, bytes]] = []
    cuts = [0, 24 + 16 + 100 + over, (1 << 20) + 1000, (2 << 20) + 2500 + over, len(whole) - over, len(whole)]
    for start, end in pairwise(cuts):
        for run in walker.feed(whole[start:end]):
            assert len(run.raw) - max(p.start + p.captured for p in run.packets()) >= len(PADDING)
            found += [(p.number, p.time_ns, run.raw[p.start : p.start + p.captured]) for p in run.packets()]
    assert found == [(n + 1, n * 10**9, raw) for n, raw in enumerate(frames)]
    assert (walker.count, walker.left_over, walker.damage) == (5000, 0, "")


@pytest.mark.parametrize("place", [0, 600_000, 1_200_000, 1_999_000])
def test_damage_in_a_big_piece_ends_reading(place: int) -> None:
    """A length that cannot be, at either end of a big piece or in its middle, ends the walk after the frames before."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    record = struct.pack("<IIII", 1, 0, 84, 84) + bytes(84)
    good = place // 100
    raw = record * good + struct.pack("<IIII", 1, 0, 1 << 30, 1 << 30) + record * (25_000 - good)
    walker = RecordWalker()
    runs = walker.feed(head + raw[:50]) + walker.feed(raw[50:2_000_000]) + walker.feed(raw[2_000_000:])
    assert sum(len(run.offsets) for run in runs) == walker.count == good
    assert f"after frame {good}:" in walker.damage


def test_gzip_comes_in_big_pieces() -> None:
    """Thousands of frames at once are read much faster: what gzip gives in drops is gathered."""
    plain = random.Random(1).randbytes(3 << 20)
    gunzip = Gunzip()
    pieces = list(gunzip.feed(gzip.compress(plain, 1)))
    assert b"".join(pieces) == plain
    assert len(pieces) == 1


def test_a_stream_that_is_no_capture_is_refused() -> None:
    """The first four bytes decide."""
    with pytest.raises(CaptureError, match="no capture"):
        pcap.StreamReader().feed(b"HTTP/1.1 200 OK")


def test_what_is_written_is_read_back() -> None:
    """Times, link types, comments, original lengths and names survive."""
    frames = (
        pcap.Frame(1, 1_700_000_000_123_456_789, 1, b"first", "a comment", 5),
        pcap.Frame(2, 1_700_000_000_123_456_790, 276, b"second!!", "", 100),
    )
    names = {"172.30.0.10": "hss", "2001:db8::1": "pcscf", "172.30.0.1:6001": "alice"}
    file = pcap.read_capture_file(pcap.pcapng(frames, names))
    assert file.frames == frames
    assert file.names == {"172.30.0.10": "hss", "2001:db8::1": "pcscf"}
    stream = pcap.pcap_header() + pcap.pcap_record(frames[0].time_ns, b"first")
    assert pcap.read_capture_file(stream).frames[0].time_ns == frames[0].time_ns


def test_frames_are_built_as_a_real_stack_builds_them() -> None:
    """Rebuilding a recorded UDP packet from its parts gives the recorded bytes but for id, flags and TTL."""
    recorded = next(f.raw for f in pcap.read_frames(RECORDING.read_bytes()) if f.raw[23] == 17)
    source, target = ".".join(map(str, recorded[26:30])), ".".join(map(str, recorded[30:34]))
    built = pcap.udp_frame(source, 6001, target, 5060, recorded[42:])
    assert built[34:40] == recorded[34:40]
    assert built[42:] == recorded[42:]
    assert len(built) == len(recorded)


@pytest.mark.tshark
def test_tshark_reads_what_we_write(tmp_path: Path) -> None:
    """Checksums are right, names and comments are shown, in IPv4 and IPv6, UDP and TCP."""
    frames = [
        pcap.Frame(1, 1_700_000_000_000_000_001, 1, pcap.udp_frame("10.0.0.1", 5060, "10.0.0.2", 5061, b"odd")),
        pcap.Frame(
            2, 2, 1, pcap.tcp_frame("10.0.0.2", 3868, "10.0.0.1", 99, b"even", sequence=7, acknowledgment=9), "look"
        ),
        pcap.Frame(3, 3, 1, pcap.udp_frame("2001:db8::1", 1, "2001:db8::2", 2, b"")),
        pcap.Frame(4, 4, 1, pcap.tcp_frame("2001:db8::1", 1, "2001:db8::2", 2, b"x", sequence=2**32 + 5)),
    ]
    path = tmp_path / "ours.pcapng"
    path.write_bytes(pcap.pcapng(frames, {"10.0.0.1": "pcscf", "2001:db8::2": "hss"}, comment="of the file"))
    fields = ("ip.src_host", "ipv6.dst_host", "udp.checksum.status", "tcp.checksum.status", "frame.comment", "tcp.seq")
    options = ("udp.check_checksum:TRUE", "tcp.check_checksum:TRUE", "tcp.relative_sequence_numbers:FALSE")
    command = ["tshark", "-r", str(path), "-N", "n", "-T", "fields"]
    command += [part for field in fields for part in ("-e", field)] + [p for o in options for p in ("-o", o)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        ["pcscf", "", "1", "", "", ""],
        ["10.0.0.2", "", "", "1", "look", "7"],
        ["", "hss", "1", "", "", ""],
        ["", "hss", "", "1", "", "5"],
    ]


@pytest.mark.parametrize(("src", "dst"), [("10.0.0.1", "::1"), ("nowhere", "10.0.0.1")])
def test_impossible_addresses_are_refused(src: str, dst: str) -> None:
    """A frame needs two addresses of one family."""
    with pytest.raises(CaptureError, match="Cannot build a frame"):
        pcap.udp_frame(src, 1, dst, 2, b"")


def test_a_payload_too_long_for_ip_is_refused() -> None:
    """IP carries at most 65535 bytes."""
    with pytest.raises(CaptureError, match="65535"):
        pcap.udp_frame("10.0.0.1", 1, "10.0.0.2", 2, bytes(65508))
