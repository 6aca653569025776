"""Canon of what lessons 04, 05 and 14 record: RTR, NOTIFY, two S-CSCFs and short messages stand in one order, whatever
the clocks did."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from capture_bench import copies, retold

from labkit.capture.canon import canon
from labkit.capture.cassette import Cassette
from labkit.capture.table import Messages, read_capture
from labkit.wire.hep import HepPacket

CASSETTES = Path(__file__).resolve().parents[1] / "data" / "cassettes"
SPANS = [(lesson, path.stem) for lesson in ("04", "05") for path in sorted((CASSETTES / lesson).glob("*.pcapng"))]
SPANS += [("14", span) for span in ("hello", "filled", "full", "back")]


def recorded(lesson: str, span: str) -> tuple[Messages, dict[str, str]]:
    """A recording of a lesson and the names in it."""
    packets, about = Cassette(CASSETTES / lesson, lesson).load(span)
    return read_capture(packets, about["names"]), about["names"]


def told(messages: Messages) -> list[str]:
    """from, to and message of each step."""
    steps = canon(messages)
    return [f"{a} {b} {m}" for a, b, m in zip(steps["from"], steps["to"], steps["message"], strict=True)]


def shifted(packets: list[HepPacket], chosen: Callable[[HepPacket], bool], by_us: int) -> list[HepPacket]:
    """The same messages, some of them earlier or later."""
    return [replace(packet, time_us=packet.time_us + by_us * chosen(packet)) for packet in packets]


@pytest.mark.parametrize(("lesson", "span"), SPANS, ids=lambda value: value)
def test_clocks_that_disagree_change_nothing(lesson: str, span: str) -> None:
    """Times of messages up to a quarter of a millisecond off, as the mirror gives them: the same story."""
    messages, names = recorded(lesson, span)
    expected = told(messages)
    for seed in range(3):
        chance = random.Random(seed)
        shaken = [replace(packet, time_us=packet.time_us + chance.randint(-250, 250)) for packet in copies(messages)]
        assert told(retold(shaken, names)) == expected


@pytest.mark.parametrize("by_us", [-9000, 0, 9000])
def test_a_report_comes_after_what_it_answers(by_us: int) -> None:
    """Bob's RP-ACK may overtake his 200 on the way to the centre: it stands behind it, by its In-Reply-To."""
    messages, names = recorded("14", "hello")
    ack = messages.raw[int(canon(messages)["row"][27])]
    assert b"In-Reply-To" in ack
    call_id = next(line for line in ack.split(b"\r\n") if line.startswith(b"Call-ID"))
    packets = shifted(copies(messages), lambda packet: call_id in packet.payload, by_us)
    assert told(retold(packets, names)) == told(messages)


@pytest.mark.parametrize("divisor", [1, 5, 20, 100])
def test_a_fast_centre_does_not_move_the_register_that_moved_it(divisor: int) -> None:
    """Its MESSAGE may be at the S-CSCF so soon after the third-party REGISTER as clocks may differ."""
    messages, names = recorded("14", "back")
    told_centre = canon(messages)["row"][21]
    packets = copies(messages)
    began_us = packets[int(told_centre)].time_us
    faster = [
        replace(packet, time_us=began_us + (packet.time_us - began_us) // divisor)
        if packet.time_us > began_us
        else packet
        for packet in packets
    ]
    assert told(messages)[20:23] == [
        "scscf smsc REGISTER",
        "smsc scscf 200 OK",
        "smsc icscf MESSAGE RP-DATA SMS-DELIVER",
    ]
    assert told(retold(faster, names)) == told(messages)


def test_what_follows_an_rtr_comes_after_its_answer() -> None:
    """The S-CSCF may send the NOTIFY before the RTA or after it: the story has the answer first."""
    messages, names = recorded("04", "thrown-out")
    packets = copies(messages)
    story = [
        "hss scscf RTR",
        "scscf hss RTA DIAMETER_SUCCESS",
        "scscf pcscf NOTIFY",
        "pcscf alice NOTIFY",
        "alice pcscf 200 OK",
        "pcscf scscf 200 OK",
    ]
    assert told(messages) == story

    def is_answer(packet: HepPacket) -> bool:
        return packet.protocol == 56 and not packet.payload[4] & 0x80

    for by_us in (-1500, 3000, 20_000):
        assert told(retold(shifted(packets, is_answer, by_us), names)) == story


def test_each_scscf_has_a_line_of_its_own() -> None:
    """A call between subscribers of two S-CSCFs: each hop stands between the right two."""
    steps = told(recorded("05", "two-scscfs")[0])
    assert "icscf scscf2 INVITE" in steps
    assert "scscf2 pcscf INVITE" in steps
    assert [step for step in steps if step.startswith("scscf scscf2")] == ["scscf scscf2 ACK", "scscf scscf2 BYE"]


def test_a_dead_scscf_gets_the_request_once_in_the_story() -> None:
    """Retransmissions to a node that is gone are left out, and what follows is the I-CSCF's own answer."""
    steps = told(recorded("05", "scscf2-dead")[0])
    sent = [number for number, step in enumerate(steps) if step == "icscf scscf2 INVITE"]
    assert len(sent) == 1
    assert steps[sent[0] + 1].startswith("icscf scscf 504")
