"""PostgreSQL as a node with CGrateS's tables, and CGrateS on it, on every engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from labkit import errors
from labkit.clients.cgrates import Cgrates, Destination, Event, Plan, Price, Profile, Rate, Slot, Tariff
from labkit.clients.postgres import Postgres
from labkit.lab.lab import RunningLab, start_lab

ANSWERED = datetime(2026, 1, 5, 10, tzinfo=UTC)
PRICE = Price(Destination("DST_NZ", ("64",)), Rate("RT_1_1", (Slot("0.06", connect_fee="0.10"),)))
TARIFF = Tariff("SQL", (Profile(Plan("RP_1_1", (PRICE,))),))


@pytest.fixture(scope="module")
def lab(engine_name: str, live_home: Path) -> Iterator[RunningLab]:
    """A lab of CGrateS and its database."""
    running = start_lab(f"sql-{engine_name}", engine_name, nodes=("cgrates", "postgres"))
    yield running
    running.stop()


@pytest.fixture
def database(lab: RunningLab) -> Iterator[Postgres]:
    """The notebook's door."""
    with Postgres(*lab.address("postgres", "sql"), lab.record.token) as door:
        yield door


async def charge(lab: RunningLab, *calls: Event) -> list[Decimal]:
    """Rate calls and give what the engine then says they cost."""
    address, port = lab.address("cgrates", "http")
    async with Cgrates(f"http://{address}:{port}") as cg:
        await cg.load_tariff(TARIFF)
        await cg.set_charger("DEFAULT")
        for call in calls:
            await cg.charge(call)
        return [cdr.cost for cdr in await cg.cdrs(origin_ids=[call.origin_id for call in calls])]


def call(number: int, destination: str = "6421555000") -> Event:
    """61 seconds."""
    return Event(f"sql-{number}", "1001", destination, ANSWERED, timedelta(seconds=61), "*rated")


def test_the_tables_are_there_and_the_engine_takes_them(lab: RunningLab, database: Postgres) -> None:
    """2 + 21 tables of the module's scripts, and the versions without which the engine would not have started."""
    tables = database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) == 23
    assert lab.engine.state(lab.record, "cgrates").state == "running"
    assert lab.versions()["postgres"].split(".")[0] >= "15"


def test_nothing_of_it_runs_as_root(lab: RunningLab) -> None:
    """Whoever runs the lab: PostgreSQL would refuse, and the script that starts it needs it no more."""
    if lab.engine_name == "docker":
        assert lab.engine.run(lab.topology, lab.record, "postgres", ("/usr/bin/id", "-u")).strip() == "900"
        return
    from labkit.lab.process import lab_processes

    users = {os.stat(f"/proc/{one.pid}").st_uid for one in lab_processes(lab=lab.id, node="postgres")}
    assert users == {os.geteuid() or 65534}


def test_cdrs_are_the_same_in_sql_and_from_the_api(lab: RunningLab, database: Postgres) -> None:
    """Cost, usage in nanoseconds, time with zone, and a mark where there is no price."""
    assert asyncio.run(charge(lab, call(1), call(2, "4420"))) == [Decimal("0.161"), Decimal(-1)]
    found = database.query(
        "SELECT origin_id, answer_time, usage, cost, extra_info, cost_details->>'Cost' AS detail FROM cdrs"
        " WHERE account = %(account)s ORDER BY origin_id",
        account="1001",
    )
    assert found.rows == (
        ("sql-1", ANSWERED, 61 * 10**9, Decimal("0.1610"), "", "0.161"),
        ("sql-2", ANSWERED, 61 * 10**9, Decimal(-1), "UNAUTHORIZED_DESTINATION", None),
    )


def test_the_notebooks_user_changes_nothing(database: Postgres) -> None:
    """The server itself says no, and a question that makes no sense is said to be one."""
    with pytest.raises(errors.DatabaseError, match="read-only") as refused:
        database.query("DELETE FROM cdrs")
    assert refused.value.code == "25006"
    with pytest.raises(errors.DatabaseError, match='"costs" does not exist'):
        database.query("SELECT costs FROM cdrs")


def test_cdrs_outlive_a_restart_of_both(lab: RunningLab, database: Postgres) -> None:
    """They are on disk; the tariff in memory is gone."""
    before = database.query("SELECT count(*) FROM cdrs").rows
    lab.restart_node("postgres")
    lab.restart_node("cgrates")
    assert database.query("SELECT count(*) FROM cdrs").rows == before


def test_a_fresh_start_empties_the_tables(lab: RunningLab, database: Postgres) -> None:
    """As a lesson begins."""
    with Postgres(*lab.address("postgres", "sql"), lab.record.token, user="cgrates") as owner:
        owner.clear()
    assert database.query("SELECT count(*) FROM cdrs").rows == ((0,),)
    assert database.query("SELECT count(*) FROM versions").rows == ((24,),)


def test_a_stranger_does_not_get_in(lab: RunningLab) -> None:
    """A wrong password is told from a server that is away."""
    with pytest.raises(errors.DatabaseGone, match="password authentication failed"):
        Postgres(*lab.address("postgres", "sql"), "guess").query("SELECT 1")


# ---- faults ---------------------------------------------------------------------------------------------------------
def asked(lab: RunningLab, work: Callable[[Cgrates], Awaitable[Any]]) -> Any:
    """What the engine answers."""

    async def run() -> Any:
        address, port = lab.address("cgrates", "http")
        async with Cgrates(f"http://{address}:{port}") as cg:
            return await work(cg)

    return asyncio.run(run())


def test_a_wrong_clock_moves_calls_into_the_next_month(lab: RunningLab, database: Postgres) -> None:
    """And a mended one does not move back what was stored."""
    last = replace(call(10), answer_time=datetime(2026, 1, 31, 23, tzinfo=UTC))
    with lab.fault("cdr-clock-wrong"):
        asyncio.run(charge(lab, last))
    asyncio.run(charge(lab, replace(last, origin_id="sql-11")))
    found = database.query(
        "SELECT origin_id, answer_time, setup_time FROM cdrs WHERE origin_id IN ('sql-10', 'sql-11')"
    )
    february = datetime(2026, 2, 1, 23, tzinfo=UTC)
    assert sorted(found.rows) == [("sql-10", february, february), ("sql-11", last.answer_time, last.answer_time)]


def test_a_lost_prefix_leaves_calls_without_a_price(lab: RunningLab) -> None:
    """The only prefix of a destination, and one of two; both come back."""
    abroad = Destination("DST_ABROAD", ("44", "45"))
    tariff = Tariff("HOLE", (Profile(Plan("RP_HOLE", (replace(PRICE, destination=abroad),)), subject="hole"),))
    asked(lab, lambda cg: cg.load_tariff(tariff))

    def price(number: str) -> str:
        try:
            return str(asked(lab, lambda cg: cg.cost(number, timedelta(seconds=61), at=ANSWERED, subject="hole")).total)
        except errors.NoPrice:
            return "no price"

    with lab.fault("prefix-missing"):
        assert [price("4420"), price("4520")] == ["no price", "0.161"]
    assert [price("4420"), price("4520")] == ["0.161", "0.161"]
    with lab.fault("prefix-missing", destination="DST_NZ", prefix="64"):
        (cost,) = asyncio.run(charge_only(lab, call(12)))
        assert cost == Decimal(-1)
    (cost,) = asyncio.run(charge_only(lab, call(13)))
    assert cost == Decimal("0.161")
    with pytest.raises(errors.LessonError, match="has no prefix '7'"):
        lab.inject("prefix-missing", prefix="7")


async def charge_only(lab: RunningLab, one: Event) -> list[Decimal]:
    """Rate a call by what is loaded."""
    address, port = lab.address("cgrates", "http")
    async with Cgrates(f"http://{address}:{port}") as cg:
        await cg.charge(one)
        return [cdr.cost for cdr in await cg.cdrs(origin_ids=[one.origin_id])]


def test_without_a_charger_nothing_is_stored(lab: RunningLab) -> None:
    """And the same call can be sent again when it is back."""
    asyncio.run(charge(lab))
    with lab.fault("charger-missing"), pytest.raises(errors.NoCharger):
        asyncio.run(charge_only(lab, call(14)))
    assert asyncio.run(charge_only(lab, call(14))) == [Decimal("0.161")]


def test_without_its_database_the_engine_loses_cdrs(lab: RunningLab) -> None:
    """It goes on rating; what it could not store it later takes for a duplicate, until it is told to forget."""
    with lab.fault("database-gone"):
        with pytest.raises(errors.ChargingStoreGone):
            asyncio.run(charge_only(lab, call(15)))
        assert asked(lab, lambda cg: cg.cost("64", timedelta(seconds=61), at=ANSWERED)).total == Decimal("0.161")
        with pytest.raises(errors.ChargingStoreGone):
            asked(lab, lambda cg: cg.cdrs(origin_ids=["sql-15"]))
    assert asked(lab, lambda cg: cg.cdrs(origin_ids=["sql-15"])) == []
    with pytest.raises(errors.DuplicateCdr):
        asyncio.run(charge_only(lab, call(15)))
    asked(lab, lambda cg: cg.forget_seen())
    assert asyncio.run(charge_only(lab, call(15))) == [Decimal("0.161")]
