"""Two phones call each other over loopback: answer, reject, cancel, hold, resume, hang up; UDP, TCP, and losses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from in_loop import in_loop
from ue_parts import QUICK, first_lines, lose, owner, peer, say, silent, two_phones, until, uri

from labkit.errors import CallFailed
from labkit.peers.call import Call
from labkit.peers.transaction import Timers
from labkit.peers.ue import UE
from labkit.wire.sdp import parse_sdp
from labkit.wire.sip import SipMessage, parse_address, parse_message

BOTH = pytest.mark.parametrize("transport", ["udp", "tcp"])


async def connect(alice: UE, bob: UE) -> tuple[Call, Call]:
    """A call from Alice to Bob that Bob has answered: both ends of it."""
    dialling = asyncio.create_task(alice.call(uri(bob)))
    incoming = await bob.wait_call()
    await incoming.answer()
    return await dialling, incoming


@BOTH
@in_loop
async def test_call_from_ringing_to_bye(transport: str) -> None:
    """180, 200, ACK, then a BYE of the caller: both sides see the same states and identifiers."""
    async with two_phones(transport) as (alice, bob):
        sent = lose(alice), lose(bob)
        ours, theirs = await connect(alice, bob)
        assert (ours.state, theirs.state) == ("answered", "answered")
        assert (ours.direction, theirs.direction) == ("outgoing", "incoming")
        assert ours.call_id == theirs.call_id
        assert theirs.remote == alice.public_identity
        assert (await ours.bye()).status == 200
        assert (ours.state, theirs.state) == ("ended", "ended")
        assert (ours.end_reason, theirs.end_reason) == ("hung up here", "hung up by the other side")
        assert first_lines(sent[0]) == ["INVITE", "ACK", "BYE"]
        assert first_lines(sent[1]) == ["180 INVITE", "200 INVITE", "200 BYE"]
        assert alice.calls == bob.calls == []


@BOTH
@in_loop
async def test_the_callee_hangs_up(transport: str) -> None:
    """The callee's BYE carries the tags the other way round, and a CSeq of its own."""
    async with two_phones(transport) as (alice, bob):
        sent = lose(bob)
        ours, theirs = await connect(alice, bob)
        assert (await theirs.bye()).status == 200
        assert (ours.state, ours.end_reason) == ("ended", "hung up by the other side")
        bye = next(raw for raw in sent if raw.startswith(b"BYE"))
        assert bye.startswith(f"BYE {alice.contact} SIP/2.0".encode())
        assert b"CSeq: 1 BYE" in bye


@BOTH
@in_loop
async def test_hold_and_resume_from_both_sides(transport: str) -> None:
    """Each side holds and resumes by its own wish; a stream that one side still holds stays held (RFC 6337 5.3)."""
    async with two_phones(transport, auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        assert (ours.media_direction, theirs.media_direction) == ("sendrecv", "sendrecv")
        assert (await ours.hold()).status == 200
        assert (ours.media_direction, theirs.media_direction) == ("sendonly", "recvonly")
        assert (ours.held, ours.held_by_peer, theirs.held, theirs.held_by_peer) == (True, False, False, True)
        await theirs.hold()
        await until(lambda: ours.media_direction == "inactive")
        assert theirs.media_direction == "inactive"
        await ours.resume()
        assert (ours.media_direction, theirs.media_direction) == ("recvonly", "sendonly")
        await theirs.resume()
        assert (ours.media_direction, theirs.media_direction) == ("sendrecv", "sendrecv")
        await ours.hold("inactive")
        assert (ours.media_direction, theirs.media_direction) == ("inactive", "inactive")
        await ours.resume()
        await theirs.bye()


@pytest.mark.parametrize(("ring_s", "said"), [(0.0, ["200 INVITE"]), (0.01, ["180 INVITE", "200 INVITE"])])
@in_loop
async def test_automatic_answer(ring_s: float, said: list[str]) -> None:
    """A phone that answers at once sends no 180, for right behind it the 200 might overtake it on its way."""
    async with two_phones(auto_answer=True, ring_s=ring_s) as (alice, bob):
        sent = lose(bob)
        ours = await alice.call(uri(bob))
        assert first_lines(sent) == said
        await ours.bye()


@in_loop
async def test_hold_by_update() -> None:
    """UPDATE holds and resumes as a re-INVITE does, without an ACK (RFC 3311); it gives way to an offer under way."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        sent = lose(alice)
        assert (await ours.hold(method="UPDATE")).status == 200
        assert (ours.media_direction, theirs.media_direction) == ("sendonly", "recvonly")
        assert (await theirs.hold("inactive", method="UPDATE")).status == 200
        assert (await theirs.resume(method="UPDATE")).status == 200
        assert (await ours.resume(method="UPDATE")).status == 200
        assert (ours.media_direction, theirs.media_direction) == ("sendrecv", "sendrecv")
        assert first_lines(sent) == ["UPDATE", "200 UPDATE", "200 UPDATE", "UPDATE"]
        assert parse_message(sent[0]).header("contact") == f"<{alice.contact}>"
        theirs._offers._offering = True
        ours._core.agent.timers = QUICK
        with pytest.raises(CallFailed, match="491 Request Pending"):
            await ours.hold(method="UPDATE")
        assert ours.media_direction == "sendrecv"
        theirs._offers._offering = False
        with pytest.raises(CallFailed, match="not by 'INFO'"):
            await ours.hold(method="INFO")
        await ours.bye()


@in_loop
async def test_versions_of_the_session_grow_only_with_a_change() -> None:
    """The o= line keeps its session id, and its version grows by one when the description changes (RFC 3264 8)."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        first = parse_sdp(ours.local_sdp)
        await ours.hold()
        held = parse_sdp(ours.local_sdp)
        await ours.hold()
        again = parse_sdp(ours.local_sdp)
        assert held.origin.session_id == first.origin.session_id
        versions = [one.origin.session_version for one in (first, held, again)]
        assert versions == [1, 2, 2]
        assert (first.direction_of(), held.direction_of()) == ("sendrecv", "sendonly")
        assert held.media_address() == first.media_address()


@BOTH
@in_loop
async def test_cancel(transport: str) -> None:
    """CANCEL takes the branch of its INVITE; the callee says 200 to it and 487 to the INVITE."""
    async with two_phones(transport) as (alice, bob):
        sent = lose(alice), lose(bob)
        ours = await alice.call(uri(bob), wait="ringing")
        theirs = await bob.wait_call()
        assert (await ours.cancel()).status == 487
        assert (ours.state, theirs.state) == ("ended", "ended")
        assert theirs.end_reason == "cancelled by the caller"
        await until(lambda: len(sent[0]) == 3)
        assert first_lines(sent[0]) == ["INVITE", "CANCEL", "ACK"]
        assert first_lines(sent[1]) == ["180 INVITE", "200 CANCEL", "487 INVITE"]
        branches = {line for raw in sent[0] for line in raw.split(b"\r\n") if line.startswith(b"Via:")}
        assert len(branches) == 1


@BOTH
@in_loop
async def test_reject(transport: str) -> None:
    """A rejected call is a CallFailed for the caller with the callee's status and phrase; the ACK stays below."""
    async with two_phones(transport) as (alice, bob):
        sent = lose(alice)
        dialling = asyncio.create_task(alice.call(uri(bob)))
        incoming = await bob.wait_call()
        assert (await incoming.reject(603, "Not Today")).status == 603
        with pytest.raises(CallFailed, match="603 Not Today") as caught:
            await dialling
        assert (caught.value.status, caught.value.reason) == (603, "Not Today")
        assert first_lines(sent) == ["INVITE", "ACK"]


@in_loop
async def test_messages_and_options() -> None:
    """A text message arrives with its text; OPTIONS tells methods and bodies that the phone takes."""
    async with two_phones() as (alice, bob):
        assert (await alice.message(uri(bob), "schöne Grüße")).status == 200
        assert (await bob.wait_message()).body.decode() == "schöne Grüße"
        answer = await alice.options(uri(bob))
        assert "INVITE" in answer.all("allow")
        assert "application/sdp" in answer.all("accept")
        with pytest.raises(CallFailed, match="No message came"):
            await bob.wait_message(0.05)
        with pytest.raises(CallFailed, match="No call came"):
            await bob.wait_call(0.05)


@pytest.mark.parametrize(
    ("loser", "number"), [*(("alice", number) for number in range(1, 8)), *(("bob", number) for number in range(1, 6))]
)
@in_loop
async def test_any_lost_datagram_is_made_good(loser: str, number: int) -> None:
    """Whichever datagram of a call with hold, resume and BYE gets lost: retransmission makes the call go through."""
    async with two_phones(timers=QUICK, auto_answer=True, ring_s=0.01) as (alice, bob):
        sent = lose(alice if loser == "alice" else bob, number)
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        await ours.hold()
        await ours.resume()
        assert (ours.media_direction, theirs.media_direction) == ("sendrecv", "sendrecv")
        await ours.bye()
        await theirs.wait_state("ended")
        assert theirs.end_reason == "hung up by the other side"
        assert len(sent) >= number


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("loser", ["alice", "bob"])
@in_loop
async def test_any_lost_datagram_of_a_cancelled_call(loser: str, number: int) -> None:
    """The same for a call that is cancelled while it rings."""
    async with two_phones(timers=QUICK) as (alice, bob):
        lose(alice if loser == "alice" else bob, number)
        ours = await alice.call(uri(bob), wait="calling")
        assert (await ours.cancel()).status == 487
        theirs = await bob.wait_call()
        await theirs.wait_state("ended")


@in_loop
async def test_invite_is_repeated_with_timer_a_until_timer_b() -> None:
    """An INVITE that nobody answers goes out at 0, 1, 3, 7, 15, 31, 63 T1 (no cap), and fails after 64 T1."""
    quick = Timers(t1_s=0.05, t2_s=0.1)  # the last one goes out T1 before the end, whatever else this machine does
    async with (
        peer(silent) as core,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=core.address, timers=quick) as alice,
    ):
        with pytest.raises(CallFailed, match=r"no answer in 3\.2 s: sent 7 times"):
            await alice.call("bob")
        assert len(core.requests) == 7
        assert alice.calls == []


@in_loop
async def test_provisional_answer_stops_the_repetition() -> None:
    """After a 100 the INVITE is not sent again, however long the final answer takes (RFC 3261 17.1.1.2)."""
    async with (
        peer(say(100), silent) as core,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=core.address, timers=QUICK) as alice,
    ):
        with pytest.raises(CallFailed, match=r"still calling after 0\.3 s"):
            await alice.call("bob", timeout_s=0.3)
        assert [request.method for request in core.requests[:1]] == ["INVITE"]
        # the call was given up, so a CANCEL goes out
        await until(lambda: any(request.method == "CANCEL" for request in core.requests))
        assert sum(request.method == "INVITE" for request in core.requests) == 1


@in_loop
async def test_refusal_that_comes_again_gets_its_ack_again() -> None:
    """A 486 that is repeated because its ACK got lost is acknowledged again, with the INVITE's branch (timer D)."""
    async with (
        peer(say(486), silent) as core,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=core.address) as alice,
    ):
        with pytest.raises(CallFailed, match="486 Busy Here"):
            await alice.call("bob")
        refusal = say(486)(core.requests[0])
        assert isinstance(refusal, SipMessage)
        core.send(refusal.to_bytes())
        await until(lambda: len(core.requests) == 3)
        invite, ack, again = core.requests
        assert (ack.method, ack.branch, ack.cseq, ack.cseq_method) == ("ACK", invite.branch, 1, "ACK")
        assert ack.to_tag == "peer"
        assert again.to_bytes() == ack.to_bytes()


@in_loop
async def test_route_set_is_turned_round_for_the_caller() -> None:
    """Record-Route of the 200 becomes Route in reverse order, Contact the Request-URI (RFC 3261 12.1.2)."""
    body = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
    headers = (
        ("Record-Route", "<sip:127.0.0.1:{port};lr;n=3>, <sip:n2.example;lr>"),
        ("Record-Route", "<sip:127.0.0.1:{port};lr;n=1>"),
        ("Contact", "<sip:bob@192.0.2.7:5099>"),
        ("Content-Type", "application/sdp"),
    )

    def accept(request: SipMessage) -> SipMessage | None:
        port = core.address[1]
        if request.method == "ACK":
            return None
        filled = tuple((name, value.replace("{port}", str(port))) for name, value in headers)
        return say(200, *(filled if request.method == "INVITE" else ()), body=body)(request)

    async with (
        peer(accept) as core,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=core.address) as alice,
    ):
        call = await alice.call("bob")
        await call.bye()
        _, ack, bye = core.requests
        for request in (ack, bye):
            assert request.request_uri == "sip:bob@192.0.2.7:5099"
            assert [value.rpartition(";")[2] for value in request.all("route")] == ["n=1>", "lr>", "n=3>"]
        assert (ack.cseq, bye.cseq) == (1, 2)
        assert ack.branch != core.requests[0].branch


@in_loop
async def test_strict_router_of_rfc2543() -> None:
    """A first Route without ;lr goes into the Request-URI, and the target to the end of the Route (12.2.1.1)."""
    body = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

    def accept(request: SipMessage) -> SipMessage | None:
        route = ("Record-Route", f"<sip:127.0.0.1:{core.address[1]}>")
        contact = ("Contact", "<sip:bob@192.0.2.7>")
        kind = ("Content-Type", "application/sdp")
        return None if request.method == "ACK" else say(200, route, contact, kind, body=body)(request)

    async with (
        peer(accept) as core,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=core.address) as alice,
    ):
        await (await alice.call("bob")).bye()
        bye = core.requests[-1]
        assert bye.request_uri == f"sip:127.0.0.1:{core.address[1]}"
        assert bye.all("route") == ("<sip:bob@192.0.2.7>",)


@in_loop
async def test_repeated_200_gets_its_ack_again_and_a_fork_is_hung_up() -> None:
    """The same 200 again: the same ACK again. A 200 with another tag: ACK and BYE for that fork (13.2.2.4)."""
    body = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

    def accept(request: SipMessage) -> SipMessage | None:
        contact = ("Contact", f"<sip:bob@127.0.0.1:{core.address[1]}>")
        kind = ("Content-Type", "application/sdp")
        return None if request.method == "ACK" else say(200, contact, kind, body=body)(request)

    async with (
        peer(accept) as core,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=core.address) as alice,
    ):
        call = await alice.call("bob")
        invite = core.requests[0]
        success = accept(invite)
        assert success is not None
        core.send(success.to_bytes())
        await until(lambda: len(core.requests) == 3)
        assert core.requests[1].to_bytes() == core.requests[2].to_bytes()
        core.send(success.to_bytes().replace(b"tag=peer", b"tag=fork"))
        await until(lambda: len(core.requests) == 5)
        assert [request.method for request in core.requests[3:]] == ["ACK", "BYE"]
        assert {request.to_tag for request in core.requests[3:]} == {"fork"}
        assert call.state == "answered"


@in_loop
async def test_glare() -> None:
    """Both hold at once: somebody hears 491, waits a random time, and in the end both hold (RFC 3261 14.1)."""
    async with two_phones(timers=QUICK, auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        sent, sent_back = lose(alice), lose(bob)
        answers = await asyncio.gather(ours.hold(), theirs.hold())
        assert [answer.status for answer in answers] == [200, 200]
        assert (ours.held, theirs.held) == (True, True)
        assert "491 INVITE" in first_lines(sent)
        assert "491 INVITE" in first_lines(sent_back)
        await until(lambda: ours.media_direction == theirs.media_direction == "inactive")


@in_loop
async def test_thinking_before_a_491() -> None:
    """A phone that takes its time says 491 that much later, and has decided before: the offer is refused anyway."""
    async with two_phones(auto_answer=True, pending_s=0.1, timers=QUICK) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        began = asyncio.get_running_loop().time()
        theirs._offers._offering = True
        holding = asyncio.create_task(ours.hold())
        sent_back = lose(bob)
        await until(lambda: bool(sent_back))
        theirs._offers._offering = False
        assert first_lines(sent_back)[0] == "491 INVITE"
        assert asyncio.get_running_loop().time() - began >= 0.1
        assert (await holding).status == 200


@in_loop
async def test_how_long_to_wait_after_glare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who made the Call-ID waits 2.1 to 4 s, the other one 0 to 2 s, in steps of 10 ms (RFC 3261 section 14.1)."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        waits: list[float] = []

        async def note(seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr("labkit.peers.offers.asyncio.sleep", note)
        for call, first_s, last_s in ((ours, 2.1, 4.0), (theirs, 0.0, 2.0)):
            waits.clear()
            for _ in range(300):
                await call._offers._wait_glare()
            hundredths = [round(seconds * 100) for seconds in waits]
            assert waits == pytest.approx([number / 100 for number in hundredths])
            assert first_s * 100 <= min(hundredths) < max(hundredths) <= last_s * 100
            call._offers._offering = False
        monkeypatch.undo()


@in_loop
async def test_an_offer_waits_for_every_ack() -> None:
    """While an ACK is missing nothing is offered; nor when the other side's next offer comes instead (section 14.1)."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        sent = lose(alice, 2)
        waits: list[bool] = []
        transport = bob._agent._transport
        send = transport.send

        def note(raw: bytes, destination: Any, link: Any = None) -> None:
            if raw.startswith(b"INVITE"):
                waits.append(theirs._acceptance.waits)
            send(raw, destination, link)

        transport.send = note  # type: ignore[method-assign]
        await ours.hold("inactive")
        holding = asyncio.create_task(theirs.hold())
        await asyncio.sleep(0)
        await ours.hold()
        await holding
        assert first_lines(sent) == ["INVITE", "ACK", "INVITE", "ACK", "200 INVITE"]
        assert waits == [False]
        assert (ours.media_direction, theirs.media_direction) == ("inactive", "inactive")


@in_loop
async def test_offers_that_are_refused() -> None:
    """488 with its reason: direction and versions stay, the call lives, and the next offer is taken (RFC 3261 14.1)."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        before = ours.local_sdp
        await theirs.refuse_offers(488)
        for method in ("INVITE", "UPDATE"):
            with pytest.raises(CallFailed, match="488 Not Acceptable Here") as caught:
                await ours.hold(method=method)
            assert '"Attribute not understood"' in str(caught.value.warning)
        assert (ours.state, theirs.state, ours.held, ours.local_sdp) == ("answered", "answered", False, before)
        assert (ours.media_direction, theirs.media_direction) == ("sendrecv", "sendrecv")
        await theirs.refuse_offers(0)
        assert (await ours.hold()).status == 200
        with pytest.raises(CallFailed, match="from 400 to 699"):
            await theirs.refuse_offers(200)


@in_loop
async def test_every_direction_from_its_writers_view() -> None:
    """What one side offers is answered from the other one's view; recvonly is no hold; no other direction exists."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        for offered, answered in (("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")):
            await ours.offer(offered)
            assert (ours.media_direction, theirs.media_direction) == (offered, answered)
            assert ours.held == (offered != "recvonly")
        with pytest.raises(CallFailed, match="A direction is one of"):
            await ours.offer("both")


@in_loop
async def test_a_hold_that_requires_what_the_other_side_lacks() -> None:
    """A re-INVITE with a Require of its own is answered 420 as any request is, and the call goes on as before."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        with pytest.raises(CallFailed) as refused:
            await ours.hold(headers=("Require: sec-agree",))
        assert (refused.value.status, ours.state, ours.held) == (420, "answered", False)
        await ours.hold()
        assert ours.held


@in_loop
async def test_hold_of_rfc_2543() -> None:
    """By c=0.0.0.0: the held side hears of it and sends nowhere; resuming brings the address back."""
    async with two_phones(auto_answer=True, rtp=True) as (alice, bob):
        ours = await alice.call(uri(bob), rtp=True)
        theirs = await bob.wait_call()
        await theirs.wait_state("answered")
        await ours.hold(old_way=True)
        assert b"c=IN IP4 0.0.0.0" in ours.local_sdp
        assert (ours.held, theirs.held_by_peer, theirs.media_direction) == (True, True, "recvonly")
        stream = theirs._core.stream
        assert stream is not None
        assert stream._remote is None
        await ours.resume()
        assert stream._remote == ("127.0.0.1", ours._core.stream.port)  # type: ignore[union-attr]
        assert theirs.media_direction == "sendrecv"


@in_loop
async def test_staying_on_the_line() -> None:
    """A call that goes on is stayed in for so long; one that ends meanwhile says so."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await ours.stay(0.02)
        staying = asyncio.create_task(ours.stay(10))
        await asyncio.sleep(0)
        await theirs.bye()
        with pytest.raises(CallFailed, match="is over: hung up by the other side"):
            await staying


@in_loop
async def test_cancel_that_comes_too_late() -> None:
    """When the 200 crosses the CANCEL it is acknowledged, and the call is hung up at once."""
    async with two_phones() as (alice, bob):
        sent = lose(alice)
        ours = await alice.call(uri(bob), wait="ringing")
        theirs = await bob.wait_call()
        answering = asyncio.create_task(theirs.answer())
        cancelled = asyncio.create_task(ours.cancel())
        await asyncio.gather(answering, cancelled, return_exceptions=True)
        await until(lambda: ours.state == theirs.state == "ended")
        assert first_lines(sent)[-1] in ("BYE", "ACK")


@in_loop
async def test_missing_ack_ends_the_call() -> None:
    """A 200 is repeated until the ACK comes; when it never does, the callee gives up with a BYE (13.3.1.4)."""
    async with two_phones(timers=QUICK, auto_answer=True) as (alice, bob):
        transport = alice._agent._transport
        send = transport.send
        transport.send = lambda raw, *where: None if raw.startswith(b"ACK") else send(raw, *where)  # type: ignore[method-assign]
        sent = lose(bob)
        await alice.call(uri(bob))
        theirs = await bob.wait_call()
        await until(lambda: theirs.state == "ended", 6)
        assert theirs.end_reason == "no ACK came"
        # repeated like timer G: 1, 3, 7, then every T2 = 4*T1
        assert 15 <= first_lines(sent).count("200 INVITE") <= 18
        assert "BYE" in first_lines(sent)


@in_loop
async def test_nobody_answers() -> None:
    """A phone that rings too long tells the caller 480; a caller who waits too long cancels."""
    async with two_phones(ring_limit_s=0.1) as (alice, bob):
        with pytest.raises(CallFailed, match="480"):
            await alice.call(uri(bob))
        incoming = await bob.wait_call()
        assert incoming.end_reason == "nobody answered here"
    async with two_phones() as (alice, bob):
        with pytest.raises(CallFailed, match=r"still ringing after 0\.1 s"):
            await alice.call(uri(bob), timeout_s=0.1)
        incoming = await bob.wait_call()
        await incoming.wait_state("ended")
        assert incoming.end_reason == "cancelled by the caller"


@in_loop
async def test_things_that_make_no_sense_are_said_in_words() -> None:
    """Each verb in the wrong state is a CallFailed that says what the state is."""
    async with two_phones() as (alice, bob):
        ours = await alice.call(uri(bob), wait="ringing")
        theirs = await bob.wait_call()
        for wrong in (ours.bye, ours.hold, ours.resume, ours.answer, ours.reject, theirs.cancel, theirs.bye):
            with pytest.raises(CallFailed):
                await wrong()
        with pytest.raises(CallFailed, match="300 to 699"):
            await theirs.reject(200)
        with pytest.raises(CallFailed, match="no state"):
            await ours.wait_state("happy")
        await theirs.answer()
        with pytest.raises(CallFailed, match="sendonly"):
            await ours.hold("sendrecv")
        await ours.wait_state("answered")
        await ours.bye()
        for wrong in (ours.bye, ours.cancel, theirs.answer, theirs.reject, ours.hold):
            with pytest.raises(CallFailed):
                await wrong()
        with pytest.raises(CallFailed, match="ended"):
            await ours.wait_state("answered")
        for target in ("", "127.0.0.1:5060", "sip:@", "mailto:x@y"):
            with pytest.raises(CallFailed):
                await alice.call(target)
        with pytest.raises(CallFailed, match="does not look up names"):
            await alice.call("sip:bob@nowhere.example")


@in_loop
async def test_targets() -> None:
    """A name, a number, a tel: or sip: URI and another phone are all called as the home network writes them."""
    async with (
        peer(say(404)) as core,
        UE(owner("alice"), address="127.0.0.1", port=0, pcscf=core.address) as alice,
    ):
        other = UE(owner("bob"), address="127.0.0.1")
        home = alice.realm
        for target in ("bob", "+15550002", "tel:+15550002", "sip:x@y.example", f"bob@{home}", other):
            with pytest.raises(CallFailed, match="404"):
                await alice.call(target)
        called = [request.request_uri for request in core.requests if request.method == "INVITE"]
        assert called == [
            f"sip:bob@{home}",
            "tel:+15550002",
            "tel:+15550002",
            "sip:x@y.example",
            f"sip:bob@{home}",
            f"sip:bob@{home}",
        ]
        assert parse_address(core.requests[0].header("to") or "").uri == called[0]


@in_loop
async def test_proxy_that_wants_proof() -> None:
    """A 407 to an INVITE or MESSAGE is answered once with the phone's password, in a new transaction."""
    challenge = ("Proxy-Authenticate", 'Digest realm="lab", nonce="abc", qop="auth"')
    for send in ("call", "message"):
        async with (
            peer(say(407, challenge), say(407, challenge), say(407, challenge)) as core,
            UE(owner("alice", password="secret"), address="127.0.0.1", port=0, pcscf=core.address) as alice,
        ):
            with pytest.raises(CallFailed, match="407"):
                await (alice.call("bob") if send == "call" else alice.message("bob", "x"))
            requests = [request for request in core.requests if request.method != "ACK"]
            assert [request.cseq for request in requests] == [1, 2]
            assert requests[0].header("proxy-authorization") is None
            assert 'username="alice-imsi@' in (requests[1].header("proxy-authorization") or "")


@in_loop
async def test_phones_that_are_switched_off_end_their_calls_locally() -> None:
    """Switching a phone off ends its calls without a word, and whoever waits for something hears it."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        sent = lose(alice)
        await alice.stop()
        assert (ours.state, ours.end_reason) == ("ended", "the phone was switched off")
        assert sent == []
