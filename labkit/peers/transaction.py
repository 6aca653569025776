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
from collections import deque
from collections.abc import Callable
from typing import Any

from labkit.peers.client_transaction import ClientKey, ClientTransaction, InviteTransaction
from labkit.peers.server_transaction import (
    MAGIC_COOKIE,
    ServerKey,
    ServerTransaction,
    build_response,
    reply_to,
    server_key,
    with_source,
)
from labkit.peers.timers import Timers
from labkit.peers.transport import Endpoint, TcpLink, Transport
from labkit.wire.sip import SipMessage, Via, parse_via, split_list

__all__ = [
    "MAGIC_COOKIE",
    "ClientTransaction",
    "InviteTransaction",
    "ServerTransaction",
    "Timers",
    "Transactions",
    "build_response",
    "server_key",
    "with_source",
]

_CANCEL = " CANCEL"
MAX_SERVER_TRANSACTIONS = 2048
"""Requests that are remembered at a time; a flood beyond that is answered 503 and not remembered."""


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
        self._watched: dict[ClientKey, ClientTransaction] = {}
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
            if not transaction.answer.done() and self.transport.is_reliable(transaction.raw):
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
        transaction = ServerTransaction(self, with_source(request, via, source), key, reply_to(via, source), link)
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

        Nearly all have one by then, so until T1 they share one table, in the order of their times, and one clock
        instead of having one each. An answer takes its transaction out of the table, so nothing is kept of it.
        """
        self._watched[transaction.key] = transaction
        if self._watcher is None:
            self._watcher = self.loop.call_at(transaction.due, self._wake)

    def unwatch(self, key: ClientKey) -> None:
        """An answer has come: a transaction needs no waking any more."""
        self._watched.pop(key, None)

    def _wake(self) -> None:
        """Wake those that are due, and set the clock for the next one."""
        now = self.loop.time()
        while self._watched:
            transaction = next(iter(self._watched.values()))
            if transaction.due > now:
                break
            del self._watched[transaction.key]
            transaction.wait()
        waits = next(iter(self._watched.values()), None)
        self._watcher = self.loop.call_at(waits.due, self._wake) if waits is not None else None

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
