"""Misbehaviour on demand: what the HSS does wrong, for how long, and that it is over when it is over."""

from __future__ import annotations

import asyncio
import time

import pytest
from cx_client import REALM, USERS, CxClient, outcome, running_hss
from in_loop import in_loop

from labkit.clients.hss import HssClient
from labkit.errors import AkaError, LabkitError
from labkit.wire import cx
from labkit.wire.aka import Milenage, answer_challenge
from labkit.wire.diameter import Message

ALICE, BOB = USERS["alice"], USERS["bob"]
SUCCESS, FIRST = (2001, False), (2001, True)


class Threaded:
    """Awaitable calls of the blocking client, so that the HSS can run in the same test."""

    def __init__(self, port: int) -> None:
        self._client = HssClient(f"http://127.0.0.1:{port}")

    def __getattr__(self, name):
        return lambda *args, **more: asyncio.to_thread(getattr(self._client, name), *args, **more)


async def _timed(asking) -> tuple[Message, float]:
    started_s = time.monotonic()
    return await asking, time.monotonic() - started_s


@in_loop
async def test_slow_answers():
    """Answers of the named commands are held back, others and watchdogs are not."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        slow = await door.misbehave(delay_s=0.3, commands=["UAR"], name="slow")
        assert (slow.delay_s, slow.commands, slow.result) == (0.3, ("UAR",), None)
        answer, waited_s = await _timed(cscf.uar(ALICE))
        assert outcome(answer) == FIRST
        assert waited_s >= 0.3
        assert outcome(await cscf.lir(ALICE.impus[0])) == (5003, True)
        asking = asyncio.create_task(cscf.uar(ALICE))
        dwa = await cscf.ask(cx.dwr(cscf.host, REALM, hop_by_hop_id=70001, end_to_end_id=1))
        assert dwa.find("Result-Code").value == 2001
        assert outcome(await cscf.mar(ALICE)) == SUCCESS, "a later request overtakes"
        assert not asking.done()
        await asking


@in_loop
async def test_behave_lets_held_answers_go():
    """The end of a slow time sends what is held back, and the next answer comes at once."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        await door.misbehave(delay_s=60)
        asking = asyncio.create_task(cscf.uar(ALICE))
        await asyncio.sleep(0.02)
        assert not asking.done()
        await door.behave()
        assert outcome(await asyncio.wait_for(asking, 1)) == FIRST
        assert outcome(await asyncio.wait_for(cscf.uar(ALICE), 1)) == FIRST
        assert await door.misbehaviours() == ()


@in_loop
async def test_the_hss_ends_it_by_itself():
    """The time limit holds without anybody asking."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        await door.misbehave(result=5012, limit_s=0.2)
        await door.misbehave(user="alice", wrong="k", limit_s=0.2, name="key")
        assert outcome(await cscf.uar(ALICE)) == (5012, False)
        shown = await door.misbehaviours()
        assert [one.name for one in shown] == ["default", "key"]
        assert all(0 <= one.left_s <= 0.2 for one in shown)
        assert "left_s" not in repr(shown)
        await asyncio.sleep(0.25)
        assert await door.misbehaviours() == ()
        assert outcome(await cscf.uar(ALICE)) == FIRST
        await _take(cscf, ALICE)


@in_loop
@pytest.mark.parametrize("name", ["UAR", "MAR", "SAR", "LIR"])
async def test_answers_with_a_given_result(name):
    """3002 sets the E flag, 5012 does not, an experimental result stands where it belongs; no state changes."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        ask = {
            "UAR": lambda: cscf.uar(ALICE),
            "MAR": lambda: cscf.mar(ALICE),
            "SAR": lambda: cscf.sar(ALICE, 1),
            "LIR": lambda: cscf.lir(ALICE.impus[0]),
        }
        for result, experimental in ((3002, False), (5012, False), (5001, True)):
            await door.misbehave(result=result, experimental=experimental, commands=[name])
            answer = await ask[name]()
            assert outcome(answer) == (result, experimental)
            assert bool(answer.flags & 0x20) == (result == 3002)
            assert "on purpose" in answer.find("Error-Message").value
            assert (answer.find("User-Name") is not None) == (name == "MAR")
            assert hss.store.find("alice").state == "not_registered"
            assert not hss.store.find("alice").pending
            for other in ask.keys() - {name}:
                assert outcome(await ask[other]()) != (result, experimental) or other == "LIR"
            await door.reset()
        assert outcome(await ask[name]()) in (SUCCESS, FIRST, (5003, True))


@in_loop
async def test_several_at_a_time():
    """Each has a name and ends alone; the same name again replaces it."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        await door.misbehave(delay_s=0.1, name="slow")
        await door.misbehave(result=5012, name="wrong", commands=["UAR", "LIR"])
        await door.misbehave(result=3004, name="wrong", commands=["UAR"])
        answer, waited_s = await _timed(cscf.uar(ALICE))
        assert (outcome(answer), waited_s >= 0.1) == ((3004, False), True)
        assert outcome(await cscf.lir(ALICE.impus[0])) == (5003, True)
        await door.behave("slow")
        await door.behave("nothing of that name")
        assert [one.name for one in await door.misbehaviours()] == ["wrong"]
        await door.behave("wrong")
        assert not hss.behaviour.active


async def _take(cscf: CxClient, user, sqn_ms: int = 0):
    """Take a challenge as the SIM does; return what it says."""
    item = (await cscf.mar(user)).find("SIP-Auth-Data-Item")
    challenge = item.find("SIP-Authenticate").raw
    return answer_challenge(Milenage(user.k, user.opc), challenge[:16], challenge[16:], sqn_ms)


@in_loop
@pytest.mark.parametrize("wrong", ["k", "opc"])
async def test_wrong_secret(wrong):
    """A SIM finds the MAC wrong, what is provisioned stays as it is, and the end brings the right secret back."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        carol = USERS["carol"]
        await door.misbehave(user="carol", wrong=wrong)
        with pytest.raises(AkaError, match="MAC"):
            await _take(cscf, carol)
        assert (await door.subscriber("carol")).provisioned["k"] == carol.k.hex()
        await door.update_subscriber("carol", barred_impus=[carol.impus[0]])
        with pytest.raises(AkaError, match="MAC"):
            await _take(cscf, carol)
        assert (await _take(cscf, BOB)).res
        await door.behave()
        assert (await _take(cscf, carol)).res


@in_loop
async def test_sqn_out_of_step():
    """An SQN far ahead or behind makes the SIM ask for resynchronisation; the end puts an unused jump back."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        user = hss.store.find("alice")
        user.sqn = 33 * 100
        await door.misbehave(user="alice", wrong="sqn-ahead")
        ahead = await _take(cscf, ALICE, 33 * 100)
        assert ahead.auts
        await door.behave()
        assert user.sqn == 33 * 101
        await door.misbehave(user="alice", wrong="sqn-ahead")
        item = (await cscf.mar(ALICE)).find("SIP-Auth-Data-Item").find("SIP-Authenticate").raw
        out = answer_challenge(Milenage(ALICE.k, ALICE.opc), item[:16], item[16:], 33 * 101)
        await cscf.mar(ALICE, authorization=item[:16] + out.auts)
        assert user.sqn == 33 * 102, "the SIM's AUTS has put it right"
        await door.behave()
        assert user.sqn == 33 * 102
        await door.misbehave(user="alice", wrong="sqn-behind")
        assert (await _take(cscf, ALICE, 33 * 102)).auts
        await door.behave()
        assert user.sqn == 33 * 102


@in_loop
async def test_a_restart_ends_it(tmp_path):
    """Nothing of it is written down: an HSS that starts anew behaves."""
    path = str(tmp_path / "hss.sqlite")
    async with running_hss(state=path) as hss, CxClient(hss.diameter_port) as cscf:
        door = Threaded(hss.admin_port)
        await door.misbehave(result=3002, commands=["UAR"])
        await door.misbehave(user="alice", wrong="k", name="key")
        await door.misbehave(user="alice", wrong="sqn-ahead", name="sqn")
        await _take(cscf, BOB)
    async with running_hss(state=path) as hss, CxClient(hss.diameter_port) as cscf:
        assert not hss.behaviour.active
        assert (await _take(cscf, ALICE)).res


@in_loop
async def test_peer_that_goes_while_its_answer_is_held():
    """A connection that ends takes its held answers along."""
    async with running_hss() as hss:
        door = Threaded(hss.admin_port)
        await door.misbehave(delay_s=0.05)
        async with CxClient(hss.diameter_port) as cscf:
            asking = asyncio.create_task(cscf.uar(ALICE))
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.sleep(0.1)
        async with CxClient(hss.diameter_port) as cscf:
            assert outcome(await cscf.uar(ALICE)) == FIRST


@in_loop
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "what to do wrong"),
        ({"delay_s": -1}, "delay_s is -1"),
        ({"delay_s": 61}, "from 0 to 60"),
        ({"delay_s": 1, "limit_s": 0}, "limit_s is 0"),
        ({"delay_s": 1, "limit_s": 1e9}, "at most 3600"),
        ({"delay_s": 1, "commands": ["DWR"]}, "'DWR' is no request"),
        ({"result": 7}, "7 is no result"),
        ({"user": "alice"}, "give a user and one of"),
        ({"wrong": "k"}, "give a user and one of"),
        ({"user": "alice", "wrong": "hair"}, "sqn-behind"),
        ({"user": "dave", "wrong": "k"}, "has no SIM"),
        ({"user": "nobody", "wrong": "k"}, "no subscriber nobody"),
        ({"result": "many"}, "cannot be read"),
    ],
)
async def test_what_cannot_be(given, sentence):
    """A wrong wish is refused with a sentence, and nothing changes."""
    async with running_hss() as hss:
        door = Threaded(hss.admin_port)
        with pytest.raises(LabkitError, match=sentence):
            await door.misbehave(**given)
        assert await door.misbehaviours() == ()
