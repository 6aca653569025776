"""Short messages for tests: recorded ones, ones from textbooks, and one of each kind of our own."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from labkit.wire import sms
from labkit.wire.sip import SipMessage
from tests.view_messages import recording

NOON = datetime(2026, 11, 28, 12, 30, 45, tzinfo=timezone(timedelta(hours=1)))
ALICE, BOB, CENTRE = (sms.Address.of(number) for number in ("+15550001", "+15550002", "+15559000"))


def recorded() -> list[bytes]:
    """What Kamailio's smsops and a phone sent each other: SUBMIT, RP-ACK with SUBMIT-REPORT, DELIVER."""
    messages = recording("20")
    found = []
    for raw in messages.raw:
        head, _, body = raw.partition(b"\r\n\r\n")
        if b"vnd.3gpp.sms" in head and body not in found:
            found.append(body)
    return found


def text(words: str, **how: object) -> sms.UserData:
    """The user data of one message."""
    return sms.user_data(words, **how)[0]  # type: ignore[arg-type]


def one_of_each() -> dict[str, sms.RpMessage]:
    """Every kind of RP message and TPDU, with what can be in it."""
    deliver = sms.deliver_of(ALICE, text("Hello {Bob} €"), NOON)
    long_text, emoji = "Long text, number 7. " * 12, "Bıçağın \N{GRINNING FACE} " * 9
    found: dict[str, sms.RpMessage] = {"deliver": sms.RpData(True, 1, CENTRE, None, deliver)}

    def to_phone(name: str, tpdu: sms.Tpdu) -> None:
        found[name] = sms.RpData(True, len(found), CENTRE, None, tpdu)

    def to_centre(name: str, tpdu: sms.Tpdu) -> None:
        found[name] = sms.RpData(False, len(found), None, CENTRE, tpdu)

    to_phone("named sender", sms.deliver_of(sms.Address.of("LABKIT"), text("Offer"), NOON, 0))
    to_phone("ucs2", sms.deliver_of(sms.Address.of("12345"), text("Привет"), NOON, more_messages=True))
    for bits in (8, 16):
        for number, part in enumerate(sms.user_data(long_text, reference=0x12, reference_bits=bits), start=1):
            to_phone(f"long {bits} part {number}", sms.deliver_of(ALICE, part, NOON, status_report=True))
    for number, part in enumerate(sms.user_data(emoji), start=1):
        to_phone(f"emoji part {number}", sms.deliver_of(ALICE, part, NOON))
    turkish = text("Bıçağın ucu", locking=1, single=1)
    to_phone("turkish", sms.deliver_of(ALICE, turkish, NOON))
    to_phone("binary", sms.deliver_of(ALICE, sms.UserData(bytes(range(20)), sms.OCTETS), NOON, 2))
    to_centre("submit", sms.Submit(5, BOB, text("Hi"), status_report=True, reject_duplicates=True))
    to_centre("submit for 4 days", sms.Submit(6, BOB, text("Hi"), validity=b"\xaa", reply_path=True))
    to_centre("submit until", sms.Submit(7, BOB, text("Hi"), validity=sms.to_time_stamp(NOON)))
    to_centre("command", sms.Command(8, 2, 5, BOB))
    to_phone("status report", sms.StatusReport(5, BOB, NOON, NOON, 0))
    to_phone("status report, failed", sms.StatusReport(5, BOB, NOON, NOON, 0x46, pid=0, user_data=text("late")))
    found["ack of phone"] = sms.RpAck(False, 1, sms.DeliverReport())
    found["bare ack of phone"] = sms.RpAck(False, 2)
    found["ack of centre"] = sms.RpAck(True, 3, sms.SubmitReport(NOON))
    found["error of phone"] = sms.RpError(False, 4, 22, tpdu=sms.DeliverReport(0xD3))
    found["error of centre"] = sms.RpError(True, 5, 38, tpdu=sms.SubmitReport(NOON, 0xC2))
    found["bare error"] = sms.RpError(False, 6, 96)
    found["room again"] = sms.RpSmma(7)
    return found


def in_sip(rp: bytes, *, number: int = 1) -> SipMessage:
    """A MESSAGE with an RP message in it."""
    headers = (
        ("Via", f"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{number}"),
        ("From", "<sip:smsc@example.org>;tag=a"),
        ("To", "<tel:+15550002>"),
        ("Call-ID", f"call-{number}@example.org"),
        ("CSeq", "1 MESSAGE"),
        ("Max-Forwards", "70"),
        ("Content-Type", sms.CONTENT_TYPE),
    )
    return SipMessage.request("MESSAGE", "tel:+15550002", headers, rp)
