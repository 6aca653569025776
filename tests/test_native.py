"""The loops in C give what those in Python give, on good, odd and damaged bytes, and refuse what lies outside."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capture_bench import IMS
from sip_bytes import all_recorded

from labkit import native
from labkit.capture import ring
from labkit.capture.decode import arrays, plain, records, sip_heads, text
from labkit.errors import SipError
from labkit.wire import pcap
from labkit.wire.pcap_records import PADDING, RecordWalker
from labkit.wire.sip import parse_message

pytestmark = pytest.mark.native
ODD_LINES = (
    *(b"From : <sip:a@b>;tag=1", b"f\t:x", b"TO:<sip:b@c>", b"t:\r", b" folded", b"\tfolded", b"no colon", b":", b""),
    *(b"Content-Length: 5", b"l: 5\r", b"L :5", b"Content-Length: five", b"Content-Length:", b"content-length:  0 "),
    *(b"Via: SIP/2.0/UDP h;branch=z1;x", b'v: SIP/2.0/UDP h;x=";branch=no";branch=z2', b"Via: S/2/U h, b;branch=z3"),
    *(
        b"Via: S/2/U h;Branch=z4",
        b"Via: S/2/U h; branch = z5",
        b"Via: S/2/U h;branch=",
        b"Via: S/2/U h;rport;branch=z6",
    ),
    *(
        b"Call-ID:\xff\xfe",
        b"Subject: caf\xc3\xa9 \xe2\x82",
        b"X\x00Y: 1",
        b"From",
        b"from      : x",
        b"i:",
        b"CSeq: 1 A",
    ),
)


def damaged_messages(count: int) -> Iterator[bytes]:
    """Recorded messages in which lines are replaced, added, lost and cut, and bytes changed."""
    chance = random.Random(11)
    recorded = list(all_recorded())
    yield from recorded
    for _ in range(count):
        end = chance.choice((b"\r\n", b"\r\n", b"\n", b"\r\r\n"))
        lines = chance.choice(recorded).split(b"\r\n")
        for _ in range(chance.randrange(4)):
            place = chance.randrange(1, len(lines) + 1)
            lines[place : place + chance.randrange(3)] = [chance.choice(ODD_LINES)] * chance.randrange(3)
        raw = bytearray(end.join(lines))
        for _ in range(chance.choice((0, 0, 1, 3))):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        yield bytes(raw[: chance.choice((len(raw), len(raw), chance.randrange(1, len(raw) + 1)))])


def in_both(call: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """What a call gives with the compiled loops, and without."""
    compiled = call()
    with monkeypatch.context() as patch:
        patch.setattr(native, "compiled", None)
        return compiled, call()


def read(raw: bytes) -> tuple[object, ...]:
    """A message, or what is wrong with it."""
    try:
        message = parse_message(raw)
    except SipError as error:
        return (str(error), error.offset)
    return (message, message.raw)


def test_messages_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each header, each body, each refusal with its place."""
    refused = odd = 0
    for raw in damaged_messages(3000):
        one, other = in_both(lambda raw=raw: read(raw), monkeypatch)
        assert one == other
        refused += isinstance(one[0], str)
        odd += native.compiled is not None and native.compiled.sip_head_lines(raw) is None
    assert refused > 300
    assert odd > refused


def together(messages: list[bytes]) -> tuple[bytes, Any, Any]:
    """Messages one behind the other, and where each begins and ends."""
    ends = np.cumsum([len(raw) for raw in messages])
    return b"".join((*messages, PADDING)), np.concatenate(([0], ends[:-1])), ends


def test_heads_are_found_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the arrays find everything, C finds the same; what one calls odd or no plain branch goes another way."""
    raw, start, end = together([raw for raw in damaged_messages(6000) if raw])
    one, other = in_both(lambda: sip_heads.heads_of(raw, start, end), monkeypatch)
    assert (one.body == other.body).all()
    assert (one.line_end == other.line_end).all()
    assert (one.odd == other.odd).mean() > 0.99
    both = ~one.odd & ~other.odd
    assert both.sum() > 3000
    for field in fields(one):
        if not field.name.startswith("branch"):
            assert (getattr(one, field.name)[..., both] == getattr(other, field.name)[..., both]).all(), field.name
    plain = both & (one.branch_size > 0) & (other.branch_size > 0)
    assert plain.sum() > 2000
    assert (one.branch[plain] == other.branch[plain]).all()
    assert (one.branch_size[plain] == other.branch_size[plain]).all()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 31, 33, 300])
def test_texts_are_numbered_alike(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of every length, that differ in one byte anywhere, or only in length."""
    chance = random.Random(size)
    some = [bytes(chance.choice(b"ab") for _ in range(size)) for _ in range(40)]
    texts = [chance.choice(some)[: chance.choice((size, size, size // 2))] for _ in range(2000)]
    raw, start, end = together(texts)
    for numbers, values in in_both(lambda: text.distinct(raw, start, end - start), monkeypatch):
        assert [values[number] for number in numbers] == texts
        assert len(set(values)) == len(values)


def walked(raw: bytes, sizes: list[int]) -> tuple[object, ...]:
    """What a walk in pieces of some sizes, over and over, says."""
    walker = RecordWalker()
    found = []
    while raw:
        piece, raw = raw[: sizes[0]], raw[sizes[0] :]
        sizes = [*sizes[1:], sizes[0]]
        found += [packet for run in walker.feed(piece) for packet in run.packets()]
    places = [(p.number, p.time_ns, p.linktype, p.captured, p.on_wire) for p in found]
    return places, walker.count, walker.damage, walker.left_over


def test_records_are_found_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both formats and both byte orders, in pieces of any size, with damaged lengths."""
    chance = random.Random(5)
    for path in sorted(IMS.glob("*.pcap"))[:4]:
        little = path.read_bytes()
        blocks = pcap.pcapng(pcap.read_frames(little), {"10.0.0.1": "a"}, "comment")
        for raw in (little, blocks, big_endian(little)):
            for _ in range(20):
                damaged = bytearray(raw)
                for _ in range(chance.choice((0, 0, 1, 2))):
                    damaged[chance.randrange(24, len(raw))] = chance.choice((0, 1, 0x7F, 0xFF))
                sizes = [chance.randrange(1, 3000) for _ in range(5)]
                one, other = in_both(lambda d=bytes(damaged), s=sizes: walked(d, s), monkeypatch)
                assert one == other
            assert one[1] > 0


def big_endian(raw: bytes) -> bytes:
    """A pcap with its header and record headers turned round."""
    words = np.frombuffer(raw[:24], "<u4").astype(">u4")
    parts = [words.tobytes()]
    parts[0] = parts[0][:4] + b"\0\2\0\4" + parts[0][8:]
    at = 24
    while at < len(raw):
        head = np.frombuffer(raw[at : at + 16], "<u4")
        parts += [head.astype(">u4").tobytes(), raw[at + 16 : at + 16 + int(head[2])]]
        at += 16 + int(head[2])
    return b"".join(parts)


def media_frames(count: int) -> list[bytes]:
    """RTP of some streams in Ethernet frames, half as it nearly always travels, else a byte changed or the end cut."""
    chance = random.Random(3)
    found = []
    for number in range(count):
        rtp = struct.pack(">BBHII", 0x80, chance.choice((0, 8, 0x80, 0xC8, 0xDF)), number & 0xFFFF, number * 160, 7)
        port = chance.choice((40000, 40002, 2152, 4789))
        frame = bytearray(pcap.udp_frame("10.0.0.1", port, "10.0.0.2", chance.choice((50000, 2152)), rtp + bytes(20)))
        if chance.random() < 0.5:
            frame[chance.randrange(12, 46)] = chance.randrange(256)
        found.append(bytes(frame[: chance.choice((len(frame), len(frame), chance.randrange(1, len(frame))))]))
    return found


def test_media_is_told_alike() -> None:
    """The same packets, with the same ends and RTP headers; one stream is called so, and nothing else."""
    parts = media_frames(5000)
    raw, start, end = together(parts)
    frames = plain.Frames(np.arange(len(parts)), start, start, end - start)
    (which, header, ends), (also, other, far) = (way(raw, frames) for way in (plain._compiled, plain._by_arrays))
    assert (which == also).all()
    assert 500 < len(which) < 4500
    for name in ("second", "sequence", "timestamp", "ssrc"):
        assert (header[name] == other[name]).all(), name
    for one, two in zip(ends, far, strict=True):
        assert one.dtype == two.dtype
        assert (one == two).all()
    assert not arrays.is_constant(ends[0])
    alike = [parts[index] for index in which.tolist() if parts[index][26:40] == parts[which[0]][26:40]]
    alike = [part for part in alike if part[43] & 0x7F == alike[0][43] & 0x7F and len(part) == len(alike[0])]
    raw, start, end = together(alike)
    _, _, ends = plain._compiled(raw, plain.Frames(start, start, start, end - start))
    assert len(alike) > 20
    assert all(map(arrays.is_constant, ends))


def test_blocks_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times, places and sizes of the frames of a block; with a VLAN tag beside one frame, too."""
    chance = random.Random(9)
    timed = [(chance.randrange(2**60), chance.randbytes(chance.randrange(0, 1500))) for _ in range(300)]
    block = ring.Block.of(timed)
    head = next(itertools.islice(block.offsets(), 100, None))
    tagged = bytearray(block.raw)
    tagged[head + 20] |= ring.VLAN_VALID
    for some in (block, ring.Block(bytes(tagged), block.first, len(block))):
        (raw, one), (other_raw, other) = in_both(lambda some=some: records.of_block(some), monkeypatch)
        assert raw == other_raw
        for field in fields(one):
            assert (getattr(one, field.name) == getattr(other, field.name)).all(), field.name
        pieces = [raw[start : start + size] for start, size in zip(one.start, one.captured, strict=True)]
        assert list(zip(one.time.tolist(), pieces, strict=True)) == some.frames()


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pcap_records", (bytes(40), -1, 40, False)),
        ("pcap_records", (bytes(40), 0, 41, False)),
        ("packet_blocks", (bytes(40), -1, 40, False, 1)),
        ("packet_blocks", (bytes(40), 0, 41, True, 1)),
        ("sip_heads", (b"abc", ints(0), ints(4), np.zeros((14, 1), np.int64), np.zeros(1, bool))),
        ("sip_heads", (b"abc", ints(2), ints(1), np.zeros((14, 1), np.int64), np.zeros(1, bool))),
        ("sip_heads", (b"abc", ints(-1), ints(1), np.zeros((14, 1), np.int64), np.zeros(1, bool))),
        ("sip_heads", (b"abc", ints(0), ints(1), np.zeros((13, 1), np.int64), np.zeros(1, bool))),
        ("sip_heads", (b"abc", ints(0, 1), ints(1), np.zeros((14, 1), np.int64), np.zeros(1, bool))),
        ("ring_frames", (bytes(40), -1, 1, np.zeros((4, 1), np.int64))),
        ("ring_frames", (bytes(40), 20, 1, np.zeros((4, 1), np.int64))),
        ("ring_frames", (bytes(40), 0, -1, np.zeros((4, 1), np.int64))),
        ("ring_frames", (bytes(40), 0, 2, np.zeros((4, 1), np.int64))),
        ("ring_frames", (bytes(12) + b"\x29" + bytes(27), 0, 1, np.zeros((4, 1), np.int64))),
        ("plain_media", (bytes(40), ints(0), ints(41), ints(0), bytearray(40))),
        ("plain_media", (bytes(40), ints(-1), ints(4), ints(0), bytearray(40))),
        ("plain_media", (bytes(40), ints(0), ints(40), ints(0), bytearray(39))),
        ("distinct", (b"abc", ints(2), ints(2), np.zeros(1, np.int32))),
        ("distinct", (b"abc", ints(-1), ints(1), np.zeros(1, np.int32))),
        ("distinct", (b"abc", ints(1), ints(-1), np.zeros(1, np.int32))),
        ("distinct", (b"abc", ints(2**62), ints(2**62), np.zeros(1, np.int32))),
        ("distinct", (b"abc", ints(1), ints(1, 1), np.zeros(1, np.int32))),
    ],
)
def test_what_lies_outside_is_refused(name: str, arguments: tuple[Any, ...]) -> None:
    """No argument makes C read or write where it must not."""
    with pytest.raises(ValueError, match=r"inside raw|fit each other"):
        getattr(native.compiled, name)(*arguments)


@pytest.fixture
def checkout(tmp_path: Path, project: Path) -> Path:
    """As much of a checkout as is needed to compile the loops, and nothing compiled."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "labkit/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(project / name, tmp_path / name)
    shutil.copytree(project / "labkit/native", tmp_path / "labkit/native", ignore=shutil.ignore_patterns("_loops.*so*"))
    return tmp_path


def run(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run this Python there."""
    env = {**os.environ, "PYTHONPATH": str(checkout), **variables}
    return subprocess.run([sys.executable, *arguments], cwd=checkout, env=env, capture_output=True, text=True)


def test_they_are_compiled_in_place(checkout: Path) -> None:
    """One command makes the module, nothing else is left behind, and LABKIT_PURE leaves it aside."""
    before = {path.name for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    built = run(checkout, "-m", "labkit.native")
    assert (built.returncode, built.stdout) == (0, "Built.\n"), built.stderr
    after = {path.name for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    assert len(after - before) == 1
    asked = "from labkit import native; print(native.compiled is None)"
    assert run(checkout, "-c", asked).stdout == "False\n"
    assert run(checkout, "-c", asked, LABKIT_PURE="1").stdout == "True\n"


def test_without_a_compiler_one_sentence_and_all_works(checkout: Path) -> None:
    """A compiler that fails is no failure of labkit's."""
    built = run(checkout, "-m", "labkit.native", CC="false", LDSHARED="false")
    assert built.returncode == 1
    assert built.stdout == "The compiled loops were not built: the compiler refused (above). All works without them.\n"
    assert run(checkout, "-c", "from labkit import native; print(native.compiled)").stdout == "None\n"


def test_a_module_of_another_source_is_left_aside(checkout: Path) -> None:
    """What was compiled from an older checkout does not match, and is not used."""
    path = checkout / "labkit/native/__init__.py"
    path.write_text(path.read_text(encoding="utf-8").replace("_VERSION = 2", "_VERSION = 1"), encoding="utf-8")
    assert run(checkout, "-m", "labkit.native").returncode == 0
    assert run(checkout, "-c", "from labkit import native; print(native.compiled)").stdout == "None\n"
