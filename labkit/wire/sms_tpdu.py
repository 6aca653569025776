"""The six TPDUs of the transfer layer: values and their bytes (TS 23.040 section 9.2.2). `sms_read` reads them.

Which of two TPDUs a message type means follows from the direction: 00 is DELIVER to a phone and DELIVER-REPORT to a
centre, 01 SUBMIT to a centre and SUBMIT-REPORT to a phone, 10 STATUS-REPORT to a phone and COMMAND to a centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeAlias

from labkit.wire.sms_address import Address
from labkit.wire.sms_coding import GSM7, Coding, coding_of, dcs_for
from labkit.wire.sms_text import UserData
from labkit.wire.sms_time import to_time_stamp

_NEVER = bytes(7)
"""A time stamp of zeros, for one that is not known."""


def _flags(**bits: bool) -> int:
    places = {"more_stops": 2, "loop": 3, "report": 5, "header": 6, "reply_path": 7}
    return sum(1 << places[name] for name, on in bits.items() if on)


@dataclass(frozen=True, slots=True)
class Deliver:
    """SMS-DELIVER: a message from the centre to a phone (section 9.2.2.1)."""

    name: ClassVar[str] = "SMS-DELIVER"
    originator: Address
    """TP-OA: who wrote it, and what the phone shows as sender."""
    user_data: UserData
    """TP-UD."""
    time_stamp: datetime | None = None
    """TP-SCTS: when the centre got it."""
    dcs: int = 0
    """TP-DCS."""
    pid: int = 0
    """TP-PID."""
    more_messages: bool = False
    """Whether more wait at the centre (TP-MMS, whose bit says the opposite)."""
    loop_prevention: bool = False
    """TP-LP."""
    status_report: bool = False
    """TP-SRI: whether the sender has asked for a status report."""
    reply_path: bool = False
    """TP-RP."""

    @property
    def coding(self) -> Coding:
        """TP-DCS, read."""
        return coding_of(self.dcs)

    def to_bytes(self) -> bytes:
        """The TPDU."""
        first = _flags(
            more_stops=not self.more_messages,
            loop=self.loop_prevention,
            report=self.status_report,
            header=bool(self.user_data.header),
            reply_path=self.reply_path,
        )
        head = bytes((first,)) + self.originator.to_tp() + bytes((self.pid, self.dcs))
        return head + _stamp(self.time_stamp) + self.user_data.to_bytes()


@dataclass(frozen=True, slots=True)
class Submit:
    """SMS-SUBMIT: a message from a phone to the centre (section 9.2.2.2)."""

    name: ClassVar[str] = "SMS-SUBMIT"
    reference: int
    """TP-MR: the phone's own number for it."""
    destination: Address
    """TP-DA: for whom it is."""
    user_data: UserData
    """TP-UD."""
    dcs: int = 0
    """TP-DCS."""
    pid: int = 0
    """TP-PID."""
    validity: bytes = b""
    """TP-VP as it stands: none, one octet (relative), or seven."""
    absolute: bool = True
    """Whether seven octets of validity are a time (TP-VPF 11) or the enhanced format (01)."""
    reject_duplicates: bool = False
    """TP-RD."""
    status_report: bool = False
    """TP-SRR: whether a status report is asked for."""
    reply_path: bool = False
    """TP-RP."""

    @property
    def coding(self) -> Coding:
        """TP-DCS, read."""
        return coding_of(self.dcs)

    def to_bytes(self) -> bytes:
        """The TPDU."""
        period = {0: 0, 1: 0x10}.get(len(self.validity), 0x18 if self.absolute else 0x08)
        first = 0x01 | self.reject_duplicates << 2 | period
        first |= _flags(report=self.status_report, header=bool(self.user_data.header), reply_path=self.reply_path)
        head = bytes((first, self.reference)) + self.destination.to_tp() + bytes((self.pid, self.dcs))
        return head + self.validity + self.user_data.to_bytes()


@dataclass(frozen=True, slots=True)
class StatusReport:
    """SMS-STATUS-REPORT: what became of a message (section 9.2.2.3)."""

    name: ClassVar[str] = "SMS-STATUS-REPORT"
    reference: int
    """TP-MR of the SUBMIT (or COMMAND) that it is about."""
    recipient: Address
    """TP-RA: for whom that was."""
    time_stamp: datetime | None
    """TP-SCTS: when the centre had got it."""
    discharge: datetime | None
    """TP-DT: when it was delivered, or given up."""
    status: int
    """TP-ST."""
    more_messages: bool = False
    """TP-MMS."""
    loop_prevention: bool = False
    """TP-LP."""
    for_command: bool = False
    """TP-SRQ: whether it answers a COMMAND."""
    pid: int | None = None
    """TP-PID, None where it is left out."""
    dcs: int | None = None
    """TP-DCS, None where it is left out."""
    user_data: UserData | None = None
    """TP-UD, None where it is left out."""

    def to_bytes(self) -> bytes:
        """The TPDU."""
        header = self.user_data is not None and bool(self.user_data.header)
        first = 0x02 | _flags(
            more_stops=not self.more_messages, loop=self.loop_prevention, report=self.for_command, header=header
        )
        head = bytes((first, self.reference)) + self.recipient.to_tp()
        tail = _optional(self.pid, self.dcs, self.user_data)
        times = _stamp(self.time_stamp) + _stamp(self.discharge)
        return head + times + bytes((self.status,)) + (tail if tail != b"\0" else b"")


@dataclass(frozen=True, slots=True)
class SubmitReport:
    """SMS-SUBMIT-REPORT: the centre has got a SUBMIT, or refuses it (section 9.2.2.2a)."""

    name: ClassVar[str] = "SMS-SUBMIT-REPORT"
    time_stamp: datetime | None
    """TP-SCTS: when the centre got it."""
    failure: int | None = None
    """TP-FCS, in an RP-ERROR only."""
    pid: int | None = None
    """TP-PID, None where it is left out."""
    dcs: int | None = None
    """TP-DCS, None where it is left out."""
    user_data: UserData | None = None
    """TP-UD, None where it is left out."""

    def to_bytes(self) -> bytes:
        """The TPDU."""
        first = 0x01 | _flags(header=self.user_data is not None and bool(self.user_data.header))
        failure = b"" if self.failure is None else bytes((self.failure,))
        tail = _optional(self.pid, self.dcs, self.user_data)
        return bytes((first,)) + failure + tail[:1] + _stamp(self.time_stamp) + tail[1:]


@dataclass(frozen=True, slots=True)
class DeliverReport:
    """SMS-DELIVER-REPORT: the phone has got a DELIVER or STATUS-REPORT, or cannot take it (section 9.2.2.1a)."""

    name: ClassVar[str] = "SMS-DELIVER-REPORT"
    failure: int | None = None
    """TP-FCS, in an RP-ERROR only."""
    pid: int | None = None
    """TP-PID, None where it is left out."""
    dcs: int | None = None
    """TP-DCS, None where it is left out."""
    user_data: UserData | None = None
    """TP-UD, None where it is left out."""

    def to_bytes(self) -> bytes:
        """The TPDU."""
        first = _flags(header=self.user_data is not None and bool(self.user_data.header))
        failure = b"" if self.failure is None else bytes((self.failure,))
        return bytes((first,)) + failure + _optional(self.pid, self.dcs, self.user_data)


@dataclass(frozen=True, slots=True)
class Command:
    """SMS-COMMAND: a phone asks the centre to do something with a message (section 9.2.2.4)."""

    name: ClassVar[str] = "SMS-COMMAND"
    reference: int
    """TP-MR of the command itself."""
    command: int
    """TP-CT: 0 enquiry, 1 cancel the status report, 2 delete, 3 enable the status report."""
    message_number: int
    """TP-MN: TP-MR of the SUBMIT that it is about."""
    destination: Address
    """TP-DA of that SUBMIT."""
    pid: int = 0
    """TP-PID."""
    content: bytes = b""
    """TP-CD."""
    status_report: bool = False
    """TP-SRR."""

    def to_bytes(self) -> bytes:
        """The TPDU."""
        head = bytes((0x02 | _flags(report=self.status_report), self.reference, self.pid, self.command))
        number = bytes((self.message_number,)) + self.destination.to_tp()
        return head + number + bytes((len(self.content),)) + self.content


Tpdu: TypeAlias = Deliver | Submit | StatusReport | SubmitReport | DeliverReport | Command


def deliver_of(
    originator: Address,
    user_data: UserData,
    time_stamp: datetime | None,
    message_class: int | None = None,
    *,
    more_messages: bool = False,
    status_report: bool = False,
) -> Deliver:
    """Make the DELIVER for user data, with the TP-DCS that it needs."""
    return Deliver(
        originator,
        user_data,
        time_stamp,
        dcs_for(user_data.alphabet, message_class),
        more_messages=more_messages,
        status_report=status_report,
    )


def _stamp(moment: datetime | None) -> bytes:
    return _NEVER if moment is None else to_time_stamp(moment)


def _optional(pid: int | None, dcs: int | None, user_data: UserData | None) -> bytes:
    """TP-PI and what it announces (section 9.2.3.27)."""
    if dcs is None and user_data is not None and user_data.alphabet != GSM7:
        dcs = dcs_for(user_data.alphabet)
    indicator = (pid is not None) | (dcs is not None) << 1 | (user_data is not None) << 2
    parts = [bytes((value,)) for value in (pid, dcs) if value is not None]
    return bytes((indicator,)) + b"".join(parts) + (user_data.to_bytes() if user_data is not None else b"")
