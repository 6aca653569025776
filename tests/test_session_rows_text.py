"""Many rows as one text on the tape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.clients.rows import Rows
from labkit.errors import ReplayError
from labkit.session.rows_text import rows_from_text
from labkit.session.values import from_json, to_json

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_rows_are_a_text_that_can_be_read() -> None:
    """One line a row, the kinds in the first one; nothing is not the empty text."""
    rows = Rows(("id", "cost", "at", "why"), ((1, Decimal("0.1610"), NOON, ""), (2, Decimal(-1), NOON, None)))
    head, noon = "id:int,cost:decimal,at:time,why:text", "2026-01-05T12:00:00+00:00"
    text = f"{head}\n1,0.1610,{noon},\n2,-1,{noon},\\N\n"
    assert to_json(rows) == {"$rows": text}
    assert from_json({"$rows": text}) == rows


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(blacklist_categories=["Cs"])),
            st.none() | st.integers(),
            st.none() | st.booleans(),
            st.none() | st.decimals(allow_nan=False, allow_infinity=False),
            st.none() | st.timedeltas(),
            st.none() | st.dictionaries(st.text("abc"), st.integers()),
        ),
        max_size=6,
    )
)
def test_what_goes_in_comes_out(table: list[tuple[object, ...]]) -> None:
    """Whatever is in the cells: quotes, commas, ends of lines, nothing at all."""
    rows = Rows(tuple("abcdef"), tuple(table))
    assert from_json(to_json(rows)) == rows


def test_rows_become_a_frame_without_losing_a_cent() -> None:
    """Amounts stay Decimal, a usage stays a number."""
    frame = Rows(("cost", "usage"), ((Decimal("0.1610"), 61 * 10**9), (Decimal("0.0001"), 0))).to_frame()
    assert frame.cost.sum() == Decimal("0.1611")
    assert list(frame.usage) == [61_000_000_000, 0]
    assert list(Rows(("a", "b"), ()).to_frame().columns) == ["a", "b"]


def test_durations_stay_durations() -> None:
    """In microseconds on the tape."""
    rows = Rows(("length",), ((timedelta(minutes=1),),))
    assert to_json(rows) == {"$rows": "length:microseconds\n60000000\n"}


def test_a_kind_from_elsewhere_is_refused() -> None:
    """A recording is a file from elsewhere."""
    with pytest.raises(ReplayError, match="kind 'pickle'"):
        rows_from_text("a:pickle\nx\n")
