"""The third step of an INVITE: its 2xx is repeated until the ACK comes (RFC 3261 sections 13.2.2.4 and 13.3.1.4).

It is no matter of a transaction but of the two phones, for the ACK to a 2xx goes end to end. First INVITE and re-INVITE
are alike in this, whoever made the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from labkit.errors import CallFailed, SdpError
from labkit.peers.agent import Agent
from labkit.peers.call_core import SDP_TYPE, CallCore, header_pair
from labkit.peers.dialog_state import caller_dialog
from labkit.peers.transaction import ServerTransaction
from labkit.peers.transport import Endpoint
from labkit.wire.multipart import body_of_type
from labkit.wire.sip import SipMessage

_SAVED_ACKS: Final = 4


class SentAcks:
    """The ACKs that this side has sent, for the case that a 2xx comes again."""

    def __init__(self, core: CallCore) -> None:
        self._core = core
        self._sent: dict[int, tuple[bytes, Endpoint]] = {}

    def acknowledge(self, cseq: int) -> None:
        """Send the ACK to a 2xx and keep it (RFC 3261 section 13.2.2.4)."""
        core = self._core
        assert core.dialog is not None
        raw, _, where = core.agent.compose_in(replace(core.dialog, local_cseq=cseq), "ACK")
        self._sent[cseq] = raw, where
        while len(self._sent) > _SAVED_ACKS:
            self._sent.pop(next(iter(self._sent)))
        core.agent.send(raw, where)

    def on_again(self, response: SipMessage) -> None:
        """A 2xx to our INVITE after the first one: repeated (say ACK again), or of another fork (end that one)."""
        core = self._core
        if core.dialog is not None and response.to_tag == core.dialog.remote_tag:
            saved = self._sent.get(response.cseq or 0)
            if saved is not None:
                core.agent.send(*saved)
            return
        if core.invite is None:
            return
        other = caller_dialog(core.invite, response)
        ack, _, where = core.agent.compose_in(other, "ACK")
        core.agent.send(ack, where)
        bye, branch, where = core.agent.compose_in(other.next_request(), "BYE")
        core.agent.transactions.send(bye, branch, "BYE", where)


class Acceptance:
    """Accepts INVITEs with 200 and waits for their ACKs."""

    def __init__(self, core: CallCore) -> None:
        self._core = core
        self._waiting: AwaitAck | None = None
        core.at_end.append(self._stop)

    @property
    def waits(self) -> bool:
        """Whether a 200 of ours has not been acknowledged yet."""
        return self._waiting is not None

    def accept(self, server: ServerTransaction, *headers: str) -> SipMessage:
        """Say 200 to an INVITE and repeat it until the ACK comes (RFC 3261 section 13.3.1.4).

        Args:
            headers: further header lines.
        Raises:
            SdpError: its offer cannot be taken; nothing was answered.
        """
        core = self._core
        assert core.negotiation is not None
        request = server.request
        offer = body_of_type(request, SDP_TYPE)
        body = core.negotiation.answer(offer) if offer else core.negotiation.offer()
        pairs = [header_pair(line) for line in (core.contact, *core.info.lines, *headers)]
        response = server.respond(200, *pairs, ("Content-Type", SDP_TYPE), body=body, dialog=True)
        self._waiting = AwaitAck(core.agent, server, needs_answer=not offer, give_up=self._no_ack)
        if offer:
            core.direct_media()
        return response

    async def acknowledged(self) -> None:
        """Wait until no ACK is missing: no INVITE of ours may go out while one of theirs is in progress (section 14.1).

        Raises:
            CallFailed: the call has ended instead.
        """
        while self._waiting is not None:  # where one has come, the next INVITE may have been accepted already
            await asyncio.shield(self._waiting.done)
        core = self._core
        if core.state == "ended":
            raise core.failure or CallFailed(f"The call with {core.remote} ended: {core.end_reason}.")

    def receive_ack(self, request: SipMessage) -> None:
        """Take the ACK to a 2xx."""
        waiting, core = self._waiting, self._core
        if waiting is None or waiting.server.request.cseq != request.cseq:
            return
        if waiting.needs_answer and core.negotiation is not None:
            try:
                core.negotiation.take_answer(request.body)
            except SdpError as error:
                core.failure = CallFailed(f"The ACK brought no readable answer: {error}", raw=request.to_bytes())
                core.hang_up("the caller's answer was not readable")
                return
            core.direct_media()
        self._confirm(waiting)

    def confirm_by_request(self) -> None:
        """The other side goes on, so it has got the 200, even if the ACK to it was lost on the way."""
        if self._waiting is not None and not self._waiting.needs_answer:
            self._confirm(self._waiting)

    def _confirm(self, waiting: AwaitAck) -> None:
        self._waiting = None
        waiting.stop()
        if self._core.state != "ended":
            self._core.set_state("answered")

    def _no_ack(self) -> None:
        self._waiting = None
        core = self._core
        give_up_s = core.agent.timers.give_up_s
        core.failure = CallFailed(f"No ACK to the 200 came from {core.remote} in {give_up_s:g} s.")
        core.hang_up("no ACK came")

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None


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
