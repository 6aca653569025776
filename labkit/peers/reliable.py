"""Provisional responses that are as sure to arrive as final ones: 100rel and PRACK (RFC 3262).

Only between phones of which both name the extension: the caller by Supported, the callee by Require in its 180. The
callee repeats the 180 until a PRACK names its RSeq; the caller's PRACK is a request within the early dialog.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from typing import Final

from labkit.errors import CallFailed, SdpError
from labkit.peers.call_core import SDP_TYPE, CallCore, header_pair
from labkit.peers.dialog_state import caller_dialog
from labkit.peers.transaction import ServerTransaction
from labkit.wire.sip import SipMessage

REL: Final = "100rel"
"""The extension's option tag."""


def names(message: SipMessage, header: str, tag: str) -> bool:
    """Whether a header of option tags (Supported, Require) names this one."""
    return tag in [value.lower() for value in message.all(header)]


class ReliableSender:
    """The callee's side: one 180 at a time, repeated until its PRACK comes."""

    def __init__(self, core: CallCore) -> None:
        self._core = core
        self._server: ServerTransaction | None = None
        self._rseq = random.randint(1, 2**31 - 1)
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._interval = self._due = self._deadline = 0.0
        core.at_end.append(self._stop)

    def wanted(self, invite: SipMessage) -> bool:
        """Whether the caller, and this phone, know the extension."""
        agent = self._core.agent
        return REL in agent.extensions and (names(invite, "supported", REL) or names(invite, "require", REL))

    def send(self, server: ServerTransaction, status: int) -> None:
        """Send a provisional response and repeat it: after T1, twice as long each time, for 64*T1 (section 3)."""
        core = self._core
        self._server = server
        self._rseq += 1
        headers = (header_pair(core.contact), ("Require", REL), ("RSeq", str(self._rseq)))
        server.respond(status, *headers, dialog=True)
        loop, timers = core.agent.loop, core.agent.timers
        self._done = loop.create_future()
        self._interval = timers.t1_s
        self._due, self._deadline = loop.time() + timers.t1_s, loop.time() + timers.give_up_s
        self._timer = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        loop, server = self._core.agent.loop, self._server
        if server is None or server.status >= 200:
            return
        if loop.time() >= self._deadline:
            server.respond(504, reason="No PRACK Came")
            self._core.end("no PRACK came")
            return
        server.repeat()
        self._interval *= 2
        self._due = min(self._due + self._interval, self._deadline)
        self._timer = loop.call_at(self._due, self._fire)

    def receive(self, prack: ServerTransaction) -> None:
        """Take a PRACK: 200 for the one that is waited for, 481 for any other (section 3)."""
        said = (prack.request.header("rack") or "").split()
        invite = self._server.request if self._server is not None else None
        waited = self._done is not None and not self._done.done()
        if invite is None or not waited or said != [str(self._rseq), str(invite.cseq), "INVITE"]:
            prack.respond(481)
            return
        prack.respond(200)
        self._stop()

    async def acknowledged(self) -> None:
        """Wait until no PRACK is missing, or the call has ended."""
        if self._done is not None:
            await asyncio.shield(self._done)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class ReliableReceiver:
    """The caller's side: a PRACK for each reliable provisional response, in order and once (section 4)."""

    def __init__(self, core: CallCore) -> None:
        self._core = core
        self._rseq: dict[str, int] = {}

    def receive(self, response: SipMessage) -> None:
        """Take a provisional response; one that is not reliable, came before, or is out of order needs no PRACK."""
        core = self._core
        number = response.header("rseq") or ""
        tag = response.to_tag or ""
        if core.invite is None or not tag or not names(response, "require", REL) or not number.isdigit():
            return
        rseq = int(number)
        last = self._rseq.get(tag)
        if last is not None and rseq != last + 1:
            return
        self._rseq[tag] = rseq
        early = core.dialog
        if early is None or early.remote_tag != tag:
            if early is not None:
                core.agent.calls.pop(early.id, None)  # another fork rings; this phone follows the latest one
            early = caller_dialog(core.invite, response)
            core.set_dialog(early)
        self._take_early_answer(core, response)
        core.dialog = early.next_request()
        rack = f"RAck: {rseq} {core.invite.cseq} INVITE"
        try:
            raw, branch, where = core.agent.compose_in(core.dialog, "PRACK", (rack,))
        except CallFailed:
            return  # its Contact leads nowhere: the callee will see that no PRACK comes
        core.agent.transactions.send(raw, branch, "PRACK", where)

    @staticmethod
    def _take_early_answer(core: CallCore, response: SipMessage) -> None:
        """An answer in a reliable response is the answer; with it sound may flow before the call is answered."""
        if response.body and response.content_type == SDP_TYPE and core.negotiation is not None:
            with contextlib.suppress(SdpError):  # a 200 without one will say so
                core.negotiation.take_answer(response.body)
                core.direct_media()

    def confirmed(self, invite: SipMessage, response: SipMessage) -> None:
        """The 2xx is here: its dialog is the early one if that has its tag, with the CSeq that the PRACKs have used."""
        core, early = self._core, self._core.dialog
        dialog = caller_dialog(invite, response)
        if early is not None:
            core.agent.calls.pop(early.id, None)
            if early.remote_tag == dialog.remote_tag:
                dialog = replace(dialog, local_cseq=early.local_cseq, remote_cseq=early.remote_cseq)
        core.set_dialog(dialog)
