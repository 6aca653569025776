"""Short messages over IP in a phone: SM-over-IP sender and receiver (TS 24.341 sections 5.3.1 and 5.3.2).

A message that comes is answered twice: 200 says that the MESSAGE came, and a MESSAGE of the phone's own says what
became of the short message in it: RP-ACK when it was taken, RP-ERROR with a cause when it was not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from labkit.errors import CallFailed, SipError, SmsError, StackError
from labkit.peers.agent import Agent
from labkit.peers.mailbox import Mailbox
from labkit.peers.sms_shelf import ReceivedSms, Shelf
from labkit.peers.standalone import Standalone
from labkit.wire import sms
from labkit.wire.sip import SipMessage, parse_address

HABITS: Final = ("", "lenient", "strict", "silent")
"""What a phone does with an RP-DATA that TS 24.011 does not allow: take it, refuse it, drop it without a word. A phone
that is "" about it does no short messages at all."""
FEATURE: Final = "+g.3gpp.smsip"
"""Feature tag in Contact of a phone that takes short messages over IP (TS 24.341 section 5.3.2.2)."""
CENTRE: Final = "+15559000"
"""Number of the short message centre on the SIM, unless another one is given."""
_INVALID, _PROTOCOL, _MEMORY = 96, 111, 22
_FCS_MEMORY, _FCS_UNSPECIFIED = 0xD3, 0xFF


@dataclass(frozen=True, slots=True)
class SentSms:
    """What became of a short message that a phone has sent, as far as the centre told."""

    outcome: str
    """"accepted" by the centre, or its cause: "38 network out of order"."""
    parts: int
    """How many messages it took."""
    references: tuple[int, ...] = field(repr=False, default=())
    """TP-MR of each."""
    statuses: tuple[int, ...] = field(repr=False, default=())
    """SIP status of each MESSAGE; 202 says only that it came."""


@dataclass(frozen=True, slots=True)
class ReportedSms:
    """A status report."""

    reference: int
    """TP-MR of the message that it is about."""
    recipient: str
    """For whom that message was."""
    status: str
    """What became of it: TP-ST in words."""
    code: int = field(repr=False, default=0)
    """TP-ST."""


class SmsPhone:
    """The part of a phone that does short messages."""

    def __init__(
        self,
        agent: Agent,
        standalone: Standalone,
        identities: tuple[str, ...],
        realm: str,
        habit: str,
        centre: str,
        room: int,
    ) -> None:
        if habit not in HABITS:
            raise StackError(f"A phone is not {habit!r} about short messages: use {', '.join(HABITS[1:])}.")
        self.habit = habit
        """One of HABITS."""
        self.shelf = Shelf(room)
        """What has come."""
        self.reports: list[ReportedSms] = []
        """Status reports that have come."""
        self.new_reports: Mailbox[ReportedSms] = Mailbox()
        """Status reports that nobody has asked for yet."""
        self._agent, self._standalone = agent, standalone
        numbers = [uri for uri in identities if uri.startswith("sip:+")]
        self._identity = numbers[0] if numbers else identities[-1]
        self._centre_uri = f"sip:{centre}@{realm}"
        self._centre = centre
        self._rp_reference = 0
        self._tp_reference = 0
        self._part_reference = 0
        self._open: dict[int, asyncio.Future[sms.RpAck | sms.RpError]] = {}

    # ---- sending ----------------------------------------------------------------------------------------------------
    async def send(
        self,
        parts: list[sms.UserData],
        number: str,
        *,
        status_report: bool,
        message_class: int | None,
        timeout_s: float,
    ) -> SentSms:
        """Send a text, part after part; each waits for the centre's report on the one before."""
        destination = sms.Address.of(number)
        references, statuses = [], []
        outcome = "accepted"
        for part in parts:
            self._tp_reference = self._tp_reference % 255 + 1
            dcs = sms.dcs_for(part.alphabet, message_class)
            tpdu = sms.Submit(self._tp_reference, destination, part, dcs, status_report=status_report)
            response, report = await self._submit(tpdu, timeout_s)
            references.append(self._tp_reference)
            statuses.append(response.status)
            if isinstance(report, sms.RpError):
                outcome = report.cause_words
                break
        return SentSms(outcome, len(parts), tuple(references), tuple(statuses))

    def next_part_reference(self) -> int:
        """The reference that the parts of the next long text share."""
        self._part_reference += 1
        return self._part_reference

    async def submit(self, tpdu: sms.Tpdu, timeout_s: float) -> str:
        """Send any TPDU; return "accepted", or the cause of the centre's RP-ERROR."""
        report = (await self._submit(tpdu, timeout_s))[1]
        return report.cause_words if isinstance(report, sms.RpError) else "accepted"

    async def make_room(self, timeout_s: float) -> str:
        """Empty the memory, and tell the centre where it had been full (RP-SMMA)."""
        was_full = self.shelf.refused
        self.shelf.empty()
        if not was_full:
            return "nothing to tell"
        reference = self._next_reference()
        _, report = await self._ask(sms.RpSmma(reference), reference, timeout_s)
        return report.cause_words if isinstance(report, sms.RpError) else "accepted"

    async def _submit(self, tpdu: sms.Tpdu, timeout_s: float) -> tuple[SipMessage, sms.RpAck | sms.RpError]:
        reference = self._next_reference()
        rp = sms.RpData(False, reference, None, sms.Address.of(self._centre), tpdu)
        return await self._ask(rp, reference, timeout_s)

    async def _ask(
        self, rp: sms.RpMessage, reference: int, timeout_s: float
    ) -> tuple[SipMessage, sms.RpAck | sms.RpError]:
        if not self.habit:
            raise CallFailed('This phone does no short messages: make it with sms="strict".')
        report: asyncio.Future[sms.RpAck | sms.RpError] = self._agent.loop.create_future()
        self._open[reference] = report
        try:
            response = await self._message(self._centre_uri, rp)
            return response, await asyncio.wait_for(report, timeout_s)
        except TimeoutError:
            raise CallFailed(
                f"The centre took the MESSAGE and sent neither RP-ACK nor RP-ERROR for it in {timeout_s:g} s.",
                status=202,
            ) from None
        finally:
            del self._open[reference]

    async def _message(self, uri: str, rp: sms.RpMessage, reply_to: str = "") -> SipMessage:
        lines = [f"P-Preferred-Identity: <{self._identity}>"]
        if reply_to:
            lines.append(f"In-Reply-To: {reply_to}")
        asked = self._standalone.ask("MESSAGE", uri, self._identity, tuple(lines), sms.CONTENT_TYPE, rp.to_bytes())
        return (await asked)[1]

    def _next_reference(self) -> int:
        self._rp_reference = self._rp_reference % 255 + 1
        return self._rp_reference

    # ---- receiving --------------------------------------------------------------------------------------------------
    def receive(self, request: SipMessage) -> None:
        """Take what a MESSAGE brought, which has been told 200 already."""
        try:
            rp = sms.parse_rp(request.body)
        except SmsError as error:
            answer = self._refusal_of_damaged(request.body, error)
        else:
            if isinstance(rp, sms.RpAck | sms.RpError):
                self._take_report(rp)
                return
            answer = self._judge(rp) if isinstance(rp, sms.RpData) else None
        if answer is not None:
            self._agent.spawn(self._answer(request, answer))

    def _take_report(self, rp: sms.RpAck | sms.RpError) -> None:
        waiting = self._open.get(rp.reference)
        if waiting is not None and not waiting.done():
            waiting.set_result(rp)

    def _judge(self, rp: sms.RpData) -> sms.RpMessage | None:
        """Take an RP-DATA and say what to answer; None for nothing."""
        if self.habit != "lenient" and not is_allowed(rp):
            return sms.RpError(False, rp.reference, _INVALID) if self.habit == "strict" else None
        tpdu = rp.tpdu
        if isinstance(tpdu, sms.StatusReport):
            words = sms.STATES.get(tpdu.status, "reserved")
            report = ReportedSms(tpdu.reference, tpdu.recipient.text, words, tpdu.status)
            self.reports.append(report)
            self.new_reports.put(report)
        elif isinstance(tpdu, sms.Deliver) and not self.shelf.take(tpdu, rp.originator.text if rp.originator else ""):
            return sms.RpError(False, rp.reference, _MEMORY, tpdu=sms.DeliverReport(_FCS_MEMORY))
        return sms.RpAck(False, rp.reference, sms.DeliverReport())

    def _refusal_of_damaged(self, body: bytes, error: SmsError) -> sms.RpMessage | None:
        if self.habit == "silent" or len(body) < 2 or body[0] & 7 != 1:
            return None
        if error.field.startswith("RP-"):
            return sms.RpError(False, body[1], _INVALID)
        return sms.RpError(False, body[1], _PROTOCOL, tpdu=sms.DeliverReport(_FCS_UNSPECIFIED))

    async def _answer(self, request: SipMessage, rp: sms.RpMessage) -> None:
        """Send the report to whom the network says the message is from (TS 24.341 section 5.3.2.4)."""
        try:
            uri = parse_address(request.header("p-asserted-identity") or "").uri
        except SipError:
            uri = self._centre_uri
        await self._message(uri, rp, request.call_id or "")

    async def wait(self, timeout_s: float) -> ReceivedSms:
        """Wait for the next text that is whole."""
        return await self.shelf.new.take(timeout_s, "No short message was shown")


def is_allowed(rp: sms.RpData) -> bool:
    """Whether the addresses of an RP-DATA to a phone are as TS 24.011 wants them.

    The centre's number as originator (section 8.2.5.1), and no destination at all (section 8.2.5.2).
    """
    return rp.originator is not None and rp.destination is None
