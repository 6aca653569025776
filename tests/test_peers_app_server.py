"""Application server: what it records, what it sends back to the S-CSCF, and what it answers by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from in_loop import in_loop
from sip_bytes import crlf, recorded_sip
from ue_parts import QUICK, Peer, owner, peer, until, uri

from labkit.errors import CallFailed, StackError
from labkit.peers.app_server import AppServer
from labkit.peers.stateless_proxy import StatelessProxy
from labkit.peers.ue import UE
from labkit.wire.sip import SipMessage, parse_message

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
INVITE = next(
    raw.replace(f"ussd.{REALM}:5070".encode(), b"127.0.0.1:5070")
    for _, raw in recorded_sip("06_ifc_ussd_invite.pcap")
    if raw.startswith(b"INVITE") and b"iscmark" in raw
)
"""An INVITE that a real S-CSCF sent to its application server."""
THIRD_PARTY = next(
    raw for _, raw in recorded_sip("13_third_party_register.pcap") if raw.startswith(b"REGISTER sip:as.")
)
"""The REGISTER of a real S-CSCF to its application server."""
SCSCF = ("172.30.0.12", 6060)


# ---- the proxy alone ------------------------------------------------------------------------------------------------
def passed(raw: bytes, **options: Any) -> tuple[SipMessage, tuple[str, int]]:
    """What a proxy at 127.0.0.1:5070 makes of a request from the S-CSCF, and where it goes."""
    sent: list[tuple[bytes, tuple[str, int]]] = []
    settings: dict[str, Any] = {"record_route": True, "headers": ()} | options
    StatelessProxy("127.0.0.1", 5070, lambda raw, where: sent.append((raw, where)), **settings).pass_request(
        parse_message(raw), SCSCF
    )
    ((out, where),) = sent
    return parse_message(out), where


def test_request_goes_back_along_its_route() -> None:
    """The server's own Route entry goes, the S-CSCF's mark stays as it is; Via, Record-Route, hop count are as 16.6."""
    came = parse_message(INVITE)
    out, where = passed(INVITE)
    assert where == SCSCF
    assert out.all("route") == came.all("route")[1:]
    assert "iscmark@scscf" in out.all("route")[0]
    assert out.all("record-route") == ("<sip:127.0.0.1:5070;lr>", *came.all("record-route"))
    assert out.all("via")[1:] == came.all("via")
    assert out.all("via")[0].startswith("SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK")
    assert (out.header("max-forwards"), out.body, out.request_uri) == ("67", came.body, came.request_uri)
    untouched = ("from", "to", "call-id", "cseq", "contact", "p-served-user", "p-asserted-identity", "recv-info")
    assert [out.all(name) for name in untouched] == [came.all(name) for name in untouched]


def test_one_branch_for_a_transaction() -> None:
    """A repeated request, its CANCEL and its ACK leave with the branch of the first; another transaction does not."""
    branch = passed(INVITE)[0].branch
    assert passed(INVITE)[0].branch == branch
    cancel = INVITE.replace(b"INVITE sip", b"CANCEL sip").replace(b"1002 INVITE", b"1002 CANCEL")
    assert passed(cancel)[0].branch == branch
    assert passed(INVITE.replace(b"z9hG4bKf75b.b86e", b"z9hG4bKf75b.b86f"))[0].branch != branch


def test_what_a_proxy_may_add() -> None:
    """Header lines of its own stand before Content-Length; no Record-Route where it is not wanted, or in a dialog."""
    out, _ = passed(INVITE, record_route=False, headers=("Subject: seen by the server",))
    assert out.header("subject") == "seen by the server"
    assert len(out.all("record-route")) == 2
    in_dialog = INVITE.replace(b"user=dialstring>\r\nCall", b"user=dialstring>;tag=x\r\nCall")
    assert len(passed(in_dialog)[0].all("record-route")) == 2


def test_request_without_hops_left_is_refused() -> None:
    """Max-Forwards 0 ends in 483 (RFC 3261 section 16.3), and an ACK in silence."""
    out, where = passed(INVITE.replace(b"Max-Forwards: 68", b"Max-Forwards: 0"))
    assert (out.status, where) == (483, SCSCF)


def test_response_goes_back_along_the_vias() -> None:
    """The proxy's own Via goes, the next one says where to; received and rport count; foreign responses are dropped."""
    sent: list[tuple[bytes, tuple[str, int]]] = []
    proxy = StatelessProxy(
        "127.0.0.1", 5070, lambda raw, where: sent.append((raw, where)), record_route=True, headers=()
    )
    vias = ("SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKx", "SIP/2.0/UDP scscf:6060;branch=z9hG4bKy;received=10.0.0.1")
    for top, rport, expected in (
        (vias, "", [("10.0.0.1", 6060)]),
        (vias, ";rport=7070", [("10.0.0.1", 7070)]),
        (vias[1:], "", []),
        (vias[:1], "", []),
    ):
        sent.clear()
        lines = "".join(f"Via: {via}{rport if number else ''}\n" for number, via in enumerate(top))
        raw = crlf(f"SIP/2.0 180 Ringing\n{lines}To: <sip:a@b>\nCSeq: 1 INVITE\nContent-Length: 1\n\n") + b"x"
        proxy.pass_response(parse_message(raw))
        assert [where for _, where in sent] == expected
        if sent:
            out = parse_message(sent[0][0])
            assert (out.status, out.body, len(out.all("via"))) == (180, b"x", 1)


# ---- the server on the wire -----------------------------------------------------------------------------------------
@asynccontextmanager
async def served(mode: str = "proxy", **options: Any) -> AsyncIterator[tuple[AppServer, UE, UE]]:
    """Two phones, the first of which sends everything by way of the application server."""
    async with AppServer("as", address="127.0.0.1", port=0, mode=mode, **options) as server:
        proxy = ("127.0.0.1", server._agent.port)
        async with (
            UE(owner("alice"), address="127.0.0.1", port=0, pcscf=proxy) as alice,
            UE(owner("bob"), address="127.0.0.1", port=0) as bob,
        ):
            yield server, alice, bob
            assert (server.faults, alice.faults, bob.faults) == (0, 0, 0)


@in_loop
async def test_call_through_a_proxying_server() -> None:
    """INVITE, ACK, re-INVITE and BYE from either side pass the server, which records each once."""
    async with served() as (server, alice, bob):
        for hangs_up in ("caller", "callee"):
            await server.clear()
            ours = await alice.call(uri(bob), wait="ringing")
            theirs = await bob.wait_call()
            await theirs.answer()
            await ours.wait_state("answered")
            await theirs.hold()
            await ours.hold()
            assert (ours.media_direction, theirs.media_direction) == ("inactive", "inactive")
            first, second = (ours, theirs) if hangs_up == "caller" else (theirs, ours)
            assert (await first.bye()).status == 200
            await second.wait_state("ended")
            assert [one.method for one in server.requests] == [
                "INVITE", "ACK", "INVITE", "ACK", "INVITE", "ACK", "BYE",
            ]  # fmt: skip
            assert {one.done for one in server.requests} == {"proxied"}
            assert [one.in_dialog for one in server.requests] == [False] + [True] * 6


@in_loop
async def test_cancel_and_refusal_through_a_proxying_server() -> None:
    """A cancelled and a rejected call leave no transaction waiting behind the server; a message passes too."""
    async with served() as (server, alice, bob):
        ours = await alice.call(uri(bob), wait="ringing")
        theirs = await bob.wait_call()
        assert (await ours.cancel()).status == 487
        await theirs.wait_state("ended")
        calling = asyncio.create_task(alice.call(uri(bob)))
        await (await bob.wait_call()).reject(603)
        with pytest.raises(CallFailed, match="603"):
            await calling
        assert (await alice.message(uri(bob), "hello")).status == 200
        assert (await bob.wait_message()).body == b"hello"
        methods = [one.method for one in server.requests]
        assert methods == ["INVITE", "CANCEL", "ACK", "INVITE", "ACK", "MESSAGE"]


@in_loop
async def test_answering_server() -> None:
    """In mode "answer" the server is the end of the way: it takes a call, and refuses what it was told to refuse."""
    async with served("answer", answers={"MESSAGE": 603}) as (server, alice, bob):
        ours = await alice.call(uri(bob))
        assert ours.state == "answered"
        assert (await ours.hold()).status == 200
        assert ours.media_direction == "sendonly"
        assert (await ours.bye()).status == 200
        with pytest.raises(CallFailed, match="603 Decline"):
            await alice.message(uri(bob), "hello")
        await server.behave("answer", {"INVITE": 486})
        with pytest.raises(CallFailed, match="486 Busy Here"):
            await alice.call(uri(bob))
        await until(lambda: len(server.requests) == 8)
        assert [one.method for one in server.requests] == [
            "INVITE", "ACK", "INVITE", "ACK", "BYE", "MESSAGE", "INVITE", "ACK",
        ]  # fmt: skip
        assert {one.done for one in server.requests} == {"answered"}


@in_loop
async def test_refusing_and_silent_server() -> None:
    """In mode "refuse" it says 5xx to all that begins something; in mode "silent" nothing at all, yet it records."""
    async with served("refuse", refuse_with=500) as (server, alice, bob):
        for asking in (alice.call(uri(bob)), alice.message(uri(bob), "hello")):
            with pytest.raises(CallFailed, match="500 Server Internal Error"):
                await asking
        await server.clear()
        await server.behave("silent")
        alice._agent.transactions.timers = QUICK
        with pytest.raises(CallFailed, match="no answer"):
            await alice.message(uri(bob), "hello")
        assert [(one.method, one.done) for one in server.requests] == [("MESSAGE", "ignored")]
        assert (await server.wait_request("MESSAGE")).request_uri == uri(bob)
        with pytest.raises(CallFailed, match=r"No INVITE reached the application server as in 0\.01 s"):
            await server.wait_request("INVITE", timeout_s=0.01)


async def ask(other: Peer, server: AppServer, raw: bytes) -> SipMessage:
    """Send a request as the S-CSCF and return the answer."""
    other.source = ("127.0.0.1", server._agent.port)
    before = len(other.responses)
    other.send(raw)
    await until(lambda: len(other.responses) > before)
    return other.responses[-1]


def as_if_from(other: Peer, server: AppServer, raw: bytes) -> bytes:
    """A recorded request as if it came from this peer and went to this server."""
    host, port = other.address
    own = f"127.0.0.1:{server._agent.port}".encode()
    raw = raw.replace(b"172.30.0.12:6060;branch", f"{host}:{port};branch".encode())
    return raw.replace(b"127.0.0.1:5070", own).replace(f"as.{REALM}:5080".encode(), own)


@pytest.mark.parametrize("mode", ["proxy", "answer"])
@in_loop
async def test_third_party_register(mode: str) -> None:
    """The REGISTER of a real S-CSCF is answered by the server itself in every mode, and tells who registered."""
    async with peer() as other, AppServer("as", address="127.0.0.1", port=0, mode=mode) as server:
        answer = await ask(other, server, as_if_from(other, server, THIRD_PARTY))
        assert (answer.status, answer.header("expires")) == (200, "3720")
        (told,) = server.requests
        assert told.to_uri == f"sip:001010000000031@{REALM}"
        assert told.from_uri == f"sip:scscf.{REALM}:6060"
        assert (told.method, told.expires_s, told.done, told.mark) == ("REGISTER", 3720, "answered", {})


@in_loop
async def test_what_the_scscf_says_about_the_served_user() -> None:
    """P-Served-User, P-Asserted-Identity and the S-CSCF's mark of a real request stand in the record."""
    async with peer() as other, AppServer("as", address="127.0.0.1", port=0, mode="refuse") as server:
        answer = await ask(other, server, as_if_from(other, server, INVITE))
        assert answer.status == 503
        (served,) = server.requests
        user = f"sip:001010000000001@{REALM}"
        assert (served.served_user, served.session_case, served.registration_state) == (user, "orig", "reg")
        assert served.asserted_identity == user
        assert served.mark == {"s": "1", "h": "0", "d": "0", "a": user}
        assert repr(served) == (
            f"ServedRequest(method='INVITE', request_uri='sip:*100%23@{REALM};user=dialstring', "
            f"served_user='{user}', session_case='orig', registration_state='reg', done='refused', in_dialog=False)"
        )


@pytest.mark.parametrize("raw", [b"\x00", b"SIP/2.0 200 OK\r\n\r\n", b"INVITE sip:a@b SIP/2.0\r\n\r\n", b"x" * 2000])
@in_loop
async def test_garbage(raw: bytes) -> None:
    """Garbage is dropped in every mode, and a good request after it is served."""
    for mode in ("proxy", "answer", "refuse", "silent"):
        async with peer() as other, AppServer("as", address="127.0.0.1", port=0, mode=mode) as server:
            other.source = ("127.0.0.1", server._agent.port)
            other.send(raw)
            other.send(INVITE[:900])
            await server.behave("answer")
            assert (await ask(other, server, as_if_from(other, server, THIRD_PARTY))).status == 200
            assert server.faults == 0


def test_modes_that_there_are_not() -> None:
    """A wrong mode or status is refused when it is given, with what there is."""
    for options in ({"mode": "b2bua"}, {"answers": {"INVITE": 180}}, {"refuse_with": 99}):
        with pytest.raises(StackError, match=r"use one of proxy|final status"):
            AppServer("as", address="127.0.0.1", port=0, **options)  # type: ignore[arg-type]
