"""What a ladder shows: which nodes, in which order, and what stands at each arrow."""

from __future__ import annotations

import dataclasses

import pytest

from labkit.capture.table import Messages, read_capture
from labkit.errors import LessonError
from labkit.view.drawing import tell
from tests.view_messages import IMS, NAMES, changed, recording


def test_lifelines_stand_in_the_order_of_the_path() -> None:
    """Phone, edge, core, subscriber database."""
    assert tell(recording("01")).nodes == ("alice", "pcscf", "icscf", "scscf", "hss")


def test_a_caller_stands_left_and_a_callee_right() -> None:
    """Both phones register, but only one of them calls."""
    assert tell(recording("05")).nodes == ("alice", "pcscf", "icscf", "scscf", "hss", "bob")


def test_what_has_no_name_stands_last() -> None:
    """An application server that the names do not know is shown by its address."""
    assert tell(recording("11")).nodes == ("alice", "pcscf", "icscf", "scscf", "hss", "172.30.0.14")


def test_a_wished_order_wins() -> None:
    """Named nodes first, in that order."""
    assert tell(recording("01"), order=["hss", "scscf"]).nodes[:2] == ("hss", "scscf")


def test_steps_carry_what_an_engineer_looks_for() -> None:
    """Result by name, user of a request, CSeq as the story counts it, type of an assignment."""
    labels = [arrow.label for arrow in tell(recording("01")).arrows]
    assert labels[0] == "REGISTER  CSeq 1"
    assert labels[3] == "UAA DIAMETER_FIRST_REGISTRATION"
    assert labels[5] == "MAR  001010000000001"
    assert labels[7] == "401 Unauthorized  CSeq 1"
    assert labels[13] == "SAR  001010000000001 REGISTRATION"


def test_a_challenge_is_no_refusal() -> None:
    """401 is the normal course; 403 and a Diameter error are not."""
    assert not any(arrow.refused for arrow in tell(recording("01")).arrows)
    refused = [arrow.message for arrow in tell(recording("10")).arrows if arrow.refused]
    assert refused == ["UAA DIAMETER_ERROR_USER_UNKNOWN", *["403 Forbidden - HSS User Unknown"] * 2]


def test_a_retransmission_is_shown_only_where_asked_for() -> None:
    """It has no number of its own and carries the words of what it repeats."""
    assert not any(arrow.again for arrow in tell(recording("20")).arrows)
    again = [arrow for arrow in tell(recording("20"), retransmissions=True).arrows if arrow.again]
    assert [(arrow.number, arrow.label) for arrow in again] == [(None, "MESSAGE RP-DATA SMS-DELIVER")] * 2


def test_all_shows_what_the_story_leaves_out() -> None:
    """100 Trying and watchdogs, by standard phrase, in the order of frames."""
    arrows = tell(recording("05"), show="all").arrows
    assert [arrow.frame for arrow in arrows] == sorted(arrow.frame for arrow in arrows)
    trying = [arrow for arrow in arrows if arrow.message == "100 Trying"]
    assert trying
    assert all(arrow.number is None and arrow.detail.startswith("CSeq ") for arrow in trying)
    assert len({arrow.detail for arrow in trying}) > 1
    watchdogs = {arrow.message for arrow in tell(recording("00"), show="all").arrows}
    assert {"CER", "CEA DIAMETER_SUCCESS"} <= watchdogs


def test_numbers_are_those_of_the_story() -> None:
    """The same message has the same number whichever way it is shown."""
    story = {arrow.row: arrow.number for arrow in tell(recording("05")).arrows}
    everything = {arrow.row: arrow.number for arrow in tell(recording("05"), show="all").arrows}
    assert {row: number for row, number in everything.items() if number} == story


def test_a_message_to_oneself_is_kept_in_all() -> None:
    """One box that plays I- and S-CSCF speaks to itself."""
    merged = read_capture(next(IMS.glob("01*.pcap")), {**NAMES, "172.30.0.11": "scscf"})
    assert any(arrow.source == arrow.target == "scscf" for arrow in tell(merged, show="all").arrows)


def test_an_empty_capture_is_an_empty_drawing() -> None:
    """No message, no node, no failure."""
    whole = recording("01")
    empty = Messages(whole.table.iloc[:0], [], whole.names)
    assert tell(empty) == dataclasses.replace(tell(whole), nodes=(), arrows=())


def test_an_unknown_wish_is_refused() -> None:
    """The message says what there is."""
    with pytest.raises(LessonError, match="'story' or 'all'"):
        tell(recording("01"), show="everything")


def test_the_capture_is_not_changed() -> None:
    """Drawing only reads."""
    messages = changed(recording("01"), 0)
    before = messages.table.copy()
    tell(messages, show="all")
    assert messages.table.equals(before)
