"""A call between two phones: what a lesson holds in its hand (RFC 3261 sections 12 to 15, RFC 3264).

Its parts, each an idea of its own: `CallCore` (state and dialog), `Caller`, `Callee`, `Acceptance` and `SentAcks` (the
third step of every INVITE), `ReliableSender` and `ReliableReceiver` (PRACK), `SessionTimer`, `Offers` (hold and
resume), `InfoExchange`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from labkit.errors import CallFailed
from labkit.peers.acknowledgement import Acceptance, SentAcks
from labkit.peers.admission import answer_options
from labkit.peers.agent import Agent
from labkit.peers.call_core import CallCore
from labkit.peers.callee import Callee
from labkit.peers.caller import Caller, Dial
from labkit.peers.dialog_state import Dialog
from labkit.peers.failure import refused
from labkit.peers.info import info_lines
from labkit.peers.media import MediaReport
from labkit.peers.negotiation import Negotiation
from labkit.peers.offers import Offers
from labkit.peers.reliable import ReliableReceiver, ReliableSender
from labkit.peers.session_timer import SessionTimer
from labkit.peers.transaction import ServerTransaction
from labkit.wire.sdp import DIRECTIONS, receives
from labkit.wire.sip import SipMessage

_BYE_S = 0.005
"""Pause before a BYE is answered, as any real phone takes one. Kamailio's dialog module, when it ends a call both ways,
sends the second BYE only where the answer to the first has not come yet."""
_SERVED = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, PRACK"


class Call:
    """One call. `await call.hold()`, `await call.bye()`; `call.state` says where it stands."""

    def __init__(
        self,
        agent: Agent,
        direction: str,
        remote: str,
        contact_user: str,
        *,
        rtp: bool = False,
        info_packages: tuple[str, ...] | None = None,
        silent: bool = False,
    ) -> None:
        """Make one side of a call.

        Args:
            direction: "outgoing" or "incoming".
            remote: URI of the other side.
            contact_user: user part of our Contact.
            rtp: whether to send and take real sound.
            info_packages: info packages that are taken in this call; by default those of the agent.
            silent: a session without any sound, not even agreed on: every stream has port 0.
        """
        self._core = core = CallCore(agent, self, direction, remote, contact_user, info_packages)
        if silent:
            core.negotiation = Negotiation(agent.address, 0)
        self._rtp = rtp
        self._acks = SentAcks(core)
        self._acceptance = Acceptance(core)
        self._provisional = ReliableSender(core)
        self._timer = SessionTimer(core)
        self._caller = Caller(core, self._acks, ReliableReceiver(core), self._timer)
        self._callee = Callee(core, self._acceptance, self._provisional, self._timer)
        self._offers = Offers(core, self._acks, self._acceptance, self._timer)
        self._timer.reinvite = self._offers.refresh

    def __repr__(self) -> str:
        preposition = "to" if self.direction == "outgoing" else "from"
        return f"<Call {preposition} {self.remote}, {self.state}>"

    # ---- what it is -------------------------------------------------------------------------------------------------
    @property
    def state(self) -> str:
        """One of "calling", "ringing", "answered", "ended"."""
        return self._core.state

    @property
    def direction(self) -> str:
        """ "outgoing" or "incoming"."""
        return self._core.direction

    @property
    def remote(self) -> str:
        """URI of the other side: the one called, or the one that calls."""
        return self._core.remote

    @property
    def call_id(self) -> str:
        """Call-ID of the call's messages."""
        return self._core.call_id

    @property
    def end_reason(self) -> str:
        """Why the call ended, in words; empty while it lives."""
        return self._core.end_reason

    @property
    def invite(self) -> SipMessage | None:
        """The INVITE that began the call."""
        return self._core.invite

    @property
    def answered_with(self) -> SipMessage | None:
        """The final response to that INVITE."""
        return self._core.answered_with

    @property
    def held(self) -> bool:
        """Whether this side has put the other one on hold."""
        negotiation = self._core.negotiation
        return negotiation is not None and not receives(negotiation.wish)

    @property
    def held_by_peer(self) -> bool:
        """Whether the other side has put this one on hold."""
        negotiation = self._core.negotiation
        return negotiation is not None and negotiation.held_by_peer

    @property
    def media_direction(self) -> str:
        """Which way sound flows by agreement, from this side's view: "sendrecv", "sendonly", "recvonly", "inactive"."""
        negotiation = self._core.negotiation
        return negotiation.direction if negotiation is not None else "inactive"

    @property
    def local_sdp(self) -> bytes:
        """The session description that this side sent last."""
        local = self._core.negotiation.local if self._core.negotiation else None
        return local.to_bytes() if local else b""

    @property
    def remote_sdp(self) -> bytes:
        """The session description that the other side sent last."""
        remote = self._core.negotiation.remote if self._core.negotiation else None
        return remote.to_bytes() if remote else b""

    @property
    def session_expires_s(self) -> int:
        """The session interval agreed on, in seconds; 0 for a call without a session timer (RFC 4028)."""
        return self._timer.interval_s

    async def media(self) -> MediaReport | None:
        """Say how much sound went and came, how much was lost, and its jitter; None for a call without real sound."""
        stream = self._core.stream
        return stream.report() if stream is not None else None

    async def wait_state(self, state: str, timeout_s: float = 10.0) -> str:
        """Wait until the call has got as far as `state`, and return the state that it is in then.

        Raises:
            CallFailed: it ended before, or did not get there in time.
        """
        return await self._core.wait_state(state, timeout_s)

    # ---- what can be done with it -----------------------------------------------------------------------------------
    async def answer(self, rtp: bool | None = None) -> SipMessage:
        """Answer a call that rings here, and return the 200 once the caller has acknowledged it.

        Args:
            rtp: whether to send and take real sound; by default as the phone was made.
        Raises:
            CallFailed: the call does not ring here (any more), or no ACK came.
        """
        return await self._callee.answer(self._rtp if rtp is None else rtp)

    async def reject(self, status: int = 486, reason: str | None = None) -> SipMessage:
        """Refuse a call that rings here (486 Busy Here, 603 Decline, ...), and return what was answered."""
        return self._callee.reject(status, reason)

    async def hold(
        self,
        direction: str = "sendonly",
        method: str = "INVITE",
        *,
        old_way: bool = False,
        headers: tuple[str, ...] = (),
    ) -> SipMessage:
        """Put the other side on hold by a re-INVITE, and return its answer.

        Args:
            direction: "sendonly" (it hears music), or "inactive" (silence both ways).
            method: "INVITE", or "UPDATE" (RFC 3311), which needs no ACK and nobody's consent.
            old_way: as RFC 2543 had it: whatever the direction, say c=IN IP4 0.0.0.0.
            headers: further header lines, for example "Require: sec-agree".
        Raises:
            CallFailed: the other side refused; the call goes on as before.
        """
        if direction not in ("sendonly", "inactive"):
            raise CallFailed(f'A call is held with "sendonly" or "inactive", not {direction!r}.')
        wish = "sendonly" if old_way else direction
        return await self._offers.offer(wish, method, nowhere=old_way, headers=headers)

    async def offer(self, direction: str, method: str = "INVITE") -> SipMessage:
        """Offer any direction, written from this side's view, and return the answer.

        Args:
            direction: "sendrecv", "sendonly", "recvonly" (listen without being heard), or "inactive".
            method: "INVITE" or "UPDATE".
        Raises:
            CallFailed: no such direction, or the other side refused; the call goes on as before.
        """
        if direction not in DIRECTIONS:
            raise CallFailed(f"A direction is one of {', '.join(DIRECTIONS)}, not {direction!r}.")
        return await self._offers.offer(direction, method)

    async def refuse_offers(self, status: int = 488) -> None:
        """Refuse the other side's re-INVITEs and UPDATEs from now on; the call goes on as it is.

        Args:
            status: 400 to 699, for example 488 Not Acceptable Here; 0 takes them again.
        Raises:
            CallFailed: a status that refuses nothing.
        """
        if status and not 400 <= status <= 699:
            raise CallFailed(f"An offer is refused with a status from 400 to 699, not {status}.")
        self._offers.refusal = status

    async def stay(self, seconds: float) -> None:
        """Stay on the line so long, and let the sound flow.

        Raises:
            CallFailed: the call is over, or ended meanwhile.
        """
        core = self._core
        if core.state != "ended":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(core.wait_end(), seconds)
        if core.state == "ended":
            raise CallFailed(f"The call with {core.remote} is over: {core.end_reason}.")

    async def resume(self, method: str = "INVITE") -> SipMessage:
        """Take the other side off hold by a re-INVITE (or UPDATE), and return its answer."""
        return await self._offers.offer("sendrecv", method)

    async def info(self, package: str, body: bytes, content_type: str) -> SipMessage:
        """Send an INFO of a package that the other side takes, and return its answer (RFC 6086).

        Raises:
            CallFailed: the call is not answered, the other side does not take that package, or it refused.
        """
        self._core.info.check(package)
        return await self.any_info(info_lines(package), body, content_type)

    async def any_info(
        self,
        headers: tuple[str, ...],
        body: bytes,
        content_type: str,
        as_if: Callable[[Dialog], Dialog] | None = None,
    ) -> SipMessage:
        """Send an INFO that may be wrong in any way, and return its answer.

        Args:
            headers: its own header lines, for example "Info-Package: g.3gpp.ussd".
            as_if: what it takes the dialog for.
        Raises:
            CallFailed: the call is not answered, or the other side refused.
        """
        core = self._core
        if core.state != "answered" or core.closing:
            raise CallFailed(f"INFO goes within an answered call; the one with {core.remote} is {core.state}.")
        request, raw, branch, where = core.request("INFO", body, headers, content_type, as_if)
        response = await core.agent.request(raw, branch, "INFO", where)
        if response.status in (408, 481) and core.state == "answered" and as_if is None:
            core.hang_up(f"the other side answered {response.status}")
        if response.status >= 300:
            raise refused(request, response)
        return response

    async def wait_info(self, timeout_s: float = 10.0) -> SipMessage:
        """Wait for the next INFO of a package that this phone takes, and return it; what it says is in `body`.

        Raises:
            CallFailed: none came in time.
        """
        return await self._core.info.wait(timeout_s)

    async def bye(self, body: bytes = b"", content_type: str = "", headers: tuple[str, ...] = ()) -> SipMessage:
        """Hang up an answered call, and return the other side's answer to the BYE.

        Args:
            body: what the BYE carries, for example the last text of a USSD dialogue.
            content_type: its media type.
            headers: further header lines.
        Raises:
            CallFailed: the call is not answered (use cancel() or reject()), or the other side did not answer the BYE.
        """
        core = self._core
        if core.state == "answered" and not core.closing and core.dialog is not None:
            core.closing = True
            request, raw, branch, where = core.request("BYE", body, headers, content_type)
            if core.stream is not None:
                core.stream.close()
            try:
                response = await core.agent.request(raw, branch, "BYE", where)
            finally:
                core.end("hung up here")
            if response.status >= 300:
                raise refused(request, response)
            return response
        hint = {"calling": "cancel() it", "ringing": "cancel() or reject() it"}.get(core.state, "it is over already")
        raise CallFailed(f"The call with {core.remote} is {core.state}, so there is nothing to hang up: {hint}.")

    async def cancel(self) -> SipMessage:
        """Give up a call that has not been answered, and return the final response to its INVITE (487).

        When the callee answers in the same moment, its 200 wins: it is acknowledged, hung up, and returned.
        """
        return await self._caller.cancel()

    def carries(self, on_info: Callable[[SipMessage], None], on_bye: Callable[[SipMessage], None]) -> None:
        """Hand every INFO that is taken, and the other side's BYE, to something that lives in this call."""
        self._core.info.on_info = on_info
        self._core.on_bye = on_bye

    # ---- for the phone ----------------------------------------------------------------------------------------------
    async def dial(self, dial: Dial) -> None:
        """Send the INVITE; the phone does this in `UE.call`."""
        await self._caller.dial(dial)

    def take(self, server: ServerTransaction, ring_limit_s: float = 180.0, *, ring: bool = True) -> None:
        """Take an INVITE, and ring; the phone does this when one comes."""
        self._callee.take(server, ring_limit_s, ring=ring)

    def receive_ack(self, request: SipMessage) -> None:
        """Take the ACK to a 2xx."""
        self._acceptance.receive_ack(request)

    def receive(self, server: ServerTransaction) -> None:
        """Take a request that belongs to this call (RFC 3261 section 12.2.2)."""
        core, request = self._core, server.request
        assert core.dialog is not None
        number = request.cseq or 0
        if number < core.dialog.remote_cseq:
            server.respond(500, reason="CSeq lower than the last one")
            return
        core.dialog = replace(core.dialog, remote_cseq=number)
        if request.method == "BYE":
            if core.on_bye is not None:
                core.on_bye(request)
            core.agent.spawn(self._hang_up(server))
        elif request.method in ("INVITE", "UPDATE"):
            self._offers.receive(server)
        elif request.method == "PRACK":
            self._provisional.receive(server)
        elif request.method == "INFO":
            core.info.receive(server)
        elif request.method == "OPTIONS":
            answer_options(server, core.agent)
        else:
            server.respond(405, ("Allow", _SERVED))

    async def _hang_up(self, server: ServerTransaction) -> None:
        """Answer the other side's BYE: the call is over."""
        await asyncio.sleep(_BYE_S)
        server.respond(200)
        self._callee.hung_up()
        self._core.end("hung up by the other side")

    def switch_off(self) -> None:
        """End the call without a word: the phone is switched off."""
        self._core.end("the phone was switched off")
