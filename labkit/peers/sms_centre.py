"""A short message centre in IMS: IP-SM-GW and SM-SC in one (TS 23.204, TS 24.341 section 5.3.3, TS 23.040).

It is an application server. Filter criteria bring it what phones send (MESSAGE with application/vnd.3gpp.sms) and who
has come and gone (third-party REGISTER); its own messages enter the network at the I-CSCF, as anybody's do, and find
the phone by the HSS. What cannot be delivered is kept until the phone registers, or says that it has room again.

In a real network the two are apart, and Diameter or MAP goes between them; what a phone sees is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Final

from labkit.errors import CallFailed, SmsError
from labkit.peers.admission import answer_options
from labkit.peers.agent import Agent
from labkit.peers.application_role import ApplicationRole
from labkit.peers.sms_queue import NOTHING, HeldSms, Item, Queue
from labkit.peers.sms_requests import clock_of, criteria, number_of, service_info
from labkit.peers.sms_sender import SmsSender
from labkit.peers.transaction import ServerTransaction, Timers
from labkit.peers.transport import Endpoint
from labkit.wire import sms
from labkit.wire.sip import SipMessage

METHODS: Final = "MESSAGE, REGISTER, OPTIONS"
"""Methods that it answers."""
_UNKNOWN_SENDER, _NOT_IMPLEMENTED, _INVALID = 28, 69, 96
_FCS_UNSUPPORTED = 0xA1


class SmsCentre(ApplicationRole):
    """One short message centre on one UDP port."""

    def __init__(
        self,
        name: str,
        *,
        address: str,
        port: int,
        entry: Endpoint,
        realm: str,
        number: str = "+15559000",
        clock: str = "",
        report_timeout_s: float = 10.0,
        timers: Timers | None = None,
    ) -> None:
        """Make a centre; it is off until `start`.

        Args:
            name: user part of its URI in filter criteria.
            address: its own address on this host.
            port: its UDP port; 0 takes any free one.
            entry: address and port of the I-CSCF, where its messages enter the network.
            realm: home network.
            number: its number, which phones have on their SIM.
            clock: what its clock shows, and goes on showing, as "2026-11-28T12:00:00+01:00"; empty for the true time.
            report_timeout_s: how long to wait for a phone's RP-ACK (timer TR1N, TS 24.011 section 10.2).
            timers: base values of the SIP timers.
        Raises:
            StackError: the clock shows no time.
            SmsError: the number is none.
        """
        self.name = name
        """User part of its URI."""
        self.number = number
        """Its number."""
        self._clock = clock_of(clock)
        self._queue = Queue()
        self._present: dict[str, bool] = {}
        self._refuse_with = 0
        self._silent = False
        self._moved = asyncio.Event()
        self._under_way = 0
        self._agent = Agent(
            address=address,
            port=port,
            transport="udp",
            proxy=entry,
            timers=timers or Timers(),
            access_network="",
            serve=self._serve,
            body_types=(sms.CONTENT_TYPE,),
            allow=METHODS,
        )
        self._sender = SmsSender(self._agent, entry, realm, sms.Address.of(number), report_timeout_s)

    def __repr__(self) -> str:
        return f"<short message centre {self.number}, {len(self._queue.items)} messages>"

    # ---- what a lesson asks -----------------------------------------------------------------------------------------
    def criteria(self, number: str) -> list[dict[str, Any]]:
        """The two filter criteria that a subscriber of this centre has, for `lab.hss.set_profile`.

        Args:
            number: the subscriber's number; the S-CSCF passes it on with each third-party REGISTER (ServiceInfo).
        """
        return criteria(self.uri, number)

    @property
    def messages(self) -> list[HeldSms]:
        """Every short message that the centre has taken, in order, and what has become of it."""
        return [item.shown for item in self._queue.items]

    @property
    def present(self) -> dict[str, bool]:
        """Who is registered, by number, as far as third-party REGISTERs have told."""
        return dict(self._present)

    @property
    def faults(self) -> int:
        """How often the centre itself failed on what came; 0, or there is a bug, and the log has it."""
        return self._agent.faults

    async def behave(
        self, *, rp_destination: str = "", refuse_with: int = 0, silent: bool = False, deaf: bool = False
    ) -> None:
        """Do something wrong from now on; without arguments, everything right again.

        Args:
            rp_destination: what to write into RP-Destination-Address, where TS 24.011 wants nothing: "own" for the
                phone's own number, or digits.
            refuse_with: refuse every message of a phone with this RP-Cause.
            silent: take the messages of phones and send no RP-ACK.
            deaf: pass over the RP-ACKs of phones.
        """
        self._sender.rp_destination, self._sender.deaf = rp_destination, deaf
        self._refuse_with, self._silent = refuse_with, silent

    async def send(
        self,
        number: str,
        text: str,
        *,
        sender: str = "",
        message_class: int | None = None,
        alphabet: str = "",
        locking: int = 0,
        single: int = 0,
        reference: int = 1,
        reference_bits: int = 8,
        careless: bool = False,
        order: list[int] | None = None,
    ) -> list[HeldSms]:
        """Send a short message of the centre's own, and say what has become of its parts.

        Args:
            number: for whom.
            text: what to say.
            sender: whom the phone shows as sender (TP-OA): a number or a name; by default the centre's number.
            message_class: 0 to 3.
            alphabet, locking, single, reference, reference_bits, careless: as in `labkit.wire.sms.user_data`.
            order: in which order to send the parts, for example [2, 1]; parts left out are not sent.
        """
        parts = sms.user_data(
            text,
            alphabet=alphabet,
            locking=locking,
            single=single,
            reference=reference,
            reference_bits=reference_bits,
            careless=careless,
        )
        chosen = [parts[place - 1] for place in order] if order else parts
        originator = sms.Address.of(sender or self.number)
        now = self._now()
        items = [
            self._queue.add(number, sms.deliver_of(originator, part, now, message_class), part.text) for part in chosen
        ]
        await self._deliver(number, anew=True, wait=True)
        return [item.shown for item in items]

    async def send_tpdu(self, number: str, tpdu: bytes) -> HeldSms:
        """Send a DELIVER of one's own, octet by octet, and say what has become of it.

        Raises:
            SmsError: it is none.
        """
        read = sms.parse_tpdu(tpdu, to_phone=True)
        if not isinstance(read, sms.Deliver):
            raise SmsError(f"That is an {read.name}, and a centre sends an SMS-DELIVER", field="TP-MTI")
        item = self._queue.add(number, read, read.user_data.text)
        await self._deliver(number, anew=True, wait=True)
        return item.shown

    async def retry(self, number: str) -> list[HeldSms]:
        """Try again what waits for a number, and say what has become of it."""
        waiting = [item for item in self._queue.items if item.number == number and not item.is_over]
        await self._deliver(number, anew=True, wait=True)
        return [item.shown for item in waiting]

    async def idle(self, timeout_s: float = 40.0) -> None:
        """Wait until nothing is under way: each message is delivered, refused, or waits for its phone.

        Raises:
            CallFailed: something still is.
        """
        try:
            await asyncio.wait_for(self._until_still(), timeout_s)
        except TimeoutError:
            raise CallFailed(f"The centre still has messages under way after {timeout_s:g} s.") from None

    async def clear(self) -> None:
        """Forget every message."""
        self._queue.items.clear()

    # ---- what comes in ----------------------------------------------------------------------------------------------
    def _serve(self, server: ServerTransaction) -> None:
        request = server.request
        if request.method == "REGISTER":
            server.respond(200, ("Expires", request.header("expires") or "3600"))
            self._take_registration(request)
        elif request.method == "OPTIONS":
            answer_options(server, self._agent)
        elif request.content_type != sms.CONTENT_TYPE:
            server.respond(415, ("Accept", sms.CONTENT_TYPE))
        else:
            self._take_message(server)

    def _take_registration(self, request: SipMessage) -> None:
        """Note who has come or gone; deliver what waits for who has come (TS 23.204 section 6.1)."""
        number = service_info(request.body)
        if number:
            here = (request.header("expires") or "3600").strip() != "0"
            self._present[number] = here
            if here:
                self._begin(self._deliver(number, anew=True))

    def _take_message(self, server: ServerTransaction) -> None:
        request = server.request
        number = number_of(request)
        try:
            rp = sms.parse_rp(request.body)
        except SmsError:
            server.respond(202)
            if len(request.body) > 1 and request.body[0] & 7 in (0, 6):
                self._reply(request, number, sms.RpError(True, request.body[1], _INVALID))
            return
        server.respond(202)
        if isinstance(rp, sms.RpAck | sms.RpError):
            self._sender.take_report(rp, number, request.header("in-reply-to") or "")
        elif isinstance(rp, sms.RpSmma):
            self._begin(self._take_smma(request, number, rp))
        elif isinstance(rp.tpdu, sms.Submit):
            self._take_submit(request, number, rp, rp.tpdu)
        else:
            report = sms.SubmitReport(self._now(), _FCS_UNSUPPORTED)
            self._reply(request, number, sms.RpError(True, rp.reference, _NOT_IMPLEMENTED, tpdu=report))

    def _take_submit(self, request: SipMessage, number: str, rp: sms.RpData, tpdu: sms.Submit) -> None:
        cause = self._refuse_with or (0 if number else _UNKNOWN_SENDER)
        if cause:
            self._reply(request, number, sms.RpError(True, rp.reference, cause))
            return
        now = self._now()
        deliver = sms.Deliver(
            sms.Address.of(number), tpdu.user_data, now, tpdu.dcs, tpdu.pid, status_report=tpdu.status_report
        )
        item = self._queue.add(tpdu.destination.text, deliver, tpdu.user_data.text)
        item.reference, item.report_to = tpdu.reference, number if tpdu.status_report else ""
        self._begin(self._accept(request, number, rp.reference, now, item))

    async def _accept(self, request: SipMessage, number: str, reference: int, now: datetime, item: Item) -> None:
        """Tell the sender that the centre has it, then deliver it: one after the other, so that traces read well."""
        if not self._silent:
            await self._sender.answer(number, request, sms.RpAck(True, reference, sms.SubmitReport(now)))
        await self._deliver(item.number)

    async def _take_smma(self, request: SipMessage, number: str, rp: sms.RpSmma) -> None:
        await self._sender.answer(number, request, sms.RpAck(True, rp.reference))
        await self._deliver(number, anew=True)

    def _reply(self, request: SipMessage, number: str, rp: sms.RpMessage) -> None:
        self._begin(self._sender.answer(number, request, rp))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; `idle` waits for it from now on."""
        self._under_way += 1
        self._agent.spawn(self._counted(work))

    async def _counted(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._under_way -= 1
            self._moved.set()

    # ---- delivering -------------------------------------------------------------------------------------------------
    async def _deliver(self, number: str, *, anew: bool = False, wait: bool = False) -> None:
        """Send what waits for a number, one after another, until something stops it.

        Args:
            number: for whom.
            anew: the phone has just come, or has room again: try also what has failed a moment ago.
            wait: where somebody else is at it already, wait until he has done.
        """
        if not self._queue.begin(number, anew=anew):
            if wait:
                await self._until_still(number)
            return
        try:
            while (item := self._queue.next(number)) is not None:
                await self._sender.deliver(item, more=self._queue.more_behind(item))
                if item.is_over:
                    await self._report(item)
                elif item.report != NOTHING:
                    self._queue.stop(number)  # away, or full: the rest would fare no better
        finally:
            self._queue.end(number)
            self._moved.set()

    async def _until_still(self, number: str = "") -> None:
        """Wait until nothing is under way to a number, or to anybody, and nobody is still to be told of his message."""
        while self._queue.busy(number) or (not number and self._under_way):
            self._moved.clear()
            await self._moved.wait()

    async def _report(self, item: Item) -> None:
        """Send the status report that the sender of a message asked for."""
        if not item.report_to:
            return
        report = sms.StatusReport(
            item.reference,
            sms.Address.of(item.number),
            item.deliver.time_stamp,
            self._now(),
            item.status,
        )
        await self._sender.deliver(Item(item.report_to, report, ""), more=False)

    def _now(self) -> datetime:
        return self._clock or datetime.now().astimezone()
