"""What the tests of the phones share: owners, quick timers, a way to lose datagrams, and a peer that plays a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from labkit.peers.transaction import Timers, build_response
from labkit.peers.ue import UE
from labkit.wire.sip import SipMessage, parse_message

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
QUICK = Timers(t1_s=0.04, t2_s=0.16, t4_s=0.2, glare_own_s=(0.05, 0.08), glare_other_s=(0.0, 0.03))
"""All timers of RFC 3261 at a twelfth of their length, so that 64*T1 is 2.6 s."""

# 3GPP TS 35.208 section 4.3, test set 1
K = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
OPC = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
RAND = bytes.fromhex("23553cbe9637a89d218ae64dae47bf35")
SQN = 0xFF9BB4D0B607
AUTN = bytes.fromhex("55f328b43577b9b94a9ffac354dfafb3")
"""SQN xor AK (f5), AMF, MAC (f1) of the test set."""
RES = bytes.fromhex("a54211d5e3ba50bf")


@dataclass(frozen=True)
class Owner:
    """A subscriber as a phone needs it."""

    impi: str
    impus: tuple[str, ...]
    k: bytes = b""
    opc: bytes = b""
    password: str = ""


def owner(name: str, **secret: Any) -> Owner:
    """A subscriber with an IMSI identity and one with a name in it."""
    return Owner(f"{name}-imsi@{REALM}", (f"sip:{name}-imsi@{REALM}", f"sip:{name}@{REALM}", "tel:+15550001"), **secret)


@asynccontextmanager
async def two_phones(
    transport: str = "udp", timers: Timers | None = None, **of_bob: Any
) -> AsyncIterator[tuple[UE, UE]]:
    """Two phones that call each other directly, and in which nothing may go wrong unseen.

    They have the timers of RFC 3261 unless told otherwise: then nothing is sent twice because this machine is slow.
    """
    plain: dict[str, Any] = {"address": "127.0.0.1", "port": 0, "transport": transport, "timers": timers}
    async with UE(owner("alice"), **plain) as alice, UE(owner("bob"), **plain, **of_bob) as bob:
        yield alice, bob
    assert (alice.faults, bob.faults) == (0, 0)


def uri(phone: UE) -> str:
    """Where a phone is called directly: its user at its own address."""
    return phone.contact.replace("-imsi@", "@")


def lose(phone: UE, *numbers: int) -> list[bytes]:
    """Lose these datagrams (counted from 1) of those that a phone sends; returns the growing list of all of them."""
    sent: list[bytes] = []
    transport = phone._agent._transport
    send = transport.send

    def send_or_lose(raw: bytes, destination: Any, link: Any = None) -> None:
        sent.append(raw)
        if len(sent) not in numbers:
            send(raw, destination, link)

    transport.send = send_or_lose  # type: ignore[method-assign]
    return sent


def first_lines(sent: list[bytes]) -> list[str]:
    """Method or status of each message, for a look at what happened."""
    messages = [parse_message(raw) for raw in sent]
    return [message.method or f"{message.status} {message.cseq_method}" for message in messages]


Play = Callable[[SipMessage], SipMessage | None]
"""Answers a request; None keeps silent."""


class Peer(asyncio.DatagramProtocol):
    """The other end as a script: each request that comes is given to the next step (the last one goes on for ever)."""

    def __init__(self, *steps: Play) -> None:
        self.requests: list[SipMessage] = []
        self.responses: list[SipMessage] = []
        self.transport: asyncio.DatagramTransport | None = None
        self.source: Any = None
        self._steps = steps
        self._step = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, raw: bytes, source: Any) -> None:
        self.source = source
        message = parse_message(raw)
        if message.status:
            self.responses.append(message)
            return
        self.requests.append(message)
        if not self._steps:
            return
        step = self._steps[min(self._step, len(self._steps) - 1)]
        self._step += 1
        answer = step(message)
        if answer is not None:
            self.send(answer.to_bytes())

    def send(self, raw: bytes) -> None:
        """Send to where the last datagram came from."""
        assert self.transport is not None
        self.transport.sendto(raw, self.source)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self.transport is not None
        name = self.transport.get_extra_info("sockname")
        return name[0], name[1]


@asynccontextmanager
async def peer(*steps: Play) -> AsyncIterator[Peer]:
    """A `Peer` on a port of its own."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Peer(*steps), local_addr=("127.0.0.1", 0))
    yield protocol
    transport.close()


def say(status: int, *headers: tuple[str, str], body: bytes = b"", reason: str | None = None) -> Play:
    """Answer with this."""
    return lambda request: build_response(request, status, headers, reason, body, "peer")


def silent(_: SipMessage) -> None:
    """Answer nothing."""


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait until something is so."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come about in time"
        await asyncio.sleep(0.005)
