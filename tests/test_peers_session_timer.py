"""Session timers: what both sides agree on, refreshes, and what happens when none comes (RFC 4028)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from in_loop import in_loop
from ue_parts import first_lines, lose, owner, until, uri

from labkit.peers.call import Call
from labkit.peers.ue import UE
from labkit.wire.sip import parse_message


def phone(name: str, **options: Any) -> UE:
    """A phone with session timers, unless told otherwise."""
    return UE(owner(name), **{"address": "127.0.0.1", "port": 0, "extensions": ("timer",), **options})


@asynccontextmanager
async def call(of_alice: dict[str, Any], of_bob: dict[str, Any]) -> AsyncIterator[tuple[Call, Call, list[bytes]]]:
    """A call from Alice to Bob, both ends, and what Alice sends."""
    async with phone("alice", **of_alice) as alice, phone("bob", auto_answer=True, **of_bob) as bob:
        sent = lose(alice)
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        yield ours, theirs, sent
        if ours.state == "answered":
            await ours.bye()
        assert (alice.faults, bob.faults) == (0, 0)


@in_loop
async def test_agreement() -> None:
    """The caller asks for its interval, the callee agrees and makes the caller refresh (sections 7.1 and 9)."""
    async with call({"session_expires_s": 1200}, {}) as (ours, theirs, _):
        assert ours.invite is not None
        assert ours.answered_with is not None
        assert ours.invite.header("session-expires") == "1200"
        assert ours.invite.header("min-se") == "90"
        assert ours.invite.all("supported") == ("timer",)
        assert ours.answered_with.header("session-expires") == "1200;refresher=uac"
        assert ours.answered_with.all("require") == ("timer",)
        assert (ours.session_expires_s, theirs.session_expires_s) == (1200, 1200)
        assert (ours._timer._we_refresh, theirs._timer._we_refresh) == (True, False)


@in_loop
async def test_caller_that_knows_no_timer() -> None:
    """The callee refreshes alone where the caller does not know the extension; nothing without it on our side."""
    async with call({"extensions": ()}, {}) as (ours, theirs, _):
        assert ours.answered_with is not None
        assert ours.answered_with.header("session-expires") == "1800;refresher=uas"
        assert ours.answered_with.header("require") is None
        assert (ours.session_expires_s, theirs.session_expires_s) == (0, 1800)
        assert theirs._timer._we_refresh
    async with call({}, {"extensions": ()}) as (ours, theirs, _):
        assert (ours.session_expires_s, theirs.session_expires_s) == (0, 0)


@in_loop
async def test_interval_too_small() -> None:
    """422 with Min-SE makes the caller ask for a longer interval (section 7.4)."""
    short = {"session_expires_s": 100, "min_se_s": 90}
    async with call(short, {"min_se_s": 300}) as (ours, _, sent):
        assert first_lines(sent)[:3] == ["INVITE", "ACK", "INVITE"]
        again = parse_message(sent[2])
        assert (again.cseq, again.header("session-expires"), again.header("min-se")) == (2, "300", "300")
        assert ours.session_expires_s == 300


@pytest.mark.parametrize("knows_update", [True, False])
@in_loop
async def test_refresh(knows_update: bool) -> None:
    """Half way through, the refresher sends UPDATE, or a re-INVITE to who knows no UPDATE; the call lives on."""
    quick = {"session_expires_s": 3, "min_se_s": 3}  # with less, a slow machine is half an interval late
    async with call(quick, quick) as (ours, theirs, sent):
        if not knows_update:
            theirs._core.agent.allow = theirs._core.agent.allow.replace(", UPDATE", "")
        wanted = "UPDATE" if knows_update else "INVITE"
        await until(lambda: first_lines(sent)[2:].count(wanted) >= 2, 10)
        refresh = parse_message(next(raw for raw in sent[2:] if raw.startswith(wanted.encode())))
        assert refresh.header("session-expires") == "3;refresher=uac"
        assert refresh.all("supported") == ("timer",)
        assert bool(refresh.body) is not knows_update
        assert (ours.state, theirs.state) == ("answered", "answered")
        await until(lambda: not ours._offers._offering)  # the second refresh may still be under way
        await ours.hold()
        assert ours._timer._we_refresh
        assert not theirs._timer._we_refresh


@in_loop
async def test_no_refresh_comes() -> None:
    """The side that waits hangs up before the interval is over; so does a refresher whose refreshes are refused."""
    quick = {"session_expires_s": 1, "min_se_s": 1}
    async with call(quick, quick) as (ours, theirs, _):
        ours._timer._clock.cancel()  # type: ignore[union-attr]
        await until(lambda: theirs.state == "ended")
        assert theirs.end_reason == "the session was not refreshed in time"
        await ours.wait_state("ended")
    async with call(quick, quick) as (ours, theirs, _):
        theirs._timer._stop()
        theirs._core.agent.calls.clear()  # a phone that has lost its memory: 481
        await until(lambda: ours.state == "ended")
        assert ours.end_reason == "the other side answered 481 to a session refresh"
