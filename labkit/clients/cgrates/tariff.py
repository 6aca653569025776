"""A tariff as one readable object, checked before it is sent.

    nz = Destination("DST_NZ", ("64",))
    per_second = Rate("RT_1_1", (Slot("0.06", per=minute, increment=second, connect_fee="0.10"),))
    plan = Plan("RP_1_1", (Price(nz, per_second),))
    tariff = Tariff("LAB", (Profile(plan, subject="second"),))

Parts refer to each other as objects, so a plan cannot name a rate that is not there: the engine would notice that only
when the tariff is loaded, or never. `Tariff.calls()` gives the API calls in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from labkit.clients.cgrates.units import Usage, go_duration, go_time, money
from labkit.clients.rows import Rows
from labkit.errors import BadChargingRequest

_IDENTIFIER = re.compile(r"^[A-Za-z0-9_*][A-Za-z0-9_.\-]{0,63}$")
_PREFIX = re.compile(r"^(\*any|\+?[0-9]{1,20})$")
_METHODS = {"up": "*up", "down": "*down", "middle": "*middle"}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ENGINE_DECIMALS = 5
"""`rounding_decimals` of the engine: what one increment costs is rounded to this, halves up."""
ALWAYS_SINCE = datetime(2024, 1, 1, tzinfo=UTC)

Call = tuple[str, dict[str, Any]]
"""API method and its one parameter."""


def _named(kind: str, name: str) -> None:
    if not _IDENTIFIER.match(name):
        raise BadChargingRequest(f"{kind} {name!r}: a name is letters, digits, '_', '-', '.', 64 at most")


def _count(value: Usage) -> int:
    """Microseconds of a duration; a number as it is."""
    return value // timedelta(microseconds=1) if isinstance(value, timedelta) else value


@dataclass(frozen=True, slots=True)
class Destination:
    """A set of number prefixes; the longest that fits a number wins over all destinations."""

    name: str
    prefixes: tuple[str, ...]
    """Digits, for example "64"."""

    def __post_init__(self) -> None:
        _named("destination", self.name)
        wrong = [prefix for prefix in self.prefixes if not _PREFIX.match(prefix)]
        if wrong or not self.prefixes:
            raise BadChargingRequest(
                f"destination {self.name}: prefixes are digits, at least one; not {wrong or 'none'}"
            )


ANYWHERE = Destination("*any", ("*any",))
"""Fits every number; the engine knows it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A price that holds from `start` of the call on: so much `per` so long, counted in whole increments."""

    price: Decimal | int | str
    per: Usage = timedelta(minutes=1)
    """What the price buys; of messages or data a number (1 message, 1048576 bytes)."""
    increment: Usage = timedelta(seconds=1)
    """What is counted: a started increment is paid whole."""
    connect_fee: Decimal | int | str = 0
    """Paid once, with the first increment."""
    start: timedelta = timedelta(0)
    """Length of the call from which this slot holds."""

    def __post_init__(self) -> None:
        money(self.price)
        money(self.connect_fee)
        if type(self.per) is not type(self.increment):
            raise BadChargingRequest("per and increment are both durations, or both numbers of messages or bytes")
        if _count(self.per) <= 0 or _count(self.increment) <= 0 or self.start < timedelta(0):
            raise BadChargingRequest("per and increment are more than zero, start is not negative")

    @property
    def increment_cost(self) -> Decimal:
        """What one increment costs, before the engine rounds it."""
        return money(self.price) * _count(self.increment) / _count(self.per)

    @property
    def words(self) -> str:
        """For people: "0.10 + 0.06 per 60s by 1s"."""
        fee = f"{money(self.connect_fee)} + " if money(self.connect_fee) else ""
        return f"{fee}{money(self.price)} per {go_duration(self.per)} by {go_duration(self.increment)}"

    def to_api(self) -> dict[str, Any]:
        """One entry of RateSlots."""
        return {
            "ConnectFee": money(self.connect_fee),
            "Rate": money(self.price),
            "RateUnit": go_duration(self.per),
            "RateIncrement": go_duration(self.increment),
            "GroupIntervalStart": go_duration(self.start),
        }


@dataclass(frozen=True, slots=True)
class Rate:
    """How a call's length becomes money: slots one after the other ("60/1" is two of them)."""

    name: str
    slots: tuple[Slot, ...]

    def __post_init__(self) -> None:
        _named("rate", self.name)
        starts = [slot.start for slot in self.slots]
        if not starts or starts[0] != timedelta(0) or starts != sorted(set(starts)):
            raise BadChargingRequest(
                f"rate {self.name}: the first slot starts at 0, each other one later than the last"
            )
        if any(money(slot.connect_fee) for slot in self.slots[1:]):
            raise BadChargingRequest(f"rate {self.name}: only the first slot has a connect fee")


@dataclass(frozen=True, slots=True)
class Period:
    """A time of the week: from `begins` until the next period of that day begins."""

    name: str
    begins: time = time(0)
    weekdays: tuple[str, ...] = ()
    """"monday" ...; empty is every day."""

    def __post_init__(self) -> None:
        _named("period", self.name)
        wrong = [day for day in self.weekdays if day not in _DAYS]
        if wrong:
            raise BadChargingRequest(
                f"period {self.name}: {', '.join(wrong)} is no weekday; they are {', '.join(_DAYS)}"
            )


ALWAYS = Period("ALWAYS")


@dataclass(frozen=True, slots=True)
class Price:
    """A rate for a destination, in a period."""

    destination: Destination
    rate: Rate
    period: Period = ALWAYS
    weight: int = 10
    """Among prices that fit at the same time the heaviest wins."""
    rounding: str = "up"
    """"up", "down" or "middle", of the whole cost."""
    decimals: int = 4

    def __post_init__(self) -> None:
        if self.rounding not in _METHODS:
            raise BadChargingRequest(f"rounding {self.rounding!r}: write one of {', '.join(_METHODS)}")
        if not 0 <= self.decimals <= 10:
            raise BadChargingRequest("decimals are 0 to 10")


@dataclass(frozen=True, slots=True)
class Plan:
    """Prices under one name."""

    name: str
    prices: tuple[Price, ...]

    def __post_init__(self) -> None:
        _named("plan", self.name)
        if not self.prices:
            raise BadChargingRequest(f"plan {self.name} has no prices")


@dataclass(frozen=True, slots=True)
class Profile:
    """Who is charged by a plan, and since when."""

    plan: Plan
    subject: str = "*any"
    """The event's Subject, or "*any"."""
    category: str = "call"
    """"call", "sms", "data"."""
    since: datetime = ALWAYS_SINCE
    tenant: str = "cgrates.org"


@dataclass(frozen=True, slots=True)
class Tariff:
    """Everything that is loaded together under one TPid."""

    name: str
    profiles: tuple[Profile, ...]

    def __post_init__(self) -> None:
        _named("tariff", self.name)
        if not self.profiles:
            raise BadChargingRequest(f"tariff {self.name} has no profile: nobody would be charged by it")
        for kind, parts in (
            ("destination", self.destinations),
            ("rate", self.rates),
            ("period", self.periods),
            ("plan", self.plans),
        ):
            names = [part.name for part in parts]
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                raise BadChargingRequest(
                    f"tariff {self.name} has two different {kind}s of the name {', '.join(double)}"
                )

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Each plan once."""
        return tuple(dict.fromkeys(profile.plan for profile in self.profiles))

    @property
    def prices(self) -> tuple[Price, ...]:
        """Each price once."""
        return tuple(dict.fromkeys(price for plan in self.plans for price in plan.prices))

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Each destination once."""
        return tuple(dict.fromkeys(price.destination for price in self.prices))

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Each rate once."""
        return tuple(dict.fromkeys(price.rate for price in self.prices))

    @property
    def periods(self) -> tuple[Period, ...]:
        """Each period once."""
        return tuple(dict.fromkeys(price.period for price in self.prices))

    def chain(self) -> Rows:
        """Every way from who calls to what it costs, one row each: a picture or a table of the whole tariff."""
        rows = [
            (
                f"{profile.category} {profile.subject}",
                profile.plan.name,
                f"{price.period.name} {price.period.begins:%H:%M}",
                f"{price.destination.name} {' '.join(price.destination.prefixes)}",
                price.rate.name,
                " then ".join(slot.words for slot in price.rate.slots),
            )
            for profile in self.profiles
            for price in profile.plan.prices
        ]
        return Rows(("profile", "plan", "period", "destination", "rate", "price"), tuple(rows))

    def warnings(self) -> list[str]:
        """What is allowed and surprises: increments whose price the engine rounds, again with every increment."""
        found = []
        for rate in self.rates:
            for slot in rate.slots:
                exact = slot.increment_cost
                rounded = exact.quantize(Decimal(1).scaleb(-_ENGINE_DECIMALS), ROUND_HALF_UP)
                if rounded != exact:
                    found.append(f"rate {rate.name}: one increment costs {exact:.9f}, the engine counts {rounded}")
        return found

    def calls(self) -> Iterator[Call]:
        """The API calls that load it, in order; the last makes it hold."""
        yield from (self._destination(d) for d in self.destinations if d != ANYWHERE)
        yield from (self._rate(rate) for rate in self.rates)
        yield from (self._price(price) for price in self.prices)
        yield from (self._period(period) for period in self.periods)
        yield from (self._plan(plan) for plan in self.plans)
        yield from (self._profile(profile) for profile in self.profiles)
        yield "APIerSv1.LoadTariffPlanFromStorDb", {"TPid": self.name, "DryRun": False, "Validate": True}

    def _destination(self, destination: Destination) -> Call:
        return "APIerSv1.SetTPDestination", self._part(destination.name, Prefixes=list(destination.prefixes))

    def _rate(self, rate: Rate) -> Call:
        return "APIerSv1.SetTPRate", self._part(rate.name, RateSlots=[slot.to_api() for slot in rate.slots])

    def _price(self, price: Price) -> Call:
        entry = {
            "DestinationId": price.destination.name,
            "RateId": price.rate.name,
            "RoundingMethod": _METHODS[price.rounding],
            "RoundingDecimals": price.decimals,
            "MaxCost": 0,
            "MaxCostStrategy": "",
        }
        return "APIerSv1.SetTPDestinationRate", self._part(self._price_name(price), DestinationRates=[entry])

    def _period(self, period: Period) -> Call:
        days = ";".join(str(_DAYS.index(day) + 1) for day in period.weekdays) or "*any"
        fields = {"Years": "*any", "Months": "*any", "MonthDays": "*any", "WeekDays": days}
        return "APIerSv1.SetTPTiming", self._part(period.name, **fields, Time=period.begins.strftime("%H:%M:%S"))

    def _plan(self, plan: Plan) -> Call:
        bindings = [
            {"DestinationRatesId": self._price_name(p), "TimingId": p.period.name, "Weight": p.weight}
            for p in plan.prices
        ]
        return "APIerSv1.SetTPRatingPlan", self._part(plan.name, RatingPlanBindings=bindings)

    def _profile(self, profile: Profile) -> Call:
        return "APIerSv1.SetTPRatingProfile", {
            "TPid": self.name,
            "LoadId": self.name,
            "Tenant": profile.tenant,
            "Category": profile.category,
            "Subject": profile.subject,
            "RatingPlanActivations": [{"ActivationTime": go_time(profile.since), "RatingPlanId": profile.plan.name}],
        }

    def _part(self, name: str, **fields: Any) -> dict[str, Any]:
        return {"TPid": self.name, "ID": name} | fields

    def _price_name(self, price: Price) -> str:
        return f"DR_{self.prices.index(price) + 1}_{price.rate.name}"
