"""The side of a call that gets the INVITE: ringing, answering, refusing (RFC 3261 section 13.3)."""

from __future__ import annotations

import asyncio

from labkit.errors import CallFailed, SdpError, SipError
from labkit.peers.acknowledgement import Acceptance
from labkit.peers.admission import phrase
from labkit.peers.agent import Agent
from labkit.peers.call_core import SDP_TYPE, CallCore, header_pair
from labkit.peers.dialog_state import callee_dialog, contact_uri
from labkit.peers.negotiation import usable_stream
from labkit.peers.reliable import ReliableSender
from labkit.peers.session_timer import SessionTimer, is_long_enough
from labkit.peers.transaction import ServerTransaction
from labkit.wire.multipart import parts_of
from labkit.wire.sdp import parse_sdp
from labkit.wire.sip import SipMessage


class Callee:
    """The called side."""

    def __init__(
        self, core: CallCore, acceptance: Acceptance, provisional: ReliableSender, timer: SessionTimer
    ) -> None:
        self._core = core
        self._timer = timer
        self._acceptance = acceptance
        self._provisional = provisional
        self._server: ServerTransaction | None = None
        self._limit: asyncio.TimerHandle | None = None
        core.at_end.append(self._stop_limit)

    def take(self, server: ServerTransaction, ring_limit_s: float, *, ring: bool) -> None:
        """Take an INVITE that `is_usable_invite` has let through.

        Args:
            ring_limit_s: after this a call that nobody answers is told 480.
            ring: say 180 now. A call that is answered in the same moment does not ring: 180 and 200 right behind one
                another may change places on their way over UDP.
        """
        core, invite = self._core, server.request
        core.invite, core.call_id = invite, invite.call_id or ""
        self._server = server
        core.set_dialog(callee_dialog(invite, server.to_tag))
        core.info.learn(invite)
        server.on_cancel = self._cancelled
        if ring and self._provisional.wanted(invite):
            self._provisional.send(server, 180)
        elif ring:
            server.respond(180, header_pair(core.contact), dialog=True)
        self._limit = core.agent.loop.call_later(ring_limit_s, self._nobody_answered)

    async def answer(self, rtp: bool) -> SipMessage:
        """Answer, and return the 200 once the caller has acknowledged it.

        Raises:
            CallFailed: the call does not ring here (any more), or no ACK came.
        """
        core, server = self._core, self._server
        if core.state != "ringing" or server is None or self._acceptance.waits:
            raise CallFailed(f"There is nothing to answer: the call with {core.remote} is {core.state}.")
        await core.open_media(rtp)
        await self._provisional.acknowledged()
        if core.state != "ringing":
            raise CallFailed(f"The call with {core.remote} ended before it was answered: {core.end_reason}.")
        self._stop_limit()
        core.answered_with = self._acceptance.accept(server, *self._timer.answer_lines(server.request))
        await self._acceptance.acknowledged()
        return core.answered_with

    def reject(self, status: int, reason: str | None) -> SipMessage:
        """Refuse, and return what was answered.

        Raises:
            CallFailed: the call does not ring here, or the status refuses nothing.
        """
        core = self._core
        if core.state != "ringing" or self._server is None:
            raise CallFailed(f"There is nothing to reject: the call with {core.remote} is {core.state}.")
        if not 300 <= status <= 699:
            raise CallFailed(f"A call is rejected with a status from 300 to 699, not {status}.")
        core.answered_with = self._server.respond(status, reason=reason)
        core.end(f"rejected with {status}")
        return core.answered_with

    def hung_up(self) -> None:
        """A BYE has come; an INVITE that is not answered yet ends with 487 (RFC 3261 section 15.1.2)."""
        if self._server is not None and self._server.status < 200:
            self._server.respond(487)

    def _cancelled(self) -> None:
        if self._server is not None:
            self._core.answered_with = self._server.respond(487)
            self._core.end("cancelled by the caller")

    def _nobody_answered(self) -> None:
        if self._core.state == "ringing" and self._server is not None:
            self._core.answered_with = self._server.respond(480)
            self._core.end("nobody answered here")

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def is_usable_invite(server: ServerTransaction, agent: Agent) -> bool:
    """Whether a phone can take this INVITE; if not, it has been refused (RFC 3261 section 13.3.1)."""
    request = server.request
    try:
        offer, strange = offered(request)
    except SipError as error:
        server.respond(400, reason=phrase(str(error)))
        return False
    if strange:
        server.respond(415, ("Accept", SDP_TYPE))
        return False
    if not contact_uri(request):
        server.respond(400, reason="Missing Contact")
        return False
    try:
        if offer:
            usable_stream(parse_sdp(offer))
    except SdpError as error:
        refuse_offer(server, error, agent)
        return False
    return is_long_enough(server, agent.min_se_s, agent.extensions)


def offered(request: SipMessage) -> tuple[bytes, bool]:
    """The session description that an INVITE offers, and whether it has a body that has to be understood and is not.

    A part of a multipart body that says handling=optional may be left unread (RFC 3261 section 20.11).

    Raises:
        SipError: a multipart body that is not readable.
    """
    parts = parts_of(request)
    offer = next((part.body for part in parts if part.media_type == SDP_TYPE), b"")
    return offer, any(part.media_type != SDP_TYPE and not part.optional for part in parts)


def refuse_offer(server: ServerTransaction, error: SdpError, agent: Agent) -> None:
    """Refuse an offer: 488 when no codec fits, 400 when it is not readable (RFC 3261 section 13.3.1.3)."""
    if error.field == "codec":
        text = str(error).partition(" (RFC")[0].replace('"', "'")
        server.respond(488, ("Warning", f'305 {agent.hostport} "Incompatible media format: {text}"'))
    else:
        server.respond(400, reason=f"Unreadable session description: {error}"[:120])
