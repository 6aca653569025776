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


def click(browser: Any, place: int) -> None:
    """What plotly's widget does when an arrow is clicked."""
    browser._clicked({"new": [place, 1_700_000_000_000]})


def test_its_stored_output_is_one_line_that_never_changes(browser: Any) -> None:
    """No random identifier: a stored lesson can be compared."""
    assert repr(browser) == repr(browse(recording("01")))
    assert repr(browser) == "A ladder of 18 messages; in a running notebook, click on one to read it."
    assert browser._repr_mimebundle_()["text/plain"] == repr(browser)


def test_nothing_is_open_at_first(browser: Any) -> None:
    """The pane says what to do."""
    assert browser.selected is None
    assert "Click on an arrow" in browser._pane.value


def test_a_click_opens_a_message(browser: Any) -> None:
    """Message, list and coloured row follow."""
    click(browser, 3)
    assert browser.selected == 4
    assert "Diameter answer UAA" in browser._pane.value
    assert "frame 4" in browser._pane.value
    assert "UAA DIAMETER_FIRST_REGISTRATION" in browser._list.label


def test_buttons_move_through_the_messages(browser: Any) -> None:
    """From none to the first, on to the next, and not beyond an end."""
    browser._move(1)
    assert browser.selected == 1
    browser._move(1)
    assert browser.selected == 2
    browser._move(-1)
    browser._move(-1)
    assert browser.selected == 1
    browser.select(18)
    browser._move(1)
    assert browser.selected == 18


def test_the_open_row_is_coloured(browser: Any) -> None:
    """The figure is told to draw one band, at the row of the message."""
    sent: list[Any] = []
    browser._figure.plotly_relayout = sent.append
    browser.select(5)
    (band,) = sent[0]["shapes"]
    assert band["y0"] < 4 < band["y1"]
    browser._list.value = None
    assert sent[1] == {"shapes": []}
    assert "Click on an arrow" in browser._pane.value


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
    assert "<img" not in opened._pane.value
    assert "<script" not in opened._pane.value
    assert "&lt;script&gt;" in opened._pane.value
