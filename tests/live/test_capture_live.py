"""Captures of running cores: nothing is missing, tshark sees the same, and every engine tells one story."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.capture.canon import canon
from labkit.capture.source import can_sniff, to_pcapng
from labkit.capture.table import Messages, read_capture, settled
from labkit.lab.lab import RunningLab, start_lab
from labkit.paths import subscribers_file
from labkit.peers.hss.subscribers import load_subscribers
from labkit.peers.ue import UE

sys.path.insert(0, str(Path(__file__).parent.parent))
from test_capture_tshark import assert_same_as_tshark

PAUSE_S = 0.05
"""Between what different people do: on a busy machine a copy of a message carries a time that is late."""
STORY: dict[str, list[str]] = {}
"""The story of the first engine that told it; the others must tell the same."""


async def call_with_hold(lab: RunningLab) -> dict[str, str]:
    """Two phones register, call with hold and resume, and de-register; returns the phones' names."""
    people = {person.name: person for person in load_subscribers(subscribers_file())}
    names: dict[str, str] = {}
    phones = []
    for index, name in enumerate(("alice", "bob")):
        address, port = lab.phone_address(index + 40)
        phone = UE(
            people[name],
            address=address,
            port=port,
            pcscf=lab.sip_address("pcscf"),
            realm=lab.realm,
            auto_answer=True,
            ring_s=0.1,
        )
        names[f"{address}:{port}"] = name
        phones.append(phone)
    async with phones[0] as alice, phones[1] as bob:
        await alice.register()
        await bob.register()
        await asyncio.sleep(PAUSE_S)
        call = await alice.call(people["bob"].impus[0])
        await call.hold()
        await call.resume()
        await call.bye()
        await asyncio.sleep(PAUSE_S)
        await alice.deregister()
        await asyncio.sleep(PAUSE_S)
        await bob.deregister()
    return names


def captured(lab: RunningLab) -> tuple[Messages, bytes]:
    """Capture the scene on a running lab."""
    sniffer = lab.sniffer()
    sniffer.start()
    try:
        begin = sniffer.mark()
        names = lab.names() | asyncio.run(call_with_hold(lab))
        for _ in range(50):  # as a session does: the end waits until what was sent has been answered and seen
            packets = to_pcapng(sniffer.frames(begin, sniffer.mark()), names)
            if not settled(read_capture(packets, names)):
                break
            time.sleep(0.1)
    finally:
        sniffer.stop()
    return read_capture(packets, names), packets


def hold_against(messages: Messages, packets: bytes, folder: Path) -> None:
    """All is answered, tshark agrees field by field, and the story is that of the other engines."""
    assert settled(messages) == []
    if shutil.which("tshark"):
        path = folder / "live.pcapng"
        path.write_bytes(packets)
        assert_same_as_tshark(path)
    story = canon(messages).shown.to_string().splitlines()
    assert len(story) > 100
    assert story == STORY.setdefault("call with hold", story)


def test_a_call_on_this_engine(lab: RunningLab, tmp_path: Path) -> None:
    """Docker (6.0.1) and local (whatever is installed) tell the same story, byte for byte."""
    hold_against(*captured(lab), tmp_path)


@pytest.fixture
def mirrored_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningLab]:
    """A local lab whose nodes send copies of their messages."""
    monkeypatch.setenv("LABKIT_CAPTURE", "mirror")
    running = start_lab("live-mirrored", "local")
    yield running
    running.stop()


@pytest.mark.local
def test_a_mirrored_call(mirrored_lab: RunningLab, tmp_path: Path) -> None:
    """Without any right to sniff the same story comes from the nodes' copies."""
    assert mirrored_lab.sniffer().kind == "mirrored"
    hold_against(*captured(mirrored_lab), tmp_path)


@pytest.mark.local
@pytest.mark.skipif(not can_sniff(), reason="sniffing needs CAP_NET_RAW")
def test_the_mirror_shows_what_is_on_the_wire(mirrored_lab: RunningLab) -> None:
    """Held against a sniffer beside it: every SIP and Diameter message, byte for byte, none more, none less."""
    from labkit.capture.source import AfPacketSniffer

    block = mirrored_lab.names()
    net = next(iter(block)).rsplit(".", 1)[0] + ".0/24"
    wire = AfPacketSniffer("lo", net)
    wire.start()
    try:
        begin = wire.mark()
        mirrored, _ = captured(mirrored_lab)
        seen = read_capture(to_pcapng(wire.frames(begin, wire.mark())))
    finally:
        wire.stop()
    columns = ["src", "dst", "src_port", "dst_port"]
    watchdogs = (257, 280, 282)  # they come when they come
    both = [
        sorted(
            (*ends, raw)
            for *ends, code, raw in zip(
                *(messages.table[name] for name in columns),
                messages.table["command_code"].fillna(0),
                messages.raw,
                strict=True,
            )
            if code not in watchdogs
        )
        for messages in (mirrored, seen)
    ]
    assert both[0] == both[1]
