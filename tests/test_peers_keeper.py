"""A phone that stays registered by itself, and obeys what the network says of its registration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from in_loop import in_loop
from ue_parts import REALM, Peer, owner, peer, until

from labkit.peers.keeper import refresh_after_s
from labkit.peers.transaction import build_response
from labkit.peers.ue import UE
from labkit.wire.reginfo import parse_reginfo
from labkit.wire.sip import SipMessage


@pytest.mark.parametrize(("expires_s", "after_s"), [(3600, 3000), (1201, 601), (1200, 600), (600, 300), (10, 5)])
def test_when_to_renew(expires_s: int, after_s: float) -> None:
    """600 s before the end of a long registration, half way through a short one (TS 24.229 section 5.1.1.4.1)."""
    assert refresh_after_s(expires_s) == after_s


def granting(seconds: int) -> Any:
    """A registrar that wants no proof and grants so many seconds."""

    def play(request: SipMessage) -> SipMessage:
        wanted = (request.header("contact") or "").partition(";")[0]
        return build_response(request, 200, (("Contact", f"{wanted};expires={seconds}"),), None, b"", "r")

    return play


def refusing(status: int) -> Any:
    return lambda request: build_response(request, status, (), None, b"", "r")


@asynccontextmanager
async def registered(*steps: Any, **options: Any) -> AsyncIterator[tuple[Peer, UE]]:
    """Alice, registered, with a registrar that goes on with these steps."""
    async with (
        peer(granting(600), *steps) as registrar,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=registrar.address, **options) as alice,
    ):
        await alice.register()
        yield registrar, alice
        assert alice.faults == 0


@in_loop
async def test_registration_is_renewed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """keep_registered sends REGISTER again and again with the same Call-ID and time, until the phone leaves."""
    monkeypatch.setattr("labkit.peers.keeper.refresh_after_s", lambda _: 0.02)
    async with registered(granting(600), keep_registered=True) as (registrar, alice):
        await until(lambda: len(alice.own_actions) >= 3)
        assert alice.own_actions[:2] == ["re-registered in time"] * 2
        assert len({one.call_id for one in registrar.requests}) == 1
        assert {one.header("expires") for one in registrar.requests} == {"600"}
        await alice.deregister()
        seen = len(registrar.requests)
        assert alice._keeper._clock is None
        assert registrar.requests[seen - 1].header("expires") == "0"


@in_loop
async def test_nothing_by_itself_unless_asked() -> None:
    """Without the options a phone neither renews nor obeys."""
    async with registered() as (_, alice):
        assert alice._keeper._clock is None
        alice._keeper.told(document(alice, "rejected"), alice.contact)
        assert alice.registered
        assert alice.own_actions == []


@pytest.mark.parametrize(("status", "again"), [(503, True), (403, False)])
@in_loop
async def test_renewal_that_fails(monkeypatch: pytest.MonkeyPatch, status: int, again: bool) -> None:
    """After 5xx the phone tries again later; after a refusal for good it gives up, and says so."""
    monkeypatch.setattr("labkit.peers.keeper.refresh_after_s", lambda _: 0.02)
    async with registered(refusing(status), keep_registered=True) as (_, alice):
        await until(lambda: bool(alice.own_actions))
        assert alice.own_actions == [f"failed to: re-registered in time ({status})"]
        assert (alice._keeper._clock is not None) is again


def document(alice: UE, event: str, state: str = "terminated", extra: str = "", contact: str = "") -> Any:
    """What a registrar says of Alice's contact."""
    return parse_reginfo(
        f'<reginfo version="1" state="full"><registration aor="sip:alice-imsi@{REALM}" id="a" state="{state}">'
        f'<contact id="c" state="{state}" event="{event}" {extra}><uri>{contact or alice.contact}</uri></contact>'
        "</registration></reginfo>".encode()
    )


@pytest.mark.parametrize(
    ("event", "state", "extra", "said", "registers"),
    [
        ("deactivated", "terminated", "", "registered anew after 'deactivated'", True),
        ("probation", "terminated", 'retry-after="0"', "came back after 'probation'", True),
        ("shortened", "active", 'expires="5"', "re-registered after 'shortened'", True),
        ("rejected", "terminated", "", "stays away after 'rejected'", False),
    ],
)
@in_loop
async def test_what_the_network_says_is_done(event: str, state: str, extra: str, said: str, registers: bool) -> None:
    """Each event of RFC 3680 makes an obedient phone do what TS 24.229 section 5.1.1.7 wants."""
    async with registered(granting(600), obey_reg_event=True) as (registrar, alice):
        alice._keeper.told(document(alice, event, state, extra), alice.contact)
        assert alice.registered is (state == "active")
        await until(lambda: bool(alice.own_actions))
        assert alice.own_actions == [said]
        assert alice.registered is registers
        assert len(registrar.requests) == 1 + registers


@in_loop
async def test_what_does_not_concern_the_phone() -> None:
    """A change of another phone of the user is nothing to do; a registration that ends without a reason is lost."""
    async with registered(obey_reg_event=True) as (registrar, alice):
        alice._keeper.told(document(alice, "deactivated", "active", contact="sip:other@h"), alice.contact)
        assert alice.registered
        assert alice.own_actions == []
        ended = parse_reginfo(
            b'<reginfo version="2" state="full"><registration aor="sip:a@b" id="a" state="terminated"/></reginfo>'
        )
        alice._keeper.told(ended, alice.contact)
        assert not alice.registered
        assert alice.own_actions[0].startswith("took the registration for lost")
        assert len(registrar.requests) == 1
