"""Requests that are too long for UDP go over TCP, with all that belongs to them (RFC 3261 section 18.1.1)."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from in_loop import in_loop
from ue_parts import QUICK, Peer, owner, peer, say, two_phones, uri

from labkit.errors import CallFailed, PortBusy
from labkit.peers.ue import UE

LONG = "x" * 1400


def via_of(request: object) -> str:
    """Protocol in the top Via."""
    return (request.header("via") or "").split(" ")[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("large_bytes", "text", "via"), [(1300, "hello", "UDP"), (1300, LONG, "TCP"), (0, LONG, "UDP")]
)
@in_loop
async def test_length_decides(large_bytes: int, text: str, via: str) -> None:
    """A short message goes over UDP, a long one over TCP, unless the phone was told to use UDP for all."""
    async with two_phones(large_bytes=large_bytes) as (alice, bob):
        assert (await bob.message(uri(alice), text)).status == 200
        message = await alice.wait_message()
        assert via_of(message) == f"SIP/2.0/{via}"
        assert message.body == text.encode()


@in_loop
async def test_long_invite_and_what_belongs_to_it() -> None:
    """CANCEL and the ACK to a refusal go the way of a long INVITE; ACK to a 200, re-INVITE and BYE decide anew."""
    headers = (f"Subject: {LONG}",)
    async with two_phones() as (alice, bob):
        ours = await alice.call(uri(bob), headers=headers, wait="ringing")
        theirs = await bob.wait_call()
        assert theirs.invite is not None
        assert via_of(theirs.invite) == "SIP/2.0/TCP"
        assert (await ours.cancel()).status == 487
        await theirs.wait_state("ended")
        calling = asyncio.create_task(alice.call(uri(bob), headers=headers))
        await (await bob.wait_call()).reject(486)
        with pytest.raises(CallFailed, match="486"):
            await calling
        calling = asyncio.create_task(alice.call(uri(bob), headers=headers))
        theirs = await bob.wait_call()
        await theirs.answer()
        ours = await calling
        assert (await ours.hold()).status == 200
        assert (await theirs.bye()).status == 200
        await ours.wait_state("ended")


@in_loop
async def test_no_tcp_there() -> None:
    """Where nobody takes TCP the request goes over UDP after all, with a Via that says so."""
    async with (
        peer(say(200)) as other,
        UE(owner("alice"), address="127.0.0.1", port=0, timers=QUICK) as alice,
    ):
        host, port = other.address
        assert (await alice.message(f"sip:x@{host}:{port}", LONG)).status == 200
        (request,) = other.requests
        assert via_of(request) == "SIP/2.0/UDP"
        assert request.body == LONG.encode()


@in_loop
async def test_route_that_asks_for_tcp() -> None:
    """Within a dialog a first Route with transport=tcp is followed, however short the request is."""
    async with two_phones(auto_answer=True) as (alice, bob):
        ours = await alice.call(uri(bob))
        assert ours._core.dialog is not None
        host, port = bob.address
        for hop, via in (("", b"UDP"), (";transport=tcp", b"TCP")):
            routed = replace(ours._core.dialog, route_set=(f"<sip:{host}:{port}{hop};lr>",))
            raw, _, where = alice._agent.compose_in(routed, "OPTIONS")
            assert raw.startswith(b"OPTIONS")
            assert b"\r\nVia: SIP/2.0/" + via in raw
            assert where == bob.address


@in_loop
async def test_both_sockets_have_one_port() -> None:
    """A phone takes a port for UDP and TCP together; where one of them is taken, the port is busy."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        phone = UE(owner("alice"), address="127.0.0.1", port=port)
        with pytest.raises(PortBusy, match="TCP port"):
            await phone.start()
    await phone.start()
    assert phone.address[1] == port
    await phone.stop()


@in_loop
async def test_lost_connection_does_not_hurt_what_went_over_udp() -> None:
    """A TCP connection that is closed fails what waits for an answer over it, and nothing else."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async with UE(owner("alice"), address="127.0.0.1", port=0, timers=QUICK) as alice:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        udp, quiet = await loop.create_datagram_endpoint(lambda: Peer(), local_addr=(host, port))
        short = asyncio.create_task(alice.message(f"sip:x@{host}:{port}", "short"))
        with pytest.raises(CallFailed, match="the TCP connection was closed"):
            await alice.message(f"sip:x@{host}:{port}", LONG)
        assert not short.done()
        quiet.send(say(200)(quiet.requests[0]).to_bytes())  # type: ignore[union-attr]
        assert (await short).status == 200
        udp.close()
        server.close()
