"""Bounded fuzz of the SIP, SDP and RTP codecs and of a running phone: whatever comes, an error of ours or an answer."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from in_loop import in_loop
from sip_bytes import all_recorded
from sip_torture import EVERYTHING
from ue_parts import QUICK, first_lines, lose, owner, uri

from labkit.errors import ProtocolError, SdpError, SipError
from labkit.peers.transaction import Timers
from labkit.peers.ue import UE
from labkit.wire.rtp import parse_rtcp, parse_rtp
from labkit.wire.sdp import parse_sdp
from labkit.wire.sip import (
    looks_like_sip,
    parse_address,
    parse_message,
    parse_params,
    parse_uri,
    parse_via,
    problems,
    salvage,
    split_list,
    split_stream,
)

SECONDS = float(os.environ.get("LABKIT_FUZZ_SECONDS", "2"))
MESSAGES = [*all_recorded(), *EVERYTHING.values()]
_BITS = (b"\r\n", b"\n", b" ", b"\t", b":", b";", b",", b'"', b"<", b">", b"=", b"@", b"\0", b"\xff", b"sip:", b"tel:")
_LINES = (
    b"Content-Length: 5\r\n",
    b"l:\r\n",
    b"Via: x\r\n",
    b"To: <\r\n",
    b"CSeq: 1\r\n",
    b" folded\r\n",
    b"m=audio\r\n",
)


def mutated(chance: random.Random, raw: bytes) -> bytes:
    """A message with a few bytes, words or lines changed, moved, doubled or gone."""
    damaged = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 4, 12))):
        at = chance.randrange(len(damaged) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            damaged[at : at + 1] = chance.choice(_BITS)
        elif kind == 1:
            del damaged[at : at + chance.randrange(1, 60)]
        elif kind == 2:
            damaged[at:at] = chance.randbytes(chance.randrange(1, 8))
        elif kind == 3:
            damaged[at:at] = damaged[at : at + chance.randrange(1, 200)]
        else:
            line = damaged.find(b"\r\n", at) + 2
            damaged[line:line] = chance.choice(_LINES)
    return bytes(damaged)


def turns(seed: int) -> Iterator[random.Random]:
    """Chances until the time is over."""
    end, number = time.monotonic() + SECONDS, seed
    while time.monotonic() < end:
        yield random.Random(number)
        number += 1


def check_message(raw: bytes) -> bool:
    """Hold the codec to its word on one message; whether it was read (else: refused as SipError, with an offset)."""
    looks_like_sip(raw)
    salvage(raw)
    with suppress(SipError):
        split_stream(raw)
    try:
        message = parse_message(raw)
    except SipError as error:
        offset = error.offset
        assert offset is not None
        assert 0 <= offset <= len(raw)
        return False
    assert message.to_bytes() in raw
    assert parse_message(message.to_bytes()) == message
    problems(message)
    ask = (message.call_id, message.cseq, message.from_tag, message.to_user, message.branch, repr(message))
    assert len(ask) == 6
    for name, value in message.headers:
        message.all(name)
        split_list(value)
        parse_params(value)
        for parse in (parse_address, parse_uri, parse_via):
            with suppress(SipError):
                parse(value)
    return True


def test_sip_codec() -> None:
    """Every damaged message is read and written back, or refused as SipError with an offset inside of it."""
    for chance in turns(1):
        check_message(mutated(chance, chance.choice(MESSAGES)))


def test_sdp_and_rtp_codecs() -> None:
    """Damaged descriptions and packets are read or refused as errors of ours; what is read comes back as it was."""
    bodies = [parse_message(raw).body for raw in all_recorded()]
    bodies = [body for body in bodies if body.startswith(b"v=0")]
    for chance in turns(2):
        raw = mutated(chance, chance.choice(bodies))
        with suppress(SdpError):
            description = parse_sdp(raw)
            assert description.to_bytes() == raw
            for index in range(len(description.media)):
                description.direction_of(index)
                description.with_direction("sendonly", index)
                description.media_address(index)
        media = chance.randbytes(chance.randrange(0, 64))
        for first in (media, b"\x80" + media, b"\xb5" + media, b"\x81\xc8\x00\x0c" + media):
            with suppress(ProtocolError):
                assert parse_rtp(first).to_bytes() == first
            with suppress(ProtocolError):
                for packet in parse_rtcp(first):
                    assert packet.blocks is not None
                    assert packet.sender is not None or packet.packet_type != 200


@in_loop
async def test_running_phone() -> None:
    """A phone in a call gets damaged messages of that call and of strangers: it fails on none, and still answers."""
    async with (
        UE(owner("alice"), address="127.0.0.1", port=0, timers=QUICK) as alice,
        UE(owner("bob"), address="127.0.0.1", port=0, timers=QUICK, auto_answer=True) as bob,
    ):
        sent = lose(alice)
        call = await alice.call(uri(bob))
        await call.hold()
        await call.resume()
        assert first_lines(sent)[0] == "INVITE"
        samples = [*sent, *MESSAGES]
        loop = asyncio.get_running_loop()
        stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        for chance in turns(3):
            stranger.sendto(mutated(chance, chance.choice(samples))[:60000], bob.address)
            await asyncio.sleep(0)
        stranger.close()
        await asyncio.sleep(0.1)
        assert (alice.faults, bob.faults) == (0, 0)
        for _ in range(3):
            if (await alice.options(uri(bob))).status == 200:
                break
        transactions = bob._agent.transactions
        assert len(transactions.servers) <= 2048
        assert len(bob.calls) < 600


@in_loop
async def test_phone_does_not_grow() -> None:
    """After 64*T1 a phone that was fed damaged messages holds hardly more memory than before."""
    timers = Timers(t1_s=0.01, t2_s=0.04)
    async with UE(owner("bob"), address="127.0.0.1", port=0, timers=timers, ring_limit_s=0.2) as bob:
        loop = asyncio.get_running_loop()
        stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

        async def feed(seed: int) -> int:
            for number in range(600):
                chance = random.Random(seed + number)
                stranger.sendto(mutated(chance, chance.choice(MESSAGES))[:60000], bob.address)
                await asyncio.sleep(0)
            await asyncio.sleep(2 * timers.give_up_s + 0.5)
            bob._incoming.calls.clear()
            bob._incoming.messages.clear()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        before = await feed(10_000)
        after = await feed(20_000)
        tracemalloc.stop()
        stranger.close()
        assert bob.faults == 0
        assert not bob._agent.transactions.servers
        assert not bob._agent.calls
        assert after - before < 200_000
