"""What a phone answers to requests out of the blue: good ones, bad ones, unknown ones, and garbage."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from in_loop import in_loop
from sip_bytes import crlf
from sip_torture import EVERYTHING
from ue_parts import QUICK, Peer, owner, peer, until

from labkit.errors import CallFailed
from labkit.peers import transaction
from labkit.peers.call import Call
from labkit.peers.incoming import MAX_RINGING
from labkit.peers.transaction import Timers
from labkit.peers.ue import UE
from labkit.wire.sip import SipMessage, parse_message

SDP = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n"


@asynccontextmanager
async def stranger(**options: object) -> AsyncIterator[tuple[Peer, UE]]:
    """Bob's phone, and somebody who sends it whatever he likes."""
    settings = {"address": "127.0.0.1", "port": 0} | options
    async with peer() as other, UE(owner("bob"), **settings) as bob:  # type: ignore[arg-type]
        other.source = bob.address
        yield other, bob
    assert bob.faults == 0


def request(
    method: str, other: Peer, *, uri: str = "", headers: str = "", body: str = "", branch: str = "", cseq: int = 1
) -> bytes:
    """A request of the stranger's, with a branch of its own unless told otherwise."""
    host, port = other.address
    branch = branch or f"z9hG4bK{os.urandom(6).hex()}"
    return crlf(
        f"{method} {uri or 'sip:bob@127.0.0.1'} SIP/2.0\n"
        f"Via: SIP/2.0/UDP {host}:{port};branch={branch}\n"
        "Max-Forwards: 70\nFrom: <sip:x@y>;tag=1\n"
        + ("" if "To:" in headers else "To: <sip:bob@y>\n")
        + f"Call-ID: {branch}\nCSeq: {cseq} {method}\nContact: <sip:x@{host}:{port}>\n{headers}"
        f"Content-Length: {len(body.encode()) + body.count(chr(10))}\n\n{body}"
    )


async def answer_to(other: Peer, raw: bytes) -> SipMessage:
    """Send a request and return the final answer."""
    before = len(other.responses)
    other.send(raw)
    await until(lambda: any(one.status >= 200 for one in other.responses[before:]))
    return other.responses[-1]


@in_loop
async def test_options() -> None:
    """OPTIONS gets 200 with Allow, Accept and Supported, copies of Via, From, Call-ID, CSeq, and a To tag (8.2.6)."""
    async with stranger() as (other, _):
        raw = request("OPTIONS", other, uri="sip:127.0.0.1")
        answer = await answer_to(other, raw)
        asked = parse_message(raw)
        assert answer.status == 200
        for name in ("via", "from", "call-id", "cseq"):
            assert answer.header(name) == asked.header(name)
        assert answer.to_tag
        assert "MESSAGE" in answer.all("allow")
        assert answer.all("accept") == ("application/sdp", "text/plain")


REFUSALS = {
    "unknown method": (("SUBSCRIBE", {}), 405, "allow"),
    "method that nobody knows": (("DANCE", {}), 501, "allow"),
    "dialog that is none": (("BYE", {"headers": "To: <sip:bob@y>;tag=no\n"}), 481, None),
    "re-INVITE of no dialog": (("INVITE", {"headers": "To: <sip:bob@y>;tag=no\n"}), 481, None),
    "BYE without a dialog": (("BYE", {}), 481, None),
    "CANCEL of nothing": (("CANCEL", {}), 481, None),
    "extension": (("OPTIONS", {"headers": "Require: 100rel, path\n"}), 420, "unsupported"),
    "scheme": (("OPTIONS", {"uri": "mailto:bob@y"}), 416, None),
    "stranger's user": (("OPTIONS", {"uri": "sip:carol@127.0.0.1"}), 404, None),
    "unreadable body type": (("MESSAGE", {"headers": "Content-Type: image/png\n", "body": "x\n"}), 415, "accept"),
    "INVITE with no SDP": (("INVITE", {"headers": "Content-Type: text/plain\n", "body": "x\n"}), 415, "accept"),
    "encoding": (("MESSAGE", {"headers": "Content-Encoding: gzip\n", "body": "x\n"}), 415, "accept-encoding"),
    "broken SDP": (("INVITE", {"headers": "Content-Type: application/sdp\n", "body": "x\n"}), 400, None),
    "two CSeq": (("OPTIONS", {"headers": "CSeq: 5 OPTIONS\n"}), 400, None),
    "hops": (("OPTIONS", {"headers": "Max-Forwards: 3\n"}), 400, None),
}


@pytest.mark.parametrize("name", list(REFUSALS))
@in_loop
async def test_refusals(name: str) -> None:
    """Each kind of request that a phone cannot serve gets the answer of RFC 3261 section 8.2, and the header for it."""
    (method, parts), status, header = REFUSALS[name]
    async with stranger() as (other, _):
        answer = await answer_to(other, request(method, other, **parts))
        assert answer.status == status
        if header:
            assert answer.all(header)
        if status == 420:
            assert answer.all("unsupported") == ("100rel",)


@in_loop
async def test_no_common_codec() -> None:
    """An offer without PCMU is refused with 488 and Warning 305 (RFC 3261 section 13.3.1.3)."""
    async with stranger() as (other, _):
        offer = SDP.replace("AVP 0", "AVP 8 101")
        raw = request("INVITE", other, headers="Content-Type: application/sdp\n", body=offer)
        answer = await answer_to(other, raw)
        assert answer.status == 488
        assert answer.all("warning")[0].startswith("305 127.0.0.1:")
        assert "8 101" in answer.all("warning")[0]


async def ringing(other: Peer, bob: UE, **parts: str) -> tuple[Call, SipMessage]:
    """An INVITE of the stranger's that rings at Bob's: the call, and the INVITE."""
    parts = {"headers": "Content-Type: application/sdp\n", "body": SDP} | parts
    raw = request("INVITE", other, **parts)
    other.send(raw)
    return await bob.wait_call(), parse_message(raw)


def follow_up(
    method: str, other: Peer, invite: SipMessage, tag: str, cseq: int, body: str = "", extra: str = ""
) -> bytes:
    """A request in the dialog that the stranger's INVITE made."""
    text = request(method, other, headers=f"To: <sip:bob@y>;tag={tag}\n{extra}", body=body, cseq=cseq)
    return text.replace(f"Call-ID: {parse_message(text).call_id}".encode(), f"Call-ID: {invite.call_id}".encode())


@in_loop
async def test_answer_copies_the_route_and_repeats_itself_until_the_ack() -> None:
    """180 and 200 copy Record-Route; the 200 is repeated until the ACK comes, and then no more (13.3.1.4)."""
    async with stranger(timers=QUICK) as (other, bob):
        route = "Record-Route: <sip:a;lr>, <sip:b;lr>\n"
        call, invite = await ringing(other, bob, headers=f"{route}Content-Type: application/sdp\n")
        answering = asyncio.create_task(call.answer())
        await until(lambda: [one.status for one in other.responses].count(200) == 3)
        for response in other.responses:
            assert response.all("record-route") == ("<sip:a;lr>", "<sip:b;lr>")
            assert response.header("contact") == f"<{bob.contact}>"
        tag = other.responses[-1].to_tag or ""
        assert {response.to_tag for response in other.responses} == {tag}
        other.send(follow_up("ACK", other, invite, tag, 1))
        assert (await answering).status == 200
        count = len(other.responses)
        await asyncio.sleep(0.3)
        assert len(other.responses) == count
        assert call.state == "answered"


@in_loop
async def test_invite_without_an_offer() -> None:
    """An INVITE without SDP is answered with our offer, and the ACK brings the answer (RFC 3261 section 13.2.1)."""
    async with stranger() as (other, bob):
        call, invite = await ringing(other, bob, headers="", body="")
        answering = asyncio.create_task(call.answer())
        await until(lambda: other.responses[-1:] and other.responses[-1].status == 200)
        assert b"a=sendrecv" in other.responses[-1].body
        tag = other.responses[-1].to_tag or ""
        answer = SDP + "a=recvonly\n"
        other.send(follow_up("ACK", other, invite, tag, 1, answer, "Content-Type: application/sdp\n"))
        await answering
        assert call.media_direction == "sendonly"


@in_loop
async def test_requests_within_a_call() -> None:
    """OPTIONS 200, UPDATE 200 with SDP, an old CSeq 500, an unknown method 405, and BYE 200, all within one dialog."""
    async with stranger(auto_answer=True) as (other, bob):
        call, invite = await ringing(other, bob)
        await until(lambda: other.responses[-1:] and other.responses[-1].status == 200)
        tag = other.responses[-1].to_tag or ""
        other.send(follow_up("ACK", other, invite, tag, 1))
        await call.wait_state("answered")
        kind = "Content-Type: application/sdp\n"
        steps = (
            ("OPTIONS", 5, "", "", 200),
            ("OPTIONS", 4, "", "", 500),
            ("MESSAGE", 6, "", "", 405),
            ("UPDATE", 7, SDP + "a=sendonly\n", kind, 200),
            ("INVITE", 8, SDP.replace("AVP 0", "AVP 8"), kind, 488),
            ("INVITE", 9, "nonsense\n", kind, 400),
            ("INVITE", 10, "x\n", "Content-Type: text/plain\n", 415),
        )
        for method, cseq, body, extra, status in steps:
            answer = await answer_to(other, follow_up(method, other, invite, tag, cseq, body, extra))
            assert (method, answer.status) == (method, status)
        assert call.held_by_peer
        assert call.state == "answered"
        assert (await answer_to(other, follow_up("BYE", other, invite, tag, 11))).status == 200
        assert (await answer_to(other, follow_up("BYE", other, invite, tag, 12))).status == 481
        assert call.end_reason == "hung up by the other side"


@in_loop
async def test_repeated_requests_are_answered_once() -> None:
    """A MESSAGE that comes three times is one message, and gets the same answer three times (17.2.2, timer J)."""
    async with stranger() as (other, bob):
        raw = request("MESSAGE", other, headers="Content-Type: text/plain\n", body="hi\n")
        for _ in range(3):
            other.send(raw)
        await until(lambda: len(other.responses) == 3)
        assert len({one.to_bytes() for one in other.responses}) == 1
        await bob.wait_message()
        with pytest.raises(CallFailed):
            await bob.wait_message(0.02)


@in_loop
async def test_repeated_invite_rings_once() -> None:
    """An INVITE that comes again gets the last answer again, not a second call; by another way it is 482 (8.2.2.2)."""
    async with stranger() as (other, bob):
        raw = request("INVITE", other, headers="Content-Type: application/sdp\n", body=SDP)
        other.send(raw)
        other.send(raw)
        await until(lambda: len(other.responses) == 2)
        assert [one.status for one in other.responses] == [180, 180]
        await bob.wait_call()
        merged = raw.replace(b"branch=z9hG4bK", b"branch=z9hG4bKother")
        assert (await answer_to(other, merged)).status == 482
        with pytest.raises(CallFailed):
            await bob.wait_call(0.02)


@in_loop
async def test_refusal_is_repeated_until_its_ack() -> None:
    """A 486 goes out again with timer G until the ACK comes (17.2.1)."""
    async with stranger(timers=QUICK) as (other, bob):
        call, invite = await ringing(other, bob)
        await call.reject()
        await until(lambda: [one.status for one in other.responses].count(486) == 3)
        ack = follow_up("ACK", other, invite, other.responses[-1].to_tag or "", 1)
        other.send(ack.replace((parse_message(ack).branch or "").encode(), (invite.branch or "").encode()))
        await asyncio.sleep(0.05)
        count = len(other.responses)
        await asyncio.sleep(0.4)
        assert len(other.responses) == count


@in_loop
async def test_too_many_calls_are_busy() -> None:
    """A phone that rings with many calls says 486 to one more."""
    async with stranger() as (other, bob):
        for _ in range(MAX_RINGING):
            await ringing(other, bob)
        raw = request("INVITE", other, headers="Content-Type: application/sdp\n", body=SDP)
        assert (await answer_to(other, raw)).status == 486


@in_loop
async def test_rport_and_received() -> None:
    """Answers go to where the request came from, if rport asks for it, and Via says so (RFC 3581)."""
    async with stranger() as (other, _):
        raw = request("OPTIONS", other).replace(
            b"Via: SIP/2.0/UDP 127.0.0.1:", b"Via: SIP/2.0/UDP h.example:9;rport;x="
        )
        answer = await answer_to(other, raw)
        assert f";rport={other.address[1]};" in (answer.header("via") or "")
        assert (answer.header("via") or "").endswith(";received=127.0.0.1")


@in_loop
async def test_requests_of_rfc2543_without_tags_and_branch() -> None:
    """A caller of the old days, without From tag and branch, is served (RFC 3261 sections 12.1.1 and 17.2.3)."""
    async with stranger(auto_answer=True) as (other, bob):
        raw = request("INVITE", other, headers="Content-Type: application/sdp\n", body=SDP)
        old = raw.replace(b"<sip:x@y>;tag=1", b"<sip:x@y>").replace(b";branch=z9hG4bK", b";x=")
        other.send(old)
        other.send(old)
        call = await bob.wait_call()
        await until(lambda: any(one.status == 200 for one in other.responses))
        tag = other.responses[-1].to_tag or ""
        ack = request("ACK", other, headers=f"To: <sip:bob@y>;tag={tag}\n").replace(b"<sip:x@y>;tag=1", b"<sip:x@y>")
        call_id = (call.call_id).encode()
        other.send(ack.replace(b"Call-ID: " + (parse_message(ack).call_id or "").encode(), b"Call-ID: " + call_id))
        await call.wait_state("answered")


TORTURE_ANSWERS = {
    "wsinv": 481,
    "intmeth": 501,
    "esc02": 501,
    "escnull": 405,
    "lwsdisp": 404,
    "semiuri": 404,
    "clerr": 400,
    "ncl": 400,
    "scalar02": 400,
    "quotbal": 400,
    "ltgtruri": 400,
    "lwsruri": 400,
    "lwsstart": 400,
    "trws": 400,
    "mismatch01": 400,
    "mismatch02": 400,
    "multi01": 400,
    "mcl01": 400,
    "insuf": None,
    "badvers": 505,
    "unkscm": 416,
    "bext01": 420,
    "zeromf": 404,
    "unreason": None,
    "bigcode": None,
}


async def statuses_for(other: Peer, branch: str) -> set[int]:
    """Wait for answers to one request, and return their statuses."""
    await until(lambda: any(one.branch == branch for one in other.responses))
    return {one.status for one in other.responses if one.branch == branch}


@in_loop
async def test_torture_messages_to_a_running_phone() -> None:
    """Each message of RFC 4475 gets the answer that the RFC asks for, or none, and the phone lives on."""
    async with stranger() as (other, bob):
        via = f"127.0.0.1:{other.address[1]}".encode()
        for name, raw in EVERYTHING.items():
            # the answer is to come back here, whatever the message's own Via says
            branch = b"z9hG4bKtop" + name.encode()
            line, _, rest = raw.partition(b"\r\n")
            other.send(line + b"\r\nVia: SIP/2.0/UDP " + via + b";branch=" + branch + b"\r\n" + rest)
            expected = TORTURE_ANSWERS.get(name, 0)
            await asyncio.sleep(0)
            if expected:
                # answers to INVITEs are repeated until an ACK comes, so look for the one to this message
                assert (name, await statuses_for(other, branch.decode())) == (name, {expected})
        assert (await answer_to(other, request("OPTIONS", other))).status == 200
        assert bob.dropped > 0


@in_loop
async def test_garbage_is_dropped_without_growth() -> None:
    """Thousands of senseless datagrams leave nothing behind, and the phone still answers."""
    async with stranger() as (other, bob):
        samples = (b"", b"\r\n\r\n", b"\0\0\0\0", os.urandom(400), b"SIP/2.0 200 OK\r\n\r\n", b"INVITE", b"\xff" * 1000)
        for number in range(2000):
            other.send(samples[number % len(samples)])
            # asyncio reads one datagram a turn: give it that turn, or the kernel's buffer overflows
            await asyncio.sleep(0)
        assert (await answer_to(other, request("OPTIONS", other))).status == 200
        transactions = bob._agent.transactions
        assert len(transactions.servers) == 1
        assert len(transactions.clients) == 0


def test_flood_is_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests than are worth remembering get 503, and after 64*T1 nothing is remembered at all."""
    monkeypatch.setattr(transaction, "MAX_SERVER_TRANSACTIONS", 100)

    @in_loop
    async def flood() -> None:
        async with stranger(timers=Timers(t1_s=0.03)) as (other, bob):
            transactions = bob._agent.transactions
            for _ in range(150):
                other.send(request("OPTIONS", other))
                await asyncio.sleep(0)
            await until(lambda: any(one.status == 503 for one in other.responses))
            assert len(transactions.servers) <= 100
            await until(lambda: not transactions.servers)
            assert not transactions._merged
            assert not transactions._lingering

    flood()


@in_loop
async def test_slow_and_broken_tcp_peers() -> None:
    """A request that comes byte by byte is answered, garbage closes its connection, and a half message hurts nobody."""
    async with UE(owner("bob"), address="127.0.0.1", port=0, transport="tcp", timers=QUICK) as bob:
        raw = crlf(
            "OPTIONS sip:bob@127.0.0.1 SIP/2.0\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKa\nFrom: <sip:a@b>;tag=1\n"
            "To: <sip:bob@b>\nCall-ID: 1\nCSeq: 1 OPTIONS\nContent-Length: 4\n\nabcd"
        )
        reader, writer = await asyncio.open_connection(*bob.address)
        for byte in b"\r\n\r\n" + raw:
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.readline()) == b"SIP/2.0 200 OK\r\n"
        wrong_reader, wrong = await asyncio.open_connection(*bob.address)
        wrong.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await wrong_reader.read() == b""
        _, half = await asyncio.open_connection(*bob.address)
        half.write(raw[:100])
        await half.drain()
        half.close()
        reset = socket.create_connection(bob.address)
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        writer.write(raw.replace(b"z9hG4bKa", b"z9hG4bKb").replace(b"Call-ID: 1", b"Call-ID: 2"))
        for _ in range(12):
            line = await reader.readline()
        assert line
        for one in (writer, wrong):
            one.close()
        assert bob.faults == 0


@in_loop
async def test_tcp_nobody_there() -> None:
    """A P-CSCF that accepts no connection, or closes it, fails the request at once instead of after 64*T1."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    closing = server.sockets[0].getsockname()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()
    for where, text in ((nobody, "no TCP connection"), (closing, "was closed")):
        async with UE(owner("bob"), address="127.0.0.1", port=0, transport="tcp", pcscf=where, timers=QUICK) as bob:
            with pytest.raises(CallFailed, match=text):
                await bob.register()
    server.close()
