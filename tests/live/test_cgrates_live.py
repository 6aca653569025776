"""The real CGrateS as a node, on every engine, through the typed client."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from labkit import errors
from labkit.clients.cgrates import (
    Cgrates,
    CgratesDuplex,
    Destination,
    Event,
    Month,
    Period,
    Plan,
    Price,
    Profile,
    Rate,
    Slot,
    Tariff,
)
from labkit.clients.cgrates.month import ACCOUNTS
from labkit.lab.lab import RunningLab, start_lab

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
ANSWERED = datetime(2026, 1, 5, 10, tzinfo=UTC)
NUMBER = "6421555000"
NZ, MOBILE = Destination("DST_NZ", ("64",)), Destination("DST_NZ_MOBILE", ("6421",))
SIXTY = Rate("RT_60_60", (Slot("0.06", MINUTE, MINUTE, "0.10"),))
PER_SECOND = Rate("RT_1_1", (Slot("0.06", MINUTE, SECOND, "0.10"),))
MIXED = Rate("RT_60_1", (Slot("0.06", MINUTE, MINUTE, "0.10"), Slot("0.06", MINUTE, SECOND, start=MINUTE)))
FULL, HALF = Rate("RT_FULL", (Slot("0.06"),)), Rate("RT_HALF", (Slot("0.03"),))
NIGHT_FROM = Period("EVENING", time(20))
DAY, EARLY = Period("DAY", time(6)), Period("EARLY", time(0))
TARIFF = Tariff(
    "LIVE",
    (
        Profile(Plan("RP_60_60", (Price(NZ, SIXTY),)), subject="sixty"),
        Profile(Plan("RP_1_1", (Price(NZ, PER_SECOND),)), subject="second"),
        Profile(Plan("RP_60_1", (Price(NZ, MIXED),)), subject="mixed"),
        Profile(Plan("RP_LONGEST", (Price(NZ, FULL), Price(MOBILE, HALF))), subject="longest"),
        Profile(
            Plan("RP_HOURS", (Price(NZ, FULL, DAY), Price(NZ, HALF, NIGHT_FROM), Price(NZ, HALF, EARLY))),
            subject="hours",
        ),
    ),
)
FRESH = (f"call-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def lab(engine_name: str, live_home: Path) -> Iterator[RunningLab]:
    """A lab of nothing but CGrateS, its tariff loaded."""
    running = start_lab(f"cgr-{engine_name}", engine_name, nodes=("cgrates",))

    async def load(cg: Cgrates) -> None:
        await cg.load_tariff(TARIFF)
        await cg.set_charger("DEFAULT")

    try:
        ask(running, load)
        yield running
    finally:
        running.stop()


def ask(lab: RunningLab, work: Callable[[Cgrates], Awaitable[Any]]) -> Any:
    """What the engine answers."""

    async def run() -> Any:
        address, port = lab.address("cgrates", "http")
        async with Cgrates(f"http://{address}:{port}") as cg:
            return await work(cg)

    return asyncio.run(asyncio.wait_for(run(), 60))


def event(account: str, usage: timedelta | None = None, **fields: Any) -> Event:
    """A call with a fresh origin_id, at the price per second."""
    return Event(next(FRESH), account, NUMBER, ANSWERED, usage, **{"subject": "second"} | fields)


def test_the_version_is_the_pinned_one(lab: RunningLab) -> None:
    """The program says it, and so does the lab."""
    assert ask(lab, lambda cg: cg.version()) == "v0.10.4"
    assert lab.versions()["cgrates"] == "0.10.4"


@pytest.mark.parametrize(
    ("subject", "seconds", "cost"),
    [
        ("sixty", 61, "0.22"),
        ("sixty", 30, "0.16"),
        ("second", 61, "0.161"),
        ("second", 1, "0.101"),
        ("mixed", 61, "0.161"),
        ("mixed", 30, "0.16"),
    ],
)
def test_increments_cost_what_a_hand_reckons(lab: RunningLab, subject: str, seconds: int, cost: str) -> None:
    """Fee 0.10 and 0.06 a minute, counted in minutes, in seconds, and first one then the other."""
    length = timedelta(seconds=seconds)
    assert ask(lab, lambda cg: cg.cost(NUMBER, length, at=ANSWERED, subject=subject)).total == Decimal(cost)


def test_the_longest_prefix_wins(lab: RunningLab) -> None:
    """6421 is cheaper than 64."""

    async def both(cg: Cgrates) -> list[tuple[str, Decimal]]:
        costs = [await cg.cost(number, MINUTE, at=ANSWERED, subject="longest") for number in (NUMBER, "6431")]
        return [(cost.prefix, cost.total) for cost in costs]

    assert ask(lab, both) == [("6421", Decimal("0.03")), ("64", Decimal("0.06"))]


def test_a_call_across_the_evening_is_split(lab: RunningLab) -> None:
    """Half a minute at each price."""

    async def hours(cg: Cgrates) -> list[Decimal]:
        times = (time(10), time(22), time(3), time(19, 59, 30))
        starts = [datetime.combine(ANSWERED.date(), one, UTC) for one in times]
        return [(await cg.cost(NUMBER, MINUTE, at=start, subject="hours")).total for start in starts]

    assert ask(lab, hours) == [Decimal("0.06"), Decimal("0.03"), Decimal("0.03"), Decimal("0.045")]


def test_a_call_is_charged_once(lab: RunningLab) -> None:
    """The CDR holds the cost, the account pays it, and the same call again is refused."""
    call = event("once", timedelta(seconds=61))

    async def twice(cg: Cgrates) -> Any:
        await cg.set_balance("once", "5")
        await cg.charge(call)
        with pytest.raises(errors.DuplicateCdr):
            await cg.charge(call)
        return await cg.cdrs(accounts=["once"]), (await cg.account("once")).money

    (cdr,), money = ask(lab, twice)
    assert (cdr.cost, cdr.usage, cdr.run, money) == (Decimal("0.161"), call.usage, "*default", Decimal("4.839"))
    assert cdr.detail.total == cdr.cost


def test_a_call_without_a_price_is_stored_and_marked(lab: RunningLab) -> None:
    """Cost -1 is no amount: the reason stands beside it."""
    call = replace(event("lost", SECOND, request_type="*rated"), destination="4420")

    async def charge(cg: Cgrates) -> Any:
        await cg.charge(call)
        with pytest.raises(errors.NoPrice):
            await cg.cost("4420", SECOND, at=ANSWERED, subject="second")
        return await cg.cdrs(origin_ids=[call.origin_id])

    (cdr,) = ask(lab, charge)
    assert (cdr.rated, cdr.reason) == (False, "UNAUTHORIZED_DESTINATION")


def test_an_account_that_is_missing_or_off_is_named(lab: RunningLab) -> None:
    """Two different answers to the same question."""

    async def refused(cg: Cgrates) -> None:
        await cg.set_account("off", disabled=True)
        with pytest.raises(errors.AccountNotFound):
            await cg.authorize(event("nobody", request_type="*prepaid"))
        with pytest.raises(errors.AccountDisabled):
            await cg.authorize(event("off", request_type="*prepaid"))

    ask(lab, refused)


def test_a_prepaid_session_reserves_and_gives_back(lab: RunningLab) -> None:
    """0.19: 60 s reserved, 30 s more, then nothing; after 80 s of talk 0.01 is left."""
    call = event("bob", request_type="*prepaid")

    async def talk(cg: Cgrates) -> Any:
        await cg.set_balance("bob", "0.19")
        granted = [await cg.authorize(call), await cg.initiate(call, MINUTE)]
        granted += [await cg.update(call, MINUTE), await cg.update(call, MINUTE)]
        open_now = [one for one in await cg.sessions() if one.account == "bob"]
        await cg.terminate(call, timedelta(seconds=80))
        await cg.store_cdr(replace(call, usage=timedelta(seconds=80)))
        return granted, open_now, (await cg.account("bob")).money, await cg.cdrs(accounts=["bob"])

    granted, open_now, money, (cdr,) = ask(lab, talk)
    assert granted == [timedelta(seconds=s) for s in (90, 60, 30, 0)]
    assert [one.reserved for one in open_now] == [timedelta(seconds=90)]
    assert (money, cdr.cost, cdr.cost_source) == (Decimal("0.01"), Decimal("0.18"), "*sessions")


def test_the_engine_hangs_up_when_the_money_is_gone(lab: RunningLab) -> None:
    """0.1035 is the fee and 3.5 s: the engine itself says stop, once, after 3 s."""
    call = event("carol", request_type="*prepaid", debit_interval=SECOND)

    async def cut(cg: Cgrates) -> Any:
        await cg.set_balance("carol", "0.1035")
        address, port = lab.address("cgrates", "bijson")
        async with CgratesDuplex(address, port) as platform:
            opened = {"InitSession": True, "Tenant": call.tenant, "ID": "cut-1", "Event": call.fields()}
            await platform.call("SessionSv1.InitiateSession", opened)
            order = await platform.next_disconnect()
        await cg.terminate(call, order.paid)
        await cg.store_cdr(replace(call, usage=order.paid))
        return order, await cg.cdrs(accounts=["carol"])

    order, (cdr,) = ask(lab, cut)
    assert (order.origin_id, order.reason, order.paid) == (call.origin_id, "INSUFFICIENT_CREDIT", timedelta(seconds=3))
    assert cdr.cost == Decimal("0.103")


def test_minutes_are_used_before_money(lab: RunningLab) -> None:
    """A bundle of weight 20: 61 s cost nothing, 59 s are left."""
    call = event("dora", timedelta(seconds=61), request_type="*postpaid")

    async def bundle(cg: Cgrates) -> Any:
        await cg.set_balance("dora", "1")
        two = timedelta(minutes=2)
        await cg.set_balance("dora", two, kind="*voice", name="minutes", weight=20, destinations=["DST_NZ"])
        await cg.charge(call)
        return {b.kind: b.value for b in (await cg.account("dora")).balances}

    assert ask(lab, bundle) == {"*monetary": Decimal(1), "*voice": Decimal(59)}


def test_runs_of_one_call_are_filtered_and_rated_again(lab: RunningLab) -> None:
    """A second charger makes a second CDR; a mended tariff changes both only when asked."""
    call = event("erik", timedelta(seconds=61), request_type="*rated", extra={"Month": "2026-01"})

    async def runs(cg: Cgrates) -> Any:
        await cg.set_charger("WHOLESALE", run="wholesale", attributes=["*constant:*req.Subject:sixty"])
        await cg.charge(call)
        await cg.remove_charger("WHOLESALE")
        before = [(c.run, c.cost) for c in await cg.cdrs(accounts=["erik"])]
        dear = Rate("RT_1_1", (Slot("0.12", MINUTE, SECOND, "0.10"),))
        await cg.load_tariff(Tariff("LIVE", (Profile(Plan("RP_1_1", (Price(NZ, dear),)), subject="second"),)))
        await cg.rerate([call.origin_id])
        after = [(c.run, c.cost) for c in await cg.cdrs(accounts=["erik"])]
        await cg.load_tariff(TARIFF)
        return before, after, await cg.cdrs(accounts=["erik"], cost_from="0.2215")

    before, after, costly = ask(lab, runs)
    assert before == [("*default", Decimal("0.161")), ("wholesale", Decimal("0.22"))]
    assert after == [("*default", Decimal("0.222")), ("wholesale", Decimal("0.22"))]
    assert [cdr.run for cdr in costly] == ["*default"]


def test_rating_again_gives_the_money_back_first(lab: RunningLab) -> None:
    """An account that paid too much has paid the right amount afterwards, once."""
    call = event("fred", timedelta(seconds=61))

    async def again(cg: Cgrates) -> Any:
        await cg.set_balance("fred", "5")
        dear = Rate("RT_1_1", (Slot("0.12", MINUTE, SECOND, "0.10"),))
        await cg.load_tariff(Tariff("LIVE", (Profile(Plan("RP_1_1", (Price(NZ, dear),)), subject="second"),)))
        await cg.charge(call)
        paid = (await cg.account("fred")).money
        await cg.load_tariff(TARIFF)
        await cg.rerate([call.origin_id])
        with pytest.raises(errors.ChargingNotFound):
            await cg.rerate(["never"])
        return paid, (await cg.account("fred")).money, [c.cost for c in await cg.cdrs(accounts=["fred"])]

    assert ask(lab, again) == (Decimal("4.778"), Decimal("4.839"), [Decimal("0.161")])


def test_attributes_find_the_account_of_a_number(lab: RunningLab) -> None:
    """A rule fits, another number stays as it is."""

    async def attributes(cg: Cgrates) -> Any:
        await cg.set_attributes("ACCOUNT_OF_NUMBER", {"Account": "1001"}, where={"Caller": "64210001"})
        return [await cg.apply_attributes({"Caller": number}) for number in ("64210001", "64210002")]

    assert ask(lab, attributes) == [{"Caller": "64210001", "Account": "1001"}, {"Caller": "64210002"}]


def test_many_calls_go_over_the_bulk_door(lab: RunningLab) -> None:
    """A day of a month, all at once: each stored, a price asked for gets its own answer back, an error is named."""

    async def bulk(cg: Cgrates) -> Any:
        address, port = lab.address("cgrates", "http")
        door = lab.address("cgrates", "json")
        async with Cgrates(f"http://{address}:{port}", bulk=door) as many:
            lengths = [timedelta(seconds=s) for s in (60, 1, 61, 30) * 30]
            costs = await many.costs(NUMBER, lengths, at=ANSWERED, subject="second")
            count = await many.charge_day(Month(seed=3, calls=400), 5)
            with pytest.raises(errors.DuplicateCdr):
                await many.charge_day(Month(seed=3, calls=400), 5)
        return costs[:4] * 30 == costs, costs[:4], count, len(await cg.cdrs(accounts=list(ACCOUNTS)))

    same, costs, count, stored = ask(lab, bulk)
    assert (same, costs) == (True, [Decimal(c) for c in ("0.16", "0.101", "0.161", "0.13")])
    assert count == stored == len(Month(seed=3, calls=400).events(5))


def test_an_engine_that_was_killed_is_said_to_be_gone(lab: RunningLab) -> None:
    """And comes back empty."""
    lab.kill_node("cgrates")
    with pytest.raises(errors.ChargingEngineGone):
        ask(lab, lambda cg: cg.version())
    lab.restart_node("cgrates")
    assert ask(lab, lambda cg: cg.count_cdrs()) == 0
