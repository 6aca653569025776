"""Offers and answers of a capture, and what flowed after each: on recordings of a real core, held against tshark."""

from __future__ import annotations

import subprocess
from itertools import pairwise

import pytest

from labkit.capture.offers import NOT_SAID, exchanges
from labkit.capture.phases import phase_table, phases
from labkit.capture.table import Messages
from labkit.wire.sdp import parse_sdp
from tests.view_messages import IMS, recording, with_media

DIRECTIONS = {"sendrecv", "sendonly", "recvonly", "inactive"}


def edited(messages: Messages, change: dict[bytes, bytes]) -> Messages:
    """The capture with other bytes in all messages."""
    raw = []
    for message in messages.raw:
        for old, new in change.items():
            message = message.replace(old, new)
        raw.append(message)
    return Messages(messages.table, raw, messages.names)


def test_a_call_with_hold_and_resume() -> None:
    """Each offer once, however many hops it took; by whom, in which request, and what was answered."""
    found = exchanges(recording("05"))
    assert [(one.by, one.to, one.request, one.offer, one.answer, one.taken) for one in found] == [
        ("alice", "bob", "INVITE", "sendrecv", "sendrecv", True),
        ("alice", "bob", "INVITE", "sendonly", "recvonly", True),
        ("alice", "bob", "INVITE", "sendrecv", "sendrecv", True),
    ]
    assert all(one.sent_ns < one.done_ns for one in found)
    assert all(before.done_ns < after.sent_ns for before, after in pairwise(found))


@pytest.mark.tshark
def test_tshark_reads_the_same_directions() -> None:
    """Frame by frame, the directions in the SDP bodies are those that tshark finds."""
    path = next(IMS.glob("05*.pcap"))
    command = ["tshark", "-r", str(path), "-Y", "sdp", "-T", "fields", "-e", "frame.number", "-e", "sdp.media_attr"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    theirs = {}
    for line in lines:
        frame, _, attributes = line.partition("\t")
        theirs[int(frame)] = next(iter(DIRECTIONS & set(attributes.split(","))))
    messages = recording("05")
    ours = {}
    for frame, raw in zip(messages.table["frame"].tolist(), messages.raw, strict=True):
        if b"\nm=" in raw:
            ours[frame] = parse_sdp(raw.partition(b"\r\n\r\n")[2]).media[0].direction
    assert ours == theirs
    assert {one.offer for one in exchanges(messages)} | {one.answer for one in exchanges(messages)} == set(
        ours.values()
    )


def test_old_way_and_no_word_at_all() -> None:
    """c=0.0.0.0 is told as such, whatever the direction beside it; and a direction that is missing as missing."""
    held = edited(recording("05"), {b"c=IN IP4 172.30.0.1\r\n": b"c=IN IP4 0.0.0.0\r\n"})
    assert {one.offer for one in exchanges(held)} == {"c=0.0.0.0"}
    bare = edited(recording("05"), {b"a=sendrecv\r\n": b"", b"a=sendonly\r\n": b"", b"a=recvonly\r\n": b""})
    assert {(one.offer, one.answer) for one in exchanges(bare)} == {(NOT_SAID, NOT_SAID)}


def test_an_offer_that_comes_with_the_answer() -> None:
    """INVITE without SDP: the callee offers in its 200, and the caller answers in its ACK (RFC 3261 13.2.1)."""
    messages, raw = recording("05"), []
    body = b"v=0\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n"
    for method, message in zip(messages.table["method"].fillna("").tolist(), messages.raw, strict=True):
        head = message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        raw.append(head if method == "INVITE" else head + body if method == "ACK" else message)
    found = exchanges(Messages(messages.table, raw, messages.names))
    assert [(one.by, one.to, one.offer, one.answer) for one in found] == [
        ("bob", "alice", "sendrecv", "sendonly"),
        ("bob", "alice", "recvonly", "sendonly"),
        ("bob", "alice", "sendrecv", "sendonly"),
    ]


def test_requests_without_an_answer_or_without_sdp() -> None:
    """A capture that ends too early, bodies that are no SDP, and a registration."""
    messages = recording("05")
    early = (messages.table["method"] == "INVITE").fillna(False)
    only = Messages(
        messages.table[early].reset_index(drop=True),
        [raw for raw, kept in zip(messages.raw, early.tolist(), strict=True) if kept],
        messages.names,
    )
    assert [(one.to, one.answer, one.done_ns, one.taken) for one in exchanges(only)] == [("", "", 0, False)] * 3
    assert exchanges(edited(messages, {b"v=0\r\n": b"v=1\r\n"})) == []
    assert exchanges(edited(messages, {b"m=audio": b"x-audio"})) == []
    assert exchanges(recording("01")) == []
    assert phase_table(recording("01")).empty


def test_phases_follow_one_another() -> None:
    """From the ACK to the next offer, the last one to the BYE; a capture without RTP says that nothing was sent."""
    found = phases(recording("05"))
    assert [phase.end_ns for phase in found[:-1]] == [after.exchange.sent_ns for after in found[1:]]
    bye = recording("05").table.query("method == 'BYE'")["time"].astype("int64").min()
    assert found[-1].end_ns == bye
    shown = phase_table(recording("05"))
    assert list(shown.columns[4:]) == ["alice sends", "bob sends", "alice reports", "bob reports"]
    assert set(shown.iloc[:, 4:].to_numpy().ravel()) <= {"-", ""}


def test_what_is_not_pcmu_is_sound() -> None:
    """Silence is told from sound, and of another codec it is only said that there was some."""
    table = with_media().table.copy()
    first = phase_table(with_media()).loc[1]
    assert (first["alice sends"], first["bob sends"]) == ("silence", "silence")
    table.loc[table["protocol"] == "rtp", "payload_type"] = 97
    other = phase_table(Messages(table, with_media().raw, with_media().names)).loc[1]
    assert other["alice sends"] == "sound"
