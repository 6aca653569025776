"""What a phone can be asked to do with short messages over IP; a part of UE."""

from __future__ import annotations

from labkit.peers.sms_phone import ReportedSms, SentSms, SmsPhone
from labkit.peers.sms_shelf import ReceivedSms
from labkit.wire import sms


class SmsUser:
    """Sends short messages, and hands out what has come."""

    _sms: SmsPhone

    async def send_sms(
        self,
        number: str,
        text: str,
        *,
        status_report: bool = False,
        message_class: int | None = None,
        alphabet: str = "",
        locking: int = 0,
        single: int = 0,
        reference_bits: int = 8,
        careless: bool = False,
        timeout_s: float = 40.0,
    ) -> SentSms:
        """Send a short message over IP, in several parts where it is long, and return what the centre said to it.

        Args:
            number: for whom, as dialled: "+15550002".
            text: what to say.
            status_report: ask to be told what becomes of it.
            message_class: 0 to 3; 0 is only shown.
            alphabet, locking, single, reference_bits, careless: as in `labkit.wire.sms.user_data`.
            timeout_s: how long to wait for the centre's report, timer TR1M (TS 24.011 section 10.2).
        Raises:
            CallFailed: the MESSAGE was refused, or the centre gave no report in time.
            SmsError: the text cannot be written so.
        """
        parts = sms.user_data(
            text,
            alphabet=alphabet,
            locking=locking,
            single=single,
            reference=self._sms.next_part_reference(),
            reference_bits=reference_bits,
            careless=careless,
        )
        return await self._sms.send(
            parts, number, status_report=status_report, message_class=message_class, timeout_s=timeout_s
        )

    async def send_tpdu(self, tpdu: bytes, timeout_s: float = 40.0) -> str:
        """Send a TPDU of one's own, SUBMIT or COMMAND, and return "accepted" or the cause of the centre's RP-ERROR.

        Raises:
            SmsError: it is none.
            CallFailed: as in `send_sms`.
        """
        return await self._sms.submit(sms.parse_tpdu(tpdu, to_phone=False), timeout_s)

    async def wait_sms(self, timeout_s: float = 10.0) -> ReceivedSms:
        """Wait for the next short message that the phone shows; a long one when its last part is there.

        Raises:
            CallFailed: none was shown in time.
        """
        return await self._sms.wait(timeout_s)

    async def wait_status_report(self, timeout_s: float = 10.0) -> ReportedSms:
        """Wait for the next status report.

        Raises:
            CallFailed: none came in time.
        """
        return await self._sms.new_reports.take(timeout_s, "No status report came")

    async def fill_sms_memory(self) -> None:
        """Fill what is left of the phone's memory, so that the next message finds no room."""
        self._sms.shelf.used = self._sms.shelf.room

    async def make_sms_room(self, timeout_s: float = 40.0) -> str:
        """Empty the phone's memory; where it had been full, tell the centre (RP-SMMA) and return what that said."""
        return await self._sms.make_room(timeout_s)

    @property
    def sms_shown(self) -> list[ReceivedSms]:
        """Every short message that the phone has shown, in order."""
        return list(self._sms.shelf.shown)
