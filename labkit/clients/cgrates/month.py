"""A month of calls made from a seed: the same seed gives the same calls on every machine."""

from __future__ import annotations

import random
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from labkit.clients.cgrates.events import Event
from labkit.errors import BadChargingRequest

ACCOUNTS = ("1001", "1002", "1003", "1004", "1005")
PREFIXES = (("6421", 0.5), ("64", 0.3), ("44", 0.19), ("882", 0.01))
"""Beginning of the number called, and how often: mobile, fixed, abroad, and a network that nobody has a price for."""
_LONGEST_S = 3600


@dataclass(frozen=True, slots=True)
class Month:
    """All calls of some accounts in one month (UTC)."""

    seed: int
    calls: int
    """How many, spread over the days."""
    year: int = 2026
    number: int = 1
    """1 is January."""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 12 or self.calls < 0:
            raise BadChargingRequest("a month has number 1 to 12 and calls 0 or more")

    @property
    def days(self) -> range:
        """Its days, 1 to 28 ... 31."""
        return range(1, monthrange(self.year, self.number)[1] + 1)

    def events(self, day: int | None = None) -> Sequence[Event]:
        """The calls, of one day or of all, in the order in which they were answered; no account pays for them."""
        chance = random.Random(self.seed)
        made = [self._call(chance, number) for number in range(1, self.calls + 1)]
        wanted = [one for one in made if day is None or (one.answer_time is not None and one.answer_time.day == day)]
        return sorted(wanted, key=lambda one: (str(one.answer_time), one.origin_id))

    def _call(self, chance: random.Random, number: int) -> Event:
        # Only random() is used: its sequence is promised to stay the same in all versions of Python.
        second = int(chance.random() * len(self.days) * 86400)
        answered = datetime(self.year, self.number, 1, tzinfo=UTC) + timedelta(seconds=second)
        # Many short calls and few long ones; a few are answered and hung up in the same second.
        length = min(_LONGEST_S, int(240 * chance.random() / (1.02 - chance.random())))
        return Event(
            f"month-{self.seed}-{number}",
            ACCOUNTS[int(chance.random() * len(ACCOUNTS))],
            _prefix(chance.random()) + f"{int(chance.random() * 10**6):06d}",
            answered,
            timedelta(seconds=length),
            "*rated",
            subject="month",
        )


def _prefix(share: float) -> str:
    for prefix, part in PREFIXES:
        if share < part:
            return prefix
        share -= part
    return PREFIXES[0][0]
