"""Offers within a call: hold and resume by re-INVITE, and what the other side offers (RFC 3261 section 14)."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from labkit.errors import CallFailed, SdpError
from labkit.peers.acknowledgement import Acceptance, SentAcks
from labkit.peers.call_core import SDP_TYPE, CallCore, header_pair
from labkit.peers.callee import refuse_offer
from labkit.peers.failure import refused
from labkit.peers.negotiation import Negotiation
from labkit.peers.session_timer import SessionTimer
from labkit.peers.transaction import ServerTransaction
from labkit.wire.sip import SipMessage

_GLARE_TRIES: Final = 6
_GLARE_STEP_S: Final = 0.01
"""The random times after a 491 are multiples of this (RFC 3261 section 14.1)."""
_REFUSED_OFFER: Final = "Attribute not understood"
"""Warning 306 (RFC 3261 section 20.43)."""


def _ignore(_: SipMessage) -> None:
    """A provisional response to a re-INVITE changes nothing."""


class Offers:
    """Offers of ours and of the other side, one at a time."""

    def __init__(self, core: CallCore, acks: SentAcks, acceptance: Acceptance, timer: SessionTimer) -> None:
        self._core = core
        self._timer = timer
        self._acks = acks
        self._acceptance = acceptance
        self._offering = False
        self.refusal = 0
        """Status with which the other side's offers are refused; 0 to take them."""

    # ---- ours -------------------------------------------------------------------------------------------------------
    async def offer(
        self, wish: str, method: str = "INVITE", *, nowhere: bool = False, headers: tuple[str, ...] = ()
    ) -> SipMessage:
        """Offer a direction by re-INVITE, or by UPDATE (RFC 3311), and return the answer.

        Args:
            wish: which way sound should flow, from this side's view.
            method: "INVITE" or "UPDATE".
            nowhere: say it the old way, by the address 0.0.0.0.
            headers: further header lines.
        Raises:
            CallFailed: the call is not answered, another offer is under way, or the other side refused.
        """
        core = self._core
        if method not in ("INVITE", "UPDATE"):
            raise CallFailed(f'A call is changed by "INVITE" or "UPDATE", not by {method!r}.')
        if core.state != "answered" or core.closing:
            raise CallFailed(
                f"Only an answered call can be held or resumed; the one with {core.remote} is {core.state}."
            )
        if self._offering:
            raise CallFailed("Another hold or resume of this call is under way: wait for it first.")
        await self._acceptance.acknowledged()
        self._offering = True
        try:
            return await self._until_clear(wish, method, nowhere, headers)
        finally:
            self._offering = False

    async def refresh(self) -> SipMessage:
        """Offer by re-INVITE what holds already."""
        negotiation = self._core.negotiation
        return await self.offer(negotiation.wish if negotiation is not None else "sendrecv")

    async def _until_clear(self, wish: str, method: str, nowhere: bool, headers: tuple[str, ...]) -> SipMessage:
        """Send offers until one is not answered 491 because the other side did the same (section 14.1)."""
        core = self._core
        assert core.negotiation is not None
        for _ in range(_GLARE_TRIES):
            before = core.negotiation.local
            request, raw, branch, where = core.request(
                method, core.negotiation.offer(wish, nowhere=nowhere), (*headers, *self._timer.request_lines())
            )
            transactions = core.agent.transactions
            try:
                if method == "INVITE":
                    response = await transactions.invite(raw, branch, where, _ignore, self._acks.on_again).answer
                else:
                    response = await core.agent.request(raw, branch, method, where)
            except CallFailed:
                # a dialog in which requests stay unanswered is over (RFC 3261 section 12.2.1.2)
                core.hang_up(f"the other side did not answer {'a re-INVITE' if method == 'INVITE' else 'an UPDATE'}")
                raise
            if response.status < 300:
                self._take(request, response, wish)
                self._timer.take_response(response)
                return response
            core.negotiation.local = before
            if response.status != 491 or core.state != "answered":
                break
            await self._wait_glare()
        if response.status in (408, 481) and core.state == "answered":
            core.hang_up(f"the other side answered {response.status}")
        raise refused(request, response)

    async def _wait_glare(self) -> None:
        """Wait before the next try, without a lock on the call, so that the other side's try can pass."""
        core = self._core
        timers = core.agent.timers
        first, last = timers.glare_own_s if core.direction == "outgoing" else timers.glare_other_s
        self._offering = False
        await asyncio.sleep(random.randint(round(first / _GLARE_STEP_S), round(last / _GLARE_STEP_S)) * _GLARE_STEP_S)
        await self._acceptance.acknowledged()
        if self._offering or core.state != "answered":
            raise CallFailed(f"The call with {core.remote} changed while hold or resume waited for its turn.")
        self._offering = True

    def _take(self, request: SipMessage, response: SipMessage, wish: str) -> None:
        core = self._core
        assert core.dialog is not None
        assert core.negotiation is not None
        core.dialog = core.dialog.with_target_of(response)
        if request.method == "INVITE":
            self._acks.acknowledge(request.cseq or 0)
        core.negotiation.wish = wish
        if response.body:
            try:
                core.negotiation.take_answer(response.body)
            except SdpError as error:
                raise CallFailed(f"The answer is no session description: {error}", raw=response.to_bytes()) from error
        core.direct_media()
        core.notify()

    # ---- the other side's -------------------------------------------------------------------------------------------
    def receive(self, server: ServerTransaction) -> None:
        """A re-INVITE or UPDATE: answer its offer, unless another one is under way (RFC 3261 section 14.2)."""
        core, request = self._core, server.request
        self._acceptance.confirm_by_request()
        offers = request.method == "INVITE" or bool(request.body)  # an UPDATE without one refreshes the session
        if offers and (self._offering or self._acceptance.waits):
            core.agent.spawn(self._refuse_later(server))
        elif offers and self.refusal:
            server.respond(self.refusal, ("Warning", f'306 {core.agent.hostport} "{_REFUSED_OFFER}"'))
        elif core.state != "answered":
            server.respond(500, ("Retry-After", str(random.randint(0, 10))))
        elif request.body and request.content_type != SDP_TYPE:
            server.respond(415, ("Accept", SDP_TYPE))
        elif core.negotiation is not None:
            self._answer(server, core.negotiation)

    async def _refuse_later(self, server: ServerTransaction) -> None:
        await asyncio.sleep(self._core.agent.pending_s)
        server.respond(491)

    def _answer(self, server: ServerTransaction, negotiation: Negotiation) -> None:
        core, request = self._core, server.request
        lines = self._timer.answer_lines(request)
        pairs = [header_pair(line) for line in (core.contact, *lines)]
        try:
            if request.method == "INVITE":
                self._acceptance.accept(server, *lines)
            elif request.body:
                body = negotiation.answer(request.body)
                server.respond(200, *pairs, ("Content-Type", SDP_TYPE), body=body)
                core.direct_media()
            else:
                server.respond(200, *pairs)
        except SdpError as error:
            refuse_offer(server, error, core.agent)
            return
        assert core.dialog is not None
        core.dialog = core.dialog.with_target_of(request)
        core.notify()
