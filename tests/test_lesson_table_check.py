"""Checks of answers against tables: rows are cited, amounts are amounts, and nothing passes by chance."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

import labkit as lk
from labkit.errors import LessonError
from labkit.lesson.answers import CheckFailed

CDRS = pd.DataFrame(
    {"run_id": ["*default", "wholesale"], "cost": [Decimal("0.1610"), Decimal("0.2200")]}, index=["call-1", "call-2"]
)


def first(table: pd.DataFrame) -> Any:
    return table.at["call-1", "cost"]


@pytest.mark.parametrize("answer", [Decimal("0.161"), "0.161", 0.161, " 0.1610 "])
def test_an_amount_is_right_however_it_is_written(answer: Any) -> None:
    """As text, number or Decimal; and the row that proves it is cited."""
    result = lk.check(CDRS).value(answer, first, proof="call-1")
    assert repr(result) == "Right. It stands in row call-1: run_id *default, cost 0.1610."
    assert "<li>row call-1" in result._repr_html_()


@pytest.mark.parametrize("answer", [..., None, "", 0.16, "0.1611", True, "much"])
def test_other_answers_fail(answer: Any) -> None:
    """Empty, near, and no amount at all."""
    with pytest.raises(CheckFailed):
        lk.check(CDRS).value(answer, first, hint="Look again.")


def test_amounts_inside_an_answer_count_too() -> None:
    """A dict of amounts."""
    both = {"here": "0.161", "there": "0.22"}
    expected = {"here": Decimal("0.161"), "there": Decimal("0.22")}
    assert repr(lk.check(CDRS).value(both, lambda table: expected)) == "Right."


def test_a_row_is_chosen_by_its_label() -> None:
    """The one whose columns are as asked; another one, or none, is not it."""
    assert "call-2" in repr(lk.check(CDRS).row("call-2", run_id="wholesale"))
    with pytest.raises(CheckFailed, match="It is the other"):
        lk.check(CDRS).row("call-1", run_id="wholesale", hint="It is the other.")
    with pytest.raises(LessonError, match="run its cell again"):
        lk.check(CDRS).row("call-1", run_id="*raw")
