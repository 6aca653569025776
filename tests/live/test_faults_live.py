"""Every fault on a real core: its symptom at a real phone, and after the heal a lab in which all works again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from labkit.errors import CallFailed
from labkit.lab.charging_faults import CHARGING_FAULTS
from labkit.lab.faults import faults
from labkit.lab.lab import RunningLab
from labkit.lab.prepaid_faults import PREPAID_FAULTS
from labkit.peers.call import Call
from labkit.peers.hss.subscribers import load_subscribers
from labkit.peers.ue import UE

SUBSCRIBERS: Final = {subscriber.name: subscriber for subscriber in load_subscribers()}
PLACES: Final = ("alice", "bob", "carol")
FORGOTTEN_S: Final = 2.5
"""After this the S-CSCF has forgotten the profile of somebody who has left."""


class Phones:
    """Phones of alice, bob and carol; alice and bob are registered when the fault goes in."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.alice, self.bob, self.carol = (self._phone(name) for name in PLACES)
        self.all = (self.alice, self.bob, self.carol)

    def _phone(self, name: str) -> UE:
        address, port = self.lab.phone_address(PLACES.index(name))
        pcscf, realm = self.lab.sip_address("pcscf"), self.lab.realm
        return UE(SUBSCRIBERS[name], address=address, port=port, pcscf=pcscf, realm=realm, auto_answer=True)

    async def all_works(self) -> None:
        """Everybody registers, alice calls bob, bob writes to alice, everybody leaves."""
        for phone in self.all:
            await phone.register()
        call = await self.alice.call("bob")
        await call.bye()
        await self.bob.message("alice", "it works again")
        for phone in self.all:
            await phone.deregister()

    async def comes_back(self) -> None:
        """Alice leaves and registers anew, when the S-CSCF has forgotten her profile."""
        await self.alice.deregister()
        await asyncio.sleep(FORGOTTEN_S)
        await self.alice.register()


Scene = Callable[[Phones], Awaitable[None]]


async def refused(work: Awaitable[object]) -> int:
    """The status that a request is refused with; 200 where it is not."""
    try:
        await asyncio.wait_for(work, 30)
    except CallFailed as failure:
        return failure.status
    return 200


async def took_s(work: Awaitable[object]) -> float:
    """How long something takes that works."""
    began = time.monotonic()
    await asyncio.wait_for(work, 30)
    return time.monotonic() - began


async def nobody_can(status: int, phones: Phones) -> None:
    """REGISTER of a known and of a new phone, and a call, are all refused with one status."""
    for work in (phones.alice.register(), phones.carol.register(), phones.alice.call("bob")):
        assert await refused(work) == status


async def hss_down(phones: Phones) -> None:
    await nobody_can(504, phones)


async def hss_answers_3002(phones: Phones) -> None:
    await nobody_can(403, phones)


async def hss_answers_5012(phones: Phones) -> None:
    await nobody_can(500, phones)


async def hss_slow(phones: Phones) -> None:
    assert await took_s(phones.carol.register()) > 7.5
    assert await took_s(phones.alice.message("bob", "slow")) > 1.9


async def wrong_secret(phones: Phones) -> None:
    assert await refused(phones.alice.register()) == 401
    assert await refused(phones.carol.register()) == 200


async def resynchronised(phones: Phones) -> None:
    sent = phones.lab.hss.subscriber("alice").sqn
    await phones.alice.register()
    assert await refused(phones.carol.register()) == 200
    now = phones.lab.hss.subscriber("alice").sqn
    assert abs(now - sent) > 32, "AUTS has told the HSS where the SIM is"


async def scscf_restarted(phones: Phones) -> None:
    assert await refused(phones.alice.call("bob")) == 403
    await phones.alice.register()
    assert await refused(phones.alice.call("bob")) == 480
    assert phones.lab.hss.subscriber("bob").state in ("registered", "unregistered")


async def scscf_down(phones: Phones) -> None:
    assert await refused(phones.carol.register()) == 504
    assert await refused(phones.alice.message("bob", "anybody?")) == 408


async def scscf_list_wrong(phones: Phones) -> None:
    assert await refused(phones.carol.register()) == 504
    assert await refused(phones.alice.register()) == 200
    await phones.alice.message("bob", "we go on")


async def no_path(phones: Phones) -> None:
    assert await refused(phones.alice.message("bob", "before I register")) == 403
    await phones.alice.register()
    assert await refused(phones.alice.message("bob", "after")) == 403


async def name_unresolvable(phones: Phones) -> None:
    before = phones.lab.hss.peers()
    assert await refused(phones.carol.register()) == 504
    assert phones.lab.hss.peers() == before, "no Cx request has reached the HSS"


async def no_direction(phones: Phones) -> None:
    ours, theirs = await in_a_call(phones)
    await ours.hold()
    assert (ours.held, theirs.held_by_peer, theirs.media_direction) == (True, False, "sendrecv")
    await ours.hold(old_way=True)
    assert theirs.held_by_peer
    await ours.bye()


async def no_update(phones: Phones) -> None:
    ours, theirs = await in_a_call(phones)
    assert await refused(ours.hold(method="UPDATE")) == 405
    assert (ours.state, theirs.held_by_peer) == ("answered", False)
    await ours.hold()
    assert theirs.held_by_peer
    await ours.bye()


async def in_a_call(phones: Phones) -> tuple[Call, Call]:
    """Alice in a call with Bob, both registered at a P-CSCF that has just been started anew."""
    await phones.alice.register()
    await phones.bob.register()
    ours = await phones.alice.call("bob")
    return ours, await phones.bob.wait_call()


async def ifc_group(phones: Phones) -> None:
    await phones.comes_back()
    assert await refused(phones.alice.message("bob", "no INVITE at all")) == 408
    assert await refused(phones.bob.call("alice")) == 408
    await phones.bob.message("alice", "neither INVITE nor originating")
    await phones.alice.deregister()
    await asyncio.sleep(FORGOTTEN_S)


async def as_down(phones: Phones) -> None:
    await phones.comes_back()
    assert await took_s(phones.alice.message("bob", "by way of a dead server")) > 1.8
    await phones.alice.deregister()
    await asyncio.sleep(FORGOTTEN_S)


async def ussd_info_blind(phones: Phones) -> None:
    package = {"group": 1, "header": "Recv-Info", "header_content": "g[.]3gpp[.]ussd"}
    server = f"sip:ussd@ussd.{phones.lab.realm}:{phones.lab.sip_address('ussd')[1]}"
    triggers = [{"group": 0, "method": "INVITE"}, package, {"group": 2, "session_case": 0}]
    phones.lab.hss.set_profile("alice", [{"priority": 1, "server": server, "triggers": triggers}])
    await phones.comes_back()
    with pytest.raises(CallFailed, match="sent no USSD text"):
        await phones.alice.ussd("*100#", timeout_s=1.5)
    await asyncio.to_thread(phones.lab.heal, "ussd-info-blind")
    session = await phones.alice.ussd("*100#")
    assert await session.reply("1") == "You have 12.50 EUR."
    phones.lab.hss.set_profile("alice", [])
    await phones.alice.deregister()
    await asyncio.sleep(FORGOTTEN_S)


SYMPTOMS: Final[dict[str, Scene]] = {
    "hss-down": hss_down,
    "hss-slow": hss_slow,
    "hss-answers-3002": hss_answers_3002,
    "hss-answers-5012": hss_answers_5012,
    "wrong-key": wrong_secret,
    "wrong-opc": wrong_secret,
    "sqn-ahead": resynchronised,
    "sqn-behind": resynchronised,
    "scscf-restarted": scscf_restarted,
    "scscf-down": scscf_down,
    "scscf-list-wrong": scscf_list_wrong,
    "no-path": no_path,
    "name-unresolvable": name_unresolvable,
    "no-direction": no_direction,
    "no-update": no_update,
    "ussd-info-blind": ussd_info_blind,
    "ifc-group": ifc_group,
    "as-down": as_down,
}
NEEDS: Final = {"ussd-info-blind": ["ussd"]}
"""Nodes that a fault needs besides those that every lab has."""


@asynccontextmanager
async def switched_on(lab: RunningLab) -> AsyncIterator[Phones]:
    """The phones, alice and bob registered; all switched off at the end."""
    phones = Phones(lab)
    try:
        for phone in phones.all:
            await phone.start()
        await phones.alice.register()
        await phones.alice.register()  # so that her SIM has accepted more than one SQN
        await phones.bob.register()
        yield phones
    finally:
        for phone in phones.all:
            await phone.stop()


def fresh(lab: RunningLab) -> None:
    """Nobody registered, nothing changed."""
    lab.hss.reset()
    lab.restart_node("scscf")


def test_every_fault_is_tried() -> None:
    """A new fault needs a symptom here."""
    elsewhere = {fault.name for fault in (*CHARGING_FAULTS, *PREPAID_FAULTS)}
    assert set(SYMPTOMS) == set(faults) - elsewhere, "see test_postgres_live.py and test_prepaid_live.py"


@pytest.mark.parametrize("name", SYMPTOMS)
def test_a_fault_shows_its_symptom_and_is_healed(lab: RunningLab, name: str) -> None:
    """In: a phone sees what the fault promises, and the status names it. Out: registration, call and message work."""

    async def scene() -> None:
        async with switched_on(lab) as phones:
            await asyncio.to_thread(lab.inject, name)
            try:
                assert [fault["name"] for fault in lab.status()["faults"]] == [name]
                await SYMPTOMS[name](phones)
            finally:
                await asyncio.to_thread(lab.heal, name)
            await phones.all_works()

    lab.start_nodes(NEEDS.get(name, []))
    fresh(lab)
    asyncio.run(scene())
    assert lab.status()["faults"] == []
    assert all(lab.ready(node) for node in lab.topology.default)


def test_slower_than_the_core_waits_is_a_refusal(lab: RunningLab) -> None:
    """5 s for an answer is too much for the I-CSCF: 504."""

    async def scene() -> None:
        async with switched_on(lab) as phones:
            with lab.fault("hss-slow", delay_s=5.0):
                assert await refused(phones.carol.register()) == 504

    fresh(lab)
    asyncio.run(scene())


def test_default_handling_of_a_dead_server_can_end_the_session(lab: RunningLab) -> None:
    """as-down with DefaultHandling 1: 408 instead of a delay."""

    async def scene() -> None:
        async with switched_on(lab) as phones:
            with lab.fault("as-down", default_handling=1):
                await phones.comes_back()
                assert await refused(phones.alice.message("bob", "by way of a dead server")) == 408

    fresh(lab)
    asyncio.run(scene())


def test_a_lab_heals_itself_when_the_one_who_broke_it_was_killed(lab: RunningLab) -> None:
    """SIGKILL with two faults in, one of them a wrong configuration: at the limit a phone registers again."""
    fresh(lab)
    code = (
        "import os, signal\n"
        "from labkit.lab.lab import attach\n"
        f"lab = attach({lab.name!r})\n"
        "lab.inject('name-unresolvable', time_limit_s=4)\n"
        "lab.inject('hss-down', time_limit_s=3)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr

    async def scene() -> None:
        phones = Phones(lab)
        await phones.carol.start()
        try:
            assert await refused(phones.carol.register()) == 504
            deadline = time.monotonic() + 30
            while lab.status()["faults"]:
                assert time.monotonic() < deadline, "the healers have not healed"
                await asyncio.sleep(0.3)
            await phones.carol.register()
            await phones.carol.deregister()
        finally:
            await phones.carol.stop()

    asyncio.run(scene())
