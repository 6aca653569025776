"""How a short message centre sends MESSAGEs into the network, and what comes back (TS 24.341 section 5.3.3)."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

from labkit.errors import CallFailed
from labkit.peers.agent import Agent
from labkit.peers.sms_queue import DELIVERED, FAILED, NOTHING, REFUSED, SENT, WAITING, Item
from labkit.peers.transport import Endpoint
from labkit.wire import sms
from labkit.wire.sip import SipMessage

_MEMORY = 22
"""RP-Cause after which a message waits for RP-SMMA; the other causes are final."""
_AWAY = (404, 408, 430, 480, 503, 504)
"""Answers that say: not now."""
NOT_OBTAINABLE, RECIPIENT_ERROR = 0x43, 0x65
"""TP-ST of messages that the network, or the phone, does not take."""


class SmsSender:
    """Sends RP messages to phones."""

    def __init__(self, agent: Agent, entry: Endpoint, realm: str, number: sms.Address, report_timeout_s: float) -> None:
        self.rp_destination = ""
        """Break: what to write into RP-Destination-Address; "own" for the phone's number."""
        self.deaf = False
        """Break: pass over what phones report."""
        self._agent, self._entry, self._number = agent, entry, number
        self._identity = f"sip:{number.text}@{realm}"
        self._report_timeout_s = report_timeout_s
        self._reference = 0
        self._open: dict[str, tuple[str, int, asyncio.Future[sms.RpAck | sms.RpError]]] = {}

    async def deliver(self, item: Item, *, more: bool) -> None:
        """Send a message to its phone, wait for the report, and note what came of it."""
        self._reference = self._reference % 255 + 1
        tpdu = replace(item.deliver, more_messages=more)
        filled = item.number if self.rp_destination == "own" else self.rp_destination
        rp = sms.RpData(True, self._reference, self._number, sms.Address.of(filled) if filled else None, tpdu)
        item.state, item.attempts, item.report = SENT, item.attempts + 1, ""
        call_id = secrets.token_hex(10)
        waiting: asyncio.Future[sms.RpAck | sms.RpError] = self._agent.loop.create_future()
        self._open[call_id] = item.number, rp.reference, waiting
        try:
            item.sip_status = await self._message(item.number, rp, call_id)
            if item.sip_status < 300:
                _note(item, await asyncio.wait_for(waiting, self._report_timeout_s))
            else:
                item.state, item.status = (WAITING if item.sip_status in _AWAY else FAILED), NOT_OBTAINABLE
        except TimeoutError:
            item.state, item.report = WAITING, NOTHING
        finally:
            del self._open[call_id]

    async def answer(self, number: str, request: SipMessage, rp: sms.RpMessage) -> None:
        """Send a report to the phone whose MESSAGE this answers; In-Reply-To names it."""
        target = number or request.header("p-asserted-identity") or ""
        if target:
            await self._message(target, rp, secrets.token_hex(10), request.call_id or "")

    def take_report(self, rp: sms.RpAck | sms.RpError, number: str, reply_to: str) -> None:
        """Give a phone's report to whom it answers: by In-Reply-To, else by its number and RP-Message-Reference."""
        if self.deaf:
            return
        found = self._open.get(reply_to)
        if found is None:
            same = [one for one in self._open.values() if one[:2] == (number, rp.reference)]
            found = same[0] if same else None
        if found is not None and found[1] == rp.reference and not found[2].done():
            found[2].set_result(rp)

    async def _message(self, target: str, rp: sms.RpMessage, call_id: str, reply_to: str = "") -> int:
        """Send a MESSAGE and return the status of its final response; 408 where none came."""
        uri = f"tel:{target}" if target.startswith("+") else target.strip("<>")
        lines = [
            f"P-Asserted-Identity: <{self._identity}>",
            "Request-Disposition: no-fork",
            "Accept-Contact: *;+g.3gpp.smsip",
        ]
        if reply_to:
            lines.append(f"In-Reply-To: {reply_to}")
        branch = self._agent.new_branch()
        raw = self._agent.compose(
            "MESSAGE",
            uri,
            from_=f"<{self._identity}>;tag={secrets.token_hex(4)}",
            to=f"<{uri}>",
            call_id=call_id,
            cseq=1,
            branch=branch,
            headers=lines,
            content_type=sms.CONTENT_TYPE,
            body=rp.to_bytes(),
        )
        try:
            return (await self._agent.request(raw, branch, "MESSAGE", self._entry)).status
        except CallFailed:
            return 408


def _note(item: Item, report: sms.RpAck | sms.RpError) -> None:
    if isinstance(report, sms.RpAck):
        item.state, item.report, item.status = DELIVERED, "RP-ACK", 0
        return
    item.report = f"RP-ERROR {report.cause_words}"
    item.state, item.status = (WAITING if report.cause == _MEMORY else REFUSED), RECIPIENT_ERROR
