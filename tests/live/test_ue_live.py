"""Phones through a real IMS core: registration, calls with hold and resume, BYE, CANCEL, MESSAGE, tel: numbers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest

from labkit.errors import CallFailed
from labkit.lab.lab import RunningLab
from labkit.peers.hss.subscribers import Subscriber, load_subscribers
from labkit.peers.ue import UE

BOTH = pytest.mark.parametrize("transport", ["udp", "tcp"])


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own, for at most a minute."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(*args, **kwargs), 60)

        asyncio.run(bounded())

    return run


@pytest.fixture(scope="module")
def people() -> dict[str, Subscriber]:
    """The test subscribers by name."""
    return {one.name: one for one in load_subscribers()}


def phone(lab: RunningLab, person: Subscriber, index: int, **options: Any) -> UE:
    """A phone of somebody in this lab."""
    address, port = lab.phone_address(index)
    return UE(person, address=address, port=port, pcscf=lab.sip_address("pcscf"), realm=lab.realm, **options)


@asynccontextmanager
async def registered(
    lab: RunningLab, people: dict[str, Subscriber], transport: str, **of_bob: Any
) -> AsyncIterator[tuple[UE, UE]]:
    """Alice and Bob, registered before and gone afterwards."""
    async with (
        phone(lab, people["alice"], 11, transport=transport) as alice,
        phone(lab, people["bob"], 12, transport=transport, **of_bob) as bob,
    ):
        await alice.register()
        await bob.register()
        yield alice, bob
        await alice.deregister()
        await bob.deregister()
        assert (alice.faults, bob.faults) == (0, 0)


@BOTH
@in_loop
async def test_registration(lab: RunningLab, people: dict[str, Subscriber], transport: str) -> None:
    """Register, re-register, resynchronise, de-register: the core grants identities, a Service-Route and a time."""
    async with phone(lab, people["alice"], 11, transport=transport) as alice:
        assert (await alice.register()).status == 200
        granted = alice.registration
        assert f"sip:alice@{lab.realm}" in granted.associated_uris
        assert granted.service_route[0].startswith("<sip:orig@")
        assert 0 < granted.expires_s <= 600
        assert (await alice.reregister()).status == 200
        ahead = alice.sqn_ms + 4096
        await alice.set_sqn(ahead)
        assert (await alice.reregister()).status == 200
        assert alice.sqn_ms > ahead
        assert (await alice.deregister()).status == 200
        assert not alice.registered


@in_loop
async def test_digest_user(lab: RunningLab, people: dict[str, Subscriber]) -> None:
    """A user with a password instead of a SIM registers, and is refused with a wrong password."""
    async with phone(lab, people["dave"], 13) as dave:
        assert (await dave.register()).status == 200
        assert (await dave.deregister()).status == 200
    async with phone(lab, dataclasses.replace(people["dave"], password="wrong"), 13) as wrong:
        with pytest.raises(CallFailed, match="is its secret"):
            await wrong.register()


@in_loop
async def test_refused_registrations(lab: RunningLab, people: dict[str, Subscriber]) -> None:
    """Roaming not allowed and an unknown user are 403; a SIM with another key does not believe the network."""
    unknown = dataclasses.replace(people["alice"], impi=f"nobody@{lab.realm}", impus=(f"sip:nobody@{lab.realm}",))
    wrong_key = dataclasses.replace(people["carol"], k=bytes(16))
    for person, status, text in ((people["erin"], 403, "403"), (unknown, 403, "403"), (wrong_key, None, "MAC in AUTN")):
        async with phone(lab, person, 14) as ue:
            with pytest.raises(CallFailed, match=text) as caught:
                await ue.register()
            assert status in (None, caught.value.status)


@BOTH
@in_loop
async def test_call_with_hold_and_resume(lab: RunningLab, people: dict[str, Subscriber], transport: str) -> None:
    """A call with sound, held and resumed from both sides, ended by the caller and, once more, by the callee."""
    async with registered(lab, people, transport, auto_answer=True, rtp=True) as (alice, bob):
        for hangs_up in ("caller", "callee"):
            ours = await alice.call(bob, rtp=True)
            theirs = await bob.wait_call()
            await theirs.wait_state("answered")
            assert theirs.remote == alice.public_identity
            await ours.hold()
            assert (ours.media_direction, theirs.media_direction) == ("sendonly", "recvonly")
            await theirs.hold()
            assert (ours.media_direction, theirs.media_direction) == ("inactive", "inactive")
            await ours.resume()
            await theirs.resume()
            assert (ours.media_direction, theirs.media_direction) == ("sendrecv", "sendrecv")
            await asyncio.sleep(0.2)
            report = await theirs.media()
            assert report is not None
            assert report.received > 0
            first, second = (ours, theirs) if hangs_up == "caller" else (theirs, ours)
            assert (await first.bye()).status == 200
            await second.wait_state("ended")
            assert second.end_reason == "hung up by the other side"


@BOTH
@in_loop
async def test_telephone_number(lab: RunningLab, people: dict[str, Subscriber], transport: str) -> None:
    """A call to a tel: URI reaches the phone of that number."""
    async with registered(lab, people, transport, auto_answer=True) as (alice, bob):
        number = next(uri for uri in people["bob"].impus if uri.startswith("tel:"))
        ours = await alice.call(number)
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        await ours.bye()


@BOTH
@in_loop
async def test_cancel_and_reject(lab: RunningLab, people: dict[str, Subscriber], transport: str) -> None:
    """A cancelled call ends with 487 on both sides, a rejected one with what the callee said."""
    async with registered(lab, people, transport) as (alice, bob):
        ours = await alice.call(bob, wait="ringing")
        theirs = await bob.wait_call()
        assert (await ours.cancel()).status == 487
        await theirs.wait_state("ended")
        assert theirs.end_reason == "cancelled by the caller"
        dialling = asyncio.create_task(alice.call(bob))
        theirs = await bob.wait_call()
        await theirs.reject(486)
        with pytest.raises(CallFailed, match="486"):
            await dialling


@BOTH
@in_loop
async def test_messages(lab: RunningLab, people: dict[str, Subscriber], transport: str) -> None:
    """A text message goes both ways; OPTIONS to the P-CSCF is answered."""
    async with registered(lab, people, transport) as (alice, bob):
        for sender, receiver, text in ((alice, bob, "hallo"), (bob, alice, "grüß dich")):
            assert (await sender.message(receiver, text)).status in (200, 202)
            assert (await receiver.wait_message()).body.decode() == text
        assert (await alice.options()).status == 200


@in_loop
async def test_calls_that_go_nowhere(lab: RunningLab, people: dict[str, Subscriber]) -> None:
    """A known user without a phone is 480, an unknown one 604 (or 404), each with its reason in the error."""
    async with registered(lab, people, "udp") as (alice, _):
        for target, statuses in ((f"sip:carol@{lab.realm}", {480}), (f"sip:nobody@{lab.realm}", {404, 604})):
            with pytest.raises(CallFailed) as caught:
                await alice.call(target)
            assert caught.value.status in statuses
            assert f"INVITE {target} (CSeq 1)" in str(caught.value)


@in_loop
async def test_watching_ones_registration(lab: RunningLab, people: dict[str, Subscriber]) -> None:
    """A phone hears of its registration: active at once, terminated after an RTR; it refreshes and ends its watch."""
    async with phone(lab, people["alice"], 11) as alice:
        await alice.register()
        watch = await alice.subscribe_registration()
        identities = set(people["alice"].impus)
        assert {(one.aor, one.state) for one in watch.registrations} == {(uri, "active") for uri in identities}
        (contact,) = {one.contacts[0].uri for one in watch.registrations}
        assert contact == alice.contact
        assert {one.contacts[0].event for one in watch.registrations} <= {"registered", "created"}
        assert (await watch.refresh()).status == 200
        outcome = await asyncio.to_thread(lab.hss.deregister, "alice")
        assert outcome.result == "DIAMETER_SUCCESS"
        told = await watch.wait_notify("terminated")
        assert told.reginfo is not None
        assert {one.aor for one in told.reginfo.registrations} == identities
        assert watch.state == "active"
        await alice.register()
        again = await alice.subscribe_registration()
        assert (await again.unsubscribe()).status == 200
        assert again.reason == "ended here"
        with pytest.raises(CallFailed, match="480"):  # nobody serves Bob, so nobody can tell
            await alice.subscribe_registration(target=f"sip:bob@{lab.realm}")
        await alice.deregister()
        assert alice.faults == 0


@in_loop
async def test_long_requests_go_over_tcp(lab: RunningLab, people: dict[str, Subscriber]) -> None:
    """A phone on UDP sends a long INVITE and a long MESSAGE over TCP; what follows in the dialog reaches both sides."""
    long = "x" * 1400
    async with registered(lab, people, "udp", auto_answer=True) as (alice, bob):
        ours = await alice.call(bob, headers=(f"Subject: {long}",))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        assert theirs.invite is not None
        first_hop = theirs.invite.all("via")[-1]
        assert first_hop.startswith("SIP/2.0/TCP")
        await ours.hold()
        await theirs.hold()
        await ours.resume()
        assert (await theirs.bye()).status == 200
        await ours.wait_state("ended")
        assert (await alice.message(bob, long)).status in (200, 202)
        assert (await bob.wait_message()).body == long.encode()


@in_loop
async def test_reliable_ringing(lab: RunningLab, people: dict[str, Subscriber]) -> None:
    """180 with 100rel and its PRACK pass the core, and the call goes on as any other."""
    async with (
        phone(lab, people["alice"], 11, extensions=("100rel",)) as alice,
        phone(lab, people["bob"], 12, extensions=("100rel",)) as bob,
    ):
        await alice.register()
        await bob.register()
        ours = await alice.call(bob, wait="ringing")
        theirs = await bob.wait_call()
        await theirs.answer()
        await ours.wait_state("answered")
        assert ours._core.dialog is not None
        assert ours._core.dialog.local_cseq == 2  # INVITE 1, PRACK 2
        assert (await ours.hold()).status == 200
        assert (await theirs.bye()).status == 200
        await alice.deregister()
        await bob.deregister()
        assert (alice.faults, bob.faults) == (0, 0)
