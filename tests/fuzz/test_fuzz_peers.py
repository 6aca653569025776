"""Bounded fuzz of application servers, of subscriptions and extended calls of a phone, and of reginfo."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from in_loop import in_loop
from sip_bytes import all_recorded
from test_fuzz_sip import MESSAGES, mutated, turns
from test_peers_subscription import BEFORE, notify, subscribed
from ue_parts import QUICK, lose, owner, uri

from labkit.errors import XmlError
from labkit.peers.app_server import MODES, AppServer
from labkit.peers.ue import UE
from labkit.wire.reginfo import merge, parse_reginfo
from labkit.wire.sip import parse_message


def test_reginfo() -> None:
    """Damaged documents give a document or an error of ours, and merge with what was known."""
    bodies = [parse_message(raw).body for raw in all_recorded() if raw.startswith(b"NOTIFY")]
    known = parse_reginfo(bodies[0])
    for chance in turns(1):
        with suppress(XmlError):
            known = merge(known, parse_reginfo(mutated(chance, chance.choice(bodies))))


@pytest.mark.parametrize("mode", MODES)
@in_loop
async def test_application_server(mode: str) -> None:
    """Whatever comes, an application server does not fail, and serves the next good request."""
    loop = asyncio.get_running_loop()
    async with AppServer("as", address="127.0.0.1", port=0, mode=mode, timers=QUICK) as server:
        stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        where = ("127.0.0.1", server._agent.port)
        for chance in turns(1):
            stranger.sendto(mutated(chance, chance.choice(MESSAGES))[:60000], where)
            await asyncio.sleep(0)
        stranger.close()
        await asyncio.sleep(0.1)
        assert server.faults == 0
        await server.behave("answer")
        async with UE(owner("alice"), address="127.0.0.1", port=0) as alice:
            assert (await alice.message(server.uri, "hello")).status in (200, 503)


@in_loop
async def test_subscription() -> None:
    """Damaged NOTIFYs of its own subscription do not make a phone fail."""
    async with subscribed() as (other, alice, subscription):
        asked = other.requests[0]
        for number, chance in enumerate(turns(1)):
            other.send(mutated(chance, notify(other, asked, BEFORE, cseq=5 + number))[:60000])
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert alice.faults == 0
        assert subscription.state in ("active", "pending", "terminated") or subscription.state


@in_loop
async def test_call_with_all_extensions() -> None:
    """Damaged requests and responses of a call with PRACK, session timer, UPDATE and INFO do not make a phone fail."""
    plain: dict[str, Any] = {
        "address": "127.0.0.1",
        "port": 0,
        "timers": QUICK,
        "extensions": ("100rel", "timer"),
        "info_packages": ("x",),
    }
    loop = asyncio.get_running_loop()
    async with UE(owner("alice"), **plain) as alice, UE(owner("bob"), auto_answer=True, ring_s=0.01, **plain) as bob:
        from_alice, from_bob = lose(alice), lose(bob)
        call = await alice.call(uri(bob))
        await call.hold(method="UPDATE")
        await call.resume()
        await call.info("x", b"body", "text/plain")
        samples = [(raw, bob.address) for raw in from_alice] + [(raw, alice.address) for raw in from_bob]
        stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        for chance in turns(1):
            raw, where = chance.choice(samples)
            stranger.sendto(mutated(chance, raw)[:60000], where)
            await asyncio.sleep(0)
        stranger.close()
        await asyncio.sleep(0.1)
        assert (alice.faults, bob.faults) == (0, 0)
