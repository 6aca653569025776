"""Calls between two real phones, charged live: the proxy asks CGrateS, CGrateS hangs up when the money is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from labkit.clients.cgrates import Cgrates, Destination, Plan, Price, Profile, Rate, Slot, Tariff
from labkit.errors import CallFailed, LabkitError
from labkit.lab.lab import RunningLab, start_lab
from labkit.peers.hss.subscribers import load_subscribers
from labkit.peers.ue import UE

SECOND = timedelta(seconds=1)
TIMES = int(os.environ.get("LABKIT_PREPAID_TIMES", "1"))
"""How often the engine falls silent; by hand 50 and more."""
TARIFF = Tariff(
    "PREPAID",
    (
        Profile(
            Plan(
                "RP_1_1",
                (
                    Price(
                        Destination("DST_LAB", ("+1555",)),
                        Rate("RT_1_1", (Slot("0.06", increment=SECOND, connect_fee="0.10"),)),
                    ),
                ),
            )
        ),
    ),
)
SUBSCRIBERS = {subscriber.name: subscriber for subscriber in load_subscribers()}


@pytest.fixture(scope="module")
def lab(engine_name: str, live_home: Path) -> Iterator[RunningLab]:
    """The charging proxy and the engine, without an IMS core."""
    running = start_lab(f"pre-{engine_name}", engine_name, nodes=("prepaid", "cgrates"))
    yield running
    running.stop()


@asynccontextmanager
async def phones(lab: RunningLab, tariff: bool) -> AsyncIterator[tuple[UE, str, Cgrates]]:
    """A caller, the number of somebody who answers at once, and the engine, with its tariff loaded if it lives."""
    proxy = lab.sip_address("prepaid")
    made = []
    for index, name in enumerate(("alice", "bob")):
        address, port = lab.phone_address(index)
        made.append(
            UE(SUBSCRIBERS[name], address=address, port=port, pcscf=proxy, realm=lab.realm, auto_answer=name == "bob")
        )
    address, port = lab.address("cgrates", "http")
    async with made[0], made[1], Cgrates(f"http://{address}:{port}") as cg:
        if tariff:
            await cg.load_tariff(TARIFF)
            await cg.set_charger("DEFAULT")
        address, port = lab.phone_address(1)
        yield made[0], f"sip:+15550002@{address}:{port}", cg


def run(lab: RunningLab, work: Callable[[UE, str, Cgrates], Awaitable[Any]], *, tariff: bool = True) -> Any:
    """Do something with the caller, the callee's number and the engine."""

    async def inside() -> Any:
        async with phones(lab, tariff) as (alice, number, cg):
            return await work(alice, number, cg)

    return asyncio.run(asyncio.wait_for(inside(), 60))


async def refusal(alice: UE, number: str, cg: Cgrates) -> tuple[int, str, int]:
    """Status and reason of a call that is refused, and how long that took in whole seconds."""
    began = time.monotonic()
    with pytest.raises(CallFailed) as caught:
        await alice.call(number, timeout_s=10)
    return caught.value.status, caught.value.reason, int(time.monotonic() - began)


async def paid_call(alice: UE, number: str, cg: Cgrates) -> str:
    """A short call; whose it was, by its CDR."""
    await cg.set_balance("alice", "1")
    before = len(await cg.cdrs(accounts=["alice"]))
    call = await alice.call(number)
    await call.bye()
    return str((await the_cdr(cg, before)).account)


def send_signal(lab: RunningLab, node: str, number: signal.Signals) -> None:
    """Send a signal to a node's program."""
    if lab.engine_name == "docker":
        import docker

        # The container's first process is not the node's program, so somebody inside has to do it, to all but that.
        container = docker.from_env().containers.get(lab.record.nodes[node]["container"])
        assert container.exec_run(["sh", "-c", f"kill -s {number.name[3:]} -- -1"]).exit_code == 0
    else:
        os.kill(lab.record.nodes[node]["pid"], number)


async def the_cdr(cg: Cgrates, before: int) -> Any:
    """The CDR that comes next."""
    for _ in range(100):
        found = await cg.cdrs(accounts=["alice"])
        if len(found) > before:
            return found[-1]
        await asyncio.sleep(0.05)
    raise AssertionError("no CDR came")


def test_a_call_is_debited_while_it_lasts(lab: RunningLab) -> None:
    """Two seconds of talk: the fee and two seconds are paid, and the CDR says the same."""

    async def talk(alice: UE, number: str, cg: Cgrates) -> Any:
        await cg.set_balance("alice", "1")
        before = len(await cg.cdrs(accounts=["alice"]))
        call = await alice.call(number)
        await asyncio.sleep(1.5)
        during = await cg.sessions()
        await call.bye()
        cdr = await the_cdr(cg, before)
        return during, cdr, (await cg.account("alice")).money

    during, cdr, money = run(lab, talk)
    assert [one.account for one in during] == ["alice"]
    assert cdr.cost_source == "*sessions"
    assert cdr.usage in (SECOND, 2 * SECOND)
    assert money == 1 - cdr.cost
    assert cdr.cost == Decimal("0.10") + Decimal("0.001") * int(cdr.usage.total_seconds())


def test_the_engine_cuts_the_call_when_the_money_is_gone(lab: RunningLab) -> None:
    """The fee and 3.5 s: BYE both ways, and a CDR of three seconds. Every time."""

    async def cut(alice: UE, number: str, cg: Cgrates) -> Any:
        results = []
        for _ in range(2):
            await cg.set_balance("alice", "0.1035")
            before = len(await cg.cdrs(accounts=["alice"]))
            call = await alice.call(number)
            await call.wait_state("ended", timeout_s=10)
            cdr = await the_cdr(cg, before)
            results.append((cdr.usage, cdr.cost, await cg.sessions()))
        return results

    assert run(lab, cut) == [(3 * SECOND, Decimal("0.103"), [])] * 2


def test_no_money_and_no_account_are_two_refusals(lab: RunningLab) -> None:
    """402 before the callee's phone rings, 403 with the engine's words."""

    async def refused(alice: UE, number: str, cg: Cgrates) -> Any:
        said = []
        await cg.set_balance("alice", "0")
        for prepare in (None, cg.remove_account("alice")):
            if prepare is not None:
                await prepare
            with pytest.raises(CallFailed) as caught:
                await alice.call(number)
            said.append((caught.value.status, caught.value.reason))
        return said

    assert run(lab, refused) == [(402, "Payment Required"), (403, "RALS_ERROR:ACCOUNT_NOT_FOUND")]


def test_without_the_engine_a_call_is_refused_at_once(lab: RunningLab) -> None:
    """The fault charging-down: 503, instead of 30 seconds of silence; healed, calls are charged again."""
    with lab.fault("charging-down"):
        assert [fault["name"] for fault in lab.status()["faults"]] == ["charging-down"]
        assert run(lab, refusal, tariff=False) == (503, "Charging Unavailable", 0)
    assert run(lab, paid_call) == "alice"


def test_nobody_cuts_a_call_whose_engine_has_died(lab: RunningLab) -> None:
    """The fault charging-killed: the call outlives its money, and nothing is known of it afterwards."""

    async def outlive(alice: UE, number: str, cg: Cgrates) -> Any:
        await cg.set_balance("alice", "0.1025")
        call = await alice.call(number)
        await asyncio.to_thread(lab.inject, "charging-killed")
        with pytest.raises(LabkitError, match="still answered"):
            await call.wait_state("ended", timeout_s=4)
        await call.bye()
        await asyncio.to_thread(lab.heal, "charging-killed")
        return await cg.sessions(), await cg.count_cdrs()

    assert run(lab, outlive) == ([], 0)
    assert lab.status()["faults"] == []
    assert run(lab, paid_call) == "alice"


@pytest.mark.parametrize("how", ["killed just before", "killed while it is asked", "hangs"])
def test_a_question_that_the_engine_never_answers_is_refused_soon(lab: RunningLab, how: str) -> None:
    """503 three seconds after the INVITE at the latest, whenever and however the engine fell silent."""
    for _ in range(TIMES):
        if how == "killed just before":
            lab.kill_node("cgrates")
        else:
            send_signal(lab, "cgrates", signal.SIGSTOP)

        async def silence(alice: UE, number: str, cg: Cgrates) -> Any:
            asking = asyncio.create_task(refusal(alice, number, cg))
            if how == "killed while it is asked":
                await asyncio.sleep(0.2)
                await asyncio.to_thread(lab.kill_node, "cgrates")
            return await asking

        status, reason, waited_s = run(lab, silence, tariff=False)
        assert (status, reason) == (503, "Charging Unavailable")
        assert waited_s <= 3
        if how == "hangs":
            # What it says now comes too late: nobody is called, and nothing is charged.
            send_signal(lab, "cgrates", signal.SIGCONT)
        else:
            lab.restart_node("cgrates")
        assert run(lab, paid_call) == "alice"
