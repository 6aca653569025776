"""A phone that watches its registration: SUBSCRIBE, NOTIFY, refresh, the end, and NOTIFYs that are none of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from in_loop import in_loop
from sip_bytes import crlf, recorded_sip
from ue_parts import QUICK, REALM, Peer, Play, owner, peer, until

from labkit.errors import CallFailed
from labkit.peers.subscription import EventSubscription
from labkit.peers.transaction import build_response
from labkit.peers.ue import UE
from labkit.wire.sip import SipMessage, parse_message

IDENTITY = f"sip:alice-imsi@{REALM}"
BEFORE, AFTER = [
    message.body
    for _, raw in recorded_sip("04_rtr_with_reg_event.pcap")
    if (message := parse_message(raw)).method == "NOTIFY"
    and message.header("via") == message.all("via")[0]
    and "172.30.0.13;" in message.all("via")[0]
]
"""What a real S-CSCF said before and after it was told to throw the user out."""


def accept(request: SipMessage) -> SipMessage:
    """200 to SUBSCRIBE, as an S-CSCF behind a P-CSCF says it."""
    seconds = request.header("expires") or "600"
    routes = (("Record-Route", "<sip:mo@127.0.0.1:9;lr>"),)
    headers = (("Contact", "<sip:scscf.ims:6060>"), ("Expires", seconds), *routes)
    return build_response(request, 200, headers, None, b"", "peer")


def notify(
    other: Peer,
    subscribe: SipMessage,
    body: bytes = b"",
    *,
    state: str = "active;expires=600",
    cseq: int = 4,
    tag: str = "peer",
    headers: str = "",
    event: str = "reg",
) -> bytes:
    """A NOTIFY in the dialog of a SUBSCRIBE."""
    host, port = other.address
    kind = "" if "Content-Type" in headers or not body else "Content-Type: application/reginfo+xml\n"
    said = f"Subscription-State: {state}\n" if state else ""
    return (
        crlf(
            f"NOTIFY sip:x@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bKn{cseq}{tag}\n"
            f"Max-Forwards: 70\nTo: {subscribe.header('from')}\nFrom: <{IDENTITY}>;tag={tag}\n"
            f"Call-ID: {subscribe.call_id}\nCSeq: {cseq} NOTIFY\nContact: <sip:scscf.ims:6060>\n"
            f"Event: {event}\n{said}{kind}{headers}Content-Length: {len(body)}\n\n"
        )
        + body
    )


def then_notify(other_of: list[Peer], body: bytes = BEFORE) -> Play:
    """200 to SUBSCRIBE and a NOTIFY right behind it."""

    def play(request: SipMessage) -> SipMessage:
        other = other_of[0]
        other.send(accept(request).to_bytes())
        return parse_message(notify(other, request, body))

    return play


@asynccontextmanager
async def subscribed(*steps: Play, **options: object) -> AsyncIterator[tuple[Peer, UE, EventSubscription]]:
    """Alice's phone with a subscription that one NOTIFY has confirmed; further SUBSCRIBEs take the further steps."""
    others: list[Peer] = []
    async with peer(then_notify(others), *(steps or (accept,))) as other:
        others.append(other)
        settings = {"address": "127.0.0.1", "port": 0, "pcscf": other.address} | options
        async with UE(owner("alice"), **settings) as alice:  # type: ignore[arg-type]
            yield other, alice, await alice.subscribe_registration()
            assert alice.faults == 0


async def answer_to(other: Peer, raw: bytes) -> SipMessage:
    """Send a request to the phone and return its answer."""
    before = len(other.responses)
    other.send(raw)
    await until(lambda: len(other.responses) > before)
    return other.responses[-1]


@in_loop
async def test_subscribe_and_first_notify() -> None:
    """SUBSCRIBE asks for reg with all the headers of TS 24.229 5.1.1.3; the first NOTIFY is answered and read."""
    async with subscribed() as (other, alice, subscription):
        asked = other.requests[0]
        assert (asked.method, asked.request_uri) == ("SUBSCRIBE", IDENTITY)
        assert [asked.header(name) for name in ("event", "accept", "expires", "contact", "p-preferred-identity")] == [
            "reg", "application/reginfo+xml", "600", f"<{alice.contact}>", f"<{IDENTITY}>",
        ]  # fmt: skip
        await until(lambda: bool(other.responses))
        assert other.responses[0].status == 200
        assert (subscription.state, subscription.reason) == ("active", "")
        assert [one.state for one in subscription.registrations] == ["active"] * 3
        (first,) = subscription.notifies
        assert (first.state, first.expires_s, first.cseq) == ("active", 600, 4)
        assert parse_message(first.raw).method == "NOTIFY"
        assert repr(subscription) == f"<subscription to reg of {IDENTITY}, active>"


@in_loop
async def test_notify_before_the_answer() -> None:
    """A NOTIFY that is faster than the 200 makes the dialog; the 200 brings the route (RFC 6665 section 4.4.1)."""

    def quick(request: SipMessage) -> SipMessage:
        others[0].send(notify(others[0], request, BEFORE))
        return accept(request)

    others: list[Peer] = []
    async with peer(quick, accept) as other:
        others.append(other)
        async with UE(owner("alice"), address="127.0.0.1", port=0, pcscf=other.address) as alice:
            subscription = await alice.subscribe_registration()
            assert subscription.state == "active"
            assert (await answer_to(other, notify(other, other.requests[0], AFTER, cseq=3))).status == 500
            assert subscription._dialog is not None
            assert subscription._dialog.route_set == ("<sip:mo@127.0.0.1:9;lr>",)


@in_loop
async def test_change_is_told() -> None:
    """wait_notify gives what comes after the first NOTIFY, once each; a state waits for one that tells of it."""
    async with subscribed() as (other, _, subscription):
        waiting = asyncio.create_task(subscription.wait_notify("terminated"))
        asked = other.requests[0]
        assert (await answer_to(other, notify(other, asked, BEFORE, cseq=5))).status == 200
        assert (await answer_to(other, notify(other, asked, AFTER, cseq=6))).status == 200
        told = await waiting
        assert told.reginfo is not None
        assert {(one.state, one.contacts) for one in told.reginfo.registrations} == {("terminated", ())}
        assert {one.state for one in subscription.registrations} == {"terminated"}
        assert [one.cseq for one in subscription.notifies] == [4, 5, 6]
        assert subscription.state == "active"
        with pytest.raises(CallFailed, match=r"No NOTIFY of a registration that is active came .* in 0\.01 s"):
            await subscription.wait_notify("active", timeout_s=0.01)
        with pytest.raises(CallFailed, match="No NOTIFY came"):
            await subscription.wait_notify(timeout_s=0.01)


@in_loop
async def test_refresh_and_unsubscribe() -> None:
    """Both go within the dialog: to the Contact, along the route, CSeq counting on; a last NOTIFY is still answered."""
    async with subscribed() as (other, alice, subscription):
        hops = other.address
        alice._agent.next_hop = lambda uri, routes: hops  # type: ignore[method-assign]
        assert (await subscription.refresh(300)).status == 200
        assert (await subscription.unsubscribe()).status == 200
        first, again, end = other.requests
        for request, cseq, seconds in ((again, 2, "300"), (end, 3, "0")):
            assert request.request_uri == "sip:scscf.ims:6060"
            assert request.all("route") == ("<sip:mo@127.0.0.1:9;lr>",)
            assert (request.cseq, request.header("expires"), request.header("event")) == (cseq, seconds, "reg")
            assert (request.call_id, request.from_tag, request.to_tag) == (first.call_id, first.from_tag, "peer")
        assert (subscription.state, subscription.reason) == ("terminated", "ended here")
        last = notify(other, first, AFTER, cseq=9, state="terminated;reason=timeout")
        assert (await answer_to(other, last)).status == 200
        assert subscription.reason == "ended here"
        assert (await answer_to(other, notify(other, first, cseq=10))).status == 481
        for late in (subscription.refresh, subscription.unsubscribe):
            with pytest.raises(CallFailed, match="is over"):
                await late()


@in_loop
async def test_other_side_ends_it() -> None:
    """Subscription-State: terminated ends the subscription, with its reason and when to come back."""
    async with subscribed() as (other, alice, subscription):
        end = notify(other, other.requests[0], cseq=5, state="terminated; reason=probation; retry-after=30")
        assert (await answer_to(other, end)).status == 200
        assert (subscription.state, subscription.reason) == ("terminated", "probation")
        assert subscription.notifies[-1].retry_after_s == 30
        assert subscription.notifies[-1].reginfo is None
        assert alice._agent.subscriptions == {}


@in_loop
async def test_it_runs_out() -> None:
    """Without a refresh the subscription ends by itself when its time is over."""
    async with subscribed() as (other, alice, subscription):
        await answer_to(other, notify(other, other.requests[0], cseq=5, state="active;expires=0"))
        await until(lambda: subscription.state == "terminated")
        assert subscription.reason == "expired"
        assert alice._agent.subscriptions == {}


WRONG_NOTIFIES = {
    "unknown event": ({"event": "presence", "cseq": 5}, 489, "allow-events"),
    "other notifier": ({"tag": "fork"}, 481, None),
    "old CSeq": ({"cseq": 3}, 500, None),
    "no Subscription-State": ({"cseq": 5, "state": ""}, 400, None),
    "other body": ({"cseq": 5, "body": b"x", "headers": "Content-Type: text/plain\n"}, 415, "accept"),
    "unreadable body": ({"cseq": 5, "body": b"<!DOCTYPE x><reginfo/>"}, 400, None),
}


@pytest.mark.parametrize("name", list(WRONG_NOTIFIES))
@in_loop
async def test_wrong_notifies(name: str) -> None:
    """Each NOTIFY that cannot be taken gets the answer of RFC 6665 section 4.1.3, and changes nothing."""
    parts, status, header = WRONG_NOTIFIES[name]
    async with subscribed() as (other, _, subscription):
        answer = await answer_to(other, notify(other, other.requests[0], **parts))  # type: ignore[arg-type]
        assert answer.status == status
        if header:
            assert answer.all(header)
        assert (subscription.state, len(subscription.notifies)) == ("active", 1)


@in_loop
async def test_notify_out_of_the_blue() -> None:
    """A NOTIFY that nobody has subscribed to is 481."""
    async with subscribed() as (other, _, _):
        stranger = notify(other, other.requests[0], BEFORE, cseq=5).replace(b"Call-ID: ", b"Call-ID: x")
        assert (await answer_to(other, stranger)).status == 481


@in_loop
async def test_refused() -> None:
    """A refused SUBSCRIBE is an error with what SIP said; 423 is answered with the time that is wanted."""
    brief = build_response

    def too_brief(request: SipMessage) -> SipMessage:
        return brief(request, 423, (("Min-Expires", "1200"),), None, b"", "peer")

    def forbidden(request: SipMessage) -> SipMessage:
        return brief(request, 403, (), None, b"", "peer")

    async with (
        peer(too_brief, forbidden) as other,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=other.address) as alice,
    ):
        with pytest.raises(CallFailed, match=r"SUBSCRIBE .* was answered 403"):
            await alice.subscribe_registration(60, target="bob")
        assert [one.header("expires") for one in other.requests] == ["60", "1200"]
        assert other.requests[0].request_uri == f"sip:bob@{REALM}"
        assert alice._agent.subscriptions == {}


@in_loop
async def test_no_first_notify() -> None:
    """A 200 that no NOTIFY follows is no subscription (RFC 6665 section 4.1.2.4)."""
    async with (
        peer(accept) as other,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=other.address, timers=QUICK) as alice,
    ):
        with pytest.raises(CallFailed, match="No NOTIFY came"):
            await alice.subscribe_registration(timeout_s=0.05)
        assert alice._agent.subscriptions == {}


@in_loop
async def test_refresh_that_finds_nobody() -> None:
    """481 to a refresh ends the subscription; another refusal leaves it as it was (RFC 6665 section 4.1.2.2)."""

    def say(status: int) -> Play:
        return lambda request: build_response(request, status, (), None, b"", "peer")

    async with subscribed(say(503), say(481)) as (other, alice, subscription):
        alice._agent.next_hop = lambda uri, routes: other.address  # type: ignore[method-assign]
        with pytest.raises(CallFailed, match="503"):
            await subscription.refresh()
        assert subscription.state == "active"
        with pytest.raises(CallFailed, match="481"):
            await subscription.refresh()
        assert (subscription.state, subscription.reason) == ("terminated", "481 Call/Transaction Does Not Exist")


@in_loop
async def test_lost_partial_document_is_asked_for() -> None:
    """A partial document that follows upon one which never came makes the phone ask for all (RFC 3680 section 5.2)."""
    partial = b'<reginfo version="%d" state="partial"/>'
    async with subscribed() as (other, alice, subscription):
        alice._agent.next_hop = lambda uri, routes: other.address  # type: ignore[method-assign]
        asked = other.requests[0]
        await answer_to(other, notify(other, asked, partial % 3, cseq=5))
        await answer_to(other, notify(other, asked, AFTER, cseq=6))  # version 3 as well: old news
        assert {one.state for one in subscription.registrations} == {"active"}
        assert len(other.requests) == 1
        await answer_to(other, notify(other, asked, partial % 5, cseq=7))
        await until(lambda: len(other.requests) == 2)
        assert other.requests[1].header("event") == "reg"
