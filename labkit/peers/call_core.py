"""What every part of a call shares: its state, its dialog, its session, and how it ends (RFC 3261 sections 12, 15).

States, in the order in which a call passes them:

    calling     an INVITE is out, and nobody has said more than "trying"
    ringing     the callee's phone rings (180), or ours does
    answered    200 and ACK have been exchanged
    ended       by BYE, CANCEL, a refusal, or because nobody answered
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from labkit.errors import CallFailed
from labkit.peers.agent import Agent, InviteUsage
from labkit.peers.dialog_state import Dialog
from labkit.peers.info import InfoExchange
from labkit.peers.media import AudioStream
from labkit.peers.negotiation import Negotiation
from labkit.peers.transport import Endpoint
from labkit.wire.sip import SipMessage, parse_message

STATES: Final = ("calling", "ringing", "answered", "ended")
"""What the state of a call may be."""
SDP_TYPE: Final = "application/sdp"
"""Media type of a session description."""


class CallCore:
    """State of one side of one call. Its parts (`Caller`, `Callee`, `Offers`) change it, `Call` shows it."""

    def __init__(
        self,
        agent: Agent,
        usage: InviteUsage,
        direction: str,
        remote: str,
        contact_user: str,
        info_packages: tuple[str, ...] | None = None,
    ) -> None:
        self.agent = agent
        self._usage = usage
        self.direction = direction
        """"outgoing" or "incoming"."""
        self.remote = remote
        """URI of the other side."""
        self.contact = f"Contact: <{agent.contact(contact_user)}>"
        """Our Contact header line."""
        self.call_id = ""
        self.state = "calling" if direction == "outgoing" else "ringing"
        self.end_reason = ""
        self.failure: CallFailed | None = None
        """What to tell whoever waits for a call that has ended."""
        self.closing = False
        """Whether this side has begun to end the call."""
        self.invite: SipMessage | None = None
        self.answered_with: SipMessage | None = None
        self.dialog: Dialog | None = None
        self.negotiation: Negotiation | None = None
        self.stream: AudioStream | None = None
        self.info = InfoExchange(agent.info_packages if info_packages is None else info_packages)
        self.on_bye: Callable[[SipMessage], None] | None = None
        """Who wants to see the other side's BYE, for it may carry something."""
        self.at_end: list[Callable[[], None]] = []
        """What to stop when the call ends."""
        self._changed = asyncio.Event()

    # ---- state ------------------------------------------------------------------------------------------------------
    def set_state(self, state: str) -> None:
        """Pass into a state."""
        self.state = state
        self.notify()

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_change(self) -> None:
        """Wait until anything has changed."""
        await self._changed.wait()

    async def wait_end(self) -> None:
        """Wait until the call has ended."""
        while self.state != "ended":
            await self.wait_change()

    async def wait_state(self, state: str, timeout_s: float) -> str:
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
                    f"The call with {self.remote} is still {self.state} after {timeout_s:g} s, not {state}."
                ) from None
        return self.state

    def _reached(self, state: str) -> bool:
        if self.state == "ended" and state != "ended":
            raise self.failure or CallFailed(f"The call with {self.remote} has ended: {self.end_reason}.")
        return STATES.index(self.state) >= STATES.index(state)

    # ---- the dialog -------------------------------------------------------------------------------------------------
    def set_dialog(self, dialog: Dialog) -> None:
        """Take a dialog as ours: requests within it come to this call from now on."""
        self.dialog = dialog
        self.agent.calls[dialog.id] = self._usage

    def request(
        self,
        method: str,
        body: bytes = b"",
        headers: tuple[str, ...] = (),
        content_type: str = SDP_TYPE,
        as_if: Callable[[Dialog], Dialog] | None = None,
    ) -> tuple[SipMessage, bytes, str, Endpoint]:
        """Write our next request within the dialog: (request, its bytes, its branch, where it goes).

        Args:
            as_if: what the request takes the dialog for, when it is to be wrong on purpose; where it is sent first
                stays right.
        """
        assert self.dialog is not None
        self.dialog = self.dialog.next_request()
        dialog = self.dialog if as_if is None else as_if(self.dialog)
        contact = (self.contact,) if method in ("INVITE", "UPDATE") else ()
        raw, branch, where = self.agent.compose_in(dialog, method, (*contact, *headers), content_type, body)
        if as_if is not None:
            where = self.agent.next_hop(*self.dialog.request_line)
        return parse_message(raw), raw, branch, where

    # ---- sound ------------------------------------------------------------------------------------------------------
    async def open_media(self, rtp: bool) -> None:
        """Get ready for an offer or answer; with `rtp` real sound will flow."""
        if rtp and self.stream is None:
            self.stream = AudioStream(
                tone_hz=400 if self.direction == "outgoing" else 500,
                rtcp_interval_s=self.agent.rtcp_interval_s,
                mirror=self.agent.media_mirror,
            )
            port = await self.stream.open(self.agent.address)
        else:
            port = self.agent.next_media_port()
        if self.negotiation is None:
            self.negotiation = Negotiation(self.agent.address, port)

    def direct_media(self) -> None:
        """Let the sound flow as offer and answer have it."""
        negotiation = self.negotiation
        if self.stream is not None and negotiation is not None:
            self.stream.direct(negotiation.remote_endpoint, negotiation.direction, music=negotiation.plays_music)

    # ---- the end ----------------------------------------------------------------------------------------------------
    def hang_up(self, reason: str) -> None:
        """Send a BYE nobody waits for, and end the call."""
        if self.state != "ended" and self.dialog is not None:
            with contextlib.suppress(CallFailed):  # its Contact leads nowhere: then nobody hears of the end
                _, raw, branch, where = self.request("BYE")
                self.agent.transactions.send(raw, branch, "BYE", where)
        self.end(reason)

    def end(self, reason: str) -> None:
        """End the call without a word."""
        if self.state == "ended":
            return
        self.end_reason = reason
        for stop in self.at_end:
            stop()
        if self.stream is not None:
            self.stream.close()
        if self.dialog is not None:
            self.agent.calls.pop(self.dialog.id, None)
        self.set_state("ended")


def header_pair(line: str) -> tuple[str, str]:
    """A header line as (name, value)."""
    name, _, value = line.partition(": ")
    return name, value
