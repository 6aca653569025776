"""A tariff as an object: the calls it becomes, and what it refuses to be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

import pytest

from labkit.clients.cgrates import Destination, Period, Plan, Price, Profile, Rate, Slot, Tariff
from labkit.clients.cgrates.tariff import ANYWHERE
from labkit.errors import BadChargingRequest
from tests.cgrates_parts import recorded

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
NZ = Destination("DST_NZ", ("64",))
SIXTY = Rate("RT_60_60", (Slot("0.06", MINUTE, MINUTE, "0.10"),))
PER_SECOND = Rate("RT_1_1", (Slot("0.06", MINUTE, SECOND, "0.10"),))
MIXED = Rate("RT_60_1", (Slot("0.06", MINUTE, MINUTE, "0.10"), Slot("0.06", MINUTE, SECOND, start=MINUTE)))
SMS = Rate("RT_SMS", (Slot("0.05", 1, 1),))
DATA = Rate("RT_DATA", (Slot("0.01", 1048576, 1024),))


def profile(rate: Rate, destination: Destination = NZ, **fields: str) -> Profile:
    """A profile with a plan of one price."""
    return Profile(Plan(rate.name.replace("RT", "RP"), (Price(destination, rate),)), **fields)


LAB = Tariff(
    "LAB",
    (
        profile(SIXTY),
        profile(SIXTY, subject="sixty"),
        profile(PER_SECOND, subject="second"),
        profile(MIXED, subject="mixed"),
        profile(SMS, ANYWHERE, category="sms"),
        profile(DATA, ANYWHERE, category="data"),
    ),
)


@pytest.mark.parametrize(
    "method",
    [
        "APIerSv1.SetTPDestination",
        "APIerSv1.SetTPRate",
        "APIerSv1.SetTPTiming",
        "APIerSv1.SetTPRatingProfile",
        "APIerSv1.LoadTariffPlanFromStorDb",
    ],
)
def test_calls_are_those_the_engine_took(method: str) -> None:
    """Each parameter equals a recorded one, to which the real engine said OK."""
    expected = [parameter for parameter, reply in recorded("postpaid", method) if reply["result"] == "OK"]
    for one in expected:
        for activation in one.get("RatingPlanActivations", ()):
            activation.pop("FallbackSubjects")
    ours = [without_decimals(parameter) for name, parameter in LAB.calls() if name == method]
    assert sorted(ours, key=str) == sorted(map(without_decimals, expected), key=str)


def without_decimals(value: object) -> object:
    """Numbers as floats, as JSON has them."""
    if isinstance(value, dict):
        return {key: without_decimals(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_decimals(one) for one in value]
    return value if isinstance(value, (str, bool)) else float(str(value))


def test_every_name_that_a_call_uses_was_set_before() -> None:
    """Plans name destination rates and timings, those name destinations and rates."""
    made: set[str] = {"*any"}
    for method, parameter in LAB.calls():
        for entry in parameter.get("DestinationRates", ()):
            assert {entry["DestinationId"], entry["RateId"]} <= made
        for binding in parameter.get("RatingPlanBindings", ()):
            assert {binding["DestinationRatesId"], binding["TimingId"]} <= made
        for activation in parameter.get("RatingPlanActivations", ()):
            assert activation["RatingPlanId"] in made
        made.add(parameter.get("ID", method))


def test_periods_of_the_week() -> None:
    """Weekdays are numbers, Monday 1."""
    night = Period("NIGHT", time(20), ("saturday", "sunday"))
    tariff = Tariff("T", (Profile(Plan("P", (Price(NZ, SIXTY, night),))),))
    (timing,) = [parameter for method, parameter in tariff.calls() if method == "APIerSv1.SetTPTiming"]
    assert (timing["Time"], timing["WeekDays"]) == ("20:00:00", "6;7")


def test_a_tariff_is_a_chain_from_who_calls_to_what_it_costs() -> None:
    """One row a way; slots in words."""
    mixed = Rate("RT_60_1", (Slot("0.06", MINUTE, MINUTE, "0.10"), Slot("0.06", MINUTE, SECOND, start=MINUTE)))
    chain = Tariff("T", (Profile(Plan("RP", (Price(NZ, mixed),)), "retail"),)).chain()
    assert chain.columns == ("profile", "plan", "period", "destination", "rate", "price")
    words = "0.10 + 0.06 per 60s by 60s then 0.06 per 60s by 1s"
    assert chain.rows == (("call retail", "RP", "ALWAYS 00:00", "DST_NZ 64", "RT_60_1", words),)


def test_increments_that_the_engine_rounds_are_warned_of() -> None:
    """A kilobyte at 0.01 a megabyte costs 0.00000977, counted as 0.00001; a second at 0.05 a minute is counted less."""
    assert LAB.warnings() == ["rate RT_DATA: one increment costs 0.000009766, the engine counts 0.00001"]
    fixed = Tariff("T", (Profile(Plan("P", (Price(NZ, Rate("RT_FIXED", (Slot("0.05"),))),))),))
    assert fixed.warnings() == ["rate RT_FIXED: one increment costs 0.000833333, the engine counts 0.00083"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Destination("NZ land", ("64",)), "a name is"),
        (lambda: Destination("NZ", ()), "at least one"),
        (lambda: Destination("NZ", ("64x",)), "prefixes are digits"),
        (lambda: Slot(0.06), "is a float"),
        (lambda: Slot("0.06", MINUTE, timedelta(0)), "more than zero"),
        (lambda: Slot("0.06", MINUTE, 60), "both durations"),
        (lambda: Rate("R", ()), "first slot starts at 0"),
        (lambda: Rate("R", (Slot(1, start=MINUTE),)), "first slot starts at 0"),
        (lambda: Rate("R", (Slot(1), Slot(1))), "later than the last"),
        (lambda: Rate("R", (Slot(1), Slot(1, connect_fee=1, start=MINUTE))), "only the first slot"),
        (lambda: Period("P", weekdays=("Monday",)), "no weekday"),
        (lambda: Price(NZ, SIXTY, rounding="*up"), "rounding"),
        (lambda: Price(NZ, SIXTY, decimals=11), "0 to 10"),
        (lambda: Plan("P", ()), "no prices"),
        (lambda: Tariff("T", ()), "no profile"),
        (lambda: Tariff("T", (profile(SIXTY), profile(Rate("RT_60_60", (Slot(1),))))), "two different rates"),
        (
            lambda: list(Tariff("T", (Profile(Plan("P", (Price(NZ, SIXTY),)), since=datetime(2026, 1, 1)),)).calls()),
            "zone",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], said: str) -> None:
    """The engine takes nearly everything, so the object does not."""
    with pytest.raises(BadChargingRequest, match=said):
        make()


def test_a_profile_can_begin_later() -> None:
    """The activation time carries its zone."""
    tariff = Tariff("T", (Profile(Plan("P", (Price(NZ, SIXTY),)), since=datetime(2026, 2, 1, tzinfo=UTC)),))
    *_, (_, last), _ = tariff.calls()
    assert last["RatingPlanActivations"] == [{"ActivationTime": "2026-02-01T00:00:00Z", "RatingPlanId": "P"}]
