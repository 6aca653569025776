"""Go's durations and times, and amounts of money, as Python values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.clients.cgrates.units import duration, from_json, go_duration, go_time, moment, to_json


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m1s", 61), ("0s", 0), ("1h0m0.5s", 3600.5), ("250ms", 0.25), ("1µs", 1e-6), ("-3s", -3), (61_000_000_000, 61)],
)
def test_durations_of_answers(text: str | int, seconds: float) -> None:
    """Both ways in which the engine writes them."""
    assert duration(text) == timedelta(seconds=seconds)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)))
def test_a_duration_survives_the_way_there_and_back(value: timedelta) -> None:
    """To the microsecond."""
    assert duration(go_duration(value)) == value


def test_times_carry_their_zone() -> None:
    """A time of another zone comes back in UTC; Go's zero time is none."""
    auckland = timezone(timedelta(hours=12))
    assert moment(go_time(datetime(2026, 7, 5, 10, 0, 5, tzinfo=auckland))) == datetime(
        2026, 7, 4, 22, 0, 5, tzinfo=UTC
    )
    assert moment("0001-01-01T00:00:00Z") is None


@given(st.decimals(min_value=0, max_value=10**6, places=5))
def test_an_amount_survives_json(value: Decimal) -> None:
    """What is sent is read back as the same amount."""
    assert from_json(to_json({"v": value}))["v"] == value
