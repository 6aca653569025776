"""The relay layer (RP) between a phone and the network: what stands in a MESSAGE with application/vnd.3gpp.sms.

RP-DATA carries a TPDU, RP-ACK says that it was taken, RP-ERROR that it was not and why, RP-SMMA that there is room in
the phone again (TS 24.011 section 7.3). The lowest bit of the message type is the direction: 0 from the phone, 1 to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from labkit.errors import SmsError
from labkit.wire.sms_address import Address, read_rp_address
from labkit.wire.sms_codes import RP_CAUSES, words
from labkit.wire.sms_fields import Field, FieldReader
from labkit.wire.sms_read import read_tpdu
from labkit.wire.sms_tpdu import Tpdu

CONTENT_TYPE: Final = "application/vnd.3gpp.sms"
"""Media type of an RP message in SIP (TS 24.341 section 5)."""
_USER_DATA = 0x41
_NAMES = {0: "RP-DATA", 1: "RP-DATA", 2: "RP-ACK", 3: "RP-ACK", 4: "RP-ERROR", 5: "RP-ERROR", 6: "RP-SMMA"}


@dataclass(frozen=True, slots=True)
class RpData:
    """RP-DATA (section 7.3.1)."""

    name: ClassVar[str] = "RP-DATA"
    to_phone: bool
    """Direction."""
    reference: int
    """RP-Message-Reference: the answer has the same."""
    originator: Address | None
    """RP-Originator-Address: the centre's number towards a phone; none from a phone."""
    destination: Address | None
    """RP-Destination-Address: the centre's number from a phone; none towards a phone."""
    tpdu: Tpdu
    """What it carries."""
    raw: bytes = b""
    """The bytes it was read from."""

    def to_bytes(self) -> bytes:
        """The message."""
        addresses = b"".join(b"\0" if one is None else one.to_rp() for one in (self.originator, self.destination))
        carried = self.tpdu.to_bytes()
        return bytes((self.to_phone, self.reference)) + addresses + bytes((len(carried),)) + carried


@dataclass(frozen=True, slots=True)
class RpAck:
    """RP-ACK (section 7.3.3)."""

    name: ClassVar[str] = "RP-ACK"
    to_phone: bool
    """Direction."""
    reference: int
    """RP-Message-Reference of the RP-DATA or RP-SMMA that it answers."""
    tpdu: Tpdu | None = None
    """A report; None where it is left out."""
    raw: bytes = b""
    """The bytes it was read from."""

    def to_bytes(self) -> bytes:
        """The message."""
        return bytes((2 | self.to_phone, self.reference)) + _element(self.tpdu)


@dataclass(frozen=True, slots=True)
class RpError:
    """RP-ERROR (section 7.3.4)."""

    name: ClassVar[str] = "RP-ERROR"
    to_phone: bool
    """Direction."""
    reference: int
    """RP-Message-Reference of the RP-DATA or RP-SMMA that it answers."""
    cause: int
    """RP-Cause."""
    diagnostic: bytes = b""
    """Diagnostic field of RP-Cause; in cause 22 none."""
    tpdu: Tpdu | None = None
    """A report with TP-FCS; None where it is left out."""
    raw: bytes = b""
    """The bytes it was read from."""

    @property
    def cause_words(self) -> str:
        """The cause with its words: "22 memory capacity exceeded"."""
        return words(RP_CAUSES, self.cause)

    def to_bytes(self) -> bytes:
        """The message."""
        cause = bytes((1 + len(self.diagnostic), self.cause)) + self.diagnostic
        return bytes((4 | self.to_phone, self.reference)) + cause + _element(self.tpdu)


@dataclass(frozen=True, slots=True)
class RpSmma:
    """RP-SMMA: a phone that had been full has room again (section 7.3.2)."""

    name: ClassVar[str] = "RP-SMMA"
    reference: int
    """RP-Message-Reference."""
    raw: bytes = b""
    """The bytes it was read from."""
    to_phone: ClassVar[bool] = False
    tpdu: ClassVar[None] = None

    def to_bytes(self) -> bytes:
        """The message."""
        return bytes((6, self.reference))


RpMessage: TypeAlias = RpData | RpAck | RpError | RpSmma


@dataclass(frozen=True, slots=True)
class Dissected:
    """A message octet by octet, also where it is damaged."""

    raw: bytes
    """Its bytes."""
    fields: tuple[Field, ...]
    """What they are, as far as they could be read."""
    message: RpMessage | None
    """The message; None when it is damaged."""
    problem: str
    """What is wrong with it; empty when nothing is."""


def parse_rp(raw: bytes) -> RpMessage:
    """Read an RP message and the TPDU in it.

    Raises:
        SmsError: it is damaged; says where.
    """
    return _read(FieldReader(raw))


def dissect(raw: bytes) -> Dissected:
    """Read an RP message octet by octet; what follows an error is left unexplained."""
    reader = FieldReader(raw)
    try:
        message, problem = _read(reader), ""
    except SmsError as error:
        message, problem = None, str(error)
    order = sorted(reader.fields, key=lambda field: (field.start, -field.mask if field.mask != 0xFF else 0))
    return Dissected(raw, tuple(order), message, problem)


def _read(reader: FieldReader) -> RpMessage:
    kind = reader.octet("RP-MTI", "24.011 8.2.2")
    name = _NAMES.get(kind & 7)
    if name is None:
        raise SmsError(
            f"No RP message has the type {kind & 7}", offset=0, field="RP-MTI", spec="TS 24.011 section 8.2.2"
        )
    to_phone = bool(kind & 1)
    direction = "network to phone" if to_phone else "phone to network"
    reader.note("RP-MTI", f"{kind & 7:03b} {name}", f"what it is: {direction}", "24.011 8.2.2", start=0, mask=0x07)
    reference = reader.octet("RP-Message-Reference", "24.011 8.2.3")
    about = "ties the answer to what it answers"
    reader.note("RP-Message-Reference", str(reference), about, "24.011 8.2.3", start=1)
    if name == "RP-DATA":
        message: RpMessage = _read_data(reader, to_phone, reference)
    elif name == "RP-ACK":
        message = RpAck(to_phone, reference, _read_element(reader, to_phone, in_error=False), reader.raw)
    elif name == "RP-ERROR":
        message = _read_error(reader, to_phone, reference)
    else:
        message = RpSmma(reference, reader.raw)
    _left_over(reader)
    return message


def _read_data(reader: FieldReader, to_phone: bool, reference: int) -> RpData:
    centre = "the number of the short message centre"
    sender = centre if to_phone else "empty from a phone to the network"
    receiver = "empty from the network to a phone" if to_phone else centre
    originator = read_rp_address(reader, "RP-Originator-Address", sender, "24.011 8.2.5.1")
    destination = read_rp_address(reader, "RP-Destination-Address", receiver, "24.011 8.2.5.2")
    start = reader.at
    length = reader.octet("RP-User-Data", "24.011 8.2.5.3")
    reader.note("RP-User-Data length", str(length), "octets of the TPDU that follow", "24.011 8.2.5.3", start=start)
    tpdu = _read_inside(reader, length, to_phone=to_phone)
    return RpData(to_phone, reference, originator, destination, tpdu, reader.raw)


def _read_error(reader: FieldReader, to_phone: bool, reference: int) -> RpError:
    spec = "24.011 8.2.5.4"
    start = reader.at
    length = reader.octet("RP-Cause", spec)
    reader.note("RP-Cause length", str(length), "octets of the cause that follow", spec, start=start)
    start = reader.at
    cause, *diagnostic = reader.take(max(length, 1), "RP-Cause", spec)
    reader.note("RP-Cause", words(RP_CAUSES, cause & 0x7F), "why it was not taken", spec, start=start)
    tpdu = _read_element(reader, to_phone, in_error=True)
    return RpError(to_phone, reference, cause & 0x7F, bytes(diagnostic), tpdu, reader.raw)


def _read_element(reader: FieldReader, to_phone: bool, *, in_error: bool) -> Tpdu | None:
    """Read the optional RP-User-Data of RP-ACK and RP-ERROR."""
    if not reader.left:
        return None
    start = reader.at
    identifier = reader.octet("RP-User-Data", "24.011 8.2.5.3")
    if identifier != _USER_DATA:
        raise SmsError(
            f"Element 0x{identifier:02x} is none of {'RP-ERROR' if in_error else 'RP-ACK'}; RP-User-Data is 0x41",
            offset=start,
            field="RP-User-Data",
            spec="TS 24.011 section 7.3.3",
        )
    reader.note("RP-User-Data", "0x41", "identifier of the element that follows", "24.011 8.2.5.3", start=start)
    start = reader.at
    length = reader.octet("RP-User-Data", "24.011 8.2.5.3")
    reader.note("RP-User-Data length", str(length), "octets of the TPDU that follow", "24.011 8.2.5.3", start=start)
    return _read_inside(reader, length, to_phone=to_phone, in_report=True, in_error=in_error)


def _read_inside(
    reader: FieldReader, length: int, *, to_phone: bool, in_report: bool = False, in_error: bool = False
) -> Tpdu:
    if length > reader.left:
        raise SmsError(
            f"RP-User-Data has {length} octets, and the message ends after {reader.left}",
            offset=reader.at,
            field="RP-User-Data",
            spec="TS 24.011 section 8.2.5.3",
        )
    whole, reader.end = reader.end, reader.at + length
    tpdu = read_tpdu(reader, to_phone=to_phone, in_report=in_report, in_error=in_error)
    _left_over(reader)
    reader.at, reader.end = reader.end, whole
    return tpdu


def _left_over(reader: FieldReader) -> None:
    """Octets behind the last field are passed over, as later versions may put something there."""
    if reader.left:
        start = reader.at
        rest = reader.take(reader.left, "rest")
        reader.note("(rest)", rest.hex(), "octets that belong to no field", "", start=start)


def _element(tpdu: Tpdu | None) -> bytes:
    if tpdu is None:
        return b""
    carried = tpdu.to_bytes()
    return bytes((_USER_DATA, len(carried))) + carried
