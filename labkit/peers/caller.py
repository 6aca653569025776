"""The side of a call that sends the INVITE: its answers, a proof if one is asked for, CANCEL (RFC 3261 13.2, 9.1)."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from labkit.errors import AkaError, CallFailed, SdpError
from labkit.peers.acknowledgement import SentAcks
from labkit.peers.call_core import SDP_TYPE, CallCore
from labkit.peers.credentials import Credentials
from labkit.peers.dual_transport import over_tcp
from labkit.peers.failure import refused
from labkit.peers.reliable import ReliableReceiver
from labkit.peers.session_timer import SessionTimer
from labkit.peers.transaction import InviteTransaction
from labkit.peers.transport import Endpoint
from labkit.wire.multipart import Part, join_parts
from labkit.wire.sip import SipMessage, parse_message


@dataclass(frozen=True, slots=True)
class Dial:
    """What an INVITE says, and where it goes."""

    from_uri: str
    """Public identity that the callee sees."""
    routes: tuple[str, ...]
    """Route headers."""
    headers: tuple[str, ...]
    """Further header lines."""
    destination: Endpoint
    """First hop."""
    sdp: bytes | None = None
    """Session description instead of the phone's own."""
    rtp: bool = False
    """Whether real sound will flow."""
    credentials: Credentials | None = None
    """What a challenge is answered with."""
    enclosed: tuple[Part, ...] = ()
    """What goes with the session description, in parts of their own (RFC 5621)."""


class Caller:
    """The calling side."""

    def __init__(self, core: CallCore, acks: SentAcks, provisional: ReliableReceiver, timer: SessionTimer) -> None:
        self._core = core
        self._timer = timer
        self._acks = acks
        self._provisional = provisional
        self._dial: Dial | None = None
        self._from = ""
        self._headers: tuple[str, ...] = ()
        self._body = b""
        self._content_type = SDP_TYPE
        self._transaction: InviteTransaction | None = None

    async def dial(self, dial: Dial) -> None:
        """Send the INVITE."""
        core = self._core
        await core.open_media(dial.rtp)
        assert core.negotiation is not None
        self._dial = dial
        self._headers = (*(f"Route: {route}" for route in dial.routes), core.contact, *core.info.lines)
        if core.agent.extensions:
            self._headers += (f"Supported: {', '.join(core.agent.extensions)}",)
        self._headers += dial.headers
        core.call_id = secrets.token_hex(10)
        self._body = core.negotiation.offer() if dial.sdp is None else dial.sdp
        if dial.enclosed:
            parts = (Part(SDP_TYPE, self._body), *dial.enclosed)
            self._content_type, self._body = join_parts(parts, f"part-{secrets.token_hex(8)}")
        self._from = f"<{dial.from_uri}>;tag={secrets.token_hex(4)}"
        self._send_invite(dial, 1)

    def _send_invite(self, dial: Dial, cseq: int, *extra: str) -> None:
        core = self._core
        branch = core.agent.new_branch()
        raw = core.agent.compose(
            "INVITE",
            core.remote,
            from_=self._from,
            to=f"<{core.remote}>",
            call_id=core.call_id,
            cseq=cseq,
            branch=branch,
            headers=(*self._headers, *self._timer.request_lines(), *extra),
            content_type=self._content_type,
            body=self._body,
        )
        core.invite = parse_message(raw)
        transactions = core.agent.transactions
        self._transaction = transactions.invite(
            raw, branch, dial.destination, self._on_provisional, self._acks.on_again
        )
        self._transaction.answer.add_done_callback(self._on_final)

    def _on_provisional(self, response: SipMessage) -> None:
        self._provisional.receive(response)
        if response.status > 100 and self._core.state == "calling":
            self._core.set_state("ringing")
        else:
            self._core.notify()

    def _on_final(self, answer: asyncio.Future[SipMessage]) -> None:
        if answer.cancelled():
            return
        core = self._core
        if (error := answer.exception()) is not None:
            core.failure = error if isinstance(error, CallFailed) else CallFailed(str(error))
            core.end("nobody answered the INVITE")
            return
        response = answer.result()
        assert core.invite is not None
        core.answered_with = response
        if response.status < 300:
            self._established(core.invite, response)
        elif not core.closing and self._try_again(core.invite, response):
            return
        else:
            core.failure = refused(core.invite, response)
            core.end("cancelled" if core.closing else f"{response.status} {response.reason}")

    def _try_again(self, invite: SipMessage, response: SipMessage) -> bool:
        """Send the INVITE once more if the response asks for something that can be given; say whether."""
        if self._dial is not None and self._timer.too_short(response):
            self._send_invite(self._dial, (invite.cseq or 0) + 1)
            return True
        return self._try_again_with_proof(invite, response)

    def _try_again_with_proof(self, invite: SipMessage, response: SipMessage) -> bool:
        """Answer a 401 or 407 to the INVITE, once; say whether the INVITE went out again."""
        header = {401: "Authorization", 407: "Proxy-Authorization"}.get(response.status)
        challenge = response.header({401: "WWW-Authenticate", 407: "Proxy-Authenticate"}.get(response.status, ""))
        dial = self._dial
        if header is None or challenge is None or dial is None or dial.credentials is None or invite.header(header):
            return False
        try:
            reply = dial.credentials.reply(challenge, "INVITE", self._core.remote)
        except AkaError:
            return False
        self._send_invite(dial, (invite.cseq or 0) + 1, f"{header}: {reply.header}")
        return True

    def _established(self, invite: SipMessage, response: SipMessage) -> None:
        """A 2xx has come: the dialog stands, whether or not anybody still wants it."""
        core = self._core
        self._provisional.confirmed(invite, response)
        core.info.learn(response)
        self._acks.acknowledge(invite.cseq or 0)
        try:
            if response.body and core.negotiation is not None:
                core.negotiation.take_answer(response.body)
        except SdpError as error:
            core.failure = CallFailed(
                f"The callee's answer is no session description: {error}", raw=response.to_bytes()
            )
            core.closing = True
        if core.closing:
            core.hang_up("cancelled" if core.failure is None else "its answer was not readable")
            return
        core.direct_media()
        core.set_state("answered")
        self._timer.take_response(response)

    # ---- giving up --------------------------------------------------------------------------------------------------
    async def cancel(self) -> SipMessage:
        """Give up a call that has not been answered, and return the final response to its INVITE."""
        core, transaction = self._core, self._transaction
        if core.state not in ("calling", "ringing") or transaction is None:
            raise CallFailed(f"There is nothing to cancel: the call with {core.remote} is {core.state}.")
        core.closing = True
        while not transaction.proceeding and not transaction.answer.done():
            await core.wait_change()
        if not transaction.answer.done():
            assert core.invite is not None
            await self._send_cancel(transaction, core.invite)
        give_up_s = core.agent.timers.give_up_s
        try:
            final = await asyncio.wait_for(asyncio.shield(transaction.answer), give_up_s)
        except TimeoutError:
            core.end("cancelled, and the other side said no more")
            raise CallFailed(f"No final response to the cancelled INVITE came in {give_up_s:g} s.") from None
        if core.state != "ended":
            await core.wait_state("ended", give_up_s)
        return final

    async def _send_cancel(self, transaction: InviteTransaction, invite: SipMessage) -> None:
        """CANCEL goes the way of the INVITE, with its branch (RFC 3261 section 9.1)."""
        branch = invite.branch or ""
        agent = self._core.agent
        raw = agent.compose(
            "CANCEL",
            invite.request_uri,
            from_=invite.header("from") or "",
            to=invite.header("to") or "",
            call_id=self._core.call_id,
            cseq=invite.cseq or 0,
            branch=branch,
            headers=[f"Route: {route}" for route in invite.lines("route")],
        )
        if (invite.header("via") or "").startswith("SIP/2.0/TCP"):  # it was too long for UDP
            raw = over_tcp(raw)
        await agent.request(raw, branch, "CANCEL", transaction.destination)
