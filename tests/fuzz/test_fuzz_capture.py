"""Bounded fuzz of readers, decoder and canon: whatever the bytes, a right answer or a CaptureError, and an end."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from labkit.capture.canon import canon
from labkit.capture.decode import decode
from labkit.capture.table import (
    dialogs,
    diameter_pairs,
    read_capture,
    registrations,
    rtp_streams,
    settled,
    transactions,
)
from labkit.errors import CaptureError, ProtocolError
from labkit.wire import hep, pcap

SECONDS = float(os.environ.get("LABKIT_FUZZ_SECONDS", "2"))
DATA = Path(__file__).parent.parent / "data"
RECORDINGS = [path.read_bytes() for path in sorted((DATA / "ims").glob("*.pcap"))]


def turns(seed: int) -> Iterator[random.Random]:
    """Chances until the time is over."""
    end = time.monotonic() + SECONDS
    number = seed
    while time.monotonic() < end:
        yield random.Random(number)
        number += 1


def mutated(chance: random.Random, raw: bytes) -> bytes:
    """Flip, cut, repeat, insert and remove bytes at some places."""
    damaged = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(damaged)) if damaged else 0
        kind = chance.randrange(6)
        if kind == 0:
            damaged[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            damaged[at : at + 1] = bytes([damaged[at] ^ 1 << chance.randrange(8)]) if damaged else b""
        elif kind == 2:
            del damaged[at : at + chance.randrange(1, 40)]
        elif kind == 3:
            damaged[at:at] = chance.randbytes(chance.randrange(1, 40))
        elif kind == 4:
            damaged[at:at] = damaged[at : at + chance.randrange(1, 400)]
        else:
            damaged[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\r\n\r\n"))
    return bytes(damaged)


def test_damaged_files() -> None:
    """A file with mutated bytes is read as far as it goes, or refused."""
    for chance in turns(1):
        raw = chance.choice(RECORDINGS)
        if chance.random() < 0.5:
            raw = pcap.pcapng(pcap.read_frames(raw), {"172.30.0.10": "hss"}, "comment")
        try:
            decoded = decode(mutated(chance, raw))
        except CaptureError:
            continue
        assert {len(values) for values in decoded.columns.values()} == {len(decoded.raw)}


def test_damaged_frames_to_the_end() -> None:
    """Mutated, shuffled, lost and repeated frames go all the way: table, story, derived tables, what is open."""
    for chance in turns(10**6):
        frames = list(pcap.read_frames(chance.choice(RECORDINGS)))
        for _ in range(chance.randrange(1, 12)):
            at = chance.randrange(len(frames))
            kind = chance.randrange(4)
            if kind == 0:
                frames[at] = pcap.Frame(0, frames[at].time_ns, 1, mutated(chance, frames[at].raw))
            elif kind == 1:
                frames.insert(chance.randrange(len(frames)), frames[at])
            elif kind == 2 and len(frames) > 1:
                del frames[at]
            else:
                frames[at], frames[0] = frames[0], frames[at]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            messages = read_capture(pcap.pcapng(frames))
        story = canon(messages, keep_trying=True, keep_watchdogs=True, keep_inner=True)
        assert story["row"].is_unique
        assert len(story) <= len(messages)
        for derive in (transactions, diameter_pairs, dialogs, registrations, rtp_streams):
            derive(messages.table)
        settled(messages)


def test_both_ways_of_the_decoder_agree() -> None:
    """Mutated frames give the same rows and bytes one by one and by arrays."""
    for chance in turns(4 * 10**6):
        frames = list(pcap.read_frames(chance.choice(RECORDINGS)))
        for _ in range(chance.randrange(1, 30)):
            at, other = chance.randrange(len(frames)), chance.randrange(len(frames))
            kind = chance.randrange(6)
            if kind < 3:
                frames[at] = pcap.Frame(0, frames[at].time_ns, 1, mutated(chance, frames[at].raw))
            elif kind == 3:
                frames[at] = pcap.Frame(0, frames[at].time_ns, 1, rewritten(chance, frames[at].raw))
            elif kind == 4:
                frames[at], frames[other] = frames[other], frames[at]
            else:
                frames.insert(other, frames[at])
        raw = pcap.pcapng(frames)
        assert decode(raw, few_frames=0) == decode(raw, few_frames=1 << 30)


def rewritten(chance: random.Random, raw: bytes) -> bytes:
    """Put into a frame what SIP readers trip over."""
    at = chance.randrange(42, max(43, len(raw)))
    pieces = (
        b"\r\n ",
        b"\r\n",
        b"\n",
        b"\t",
        b":",
        b";branch=",
        b",",
        b'"',
        b"\r\nf :x\r\n",
        b"\xff",
        b"\x01",
        b"\x0b",
    )
    more = (b"\r\nFrom\t: <sip:a@b>\r\n", b"\r\nv:x;branch=1\r\n", b"\r\nm=audio 4000 RTP/AVP 0\r\n", b"\r\n\r\n")
    return raw[:at] + chance.choice(pieces + more) + raw[at:]


def test_damaged_hep_packets() -> None:
    """A packet is read or refused with the right kind of error."""
    packets = [frame.raw[42:] for frame in pcap.read_frames((DATA / "homer" / "hep3.pcap").read_bytes())]
    for chance in turns(2 * 10**6):
        for _ in range(50):
            try:
                hep.parse_packet(mutated(chance, chance.choice(packets)))
            except ProtocolError:
                continue


def test_a_stream_fed_in_pieces() -> None:
    """Pieces of any size give the frames of the whole."""
    for chance in turns(3 * 10**6):
        raw = chance.choice(RECORDINGS)
        if chance.random() < 0.5:
            raw = pcap.pcapng(pcap.read_frames(raw))
        reader, frames, at = pcap.StreamReader(), [], 0
        while at < len(raw):
            size = chance.choice((1, 3, 17, 100, 5000))
            frames += reader.feed(raw[at : at + size])
            at += size
        assert tuple(frames) == pcap.read_capture_file(raw).frames
