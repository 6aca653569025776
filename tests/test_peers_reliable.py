"""Reliable provisional responses: who asks for them, PRACK, and what happens when none comes (RFC 3262)."""

from __future__ import annotations

from typing import Any

import pytest
from in_loop import in_loop
from ue_parts import QUICK, first_lines, lose, owner, peer, until, uri

from labkit.errors import CallFailed
from labkit.peers.transaction import build_response
from labkit.peers.ue import UE
from labkit.wire.sip import SipMessage, parse_message

REL = ("100rel",)


def phone(name: str, **options: Any) -> UE:
    """A phone that knows 100rel, unless told otherwise."""
    return UE(owner(name), **{"address": "127.0.0.1", "port": 0, "extensions": REL, **options})


@in_loop
async def test_ringing_is_acknowledged() -> None:
    """The 180 requires 100rel and has an RSeq; the PRACK names it and counts CSeq on; the call goes on after it."""
    async with phone("alice") as alice, phone("bob") as bob:
        sent = lose(alice)
        ours = await alice.call(uri(bob), wait="ringing")
        theirs = await bob.wait_call()
        await theirs.answer()
        await ours.wait_state("answered")
        assert (await ours.hold()).status == 200
        assert (await ours.bye()).status == 200
        invite, prack, ack, *rest = [parse_message(raw) for raw in sent if not raw.startswith(b"SIP")]
        assert [one.method for one in (invite, prack, ack, *rest)] == ["INVITE", "PRACK", "ACK", "INVITE", "ACK", "BYE"]
        assert invite.all("supported") == REL
        assert (prack.header("rack") or "").split()[1:] == ["1", "INVITE"]
        assert [one.cseq for one in (invite, prack, ack, *rest)] == [1, 2, 1, 3, 3, 4]
        assert (alice.faults, bob.faults) == (0, 0)


@pytest.mark.parametrize(("of_alice", "of_bob"), [((), REL), (REL, ())])
@in_loop
async def test_only_where_both_know_it(of_alice: tuple[str, ...], of_bob: tuple[str, ...]) -> None:
    """Where one side does not know the extension, the 180 is a plain one."""
    async with phone("alice", extensions=of_alice) as alice, phone("bob", extensions=of_bob) as bob:
        sent = lose(bob)
        ours = await alice.call(uri(bob), wait="ringing")
        ringing = parse_message(sent[0])
        assert ringing.status == 180
        assert ringing.header("rseq") is None
        await ours.cancel()


@in_loop
async def test_lost_ringing_comes_again() -> None:
    """A 180 that got lost is repeated after T1, and one that comes twice gets one PRACK."""
    async with phone("alice", timers=QUICK) as alice, phone("bob", timers=QUICK) as bob:
        from_bob, from_alice = lose(bob, 1), lose(alice, 2)
        ours = await alice.call(uri(bob), wait="ringing")
        theirs = await bob.wait_call()
        await theirs.answer()
        await ours.wait_state("answered")
        assert first_lines(from_bob)[:3] in (
            ["180 INVITE", "180 INVITE", "200 PRACK"],
            ["180 INVITE", "180 INVITE", "180 INVITE"],
        )
        assert len({parse_message(raw).branch for raw in from_alice if raw.startswith(b"PRACK")}) == 1
        await ours.bye()


@in_loop
async def test_no_prack_comes() -> None:
    """A caller that claims to know 100rel and sends no PRACK is refused after 64*T1 (section 3)."""
    quick = QUICK.__class__(t1_s=0.01, t2_s=0.04, t4_s=0.05)
    async with peer() as other, phone("bob", timers=quick) as bob:
        host, port = other.address
        other.source = bob.address
        lines = [
            "INVITE sip:bob@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bKa",
            "From: <sip:x@y>;tag=1",
            "To: <sip:bob@y>",
            "Call-ID: a",
            "CSeq: 1 INVITE",
            f"Contact: <sip:x@{host}:{port}>",
            "Require: 100rel",
        ]
        other.send("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())
        call = await bob.wait_call()
        await until(lambda: any(one.status == 504 for one in other.responses))
        assert call.end_reason == "no PRACK came"
        provisional = [one for one in other.responses if one.status == 180]
        assert len(provisional) > 4
        assert len({one.header("rseq") for one in provisional}) == 1


@in_loop
async def test_wrong_prack() -> None:
    """A PRACK of another RSeq, or of no call, is 481; one that comes late after the right one as well."""
    async with phone("alice") as alice, phone("bob") as bob:
        ours = await alice.call(uri(bob), wait="ringing")
        theirs = await bob.wait_call()
        for rack in ("1 1 INVITE", "", "x"):
            _, raw, branch, where = ours._core.request("PRACK", b"", (f"RAck: {rack}",))
            assert (await alice._agent.request(raw, branch, "PRACK", where)).status == 481
        stray = raw.replace(b"Call-ID: ", b"Call-ID: no").replace(branch.encode(), branch.encode() + b"x")
        assert (await alice._agent.request(stray, branch + "x", "PRACK", where)).status == 481
        await theirs.reject(486)
        await ours.wait_state("ended")


@in_loop
async def test_provisional_responses_out_of_order() -> None:
    """Of reliable responses the caller acknowledges each next one once, and those alone (section 4)."""

    def play(request: SipMessage) -> SipMessage | None:
        host, port = other.address
        contact = ("Contact", f"<sip:peer@{host}:{port}>")
        if request.method == "INVITE":
            for rseq in ("7", "7", "9", "8", "x"):
                headers = (contact, ("Require", "100rel"), ("RSeq", rseq))
                other.send(build_response(request, 183, headers, None, b"", "peer", True).to_bytes())
            other.send(build_response(request, 180, (contact,), None, b"", "peer", True).to_bytes())
        return build_response(request, 200, (), None, b"", "peer") if request.method == "PRACK" else None

    async with peer(play) as other, phone("alice", timers=QUICK) as alice:
        host, port = other.address
        with pytest.raises(CallFailed):
            await alice.call(f"sip:peer@{host}:{port}", timeout_s=0.3)
        pracks = list(dict.fromkeys(one.header("rack") for one in other.requests if one.method == "PRACK"))
        assert pracks == ["7 1 INVITE", "8 1 INVITE"]
