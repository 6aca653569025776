"""The ladder as text."""

from __future__ import annotations

import pytest

from labkit.capture.table import Messages
from labkit.errors import LessonError
from labkit.view.text_ladder import text_ladder
from tests.view_messages import recording

FIRST_REGISTRATION = """\
   alice    pcscf    icscf    scscf     hss  message
 1   │───────>│        │        │        │   REGISTER  CSeq 1
 2   │        │───────>│        │        │   REGISTER  CSeq 1
 3   │        │        │────────────────>│   UAR  001010000000001 REGISTRATION_AND_CAPABILITIES
 4   │        │        │<────────────────│   UAA DIAMETER_FIRST_REGISTRATION
 5   │        │        │───────>│        │   REGISTER  CSeq 1
 6   │        │        │        │───────>│   MAR  001010000000001
 7   │        │        │        │<───────│   MAA DIAMETER_SUCCESS
 8   │        │        │<───────│        │   401 Unauthorized  CSeq 1
 9   │        │<───────│        │        │   401 Unauthorized  CSeq 1
10   │<───────│        │        │        │   401 Unauthorized  CSeq 1
11   │───────>│        │        │        │   REGISTER  CSeq 2
12   │        │───────>│        │        │   REGISTER  CSeq 2
13   │        │        │───────>│        │   REGISTER  CSeq 2
14   │        │        │        │───────>│   SAR  001010000000001 REGISTRATION
15   │        │        │        │<───────│   SAA DIAMETER_SUCCESS
16   │        │        │<───────│        │   200 OK  CSeq 2
17   │        │<───────│        │        │   200 OK  CSeq 2
18   │<───────│        │        │        │   200 OK  CSeq 2"""


def test_a_registration_as_text() -> None:
    """Names above their lifelines, one aligned line a message, nothing that differs from run to run."""
    assert text_ladder(recording("01")) == FIRST_REGISTRATION


def test_a_notebook_shows_the_lines_and_not_a_quoted_string() -> None:
    """The representation is the text itself."""
    assert repr(text_ladder(recording("01"))) == FIRST_REGISTRATION


@pytest.mark.parametrize("name", ["01", "04", "05", "10", "11", "20"])
@pytest.mark.parametrize("width", [60, 80, 110])
def test_no_line_is_wider_than_asked_for(name: str, width: int) -> None:
    """Labels are cut with a mark; lifelines stay aligned."""
    lines = text_ladder(recording(name), width=width).splitlines()
    assert max(map(len, lines)) <= width
    bars = [line.index("│") for line in lines[1:]]
    assert len(set(bars)) <= 2  # an arrow may stand on the first lifeline


def test_a_terminal_without_line_drawing_gets_ascii() -> None:
    """Every character is ASCII, refusals included."""
    text = text_ladder(recording("10"), ascii_only=True)
    assert text.isascii()
    assert "x UAA DIAMETER_ERROR_USER_UNKNOWN" in text


def test_a_screen_reader_gets_sentences() -> None:
    """One sentence a message, numbered."""
    lines = text_ladder(recording("10"), arrows=False).splitlines()
    assert lines[0] == "1. 172.30.0.1 -> pcscf: REGISTER (call-1, CSeq 1)"
    assert lines[3] == "4. hss -> icscf: UAA DIAMETER_ERROR_USER_UNKNOWN"


def test_times_show_silences() -> None:
    """Two seconds before the network throws the subscriber out are a line of their own."""
    lines = text_ladder(recording("04"), times=True).splitlines()
    (silence,) = [number for number, line in enumerate(lines) if "later" in line]
    assert lines[silence].endswith("... 2.0 s later")
    assert "RTR" in lines[silence + 1]


def test_a_retransmission_is_dotted_in_all() -> None:
    """What was sent again can be told from what was sent."""
    lines = text_ladder(recording("20"), show="all").splitlines()
    assert sum("<..." in line for line in lines) == 2


def test_an_empty_capture_says_so() -> None:
    """No exception, one sentence."""
    empty = Messages(recording("01").table.iloc[:0], [], {})
    assert text_ladder(empty) == "(no SIP or Diameter message in this capture)"


def test_a_width_that_fits_nothing_is_refused() -> None:
    """The message says what does fit."""
    with pytest.raises(LessonError, match="at least 60"):
        text_ladder(recording("01"), width=40)
