"""An application server of ours at a real S-CSCF: what brings a request there, and what its answers do to a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Final

import pytest

from labkit.errors import CallFailed
from labkit.lab.running import RunningLab
from labkit.peers.app_server import AppServer
from labkit.peers.hss.subscribers import load_subscribers
from labkit.peers.ue import UE

PEOPLE: Final = {one.name: one for one in load_subscribers()}
PLACES: Final = {"alice": 21, "bob": 22, "carol": 23, "as": 145}
ORIGINATING: Final = {"triggers": [{"group": 0, "method": "INVITE"}, {"group": 1, "session_case": 0}]}
TERMINATING: Final = {"triggers": [{"group": 0, "method": "INVITE"}, {"group": 1, "session_case": 1}]}
REGISTERING: Final = {"triggers": [{"method": "REGISTER"}]}


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own, for at most a minute."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(*args, **kwargs), 60)

        asyncio.run(bounded())

    return run


@asynccontextmanager
async def served(
    lab: RunningLab, user: str, criterion: dict[str, Any], mode: str = "proxy", **options: Any
) -> AsyncIterator[tuple[AppServer, UE, UE]]:
    """Alice and Bob, registered, and a server that a criterion of `user` names."""
    address, port = lab.phone_address(PLACES["as"])
    async with AppServer("as", address=address, port=port, mode=mode, **options) as server:
        ifc = [{"priority": 1, "server": server.uri, **criterion}]
        await asyncio.to_thread(lab.hss.set_profile, user, ifc)
        await asyncio.sleep(1.5)  # the S-CSCF forgets a profile only when its timer looks
        try:
            async with phone(lab, "alice") as alice, phone(lab, "bob", auto_answer=True) as bob:
                await alice.register()
                await bob.register()
                yield server, alice, bob
                await alice.deregister()
                await bob.deregister()
                assert (server.faults, alice.faults, bob.faults) == (0, 0, 0)
        finally:
            await asyncio.to_thread(lab.hss.set_profile, user, [])


def phone(lab: RunningLab, name: str, **options: Any) -> UE:
    """A phone of somebody in this lab."""
    address, port = lab.phone_address(PLACES[name])
    return UE(PEOPLE[name], address=address, port=port, pcscf=lab.sip_address("pcscf"), realm=lab.realm, **options)


@pytest.mark.parametrize(("user", "criterion"), [("alice", ORIGINATING), ("bob", TERMINATING)])
@in_loop
async def test_call_by_way_of_a_server(lab: RunningLab, user: str, criterion: dict[str, Any]) -> None:
    """The caller's or the called party's iFC: the call passes the server, with all that follows in its dialog."""
    async with served(lab, user, criterion) as (server, alice, bob):
        call = await alice.call(bob)
        invite = await server.wait_request("INVITE")
        assert (invite.done, invite.in_dialog, invite.addressed_as) == ("proxied", False, "as")
        assert invite.served_user.partition("@")[0] in {uri.partition("@")[0] for uri in PEOPLE[user].impus}
        assert invite.session_case == ("orig" if user == "alice" else "term")
        assert invite.registration_state == "reg"
        assert (invite.mark["h"], invite.mark["a"]) == ("0", invite.served_user)
        assert (await call.hold()).status == 200
        assert (await call.bye()).status == 200
        # two workers of a proxy may let what follows at once overtake an ACK, so no order is asked for
        assert sorted(one.method for one in server.requests) == ["ACK", "ACK", "BYE", "INVITE", "INVITE"]
        assert {one.in_dialog for one in server.requests[1:]} == {True}


@in_loop
async def test_server_that_answers_the_call_itself(lab: RunningLab) -> None:
    """A terminating server takes the call, with sound and all; Bob's phone never rings. Or it says 486."""
    async with served(lab, "bob", TERMINATING, "answer") as (server, alice, bob):
        call = await alice.call(bob)
        assert call.state == "answered"
        assert call.answered_with is not None
        assert (await call.hold()).status == 200
        assert (await call.bye()).status == 200
        await server.behave("answer", {"INVITE": 486})
        with pytest.raises(CallFailed, match="486"):
            await alice.call(bob)
        with pytest.raises(CallFailed, match="No call came"):
            await bob.wait_call(0.05)


@in_loop
async def test_third_party_register(lab: RunningLab) -> None:
    """A server with an iFC on REGISTER hears of registration and de-registration from the S-CSCF."""
    async with served(lab, "alice", REGISTERING) as (server, alice, _):
        first = await server.wait_request("REGISTER")
        assert first.to_uri in PEOPLE["alice"].impus
        assert first.from_uri.startswith("sip:scscf.")
        assert (first.done, first.served_user) == ("answered", "")
        assert first.expires_s is not None
        assert first.expires_s >= 600
        await alice.deregister()
        assert (await server.wait_request("REGISTER")).expires_s == 0
        await alice.register()


@pytest.mark.parametrize("mode", ["refuse", "silent"])
@pytest.mark.parametrize("handling", [0, 1])
@in_loop
async def test_default_handling(lab: RunningLab, mode: str, handling: int) -> None:
    """A server that fails is left out with DefaultHandling 0, and ends the session with 1."""
    criterion = {**ORIGINATING, "default_handling": handling}
    async with served(lab, "alice", criterion, mode) as (server, alice, bob):
        if handling == 0:
            call = await alice.call(bob)
            assert (await call.bye()).status == 200
        else:
            # a proxy makes 500 of 503, lest the caller think that the whole network is overloaded (RFC 3261 16.7)
            with pytest.raises(CallFailed, match="500 Service Unavailable" if mode == "refuse" else "408"):
                await alice.call(bob)
        assert [one.method for one in server.requests if one.method != "ACK"] == ["INVITE"]
        assert server.requests[0].mark["h"] == str(handling)


@in_loop
async def test_server_that_comes_back(lab: RunningLab) -> None:
    """Stopped and started again it has the same URI, so the profile stays right."""
    async with served(lab, "alice", ORIGINATING) as (server, alice, bob):
        before = server.uri
        await server.stop()
        call = await alice.call(bob)
        await call.bye()
        await server.start()
        assert server.uri == before
        call = await alice.call(bob)
        await call.bye()
        assert sorted(one.method for one in server.requests) == ["ACK", "BYE", "INVITE"]
