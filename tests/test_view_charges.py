"""Pictures of charging: staircase, chain, bill, sliders, progress."""

from __future__ import annotations

from decimal import Decimal
from xml.etree import ElementTree

import pandas as pd
import pytest

from labkit.errors import LessonError
from labkit.view import progress as bars
from labkit.view.chain import draw_chain
from labkit.view.charges import draw_bill, draw_staircase
from labkit.view.increments import try_increments

LENGTHS = [0, 1, 60, 61]
ANSWERS = {
    (60, 60): [Decimal(text) for text in ("0", "0.16", "0.16", "0.22")],
    (60, 1): [Decimal(text) for text in ("0", "0.16", "0.16", "0.161")],
}


def test_a_staircase_goes_up_before_it_goes_on() -> None:
    """One line a tariff, told apart by more than colour; the cost of a length holds since the length before."""
    figure = draw_staircase(LENGTHS, {"60/60": ANSWERS[60, 60], "60/1": ANSWERS[60, 1]})
    assert [line.name for line in figure.data] == ["60/60", "60/1"]
    assert list(figure.data[0].y) == [0, 0.16, 0.16, 0.22]
    assert {line.line.shape for line in figure.data} == {"vh"}
    assert len({line.line.dash for line in figure.data}) == 2


def test_a_bill_has_a_bar_a_day_and_a_colour_a_destination() -> None:
    """Stacked, in the order of the table."""
    bill = pd.DataFrame({"mobile": [Decimal(1), Decimal(2)], "abroad": [Decimal(3), Decimal(0)]}, index=[1, 2])
    figure = draw_bill(bill.rename_axis("day"))
    assert figure.layout.barmode == "stack"
    assert [(bar.name, list(bar.y)) for bar in figure.data] == [("mobile", [1, 2]), ("abroad", [3, 0])]
    assert figure.layout.xaxis.title.text == "day"


def test_a_chain_draws_each_thing_once_and_each_link() -> None:
    """Two profiles on one destination: five boxes, four links, none outside of the picture."""
    rows = [("call a", "RP_A", "DST_NZ"), ("call b", "RP_B", "DST_NZ")]
    figure = draw_chain(("profile", "plan", "destination"), rows)
    boxes = [note for note in figure.layout.annotations if note.name]
    assert [box.text for box in boxes] == ["call a", "call b", "RP_A", "RP_B", "DST_NZ"]
    assert list(figure.data[0].x).count(None) == 4
    low, high = figure.layout.yaxis.range
    assert all(low < note.y < high for note in figure.layout.annotations)


def test_sliders_show_what_the_engine_answered() -> None:
    """The table holds the steps; the picture is an SVG with the chosen line and the one before; text stays the same."""
    box = try_increments(LENGTHS, ANSWERS)
    said = repr(box)
    assert list(box.table.itertuples(name=None)) == [(0, Decimal(0)), (1, Decimal("0.16")), (61, Decimal("0.22"))]
    box.choose(60, 1)
    assert box.table.cost.iloc[-1] == Decimal("0.161")
    picture = ElementTree.fromstring(box.children[-1].value)
    assert len(picture.findall("path")) == 2  # the grid is in a group of its own
    assert repr(box) == said
    assert "60/1" in box.children[-1].value


def test_what_was_not_asked_cannot_be_chosen() -> None:
    """One sentence names what was."""
    with pytest.raises(LessonError, match="it was for 60/60, 60/1"):
        try_increments(LENGTHS, ANSWERS, first=10)


def test_progress_hands_everything_out_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order; the bar is full at the end, and its text never changes."""
    made = []
    original = bars._bar
    monkeypatch.setattr(bars, "_bar", lambda count, what: made.append(original(count, what)) or made[0])
    assert list(bars.progress([1, 2, 3], "days")) == [1, 2, 3]
    bar, words = made[0]
    assert (bar.children[0].value, words.value) == (3, "days: all 3")
    assert repr(bar) == "[days: a progress bar in a running notebook]"
