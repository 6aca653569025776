"""A month of calls from a seed."""

from __future__ import annotations

import hashlib

import pytest

from labkit.clients.cgrates import Month
from labkit.errors import BadChargingRequest

JANUARY = Month(seed=7, calls=2000)


def test_the_same_seed_gives_the_same_calls() -> None:
    """On every machine and in every version of Python: the digest was made once."""
    said = "\n".join(f"{e.origin_id} {e.account} {e.destination} {e.answer_time} {e.usage}" for e in JANUARY.events())
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "ef6705553c97577a"


def test_days_make_the_month() -> None:
    """Every call is on one day, in order."""
    days = [event for day in JANUARY.days for event in JANUARY.events(day)]
    assert days == list(JANUARY.events())
    assert len(days) == 2000


def test_there_is_something_to_learn_in_it() -> None:
    """Calls of no length, long ones, evening calls, and a network without a price."""
    events = JANUARY.events()
    lengths = [event.usage.total_seconds() for event in events]
    assert min(lengths) == 0
    assert max(lengths) > 1800
    assert any(event.destination.startswith("882") for event in events)
    assert any(event.answer_time.hour >= 20 for event in events)
    assert len({event.origin_id for event in events}) == 2000


def test_a_month_that_cannot_be_is_refused() -> None:
    """One sentence."""
    with pytest.raises(BadChargingRequest, match="1 to 12"):
        Month(seed=1, calls=1, number=13)
