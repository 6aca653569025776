"""Checks: right answers with their proof, and every way in which an answer is not right."""

from __future__ import annotations

from pathlib import Path

import pytest

import labkit as lk
from labkit.errors import LessonError
from labkit.lesson.check import Check, CheckFailed
from labkit.session.capture import Capture

RECORDINGS = Path(__file__).parent / "data" / "ims"
NAMES = {
    "172.30.0.1": "alice",
    "172.30.0.13": "pcscf",
    "172.30.0.11": "icscf",
    "172.30.0.12": "scscf",
    "172.30.0.10": "hss",
}


def capture_of(recording: str) -> Capture:
    """A capture as a lesson has it, with the packets of a recording."""
    capture = Capture(recording, "99")
    capture.close((RECORDINGS / f"{recording}.pcap").read_bytes(), NAMES, "wire")
    return capture


@pytest.fixture(scope="module")
def first() -> Capture:
    """A first registration: 1 REGISTER ... 6 MAR ... 18 200 OK, with one UAR."""
    return capture_of("01_first_registration")


def test_a_right_message_cites_its_proof(first: Capture) -> None:
    """Plain text has the message number only; HTML adds the frame of this capture."""
    result = lk.check(first).message(6, command="MAR")
    assert repr(result) == "Right. Message 6 shows it: scscf -> hss MAR."
    assert f"frame {int(first.steps.at[6, 'frame'])} of this capture" in result._repr_html_()


@pytest.mark.parametrize("empty", [None, ..., "", "  ", [], (), {}, {"a": ...}])
def test_no_answer_is_not_right(first: Capture, empty: object) -> None:
    """An untouched exercise does not pass."""
    with pytest.raises(CheckFailed, match="no answer yet"):
        lk.check(first).message(empty, command="MAR")
    with pytest.raises(CheckFailed, match="no answer yet"):
        lk.check(first).value(empty, lambda cap: empty)


def test_a_number_out_of_the_table_is_a_number(first: Capture) -> None:
    """What pandas and numpy hand out counts as well as what is typed."""
    number = first.steps.index[first.steps.message == "MAR"].to_numpy()[0]
    assert repr(lk.check(first).message(number, command="MAR")) == "Right. Message 6 shows it: scscf -> hss MAR."


@pytest.mark.parametrize("wrong", [1, 7, 99, 0, -1, "6", 6.5, True, [6]])
def test_a_wrong_answer_says_what_it_was(first: Capture, wrong: object) -> None:
    """Another message, no message, or no number."""
    with pytest.raises(CheckFailed):
        lk.check(first).message(wrong, command="MAR")


def test_a_wrong_answer_shows_the_hint(first: Capture) -> None:
    """The learner reads what the message is instead, and where to look."""
    with pytest.raises(CheckFailed, match=r"Message 4 is hss -> icscf UAA .*: that is not it\. Look at Server-Name\."):
        lk.check(first).message(4, command="MAR", hint="Look at Server-Name.")


def test_a_message_that_the_capture_lacks_is_a_fault_of_the_run(first: Capture) -> None:
    """A stale or foreign capture, in which the exercise makes no sense, never passes."""
    with pytest.raises(LessonError, match="holds no message with command='RTR'"):
        lk.check(first).message(6, command="RTR")


def test_an_answer_from_another_run_does_not_pass() -> None:
    """Where runs differ, the value of one run is wrong in another."""
    one, other = capture_of("01_first_registration"), capture_of("02_reregistration")

    def call_id(cap: Capture) -> str:
        return str(cap.table.call_id.dropna().iloc[0])

    stale = call_id(one)
    assert repr(lk.check(one).value(stale, call_id, proof=1)).startswith("Right. Message 1 shows it: alice -> pcscf")
    with pytest.raises(CheckFailed):
        lk.check(other).value(stale, call_id)


def test_first_last_and_all(first: Capture) -> None:
    """Of several fitting messages, one of them, the first, the last, or the whole set is asked for."""
    check = lk.check(first)
    registers = [int(n) for n in first.steps.index[first.steps.message == "REGISTER"]]
    check.message(registers[1], method="REGISTER")
    check.message(registers[0], method="REGISTER", which="first")
    check.message(list(reversed(registers)), method="REGISTER", which="all")
    with pytest.raises(CheckFailed):
        check.message(registers[1], method="REGISTER", which="first")
    with pytest.raises(CheckFailed):
        check.message(registers[:-1], method="REGISTER", which="all")
    with pytest.raises(CheckFailed):
        check.message([*registers, registers[0]], method="REGISTER", which="all")


def test_a_failed_check_is_one_sentence_in_a_notebook() -> None:
    """No traceback: the learner did nothing wrong with Python."""
    assert CheckFailed("There is no answer yet.")._render_traceback_() == ["Not yet. There is no answer yet."]


def test_a_solution_keeps_the_learner_s_own_answer() -> None:
    """Opening the folded cell fills in only what is still missing."""
    assert lk.solution(..., 6) == 6
    assert lk.solution(3, 6) == 3


def test_a_frame_is_a_proof_too(first: Capture) -> None:
    """A capture from a file has the same frames in every run."""
    frame = int(first.table.frame[first.table.command == "MAR"].iloc[0])
    result = lk.check(first).value(1, lambda cap: 1, frames=[frame])
    assert repr(result) == f"Right. Frame {frame} shows it: scscf -> hss MAR."
    assert f"<li>frame {frame}: " in result._repr_html_()
    with pytest.raises(LessonError, match="completes no message"):
        lk.check(first).value(1, lambda cap: 1, frames=[10**6])


def test_a_capture_too_large_for_a_story_can_be_checked() -> None:
    """Which checks a capture gets is asked of its class: its steps may be more than can be told."""

    class Evening:
        name = "evening"

        @property
        def steps(self) -> object:
            raise AssertionError("nobody asked for the story")

    assert isinstance(lk.check(Evening()), Check)
