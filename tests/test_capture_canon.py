"""Canon: one story, whatever the clock, the addresses and the random identifiers of a run were."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
import pytest
from capture_bench import IMS, copies, recording, retold

from labkit.capture.canon import canon
from labkit.wire.hep import HepPacket

RECORDINGS = sorted(path.stem for path in IMS.glob("*.pcap") if not path.stem.startswith("20"))
"""All but 20_smsops: there a node sends two messages at once that differ in nothing but random text."""


def story(packets: Iterable[HepPacket], names: dict[str, str] | None = None) -> list[str]:
    """The canonical story as lines, for readable differences."""
    return lines(canon(retold(packets, names)))


def lines(table: pd.DataFrame) -> list[str]:
    """One line a step; everything that is shown."""
    shown = table.drop(columns=["frame", "row"]).astype(object)
    return [" ".join(str(value) for value in row) for row in shown.where(shown.notna(), "-").itertuples()]


def messages_of(table: pd.DataFrame) -> list[str]:
    """from, to, message of each step."""
    return [f"{a} {b} {m}" for a, b, m in zip(table["from"], table["to"], table["message"], strict=True)]


def test_a_registration_reads_as_a_story() -> None:
    """The steps of a first registration, with the names that a telecom engineer uses."""
    table = canon(recording("01_first_registration"))
    assert messages_of(table) == [
        "alice pcscf REGISTER",
        "pcscf icscf REGISTER",
        "icscf hss UAR",
        "hss icscf UAA DIAMETER_FIRST_REGISTRATION",
        "icscf scscf REGISTER",
        "scscf hss MAR",
        "hss scscf MAA DIAMETER_SUCCESS",
        "scscf icscf 401 Unauthorized",
        "icscf pcscf 401 Unauthorized",
        "pcscf alice 401 Unauthorized",
        "alice pcscf REGISTER",
        "pcscf icscf REGISTER",
        "icscf scscf REGISTER",
        "scscf hss SAR",
        "hss scscf SAA DIAMETER_SUCCESS",
        "scscf icscf 200 OK",
        "icscf pcscf 200 OK",
        "pcscf alice 200 OK",
    ]
    assert table.index.tolist() == list(range(1, 19))
    assert table.index.name == "n"
    assert set(table["call"].dropna()) == {"call-1"}
    assert table["cseq"].dropna().tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert table["session"].dropna().tolist() == [f"session-{n}" for n in (1, 1, 2, 2, 3, 3)]
    assert set(table["user"].dropna()) == {"001010000000001"}


def test_frames_and_rows_lead_back_but_are_not_shown() -> None:
    """The hidden columns say where a step is in the capture; text and HTML leave them out."""
    messages = recording("01_first_registration")
    table = canon(messages)
    assert table.at[6, "frame"] == 7
    assert messages.table.at[table.at[6, "row"], "command"] == "MAR"
    assert "frame" not in repr(table)
    assert "<th>frame</th>" not in table._repr_html_()
    assert "<th>message</th>" in table._repr_html_()
    assert "frame" not in repr(table[["from", "frame", "row", "to"]])
    assert "frame" in table.columns


def test_watchdogs_trying_and_what_a_node_tells_itself_are_left_out() -> None:
    """Each can be asked for."""
    messages = recording("00_cer_cea_dwr")
    assert len(canon(messages)) == 0
    assert len(canon(messages, keep_watchdogs=True)) == 8
    call = recording("05_call_with_hold")
    assert len(canon(call, keep_trying=True)) - len(canon(call)) == 8
    packets = copies(recording("01_first_registration"))
    packets.append(replace(packets[4], src=packets[4].dst, src_port=packets[4].dst_port, payload=packets[4].payload))
    assert len(canon(retold(packets))) == 18
    assert len(canon(retold(packets), keep_inner=True)) == 19


@pytest.mark.parametrize("name", RECORDINGS)
def test_clocks_that_disagree_by_half_a_millisecond_change_nothing(name: str) -> None:
    """Mirrored messages come with the clocks of several programs: neighbours swap, the story stays."""
    packets = copies(recording(name))
    expected = story(packets)
    for seed in range(5):
        chance = random.Random(seed)
        shaken = [replace(packet, time_us=packet.time_us + chance.randint(-250, 250)) for packet in packets]
        assert story(shaken) == expected


@pytest.mark.parametrize("name", ["05_call_with_hold", "04_rtr_with_reg_event", "14_call_tel_uri"])
def test_another_run_elsewhere_tells_the_same(name: str) -> None:
    """Other addresses, ports, Call-IDs, tags, branches, sessions, sequence numbers and pace: the same story."""
    packets = copies(recording(name))
    expected = story(packets)
    moved = [_elsewhere(packet, packets[0].time_us) for packet in packets]
    names = {
        "127.9.9.10": "hss",
        "127.9.9.11": "icscf",
        "127.9.9.12": "scscf",
        "127.9.9.13": "pcscf",
        "127.9.9.1:7001": "alice",
        "127.9.9.1:7002": "bob",
    }
    assert story(moved, names) == expected


def _elsewhere(packet: HepPacket, start_us: int) -> HepPacket:
    payload = packet.payload
    if packet.protocol == 1:
        for old, new in ((b"branch=z9hG4bK", b"branch=z9hG4bKother"), (b"tag=", b"tag=zz")):
            payload = payload.replace(old, new)
        head = payload.split(b"\r\n")
        for index, line in enumerate(head):
            if line.lower().startswith(b"call-id:"):
                head[index] = b"Call-ID: " + line[:7:-1].strip()
            if line.startswith(b"CSeq: "):
                number, method = line[6:].split(b" ", 1)
                head[index] = b"CSeq: %d %s" % (int(number) * 3 + 1000, method)
        payload = b"\r\n".join(head)
    else:
        payload = payload[:12] + bytes([payload[12] ^ 0x55]) + payload[13:]
    ports = {6001: 7001, 6002: 7002, 4060: 4444}
    return replace(
        packet,
        payload=payload,
        src=packet.src.replace("172.30.0.", "127.9.9."),
        dst=packet.dst.replace("172.30.0.", "127.9.9."),
        src_port=ports.get(packet.src_port, packet.src_port),
        dst_port=ports.get(packet.dst_port, packet.dst_port),
        time_us=start_us + 10**9 + (packet.time_us - start_us) * 3,
    )


def test_retransmissions_are_left_out() -> None:
    """A message that was sent again is one step, at any hop."""
    packets = copies(recording("05_call_with_hold"))
    again = [replace(packet, time_us=packet.time_us + 500_000) for packet in packets[::3]]
    assert story([*packets, *again]) == story(packets)


def test_two_phones_at_the_same_time_stand_one_after_the_other() -> None:
    """Registrations that overlap are told by name of the phone, however their messages are interleaved."""
    packets = copies(recording("05_call_with_hold"))
    alice, bob = packets[:18], packets[18:36]
    expected = story([*alice, *bob])
    for delay_us in (-9_000, -4_000, -1_500, -200, 0, 100, 700, 2_000, 6_000, 14_000):
        shift = alice[0].time_us - bob[0].time_us + delay_us
        together = [*alice, *(replace(packet, time_us=packet.time_us + shift) for packet in bob)]
        for seed in range(3):
            chance = random.Random(seed)
            shaken = [replace(packet, time_us=packet.time_us + chance.randint(-150, 150)) for packet in together]
            assert story(shaken) == expected, delay_us


def test_one_after_the_other_keeps_its_order_whatever_the_names() -> None:
    """When bob registers first and alice follows, that is the story."""
    packets = copies(recording("05_call_with_hold"))
    alice, bob = packets[:18], packets[18:36]
    shift = bob[-1].time_us + 400 - alice[0].time_us
    later = [replace(packet, time_us=packet.time_us + shift) for packet in alice]
    told = canon(retold([*bob, *later]))
    assert told["from"].iloc[0] == "bob"
    assert told["from"].iloc[18] == "alice"


def test_any_message_may_be_missing() -> None:
    """Without one message the story of the others is told, complete."""
    packets = copies(recording("05_call_with_hold"))
    whole = len(story(packets))
    for gap in range(0, len(packets), 3):
        rest = packets[:gap] + packets[gap + 1 :]
        assert len(story(rest)) in (whole - 1, whole)
        assert len(story(packets[gap:])) > 0


SDP_LESS = "Content-Length: 0\r\n\r\n"


def sip(
    time_us: int, src: str, dst: str, start: str, cseq: str, *branches: str, tag: str = "", call: str = "c"
) -> HepPacket:
    """A SIP message between "alice", "bob" and "pcscf", with the Via stack given by its branches."""
    places = {"alice": ("10.0.0.1", 5060), "bob": ("10.0.0.2", 5060), "pcscf": ("10.0.0.3", 5060)}
    vias = "".join(f"Via: SIP/2.0/UDP h;branch=z9hG4bK{branch}\r\n" for branch in branches)
    text = (
        f"{start}\r\n{vias}From: <sip:alice@x>;tag=a\r\nTo: <sip:bob@x>{';tag=' + tag if tag else ''}\r\n"
        f"Call-ID: {call}\r\nCSeq: {cseq}\r\n{SDP_LESS}"
    )
    return HepPacket(*places[src], *places[dst], "udp", 1_700_000_000_000_000 + time_us, 1, text.encode())


SIP_NAMES = {"10.0.0.1": "alice", "10.0.0.2": "bob", "10.0.0.3": "pcscf"}


def test_a_cancelled_call() -> None:
    """The 487 obeys the CANCEL: it comes after it, at each hop, and its ACKs follow at once."""
    packets = [
        sip(0, "alice", "pcscf", "INVITE sip:bob@x SIP/2.0", "1 INVITE", "a"),
        sip(1000, "pcscf", "bob", "INVITE sip:bob@x SIP/2.0", "1 INVITE", "p", "a"),
        sip(2000, "bob", "pcscf", "SIP/2.0 180 Ringing", "1 INVITE", "p", "a", tag="b"),
        sip(3000, "pcscf", "alice", "SIP/2.0 180 Ringing", "1 INVITE", "a", tag="b"),
        sip(500_000, "alice", "pcscf", "CANCEL sip:bob@x SIP/2.0", "1 CANCEL", "a"),
        sip(500_100, "pcscf", "alice", "SIP/2.0 200 canceling", "1 CANCEL", "a"),
        sip(500_200, "pcscf", "bob", "CANCEL sip:bob@x SIP/2.0", "1 CANCEL", "p"),
        sip(500_300, "bob", "pcscf", "SIP/2.0 487 Request Terminated", "1 INVITE", "p", "a", tag="b"),
        sip(500_310, "bob", "pcscf", "SIP/2.0 200 OK", "1 CANCEL", "p"),
        sip(500_400, "pcscf", "bob", "ACK sip:bob@x SIP/2.0", "1 ACK", "p", tag="b"),
        sip(500_500, "pcscf", "alice", "SIP/2.0 487 Request Terminated", "1 INVITE", "a", tag="b"),
        sip(500_600, "alice", "pcscf", "ACK sip:bob@x SIP/2.0", "1 ACK", "a", tag="b"),
    ]
    expected = [
        "alice pcscf INVITE",
        "pcscf bob INVITE",
        "bob pcscf 180 Ringing",
        "pcscf alice 180 Ringing",
        "alice pcscf CANCEL",
        "pcscf alice 200 OK",
        "pcscf bob CANCEL",
        "bob pcscf 200 OK",
        "bob pcscf 487 Request Terminated",
        "pcscf bob ACK",
        "pcscf alice 487 Request Terminated",
        "alice pcscf ACK",
    ]
    for seed in range(30):
        chance = random.Random(seed)
        shaken = [replace(packet, time_us=packet.time_us + chance.randint(-400, 400)) for packet in packets]
        assert messages_of(canon(retold(shaken, SIP_NAMES))) == expected


def test_an_answer_comes_when_the_receiver_is_lifted() -> None:
    """What others do while a phone rings stands before the answer, not after the whole call."""
    packets = [
        sip(0, "alice", "pcscf", "INVITE sip:bob@x SIP/2.0", "1 INVITE", "a"),
        sip(1000, "pcscf", "bob", "INVITE sip:bob@x SIP/2.0", "1 INVITE", "p", "a"),
        sip(2000, "bob", "pcscf", "SIP/2.0 180 Ringing", "1 INVITE", "p", "a", tag="b"),
        sip(3000, "pcscf", "alice", "SIP/2.0 180 Ringing", "1 INVITE", "a", tag="b"),
        sip(100_000, "alice", "pcscf", "OPTIONS sip:x SIP/2.0", "9 OPTIONS", "o", call="other"),
        sip(101_000, "pcscf", "alice", "SIP/2.0 200 OK", "9 OPTIONS", "o", call="other"),
        sip(400_000, "bob", "pcscf", "SIP/2.0 200 OK", "1 INVITE", "p", "a", tag="b"),
        sip(401_000, "pcscf", "alice", "SIP/2.0 200 OK", "1 INVITE", "a", tag="b"),
        sip(402_000, "alice", "pcscf", "ACK sip:bob@x SIP/2.0", "1 ACK", "k", tag="b"),
        sip(403_000, "pcscf", "bob", "ACK sip:bob@x SIP/2.0", "1 ACK", "l", "k", tag="b"),
    ]
    assert [line.split(" ", 2)[2] for line in messages_of(canon(retold(packets, SIP_NAMES)))] == [
        "INVITE",
        "INVITE",
        "180 Ringing",
        "180 Ringing",
        "OPTIONS",
        "200 OK",
        "200 OK",
        "200 OK",
        "ACK",
        "ACK",
    ]


def test_failures_keep_their_own_phrase() -> None:
    """A phrase that says what is wrong is kept; a chatty 401 or 200 gets the RFC's."""
    told = messages_of(canon(recording("10_unknown_user")))
    assert told[-1] == "pcscf phone 403 Forbidden - HSS User Unknown"
    assert "scscf icscf 401 Unauthorized" in messages_of(canon(recording("01_first_registration")))


def test_nonsense_is_told_without_an_end_less_search() -> None:
    """Messages that claim to be each other's cause come out, once each."""
    packets = [
        sip(0, "alice", "pcscf", "INVITE sip:bob@x SIP/2.0", "1 INVITE", "b", "a"),
        sip(1, "pcscf", "alice", "INVITE sip:bob@x SIP/2.0", "1 INVITE", "a", "b"),
        sip(2, "alice", "pcscf", "SIP/2.0 200 OK", "1 INVITE", "x", "y"),
        sip(3, "pcscf", "alice", "SIP/2.0 200 OK", "1 INVITE", "y", "x"),
    ]
    assert len(canon(retold(packets, SIP_NAMES))) == 4


def test_nodes_without_a_name_show_their_address() -> None:
    """A capture of somebody else is told too."""
    table = canon(retold(copies(recording("01_first_registration")), {}))
    assert table["from"].iloc[0] == "172.30.0.1"
    assert len(table) == 18


def test_an_empty_capture_is_an_empty_story() -> None:
    """No messages, no steps, the same columns."""
    table = canon(retold([]))
    assert len(table) == 0
    assert list(table.columns) == list(canon(recording("01_first_registration")).columns)
