"""A call between two phones: what a lesson holds in its hand (RFC 3261 sections 12 to 15, RFC 3264).

States, in the order in which a call passes them:

    calling     an INVITE is out, and nobody has said more than "trying"
    ringing     the callee's phone rings (180), or ours does
    answered    200 and ACK have been exchanged
    ended       by BYE, CANCEL, a refusal, or because nobody answered
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from labkit.errors import AkaError, CallFailed, SdpError
from labkit.peers.agent import Agent, answer_options
from labkit.peers.dialog_state import Dialog, callee_dialog, caller_dialog
from labkit.peers.failure import refused
from labkit.peers.media import AudioStream, MediaReport
from labkit.peers.negotiation import Negotiation
from labkit.peers.transaction import InviteTransaction, ServerTransaction
from labkit.peers.transport import Endpoint
from labkit.wire.sip import SipMessage, parse_message

if TYPE_CHECKING:
    from labkit.peers.credentials import Credentials

STATES: Final = ("calling", "ringing", "answered", "ended")
"""What `Call.state` may be."""
SDP_TYPE: Final = "application/sdp"
_GLARE_TRIES: Final = 6
_SAVED_ACKS: Final = 4


class Call:
    """One call. `await call.hold()`, `await call.bye()`; `call.state` says where it stands."""

    def __init__(self, agent: Agent, direction: str, remote: str, contact_user: str) -> None:
        self._agent = agent
        self._contact = f"Contact: <{agent.contact(contact_user)}>"
        self.direction = direction
        """ "outgoing" or "incoming"."""
        self.remote = remote
        """URI of the other side: the one called, or the one that calls."""
        self.call_id = ""
        """Call-ID of the call's messages."""
        self.end_reason = ""
        """Why the call ended, in words; empty while it lives."""
        self.invite: SipMessage | None = None
        """The INVITE that began the call."""
        self.answered_with: SipMessage | None = None
        """The final response to that INVITE."""
        self._state = "calling" if direction == "outgoing" else "ringing"
        self._changed = asyncio.Event()
        self._failure: CallFailed | None = None
        self._dialog: Dialog | None = None
        self._negotiation: Negotiation | None = None
        self._stream: AudioStream | None = None
        self._transaction: InviteTransaction | None = None
        self._server: ServerTransaction | None = None
        self._acks: dict[int, tuple[bytes, Endpoint]] = {}
        self._await_ack: AwaitAck | None = None
        self._offering = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._credentials: Credentials | None = None
        self._headers: tuple[str, ...] = ()
        self._local_tag = secrets.token_hex(4)
        self._from = ""
        self._body = b""
        self._destination: Endpoint = ("", 0)
        self.rtp = False
        """Whether an answer sends and takes real sound unless told otherwise."""

    def __repr__(self) -> str:
        preposition = "to" if self.direction == "outgoing" else "from"
        return f"<Call {preposition} {self.remote}, {self._state}>"

    # ---- what a lesson asks -----------------------------------------------------------------------------------------
    @property
    def state(self) -> str:
        """One of "calling", "ringing", "answered", "ended"."""
        return self._state

    @property
    def held(self) -> bool:
        """Whether this side has put the other one on hold."""
        return self._negotiation is not None and self._negotiation.wish != "sendrecv"

    @property
    def held_by_peer(self) -> bool:
        """Whether the other side has put this one on hold."""
        return self._negotiation is not None and self._negotiation.held_by_peer

    @property
    def media_direction(self) -> str:
        """Which way sound flows by agreement, from this side's view: "sendrecv", "sendonly", "recvonly", "inactive"."""
        return self._negotiation.direction if self._negotiation is not None else "inactive"

    @property
    def local_sdp(self) -> bytes:
        """The session description that this side sent last."""
        local = self._negotiation.local if self._negotiation else None
        return local.to_bytes() if local else b""

    @property
    def remote_sdp(self) -> bytes:
        """The session description that the other side sent last."""
        remote = self._negotiation.remote if self._negotiation else None
        return remote.to_bytes() if remote else b""

    async def media(self) -> MediaReport | None:
        """Say how much sound went and came, how much was lost, and its jitter; None for a call without real sound."""
        return self._stream.report() if self._stream is not None else None

    async def wait_state(self, state: str, timeout_s: float = 10.0) -> str:
        """Wait until the call has got as far as `state`, and return the state that it is in then.

        Raises:
            CallFailed: it ended before, or did not get there in time.
        """
        if state not in STATES:
            raise CallFailed(f"A call has no state {state!r}: use one of {', '.join(STATES)}.")
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self._reached(state):
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._changed.wait(), max(left, 0))
            except TimeoutError:
                raise CallFailed(
                    f"The call with {self.remote} is still {self._state} after {timeout_s:g} s, not {state}."
                ) from None
        return self._state

    def _reached(self, state: str) -> bool:
        if self._state == "ended" and state != "ended":
            raise self._failure or CallFailed(f"The call with {self.remote} has ended: {self.end_reason}.")
        return STATES.index(self._state) >= STATES.index(state)

    async def answer(self, rtp: bool | None = None) -> SipMessage:
        """Answer a call that rings here, and return the 200 once the caller has acknowledged it.

        Args:
            rtp: whether to send and take real sound; by default as the phone was made.
        Raises:
            CallFailed: the call does not ring here (any more), or no ACK came.
        """
        server = self._server
        if self.direction != "incoming" or self._state != "ringing" or server is None or self._await_ack is not None:
            raise CallFailed(f"There is nothing to answer: the call with {self.remote} is {self._state}.")
        await self._open_media(self.rtp if rtp is None else rtp)
        if self._state != "ringing":
            raise CallFailed(f"The call with {self.remote} ended before it was answered: {self.end_reason}.")
        self._stop_timer()
        self.answered_with = self._accept(server)
        await self._acknowledged()
        return self.answered_with

    async def reject(self, status: int = 486, reason: str | None = None) -> SipMessage:
        """Refuse a call that rings here (486 Busy Here, 603 Decline, ...), and return what was answered."""
        if self.direction != "incoming" or self._state != "ringing" or self._server is None:
            raise CallFailed(f"There is nothing to reject: the call with {self.remote} is {self._state}.")
        if not 300 <= status <= 699:
            raise CallFailed(f"A call is rejected with a status from 300 to 699, not {status}.")
        self.answered_with = self._server.respond(status, reason=reason)
        self._end(f"rejected with {status}")
        return self.answered_with

    async def hold(self, direction: str = "sendonly") -> SipMessage:
        """Put the other side on hold by a re-INVITE, and return its answer.

        Args:
            direction: "sendonly" (it may hear music), or "inactive" (silence both ways).
        Raises:
            CallFailed: the other side refused; the call goes on as before.
        """
        if direction not in ("sendonly", "inactive"):
            raise CallFailed(f'A call is held with "sendonly" or "inactive", not {direction!r}.')
        return await self._reinvite(direction)

    async def resume(self) -> SipMessage:
        """Take the other side off hold by a re-INVITE, and return its answer."""
        return await self._reinvite("sendrecv")

    async def bye(self) -> SipMessage:
        """Hang up an answered call, and return the other side's answer to the BYE.

        Raises:
            CallFailed: the call is not answered (use cancel() or reject()), or the other side did not answer the BYE.
        """
        if self._state == "answered" and not self._closing and self._dialog is not None:
            self._closing = True
            request, raw, branch, where = self._in_dialog("BYE")
            if self._stream is not None:
                self._stream.close()
            try:
                response = await self._agent.request(raw, branch, "BYE", where)
            finally:
                self._end("hung up here")
            if response.status >= 300:
                raise refused(request, response)
            return response
        hint = {"calling": "cancel() it", "ringing": "cancel() or reject() it"}.get(self._state, "it is over already")
        raise CallFailed(f"The call with {self.remote} is {self._state}, so there is nothing to hang up: {hint}.")

    async def cancel(self) -> SipMessage:
        """Give up a call that has not been answered, and return the final response to its INVITE (487).

        When the callee answers in the same moment, its 200 wins: it is acknowledged, hung up, and returned.
        """
        transaction = self._transaction
        if self.direction != "outgoing" or self._state not in ("calling", "ringing") or transaction is None:
            raise CallFailed(f"There is nothing to cancel: the call with {self.remote} is {self._state}.")
        self._closing = True
        while not transaction.proceeding and not transaction.answer.done():
            await self._wait_change()
        if not transaction.answer.done():
            assert self.invite is not None
            await self._send_cancel(transaction, self.invite)
        give_up_s = self._agent.timers.give_up_s
        try:
            final = await asyncio.wait_for(asyncio.shield(transaction.answer), give_up_s)
        except TimeoutError:
            self._end("cancelled, and the other side said no more")
            raise CallFailed(f"No final response to the cancelled INVITE came in {give_up_s:g} s.") from None
        if self._state != "ended":
            await self.wait_state("ended", give_up_s)
        return final

    # ---- the caller's side ------------------------------------------------------------------------------------------
    async def dial(
        self,
        *,
        from_uri: str,
        routes: tuple[str, ...],
        headers: tuple[str, ...],
        sdp: bytes | None,
        rtp: bool,
        destination: Endpoint,
        credentials: Credentials | None,
    ) -> None:
        """Send the INVITE; the phone does this in `UE.call`."""
        await self._open_media(rtp)
        assert self._negotiation is not None
        self._credentials = credentials
        self._headers = (*(f"Route: {route}" for route in routes), self._contact, *headers)
        self.call_id = secrets.token_hex(10)
        self._body = self._negotiation.offer() if sdp is None else sdp
        self._from = f"<{from_uri}>;tag={self._local_tag}"
        self._destination = destination
        self._send_invite(1)

    def _send_invite(self, cseq: int, *extra: str) -> None:
        branch = self._agent.new_branch()
        raw = self._agent.compose(
            "INVITE",
            self.remote,
            from_=self._from,
            to=f"<{self.remote}>",
            call_id=self.call_id,
            cseq=cseq,
            branch=branch,
            headers=(*self._headers, *extra),
            content_type=SDP_TYPE,
            body=self._body,
        )
        self.invite = parse_message(raw)
        transactions = self._agent.transactions
        self._transaction = transactions.invite(raw, branch, self._destination, self._on_provisional, self._on_again)
        self._transaction.answer.add_done_callback(self._on_final)

    def _on_provisional(self, response: SipMessage) -> None:
        if response.status > 100 and self._state == "calling":
            self._set_state("ringing")
        else:
            self._notify()

    def _on_final(self, answer: asyncio.Future[SipMessage]) -> None:
        if answer.cancelled():
            return
        if (error := answer.exception()) is not None:
            self._failure = error if isinstance(error, CallFailed) else CallFailed(str(error))
            self._end("nobody answered the INVITE")
            return
        response = answer.result()
        assert self.invite is not None
        self.answered_with = response
        if response.status < 300:
            self._established(self.invite, response)
        elif not self._closing and self._try_again_with_proof(response):
            return
        else:
            self._failure = refused(self.invite, response)
            self._end("cancelled" if self._closing else f"{response.status} {response.reason}")

    def _try_again_with_proof(self, response: SipMessage) -> bool:
        """Answer a 401 or 407 to the INVITE, once; say whether the INVITE went out again."""
        assert self.invite is not None
        header = {401: "Authorization", 407: "Proxy-Authorization"}.get(response.status)
        challenge = response.header({401: "WWW-Authenticate", 407: "Proxy-Authenticate"}.get(response.status, ""))
        if header is None or challenge is None or self._credentials is None or self.invite.header(header):
            return False
        try:
            reply = self._credentials.reply(challenge, "INVITE", self.remote)
        except AkaError:
            return False
        self._send_invite((self.invite.cseq or 0) + 1, f"{header}: {reply.header}")
        return True

    def _established(self, invite: SipMessage, response: SipMessage) -> None:
        """A 2xx has come: the dialog stands, whether or not anybody still wants it."""
        self._dialog = caller_dialog(invite, response)
        self._agent.calls[self._dialog.id] = self
        self._acknowledge(invite.cseq or 0)
        try:
            if response.body and self._negotiation is not None:
                self._negotiation.take_answer(response.body)
        except SdpError as error:
            self._failure = CallFailed(
                f"The callee's answer is no session description: {error}", raw=response.to_bytes()
            )
            self._closing = True
        if self._closing:
            self._hang_up("cancelled" if self._failure is None else "its answer was not readable")
            return
        self._direct_media()
        self._set_state("answered")

    def _acknowledge(self, cseq: int) -> None:
        """Send the ACK to a 2xx and keep it, for the 2xx may come again (RFC 3261 section 13.2.2.4)."""
        assert self._dialog is not None
        uri, routes = self._dialog.request_line
        raw, where = self._write("ACK", uri, routes, self._dialog, cseq, self._agent.new_branch())
        self._acks[cseq] = raw, where
        while len(self._acks) > _SAVED_ACKS:
            self._acks.pop(next(iter(self._acks)))
        self._agent.send(raw, where)

    def _on_again(self, response: SipMessage) -> None:
        """A 2xx to our INVITE after the first one: repeated (say ACK again), or of another fork (end that one)."""
        if self._dialog is not None and response.to_tag == self._dialog.remote_tag:
            saved = self._acks.get(response.cseq or 0)
            if saved is not None:
                self._agent.send(*saved)
            return
        if self.invite is None:
            return
        other = caller_dialog(self.invite, response)
        uri, routes = other.request_line
        ack, where = self._write("ACK", uri, routes, other, other.local_cseq, self._agent.new_branch())
        self._agent.send(ack, where)
        branch = self._agent.new_branch()
        bye, where = self._write("BYE", uri, routes, other, other.local_cseq + 1, branch)
        self._agent.transactions.send(bye, branch, "BYE", where)

    async def _send_cancel(self, transaction: InviteTransaction, invite: SipMessage) -> None:
        """CANCEL goes the way of the INVITE, with its branch (RFC 3261 section 9.1)."""
        branch = invite.branch or ""
        raw = self._agent.compose(
            "CANCEL",
            invite.request_uri,
            from_=invite.header("from") or "",
            to=invite.header("to") or "",
            call_id=self.call_id,
            cseq=invite.cseq or 0,
            branch=branch,
            headers=[f"Route: {route}" for route in invite.lines("route")],
        )
        await self._agent.request(raw, branch, "CANCEL", transaction.destination)

    # ---- the callee's side ------------------------------------------------------------------------------------------
    def ring(self, server: ServerTransaction, ring_limit_s: float) -> None:
        """Take an INVITE and say 180; the phone does this when one comes."""
        invite = server.request
        self.invite, self.call_id = invite, invite.call_id or ""
        self._server = server
        self._dialog = callee_dialog(invite, server.to_tag)
        self._agent.calls[self._dialog.id] = self
        server.on_cancel = self._cancelled
        server.respond(180, _pair(self._contact), dialog=True)
        self._timer = self._agent.loop.call_later(ring_limit_s, self._nobody_answered)

    def _cancelled(self) -> None:
        if self._server is not None:
            self.answered_with = self._server.respond(487)
            self._end("cancelled by the caller")

    def _nobody_answered(self) -> None:
        if self._state == "ringing" and self._server is not None:
            self.answered_with = self._server.respond(480)
            self._end("nobody answered here")

    def _accept(self, server: ServerTransaction) -> SipMessage:
        """Say 200 to an INVITE and repeat it until the ACK comes (RFC 3261 section 13.3.1.4)."""
        assert self._negotiation is not None
        request = server.request
        offered = bool(request.body)
        body = self._negotiation.answer(request.body) if offered else self._negotiation.offer()
        response = server.respond(200, _pair(self._contact), ("Content-Type", SDP_TYPE), body=body, dialog=True)
        self._await_ack = AwaitAck(self._agent, server, needs_answer=not offered, give_up=self._no_ack)
        if offered:
            self._direct_media()
        return response

    async def _acknowledged(self) -> None:
        waiting = self._await_ack
        if waiting is not None:
            await asyncio.shield(waiting.done)
        if self._state == "ended":
            raise self._failure or CallFailed(f"The call with {self.remote} ended: {self.end_reason}.")

    def _no_ack(self) -> None:
        self._await_ack = None
        give_up_s = self._agent.timers.give_up_s
        self._failure = CallFailed(f"No ACK to the 200 came from {self.remote} in {give_up_s:g} s.")
        self._hang_up("no ACK came")

    def receive_ack(self, request: SipMessage) -> None:
        """Take the ACK to a 2xx."""
        waiting = self._await_ack
        if waiting is None or waiting.server.request.cseq != request.cseq:
            return
        if waiting.needs_answer and self._negotiation is not None:
            try:
                self._negotiation.take_answer(request.body)
            except SdpError as error:
                self._failure = CallFailed(f"The ACK brought no readable answer: {error}", raw=request.to_bytes())
                self._hang_up("the caller's answer was not readable")
                return
            self._direct_media()
        self._confirm(waiting)

    def _confirm(self, waiting: AwaitAck) -> None:
        """The caller has our 200."""
        self._await_ack = None
        waiting.stop()
        if self._state != "ended":
            self._set_state("answered")

    # ---- within the dialog ------------------------------------------------------------------------------------------
    def receive(self, server: ServerTransaction) -> None:
        """Take a request that belongs to this call (RFC 3261 section 12.2.2)."""
        request = server.request
        assert self._dialog is not None
        number = request.cseq or 0
        if number < self._dialog.remote_cseq:
            server.respond(500, reason="CSeq lower than the last one")
            return
        self._dialog = replace(self._dialog, remote_cseq=number)
        if request.method == "BYE":
            self._receive_bye(server)
        elif request.method in ("INVITE", "UPDATE"):
            self._receive_offer(server)
        elif request.method == "OPTIONS":
            answer_options(server)
        else:
            server.respond(405, ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE"))

    def _receive_bye(self, server: ServerTransaction) -> None:
        server.respond(200)
        if self._server is not None and self._server.status < 200:
            self._server.respond(487)
        self._end("hung up by the other side")

    def _receive_offer(self, server: ServerTransaction) -> None:
        """A re-INVITE or UPDATE: answer its offer, unless another one is under way (RFC 3261 section 14.2)."""
        request = server.request
        if self._await_ack is not None and not self._await_ack.needs_answer:
            # who goes on has got the 200, even if the ACK to it was lost on the way
            self._confirm(self._await_ack)
        if self._offering or self._await_ack is not None:
            server.respond(491)
        elif self._state != "answered":
            server.respond(500, ("Retry-After", str(random.randint(0, 10))))
        elif request.body and request.content_type != SDP_TYPE:
            server.respond(415, ("Accept", SDP_TYPE))
        elif self._negotiation is not None:
            self._answer_offer(server, self._negotiation)

    def _answer_offer(self, server: ServerTransaction, negotiation: Negotiation) -> None:
        request = server.request
        try:
            if request.method == "INVITE":
                self._accept(server)
            elif request.body:
                body = negotiation.answer(request.body)
                server.respond(200, _pair(self._contact), ("Content-Type", SDP_TYPE), body=body)
                self._direct_media()
            else:
                server.respond(200, _pair(self._contact))
        except SdpError as error:
            refuse_offer(server, error, self._agent)
            return
        assert self._dialog is not None
        self._dialog = self._dialog.with_target_of(request)
        self._notify()

    async def _reinvite(self, wish: str) -> SipMessage:
        if self._state != "answered" or self._closing:
            raise CallFailed(
                f"Only an answered call can be held or resumed; the one with {self.remote} is {self._state}."
            )
        if self._offering:
            raise CallFailed("Another hold or resume of this call is under way: wait for it first.")
        await self._acknowledged()
        self._offering = True
        try:
            return await self._reinvite_until_clear(wish)
        finally:
            self._offering = False

    async def _reinvite_until_clear(self, wish: str) -> SipMessage:
        """Send re-INVITEs until one is not answered 491 because the other side did the same (section 14.1)."""
        assert self._negotiation is not None
        for _ in range(_GLARE_TRIES):
            before = self._negotiation.local
            request, raw, branch, where = self._in_dialog("INVITE", self._negotiation.offer(wish))
            transaction = self._agent.transactions.invite(raw, branch, where, lambda _: None, self._on_again)
            try:
                response = await transaction.answer
            except CallFailed:
                # a dialog in which requests stay unanswered is over (RFC 3261 section 12.2.1.2)
                self._hang_up("the other side did not answer a re-INVITE")
                raise
            if response.status < 300:
                self._take_reinvite(request, response, wish)
                return response
            self._negotiation.local = before
            if response.status != 491 or self._state != "answered":
                break
            await self._wait_glare()
        if response.status in (408, 481) and self._state == "answered":
            self._hang_up(f"the other side answered {response.status}")
        raise refused(request, response)

    async def _wait_glare(self) -> None:
        """Wait before the next try, without a lock on the call, so that the other side's try can pass."""
        timers = self._agent.timers
        span = timers.glare_own_s if self.direction == "outgoing" else timers.glare_other_s
        self._offering = False
        await asyncio.sleep(random.uniform(*span))
        if self._offering or self._state != "answered":
            raise CallFailed(f"The call with {self.remote} changed while hold or resume waited for its turn.")
        self._offering = True

    def _take_reinvite(self, request: SipMessage, response: SipMessage, wish: str) -> None:
        assert self._dialog is not None
        assert self._negotiation is not None
        self._dialog = self._dialog.with_target_of(response)
        self._acknowledge(request.cseq or 0)
        self._negotiation.wish = wish
        if response.body:
            try:
                self._negotiation.take_answer(response.body)
            except SdpError as error:
                raise CallFailed(f"The answer is no session description: {error}", raw=response.to_bytes()) from error
        self._direct_media()
        self._notify()

    def _in_dialog(self, method: str, body: bytes = b"") -> tuple[SipMessage, bytes, str, Endpoint]:
        """Write our next request within the dialog: (request, its bytes, its branch, where it goes)."""
        assert self._dialog is not None
        self._dialog = self._dialog.next_request()
        uri, routes = self._dialog.request_line
        branch = self._agent.new_branch()
        contact = (self._contact,) if method == "INVITE" else ()
        raw, where = self._write(method, uri, routes, self._dialog, self._dialog.local_cseq, branch, contact, body)
        return parse_message(raw), raw, branch, where

    def _write(
        self,
        method: str,
        uri: str,
        routes: tuple[str, ...],
        dialog: Dialog,
        cseq: int,
        branch: str,
        headers: tuple[str, ...] = (),
        body: bytes = b"",
    ) -> tuple[bytes, Endpoint]:
        raw = self._agent.compose(
            method,
            uri,
            from_=dialog.local,
            to=dialog.remote,
            call_id=dialog.call_id,
            cseq=cseq,
            branch=branch,
            headers=(*(f"Route: {route}" for route in routes), *headers),
            content_type=SDP_TYPE,
            body=body,
        )
        return raw, self._agent.next_hop(uri, routes)

    # ---- the end ----------------------------------------------------------------------------------------------------
    def _hang_up(self, reason: str) -> None:
        """Send a BYE nobody waits for, and end the call."""
        if self._state != "ended" and self._dialog is not None:
            _, raw, branch, where = self._in_dialog("BYE")
            self._agent.transactions.send(raw, branch, "BYE", where)
        self._end(reason)

    def switch_off(self) -> None:
        """End the call without a word: the phone is switched off."""
        self._end("the phone was switched off")

    def _end(self, reason: str) -> None:
        if self._state == "ended":
            return
        self.end_reason = reason
        self._stop_timer()
        if self._await_ack is not None:
            self._await_ack.stop()
            self._await_ack = None
        if self._stream is not None:
            self._stream.close()
        if self._dialog is not None:
            self._agent.calls.pop(self._dialog.id, None)
        self._set_state("ended")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- small things -----------------------------------------------------------------------------------------------
    async def _open_media(self, rtp: bool) -> None:
        if rtp and self._stream is None:
            self._stream = AudioStream(tone_hz=400 if self.direction == "outgoing" else 500)
            port = await self._stream.open(self._agent.address)
        else:
            port = self._agent.next_media_port()
        if self._negotiation is None:
            self._negotiation = Negotiation(self._agent.address, port)

    def _direct_media(self) -> None:
        if self._stream is not None and self._negotiation is not None:
            remote = self._negotiation.remote_endpoint
            if remote is not None:
                self._stream.direct(remote, self._negotiation.direction)

    def _set_state(self, state: str) -> None:
        self._state = state
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_change(self) -> None:
        await self._changed.wait()


class AwaitAck:
    """Repeats a 200 to an INVITE until its ACK comes: after T1, doubling up to T2, for 64*T1 (section 13.3.1.4)."""

    def __init__(
        self, agent: Agent, server: ServerTransaction, *, needs_answer: bool, give_up: Callable[[], None]
    ) -> None:
        self.server = server
        """The INVITE's transaction."""
        self.needs_answer = needs_answer
        """Whether the 200 held an offer, so that the ACK must hold the answer."""
        self.done: asyncio.Future[None] = agent.loop.create_future()
        """Done when the ACK has come or will not come any more."""
        self._agent = agent
        self._give_up = give_up
        self._interval = agent.timers.t1_s
        now = agent.loop.time()
        self._due, self._deadline = now + self._interval, now + agent.timers.give_up_s
        self._timer = agent.loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        now = self._agent.loop.time()
        if now >= self._deadline:
            self.stop()
            self._give_up()
            return
        self.server.repeat_success()
        self._interval = min(2 * self._interval, self._agent.timers.t2_s)
        self._due = min(self._due + self._interval, self._deadline)
        self._timer = self._agent.loop.call_at(self._due, self._fire)

    def stop(self) -> None:
        """The ACK is here, or not needed any more."""
        self._timer.cancel()
        if not self.done.done():
            self.done.set_result(None)


def refuse_offer(server: ServerTransaction, error: SdpError, agent: Agent) -> None:
    """Refuse an offer: 488 when no codec fits, 400 when it is not readable (RFC 3261 section 13.3.1.3)."""
    if error.field == "codec":
        text = str(error).partition(" (RFC")[0].replace('"', "'")
        server.respond(488, ("Warning", f'305 {agent.hostport} "Incompatible media format: {text}"'))
    else:
        server.respond(400, reason=f"Unreadable session description: {error}"[:120])


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name, value
