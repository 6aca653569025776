"""A request of ours: sent until somebody answers, for 64*T1 (RFC 3261 section 17.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from labkit.peers.failure import no_answer
from labkit.peers.timers import Timers
from labkit.peers.transport import Endpoint, Transport
from labkit.wire.sip import SipMessage

ClientKey = str
"""The branch of a request of ours; a CANCEL, which has the branch of its INVITE, says so behind it."""


class ClientLayer(Protocol):
    """What a client transaction needs of the layer that it belongs to."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    timers: Timers
    clients: dict[Any, ClientTransaction]

    def watch(self, transaction: ClientTransaction) -> None:
        """Wake a transaction if it has no answer after T1."""

    def unwatch(self, key: ClientKey) -> None:
        """An answer has come."""

    def linger(self, table: dict[Any, Any], key: Any) -> None:
        """Keep a finished transaction for 64*T1 more."""


class ClientTransaction:
    """One request of ours other than INVITE and ACK (RFC 3261 section 17.1.2)."""

    __slots__ = ("_deadline", "_interval", "_layer", "_timer", "answer", "destination", "due", "key", "raw", "sent")

    def __init__(self, layer: ClientLayer, raw: bytes, key: ClientKey, destination: Endpoint) -> None:
        self._layer = layer
        self.raw = raw
        self.key = key
        self.destination = destination
        self.sent = 1
        """How often the request went out."""
        self.answer: asyncio.Future[SipMessage] = layer.loop.create_future()
        """The final response; CallFailed when none comes."""
        timers = layer.timers
        now = layer.loop.time()
        self._deadline = now + timers.give_up_s
        self.due = now + timers.t1_s
        """When the request is sent again."""
        self._interval = timers.t1_s
        self._timer: asyncio.TimerHandle | None = None
        layer.clients[key] = self
        layer.transport.send(raw, destination)
        layer.watch(self)

    def wait(self) -> None:
        """T1 has passed without an answer: from here on the transaction has a clock of its own."""
        if self._layer.transport.is_reliable(self.raw):
            self._timer = self._layer.loop.call_at(self._deadline, self._fire)
        else:
            self._fire()

    def _fire(self) -> None:
        """Timer E (timer A for INVITE): send again, or give up when timer F (B) has run out, too."""
        now = self._layer.loop.time()
        if now >= self._deadline:
            self.fail(f"in {self._layer.timers.give_up_s:g} s")
            return
        self._layer.transport.send(self.raw, self.destination)
        self.sent += 1
        self._interval = self._next_interval()
        self.due = min(self.due + self._interval, self._deadline)
        self._timer = self._layer.loop.call_at(self.due, self._fire)

    def _next_interval(self) -> float:
        return min(2 * self._interval, self._layer.timers.t2_s)

    def receive(self, response: SipMessage) -> None:
        """Take a response: a provisional one slows the retransmission down, a final one ends the transaction."""
        if response.status < 200:
            self._interval = self._layer.timers.t2_s
            return
        self._stop()
        self._layer.clients.pop(self.key, None)
        if not self.answer.done():
            self.answer.set_result(response)

    def fail(self, why: str) -> None:
        """End without an answer."""
        self._stop()
        self._layer.clients.pop(self.key, None)
        if not self.answer.done():
            where = f"{self.destination[0]}:{self.destination[1]} over {self._layer.transport.name}"
            self.answer.set_exception(no_answer(self.raw, why, where, self.sent))
            self.answer.exception()  # marks it as seen: whoever waits gets it, and nobody else need hear of it

    def _stop(self) -> None:
        """Send nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._layer.unwatch(self.key)


class InviteTransaction(ClientTransaction):
    """An INVITE of ours (RFC 3261 section 17.1.1, with the accepted state of RFC 6026)."""

    __slots__ = ("_ack", "_on_again", "_on_provisional", "proceeding")

    def __init__(
        self,
        layer: ClientLayer,
        raw: bytes,
        key: ClientKey,
        destination: Endpoint,
        on_provisional: Callable[[SipMessage], None],
        on_again: Callable[[SipMessage], None],
    ) -> None:
        self._on_provisional = on_provisional
        self._on_again = on_again
        self._ack = b""
        self.proceeding = False
        """Whether a provisional response has come: only then may the INVITE be cancelled (RFC 3261 section 9.1)."""
        super().__init__(layer, raw, key, destination)

    def _next_interval(self) -> float:
        return 2 * self._interval

    def receive(self, response: SipMessage) -> None:
        """Take a response; acknowledge refusals, hand on provisional ones and every further 2xx."""
        self._stop()
        if response.status < 200:
            if not self.answer.done():
                self.proceeding = True
                self._on_provisional(response)
            return
        if response.status >= 300:
            if not self._ack:
                self._ack = _ack_to_refusal(self.raw, response)
            self._layer.transport.send(self._ack, self.destination)
        first = not self.answer.done()
        if first:
            self._layer.linger(self._layer.clients, self.key)
            self.answer.set_result(response)
        elif response.status < 300:
            self._on_again(response)


def _ack_to_refusal(invite: bytes, response: SipMessage) -> bytes:
    """ACK for a final response other than 2xx: same top Via, Request-URI and Route as the INVITE (section 17.1.1.3)."""
    head = invite.partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape").split("\r\n")
    lines = ["ACK" + head[0][len("INVITE") :]]
    vias = 0
    for line in head[1:]:
        name = line.partition(":")[0].lower()
        if name == "via":
            vias += 1
        if name in ("max-forwards", "from", "call-id", "route") or (name == "via" and vias == 1):
            lines.append(line)
        elif name == "to":
            lines.append(f"To: {response.header('to')}")
        elif name == "cseq":
            lines.append(line.replace("INVITE", "ACK"))
    return "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode("utf-8", "surrogateescape")
