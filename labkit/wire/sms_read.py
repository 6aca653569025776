"""Reads the TPDUs of the transfer layer, and notes what each octet is (TS 23.040 section 9.2.2)."""

from __future__ import annotations

from datetime import datetime

from labkit.errors import SmsError
from labkit.wire.sms_address import read_tp_address
from labkit.wire.sms_codes import COMMANDS, FAILURES, STATES, words
from labkit.wire.sms_coding import coding_of
from labkit.wire.sms_fields import FieldReader
from labkit.wire.sms_text import UserData, read_user_data
from labkit.wire.sms_time import from_time_stamp, relative_validity
from labkit.wire.sms_tpdu import Command, Deliver, DeliverReport, StatusReport, Submit, SubmitReport, Tpdu

_UDHI = (0x40, "TP-UDHI", ("the text alone", "a header stands before the text"), "9.2.3.23")
_REPLY_PATH = (0x80, "TP-RP", ("no reply path", "reply path is set"), "9.2.3.17")
_MORE = (0x04, "TP-MMS", ("more messages wait at the centre", "no more messages wait"), "9.2.3.2")
_LOOP = (0x08, "TP-LP", ("no loop prevention", "forwarded: do not forward again"), "9.2.3.28")
_VALIDITY = ("none", "enhanced", "relative", "absolute")


def read_tpdu(reader: FieldReader, *, to_phone: bool, in_report: bool = False, in_error: bool = False) -> Tpdu:
    """Read a TPDU.

    Args:
        reader: stands at its first octet, and ends where it ends.
        to_phone: whether it goes from the centre to a phone.
        in_report: whether it stands in an RP-ACK or RP-ERROR, not in an RP-DATA.
        in_error: whether it stands in an RP-ERROR, where it has a TP-FCS.
    Raises:
        SmsError: it is damaged, or of a type that cannot stand there.
    """
    kind = reader.raw[reader.at] & 3 if reader.left else 0
    if in_report and kind == (1 if to_phone else 0):
        return _read_report(reader, to_phone, in_error)
    if not in_report and kind == (0 if to_phone else 1):
        return _read_deliver(reader) if to_phone else _read_submit(reader)
    if not in_report and kind == 2:
        return _read_status_report(reader) if to_phone else _read_command(reader)
    where = "an RP-ACK or RP-ERROR" if in_report else "an RP-DATA"
    raise SmsError(
        f"Message type {kind:02b} cannot stand in {where} to a {'phone' if to_phone else 'centre'}",
        offset=reader.at,
        field="TP-MTI",
        spec="TS 23.040 section 9.2.3.1",
    )


def _read_deliver(reader: FieldReader) -> Deliver:
    first = _first(reader, "SMS-DELIVER", _MORE, _LOOP, _asked(0x20, "TP-SRI", "9.2.3.4"), _UDHI, _REPLY_PATH)
    originator = read_tp_address(reader, "TP-OA", "who wrote it: shown as the sender", "23.040 9.2.3.7")
    pid, dcs = _pid(reader), _dcs(reader)
    stamp = _time(reader, "TP-SCTS", "when the centre got the message", "9.2.3.11")
    data = read_user_data(reader, dcs, bool(first & 0x40))
    return Deliver(
        originator,
        data,
        stamp,
        dcs,
        pid,
        more_messages=not first & 0x04,
        loop_prevention=bool(first & 0x08),
        status_report=bool(first & 0x20),
        reply_path=bool(first & 0x80),
    )


def _read_submit(reader: FieldReader) -> Submit:
    duplicates = (0x04, "TP-RD", ("duplicates are taken", "duplicates are refused"), "9.2.3.25")
    first = _first(reader, "SMS-SUBMIT", duplicates, None, _asked(0x20, "TP-SRR", "9.2.3.5"), _UDHI, _REPLY_PATH)
    reference = _number(reader, "TP-MR", "the phone's own number for this message", "9.2.3.6")
    destination = read_tp_address(reader, "TP-DA", "for whom it is", "23.040 9.2.3.8")
    pid, dcs = _pid(reader), _dcs(reader)
    form = first >> 3 & 3
    validity = _read_validity(reader, form)
    data = read_user_data(reader, dcs, bool(first & 0x40))
    return Submit(
        reference,
        destination,
        data,
        dcs,
        pid,
        validity,
        absolute=form != 1,
        reject_duplicates=bool(first & 0x04),
        status_report=bool(first & 0x20),
        reply_path=bool(first & 0x80),
    )


def _read_validity(reader: FieldReader, form: int) -> bytes:
    if form == 0:
        return b""
    spec = "23.040 9.2.3.12"
    start = reader.at
    raw = reader.take(1 if form == 2 else 7, "TP-VP", spec)
    if form == 2:
        shown = f"{raw[0]}: {relative_validity(raw[0])}"
    else:
        shown = _moment(from_time_stamp(raw)) if form == 3 else raw.hex()
    reader.note("TP-VP", shown, "how long the centre tries", spec, start=start)
    return raw


def _read_status_report(reader: FieldReader) -> StatusReport:
    asked = (0x20, "TP-SRQ", ("about a SUBMIT", "about a COMMAND"), "9.2.3.26")
    first = _first(reader, "SMS-STATUS-REPORT", _MORE, _LOOP, asked, _UDHI, None)
    reference = _number(reader, "TP-MR", "which message it is about: the TP-MR of its SUBMIT", "9.2.3.6")
    recipient = read_tp_address(reader, "TP-RA", "for whom that message was", "23.040 9.2.3.14")
    stamp = _time(reader, "TP-SCTS", "when the centre had got it", "9.2.3.11")
    discharge = _time(reader, "TP-DT", "when it was delivered or given up", "9.2.3.13")
    start = reader.at
    status = reader.octet("TP-ST", "23.040 9.2.3.15")
    reader.note("TP-ST", words(STATES, status), "what became of it", "23.040 9.2.3.15", start=start)
    pid, dcs, data = _read_optional(reader, bool(first & 0x40)) if reader.left else (None, None, None)
    return StatusReport(
        reference,
        recipient,
        stamp,
        discharge,
        status,
        more_messages=not first & 0x04,
        loop_prevention=bool(first & 0x08),
        for_command=bool(first & 0x20),
        pid=pid,
        dcs=dcs,
        user_data=data,
    )


def _read_report(reader: FieldReader, to_phone: bool, in_error: bool) -> SubmitReport | DeliverReport:
    first = _first(reader, "SMS-SUBMIT-REPORT" if to_phone else "SMS-DELIVER-REPORT", None, None, None, _UDHI, None)
    failure = None
    if in_error:
        start = reader.at
        failure = reader.octet("TP-FCS", "23.040 9.2.3.22")
        reader.note("TP-FCS", words(FAILURES, failure), "why it failed", "23.040 9.2.3.22", start=start)
    if to_phone:
        indicator = _indicator(reader)
        stamp = _time(reader, "TP-SCTS", "when the centre got the message", "9.2.3.11")
        return SubmitReport(stamp, failure, *_announced(reader, indicator, bool(first & 0x40)))
    return DeliverReport(failure, *_read_optional(reader, bool(first & 0x40)))


def _read_command(reader: FieldReader) -> Command:
    first = _first(reader, "SMS-COMMAND", None, None, _asked(0x20, "TP-SRR", "9.2.3.5"), _UDHI, None)
    reference = _number(reader, "TP-MR", "the phone's own number for this command", "9.2.3.6")
    pid = _pid(reader)
    start = reader.at
    command = reader.octet("TP-CT", "23.040 9.2.3.19")
    reader.note("TP-CT", words(COMMANDS, command), "what to do", "23.040 9.2.3.19", start=start)
    number = _number(reader, "TP-MN", "with which message: the TP-MR of its SUBMIT", "9.2.3.18")
    destination = read_tp_address(reader, "TP-DA", "for whom that message was", "23.040 9.2.3.8")
    length = _number(reader, "TP-CDL", "octets of TP-CD", "9.2.3.20")
    start = reader.at
    content = reader.take(length, "TP-CD", "23.040 9.2.3.21")
    if content:
        reader.note("TP-CD", content.hex(), "further words of the command", "23.040 9.2.3.21", start=start)
    return Command(reference, command, number, destination, pid, content, bool(first & 0x20))


# ---- fields that several have ---------------------------------------------------------------------------------------
_Bit = tuple[int, str, tuple[str, str], str]


def _asked(mask: int, name: str, section: str) -> _Bit:
    return mask, name, ("no status report", "a status report is asked for"), section


def _first(
    reader: FieldReader, name: str, second: _Bit | None, third: _Bit | None, fifth: _Bit | None, *others: _Bit | None
) -> int:
    """Read the first octet: message type and flags."""
    start = reader.at
    octet = reader.octet("TP-MTI", "23.040 9.2.3.1")
    reader.note("TP-MTI", f"{octet & 3:02b} {name}", "what it is", "23.040 9.2.3.1", start=start, mask=0x03)
    for bit in (second, third, fifth, *others):
        if bit is not None:
            mask, field, (off, on), section = bit
            value = 1 if octet & mask else 0
            reader.note(field, str(value), on if value else off, f"23.040 {section}", start=start, mask=mask)
    if name == "SMS-SUBMIT":
        form = octet >> 3 & 3
        about = "how TP-VP is written"
        reader.note("TP-VPF", f"{form:02b} {_VALIDITY[form]}", about, "23.040 9.2.3.3", start=start, mask=0x18)
    return octet


def _number(reader: FieldReader, name: str, about: str, section: str) -> int:
    start = reader.at
    octet = reader.octet(name, f"23.040 {section}")
    reader.note(name, str(octet), about, f"23.040 {section}", start=start)
    return octet


def _pid(reader: FieldReader) -> int:
    start = reader.at
    octet = reader.octet("TP-PID", "23.040 9.2.3.9")
    about = "plain short message" if octet == 0 else "protocol above it, or what to do with it"
    reader.note("TP-PID", f"0x{octet:02x}", about, "23.040 9.2.3.9", start=start)
    return octet


def _dcs(reader: FieldReader) -> int:
    start = reader.at
    octet = reader.octet("TP-DCS", "23.040 9.2.3.10")
    reader.note("TP-DCS", f"0x{octet:02x}", str(coding_of(octet)), "23.038 4", start=start)
    return octet


def _time(reader: FieldReader, name: str, about: str, section: str) -> datetime | None:
    start = reader.at
    stamp = from_time_stamp(reader.take(7, name, f"23.040 {section}"))
    reader.note(name, _moment(stamp), about, f"23.040 {section}", start=start)
    return stamp


def _moment(stamp: datetime | None) -> str:
    return stamp.isoformat(" ") if stamp is not None else "no time"


def _indicator(reader: FieldReader) -> int:
    start = reader.at
    octet = reader.octet("TP-PI", "23.040 9.2.3.27")
    names = [name for place, name in enumerate(("TP-PID", "TP-DCS", "TP-UDL")) if octet >> place & 1]
    about = "which optional parts follow"
    reader.note("TP-PI", f"0x{octet:02x} {', '.join(names) or 'none'}", about, "23.040 9.2.3.27", start=start)
    while octet & 0x80 and reader.left:  # further octets of indicators that nobody has defined
        octet = octet & 0x7F | (reader.octet("TP-PI", "23.040 9.2.3.27") & 0x80)
    return octet


def _read_optional(reader: FieldReader, has_header: bool) -> tuple[int | None, int | None, UserData | None]:
    return _announced(reader, _indicator(reader), has_header)


def _announced(reader: FieldReader, indicator: int, has_header: bool) -> tuple[int | None, int | None, UserData | None]:
    """Read TP-PID, TP-DCS and TP-UD as far as TP-PI announces them."""
    pid = _pid(reader) if indicator & 1 else None
    dcs = _dcs(reader) if indicator & 2 else None
    return pid, dcs, read_user_data(reader, dcs or 0, has_header) if indicator & 4 else None
