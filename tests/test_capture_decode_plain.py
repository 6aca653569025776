"""Media that is told in one look: the same rows as by the layers, whatever the frames look like; blocks of the ring."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from traffic import RTP_PORT, invite, rtp

from labkit.capture.decode import Decoder
from labkit.capture.ring import Block
from labkit.wire import pcap

PHONE, GATEWAY = "10.0.0.1", "10.0.0.2"
SDP = pcap.udp_frame(GATEWAY, 5060, PHONE, 5060, invite(PHONE))
Rows = list[dict[str, object]]


def sound(number: int, payload_bytes: int = 160, *, back: bool = False, port: int = 4000) -> bytes:
    """A frame with RTP to the phone, or back."""
    ends = ((GATEWAY, port), (PHONE, RTP_PORT))
    (src, src_port), (dst, dst_port) = ends[::-1] if back else ends
    return pcap.udp_frame(src, src_port, dst, dst_port, rtp(number, payload_bytes))


def changed(frame: bytes, at: int, fresh: bytes) -> bytes:
    """The frame with some bytes replaced."""
    return frame[:at] + fresh + frame[at + len(fresh) :]


def one_stream(number: int) -> bytes:
    """Packets of one size in one direction."""
    return sound(number)


def two_streams(number: int) -> bytes:
    """Both directions."""
    return sound(number, back=number % 2 == 1)


def many_sizes(number: int) -> bytes:
    """A codec whose packets differ in size."""
    return sound(number, 20 + number * 7 % 90)


SHAPES: list[Callable[[bytes, int], bytes]] = [
    lambda frame, n: frame,
    lambda frame, n: frame[:12] + b"\x81\0\0\7" + frame[12:],
    lambda frame, n: changed(frame, 14, b"\x46"),  # options
    lambda frame, n: changed(frame, 20, b"\x20\0"),  # a first fragment
    lambda frame, n: changed(frame, 20, b"\x40\0"),  # may not be fragmented, and is not
    lambda frame, n: changed(frame, 23, b"\x06"),  # TCP
    lambda frame, n: changed(frame, 43, b"\xc8"),  # RTCP
    lambda frame, n: changed(frame, 43, b"\xe0"),  # the marker and another payload type
    lambda frame, n: changed(frame, 42, b"\x40"),  # another version of RTP
    lambda frame, n: changed(frame, 36, struct.pack(">H", 4789)),
    lambda frame, n: changed(frame, 34, struct.pack(">H", 2152)),
    lambda frame, n: changed(frame, 16, b"\0\0"),  # left to segmentation offload
    lambda frame, n: changed(frame, 16, b"\0\x30"),
    lambda frame, n: changed(frame, 38, b"\0\0"),
    lambda frame, n: changed(frame, 38, b"\0\x13"),
    lambda frame, n: changed(frame, 38, b"\0\x14"),  # no sound, only the header
    lambda frame, n: frame[: len(frame) - n % 200],
    lambda frame, n: frame + bytes(n % 9),  # padding of Ethernet
    lambda frame, n: frame[:12] + b"\x86\xdd" + frame[14:],
    lambda frame, n: frame[: n % 60],
    lambda frame, n: b"",
]


def rows_of(frames: list[bytes], few_frames: int, **options: bool) -> tuple[Rows, list[str]]:
    """Feed frames at once, the announcement behind them: what waits must come out as well."""
    one = Decoder(few_frames=few_frames, **options)
    timed = [(10**18 + number, raw) for number, raw in enumerate(frames)]
    rows = one.feed_block(Block.of(timed)).rows()
    rows += one.feed_frames([(time_ns, 1, raw) for time_ns, raw in timed]).rows()
    rows += one.feed_frames([(2 * 10**18, 1, SDP)]).rows() + one.feed_block(Block.of(timed)).rows()
    return sorted(rows + one.finish().rows(), key=lambda row: row["frame"]), one.notes


def without_raw(rows: Rows) -> Rows:
    """The columns alone."""
    return [{name: value for name, value in row.items() if name != "raw"} for row in rows]


@pytest.mark.parametrize("make", [one_stream, two_streams, many_sizes])
@pytest.mark.parametrize("options", [{"keep_raw": True}, {}], ids=["raw", "no raw"])
def test_both_ways_see_the_same(make: Callable[[int], bytes], options: dict[str, bool]) -> None:
    """All frames of one shape, one of them among others, each another one: arrays give what one by one gives."""
    groups = [[shape(make(number), number) for number in range(30)] for shape in SHAPES]
    groups += [[shape(make(n), n) if n == 7 else make(n) for n in range(30)] for shape in SHAPES]
    groups.append([SHAPES[n % len(SHAPES)](make(n), n) for n in range(300)])
    counts = []
    for frames in groups:
        alone, notes_alone = rows_of(frames, 1 << 30, **options)
        for few_frames in (0, 40):  # 40: what is left of 30 frames is read one by one
            rows, notes = rows_of(frames, few_frames, **options)
            if not options:  # what is read one by one has it all the same
                rows, alone = without_raw(rows), without_raw(alone)
            assert rows == alone
            assert notes == notes_alone
        counts.append(len(alone))
    assert counts[0] == 91
    assert min(counts) == 1


def test_damage_anywhere_is_seen_alike() -> None:
    """A changed byte in the headers never makes arrays see what is not seen one by one."""
    chance = random.Random(5)
    frames = [SDP]
    for number in range(3000):
        frame = sound(number, back=number % 3 == 0)
        frames.append(changed(frame, chance.randrange(54), bytes([chance.randrange(256)])))
    (rows, notes), (alone, notes_alone) = rows_of(frames, 0, keep_raw=True), rows_of(frames, 1 << 30, keep_raw=True)
    assert rows == alone
    assert notes == notes_alone
    assert len(rows) > 3000


def test_a_block_is_read_as_its_frames() -> None:
    """Times, order and bytes; frames of one size and of many; none at all."""
    for sizes in ([172] * 40, [60, 1500, 0, 60_000, 172] * 8, [172], []):
        timed = [(1_700_000_000_999_999_999 + number, bytes([number]) * size) for number, size in enumerate(sizes)]
        block = Block.of(timed)
        assert len(block) == len(sizes)
        assert block.frames() == timed
    assert Decoder(few_frames=0).feed_block(Block.of([])).rows() == []


def test_a_tag_beside_the_frame_is_put_back() -> None:
    """The kernel takes a VLAN tag out of the frame and notes it beside it."""
    block = Block.of([(1, SDP)] + [(2 + number, sound(number)) for number in range(20)])
    raw = bytearray(block.raw)
    for at in list(block.offsets())[5:]:
        struct.pack_into("@I", raw, at + 20, 0x50)
        struct.pack_into("@IH", raw, at + 32, 7, 0x88A8)
    tagged = Block(bytes(raw), block.first, len(block))
    assert [frame[12:18].hex() for _time_ns, frame in tagged.frames()][4:6] == [
        "08004500000c"[:4] + "4500" + "00c8",
        "88a800070800",
    ]
    for few_frames in (0, 1 << 30):
        assert len(Decoder(few_frames=few_frames).feed_block(tagged).rows()) == 21
