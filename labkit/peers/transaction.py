"""SIP transactions: a request and all that answers it, with the retransmissions that UDP needs (RFC 3261 section 17).

Theory of operation:

* A client transaction sends its request until somebody answers: after T1, then after twice as long each time (timer A
  for INVITE; timer E, capped at T2, for the others). After 64*T1 without an answer it gives up (timers B and F).
* INVITE is different because a person must answer it. A provisional response ends the retransmission, and a final
  response other than 2xx is acknowledged within the transaction; should it come again, so goes the ACK (timer D). The
  ACK to a 2xx belongs to the dialog, not to the transaction.
* A server transaction remembers what it answered and says the same again when the request comes again (timer J, 64*T1).
  A final response other than 2xx to an INVITE is repeated until its ACK comes (timers G and H).
* A 2xx to an INVITE is repeated by the phone itself (`Call`), and the transaction absorbs repeated INVITEs (RFC 6026).
* Timers I and K, which only swallow late messages, need no clock: what matches no transaction any more is dropped.
* Over TCP nothing is sent twice; only the timers that give up remain.

All memory of finished transactions lasts 64*T1, so one queue in order of time serves them all.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.peers.failure import no_answer
from labkit.peers.transport import Endpoint, TcpLink, Transport
from labkit.wire.sip import REASONS, SipMessage, Via, parse_via, split_list

MAGIC_COOKIE = "z9hG4bK"
"""What every branch begins with since RFC 3261 (section 8.1.1.7)."""

_CANCEL = " CANCEL"
MAX_SERVER_TRANSACTIONS = 2048
"""Requests that are remembered at a time; a flood beyond that is answered 503 and not remembered."""


@dataclass(frozen=True, slots=True)
class Timers:
    """The three base values from which all timers follow (RFC 3261 section 17.1.1.1)."""

    t1_s: float = 0.5
    """Estimate of a round trip: first retransmission after this."""
    t2_s: float = 4.0
    """Longest pause between retransmissions of requests other than INVITE, and of responses to INVITE."""
    t4_s: float = 5.0
    """Longest time a message stays in the network."""
    glare_own_s: tuple[float, float] = (2.1, 4.0)
    """After 491, the side that made the Call-ID tries again after a random time between these (section 14.1)."""
    glare_other_s: tuple[float, float] = (0.0, 2.0)
    """After 491, the other side tries again after a random time between these."""

    @property
    def give_up_s(self) -> float:
        """64*T1: timers B, F, H, J, and how long a 2xx waits for its ACK."""
        return 64 * self.t1_s


ClientKey = str
"""The branch of a request of ours; a CANCEL, which has the branch of its INVITE, says so behind it."""
ServerKey = tuple[Any, ...]
"""What a request is matched by (RFC 3261 section 17.2.3)."""


class ClientTransaction:
    """One request of ours other than INVITE and ACK (RFC 3261 section 17.1.2)."""

    __slots__ = ("_deadline", "_due", "_interval", "_layer", "_timer", "answer", "destination", "key", "raw", "sent")

    def __init__(self, layer: Transactions, raw: bytes, key: ClientKey, destination: Endpoint) -> None:
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
        self._due = now + timers.t1_s
        self._interval = timers.t1_s
        self._timer: asyncio.TimerHandle | None = None
        layer.clients[key] = self
        layer.transport.send(raw, destination)
        layer.watch(self)

    def wait(self) -> None:
        """T1 has passed without an answer: from here on the transaction has a clock of its own."""
        if self._layer.transport.reliable:
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
        self._due = min(self._due + self._interval, self._deadline)
        self._timer = self._layer.loop.call_at(self._due, self._fire)

    def _next_interval(self) -> float:
        return min(2 * self._interval, self._layer.timers.t2_s)

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has come yet that would stop the first retransmission."""
        return not self.answer.done()

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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class InviteTransaction(ClientTransaction):
    """An INVITE of ours (RFC 3261 section 17.1.1, with the accepted state of RFC 6026)."""

    __slots__ = ("_ack", "_on_again", "_on_provisional", "proceeding")

    def __init__(
        self,
        layer: Transactions,
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

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has come yet that would stop the first retransmission."""
        return not self.proceeding and not self.answer.done()

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


class ServerTransaction:
    """One request of somebody else's, and what was answered to it (RFC 3261 section 17.2)."""

    __slots__ = (
        "_deadline",
        "_due",
        "_interval",
        "_layer",
        "_timer",
        "key",
        "link",
        "merge_key",
        "on_cancel",
        "reply_to",
        "request",
        "said",
        "status",
        "to_tag",
    )

    def __init__(
        self, layer: Transactions, request: SipMessage, key: ServerKey, reply_to: Endpoint, link: TcpLink | None
    ) -> None:
        self._layer = layer
        self.request = request
        """The request; its top Via has gained `received` and `rport`."""
        self.key = key
        self.merge_key: ServerKey = ()
        self.reply_to = reply_to
        """Where answers go."""
        self.link = link
        self.to_tag = secrets.token_hex(4)
        """The tag in To of every answer, where the request has none (RFC 3261 section 8.2.6.2)."""
        self.on_cancel: Callable[[], None] | None = None
        """What to do when the request is cancelled; None once it has been answered, or when it cannot be."""
        self.status = 0
        """The last status that was answered, 0 before the first one."""
        self.said = b""
        """The last answer as bytes."""
        self._timer: asyncio.TimerHandle | None = None
        self._interval = layer.timers.t1_s
        self._deadline = self._due = 0.0

    def respond(
        self,
        status: int,
        *headers: tuple[str, str],
        reason: str | None = None,
        body: bytes = b"",
        dialog: bool = False,
    ) -> SipMessage:
        """Answer the request and return the answer; after a final one nothing more is said (the first one stays).

        Args:
            status: status code.
            headers: what the answer carries beyond what it copies from the request.
            reason: reason phrase, the usual one by default.
            body: what the answer carries; its Content-Type is among the headers.
            dialog: whether the answer makes a dialog and so copies Record-Route (RFC 3261 section 12.1.1).
        """
        response = build_response(self.request, status, headers, reason, body, self.to_tag, dialog)
        if self.status >= 200:
            return response
        self.status = status
        self.said = response.to_bytes()
        self._layer.transport.send(self.said, self.reply_to, self.link)
        if status >= 200:
            self._layer.linger(self._layer.servers, self.key, self.merge_key)
            if self.request.method == "INVITE" and status >= 300:
                self._await_ack()
        return response

    def repeat(self) -> None:
        """The request came again: say the same again. Repeating a 2xx to an INVITE is the call's own work."""
        if self.said and not (self.request.method == "INVITE" and 200 <= self.status < 300):
            self._layer.transport.send(self.said, self.reply_to, self.link)

    def repeat_success(self) -> None:
        """Say a 2xx to an INVITE once more; the call does this until the ACK comes."""
        self._layer.transport.send(self.said, self.reply_to, self.link)

    def acknowledged(self) -> None:
        """The ACK to a refusal has come: stop repeating it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _await_ack(self) -> None:
        """Start timer G and timer H."""
        loop, timers = self._layer.loop, self._layer.timers
        self._deadline = loop.time() + timers.give_up_s
        self._due = loop.time() + timers.t1_s
        if not self._layer.transport.reliable:
            self._timer = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        now = self._layer.loop.time()
        if now >= self._deadline:
            self._timer = None
            return
        self._layer.transport.send(self.said, self.reply_to, self.link)
        self._interval = min(2 * self._interval, self._layer.timers.t2_s)
        self._due = min(self._due + self._interval, self._deadline)
        self._timer = self._layer.loop.call_at(self._due, self._fire)


def build_response(
    request: SipMessage,
    status: int,
    headers: tuple[tuple[str, str], ...] = (),
    reason: str | None = None,
    body: bytes = b"",
    to_tag: str = "",
    dialog: bool = False,
) -> SipMessage:
    """Make the response to a request: Via, From, To, Call-ID and CSeq are copied (RFC 3261 section 8.2.6.2)."""
    copied: list[tuple[str, str]] = [("Via", value) for value in request.lines("via")]
    if dialog:
        copied += [("Record-Route", value) for value in request.lines("record-route")]
    to = request.header("to") or ""
    if to_tag and status > 100 and request.to_tag is None:
        to = f"{to};tag={to_tag}"
    copied += [("From", request.header("from") or ""), ("To", to)]
    copied += [(name, request.header(name) or "") for name in ("Call-ID", "CSeq")]
    if status == 100 and (stamp := request.header("timestamp")):
        copied.append(("Timestamp", stamp))
    phrase = REASONS.get(status, "Unknown") if reason is None else reason
    return SipMessage.response(status, (*copied, *headers), body, phrase)


class Transactions:
    """All transactions of one phone. Bytes come in by `deliver`; new requests go on to `on_request`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        timers: Timers,
        on_request: Callable[[ServerTransaction], None],
        on_ack: Callable[[SipMessage], None],
    ) -> None:
        self.loop = loop
        self.transport = transport
        self.timers = timers
        self.clients: dict[Any, ClientTransaction] = {}
        """Requests of ours that may still be answered."""
        self.servers: dict[Any, ServerTransaction] = {}
        """Requests of others that may come again."""
        self._merged: dict[Any, ServerKey] = {}
        self._on_request = on_request
        self._on_ack = on_ack
        self._lingering: deque[tuple[float, dict[Any, Any], Any, ServerKey]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._watched: deque[tuple[float, ClientTransaction]] = deque()
        self._watcher: asyncio.TimerHandle | None = None

    # ---- requests of ours -------------------------------------------------------------------------------------------
    def send(self, raw: bytes, branch: str, method: str, destination: Endpoint) -> ClientTransaction:
        """Send a request other than INVITE and ACK."""
        return ClientTransaction(self, raw, branch + _CANCEL if method == "CANCEL" else branch, destination)

    def invite(
        self,
        raw: bytes,
        branch: str,
        destination: Endpoint,
        on_provisional: Callable[[SipMessage], None],
        on_again: Callable[[SipMessage], None],
    ) -> InviteTransaction:
        """Send an INVITE; `on_again` gets every 2xx after the first one: repetitions, and those of other forks."""
        return InviteTransaction(self, raw, branch, destination, on_provisional, on_again)

    def failed(self, destination: Endpoint, why: str) -> None:
        """The transport cannot reach a destination: what waits for an answer from there has failed."""
        for transaction in [one for one in self.clients.values() if one.destination == destination]:
            if not transaction.answer.done():
                transaction.fail(f"({why})")

    # ---- what comes in ----------------------------------------------------------------------------------------------
    def receive_response(self, response: SipMessage) -> None:
        """Hand a response to its transaction; one that belongs to none is dropped (RFC 3261 section 18.1.2)."""
        branch = response.branch or ""
        transaction = self.clients.get(branch)
        if transaction is None or isinstance(transaction, InviteTransaction):
            # only an INVITE shares its branch, with its CANCEL; the method tells whose response this is (17.1.3)
            transaction = self.clients.get(branch + _CANCEL) if response.cseq_method == "CANCEL" else transaction
        if transaction is not None:
            transaction.receive(response)

    def receive_request(self, request: SipMessage, source: Endpoint, link: TcpLink | None) -> None:
        """Hand a request to its transaction, or make one.

        Raises:
            SipError: its top Via is not readable, so that it cannot even be answered.
        """
        via = parse_via((split_list(request.header("via") or "") or ("",))[0])
        key = server_key(request, via)
        known = self.servers.get(key)
        if request.method == "ACK":
            if known is not None and known.status >= 300:
                known.acknowledged()
            else:
                self._on_ack(request)
            return
        if known is not None:
            known.repeat()
            return
        transaction = ServerTransaction(self, with_source(request, via, source), key, _reply_to(via, source), link)
        if len(self.servers) >= MAX_SERVER_TRANSACTIONS:
            overload = build_response(transaction.request, 503, (("Retry-After", "10"),))
            self.transport.send(overload.to_bytes(), transaction.reply_to, link)
            return
        self.servers[key] = transaction
        self._dispatch(transaction, via)

    def _dispatch(self, transaction: ServerTransaction, via: Via) -> None:
        request = transaction.request
        if request.method == "CANCEL":
            invite = self.servers.get(server_key(request, via, "INVITE"))
            if invite is not None:
                transaction.to_tag = invite.to_tag
            transaction.respond(481 if invite is None else 200)
            if invite is not None and invite.on_cancel is not None and invite.status < 200:
                invite.on_cancel()
            return
        if request.to_tag is None:
            merge_key = (request.call_id, request.cseq, request.cseq_method, request.from_tag)
            if merge_key in self._merged:
                # the same request came by two ways (RFC 3261 section 8.2.2.2)
                transaction.respond(482)
                return
            self._merged[merge_key] = transaction.key
            transaction.merge_key = merge_key
        self._on_request(transaction)

    # ---- time -------------------------------------------------------------------------------------------------------
    def watch(self, transaction: ClientTransaction) -> None:
        """Wake a transaction if it has no answer after T1.

        Nearly all have one by then, so until T1 they share one queue and one clock instead of having one each.
        """
        self._watched.append((self.loop.time() + self.timers.t1_s, transaction))
        if self._watcher is None:
            self._watcher = self.loop.call_at(self._watched[0][0], self._wake)

    def _wake(self) -> None:
        """Wake those that are due; those that have been answered leave the queue, due or not."""
        now = self.loop.time()
        while self._watched and (self._watched[0][0] <= now or not self._watched[0][1].is_waiting):
            transaction = self._watched.popleft()[1]
            if transaction.is_waiting:
                transaction.wait()
        self._watcher = self.loop.call_at(self._watched[0][0], self._wake) if self._watched else None

    # ---- memory -----------------------------------------------------------------------------------------------------
    def linger(self, table: dict[Any, Any], key: Any, merge_key: ServerKey = ()) -> None:
        """Keep a finished transaction for 64*T1 more, then forget it."""
        when = self.loop.time() + self.timers.give_up_s
        self._lingering.append((when, table, key, merge_key))
        if self._sweeper is None:
            self._sweeper = self.loop.call_at(when, self._sweep)

    def _sweep(self) -> None:
        now = self.loop.time()
        while self._lingering and self._lingering[0][0] <= now:
            _, table, key, merge_key = self._lingering.popleft()
            table.pop(key, None)
            self._merged.pop(merge_key, None)
        waits = self._lingering[0][0] if self._lingering else None
        self._sweeper = self.loop.call_at(waits, self._sweep) if waits is not None else None

    def close(self) -> None:
        """Stop every clock; what still waits for an answer hears that the phone was switched off."""
        for clock in (self._sweeper, self._watcher):
            if clock is not None:
                clock.cancel()
        self._watched.clear()
        for client in list(self.clients.values()):
            client.fail("(the phone was switched off)")
        for server in self.servers.values():
            server.acknowledged()
        self.clients.clear()
        self.servers.clear()
        self._merged.clear()
        self._lingering.clear()


def server_key(request: SipMessage, via: Via, method: str | None = None) -> ServerKey:
    """What a request is recognised by: branch, sent-by and method (an ACK belongs to its INVITE)."""
    wanted = method or ("INVITE" if request.method == "ACK" else request.method)
    branch = via.param("branch") or ""
    if len(branch) > len(MAGIC_COOKIE) and branch.startswith(MAGIC_COOKIE):
        return (branch, via.host.lower(), via.port, wanted)
    # RFC 2543 style, without a branch that is unique (RFC 3261 section 17.2.3)
    return (request.call_id, request.cseq, request.from_tag, request.header("via"), wanted)


def with_source(request: SipMessage, via: Via, source: Endpoint) -> SipMessage:
    """Note in the top Via where the request came from: received (RFC 3261 section 18.2.1) and rport (RFC 3581)."""
    wants_rport = via.param("rport") == ""
    if via.host == source[0] and not wants_rport:
        return request
    top, *others = split_list(request.header("via") or "")
    if wants_rport:
        pieces = (f"rport={source[1]}" if one.strip().lower() == "rport" else one for one in top.split(";"))
        top = ";".join(pieces)
    top = f"{top};received={source[0]}"
    headers = list(request.headers)
    index = next(number for number, (name, _) in enumerate(headers) if name.lower() in ("via", "v"))
    headers[index] = (headers[index][0], ", ".join([top, *others]))
    return SipMessage(request.method, request.request_uri, 0, "", tuple(headers), request.body, request.version)


def _reply_to(via: Via, source: Endpoint) -> Endpoint:
    """Where answers go: back to the source; its port only counts if rport is asked for (RFC 3581 section 4)."""
    if via.param("rport") is not None:
        return source
    return source[0], via.port or 5060


__all__ = [
    "ClientTransaction",
    "InviteTransaction",
    "ServerTransaction",
    "Timers",
    "Transactions",
    "build_response",
]
