"""The ladder beside the message that is open, without a browser: what a click or a button changes in the kernel."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import LessonError
from labkit.view.browse import browse
from tests.view_messages import changed, recording


@pytest.fixture
def browser() -> Any:
    """A browser of a first registration."""
    return browse(recording("01"), title="first-registration")


def test_its_stored_output_is_one_line_that_never_changes(browser: Any) -> None:
    """No random identifier: a stored lesson can be compared."""
    assert repr(browser) == repr(browse(recording("01")))
    assert repr(browser) == "A ladder of 18 messages; in a running notebook, click on one to read it."
    assert browser._repr_mimebundle_()[0]["text/plain"] == repr(browser)


def test_nothing_is_open_at_first(browser: Any) -> None:
    """The pane says what to do."""
    assert browser.selected is None
    assert "Click on an arrow" in browser.shown


def test_a_click_opens_a_message(browser: Any) -> None:
    """The page sets the place; the message comes back explained."""
    browser.place = 3
    assert browser.selected == 4
    assert "Diameter answer UAA" in browser.shown
    assert "frame 4" in browser.shown
    browser.place = -1
    assert "Click on an arrow" in browser.shown


def test_a_message_is_opened_by_its_number(browser: Any) -> None:
    """The page follows the place."""
    browser.select(5)
    assert (browser.place, browser.selected) == (4, 5)


def test_rows_say_all_that_the_page_draws(browser: Any) -> None:
    """Place, number, time, columns, group, flags, words; a silence is a row with its seconds."""
    assert browser.nodes == ["alice", "pcscf", "icscf", "scscf", "hss"]
    assert browser.groups == ["call-1", "diameter"]
    assert browser.rows[3][:2] == [3, 4]
    assert browser.rows[3][3:] == [4, 2, 1, 0, "UAA", "DIAMETER_FIRST_REGISTRATION"]
    assert [row for row in browse(recording("04")).rows if len(row) == 1] == [[pytest.approx(2.0, abs=0.1)]]
    assert browse(recording("10")).rows[3][6] == 2  # refused
    assert [row[6] for row in browse(recording("20")).rows if len(row) > 1 and row[6]] == [1, 1]  # sent again


def test_calls_are_known_by_their_true_call_id(browser: Any) -> None:
    """The page's filter shows it."""
    assert browser.calls == {"call-1": recording("01").table.at[0, "call_id"]}


def test_the_pointer_asks_for_key_headers(browser: Any) -> None:
    """A custom message with the place is answered with names and values."""
    sent: list[Any] = []
    browser.send = sent.append
    browser._asked(browser, {"type": "hint", "place": 3}, [])
    assert sent[0]["place"] == 3
    assert ("Experimental-Result-Code", "2001") in sent[0]["lines"]
    assert browser.hint(0)[0] == ("", "REGISTER sip:ims.mnc001.mcc001.3gppnetwork.org SIP/2.0")


def test_a_message_that_is_not_there_is_refused(browser: Any) -> None:
    """One sentence."""
    with pytest.raises(LessonError, match="no message 19"):
        browser.select(19)


def test_bytes_from_the_network_cannot_become_markup() -> None:
    """The pane is HTML that the page runs."""
    whole = recording("01")
    evil = whole.raw[0].replace(b"Contact: ", b"Contact: <img src=x onerror=alert(1)><script>alert(1)</script>")
    opened = browse(changed(whole, 0, evil))
    opened.select(1)
    assert "<img" not in opened.shown
    assert "<script" not in opened.shown
    assert "&lt;script&gt;" in opened.shown
