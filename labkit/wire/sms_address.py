"""Addresses in short messages: numbers in swapped half octets, names in packed septets.

The transfer layer (TP, TS 23.040 section 9.1.2.5) and the relay layer (RP, TS 24.011 section 8.2.5) write the same type
and digits after different lengths: TP counts the useful half octets, RP the octets that follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from labkit.errors import SmsError
from labkit.wire.gsm7 import pack, to_septets, to_text, unpack
from labkit.wire.sms_fields import FieldReader

UNKNOWN, INTERNATIONAL, NATIONAL, NETWORK, SHORT, ALPHANUMERIC, ABBREVIATED = range(7)
"""Types of number (TS 23.040 section 9.1.2.5)."""
TYPES: Final = ("unknown", "international", "national", "network specific", "subscriber", "a name", "abbreviated")
PLANS: Final = {0: "unknown", 1: "ISDN/telephone", 3: "data", 4: "telex", 8: "national", 9: "private", 10: "ERMES"}
_DIGITS: Final = "0123456789*#abc"
MAX_DIGITS: Final = 20
"""Most digits in an address (TS 23.040 section 9.1.2.5)."""
MAX_NAME_SEPTETS: Final = 11
"""Longest name: 11 septets fill the ten octets."""


@dataclass(frozen=True, slots=True)
class Address:
    """A number, or a name."""

    digits: str
    """The digits without a "+", or the name."""
    kind: int = INTERNATIONAL
    """Type of number."""
    plan: int = 1
    """Numbering plan; 1 is the telephone's (E.164)."""

    @classmethod
    def of(cls, text: str) -> Address:
        """Make an address of what people write: "+15550001", "112", "LABKIT".

        Raises:
            SmsError: it is too long, or holds a character that neither digits nor the 7 bit alphabet have.
        """
        if text.startswith("+") and text[1:].isascii() and text[1:].isdigit():
            made = cls(text[1:])
        elif text and all(character in _DIGITS for character in text):
            made = cls(text, UNKNOWN)
        else:
            made = cls(text, ALPHANUMERIC, 0)
        made.to_tp()
        return made

    @property
    def text(self) -> str:
        """As people write it: an international number with "+"."""
        return f"+{self.digits}" if self.kind == INTERNATIONAL else self.digits

    @property
    def type_octet(self) -> int:
        """The octet of type and plan."""
        return 0x80 | self.kind << 4 | self.plan

    def to_tp(self) -> bytes:
        """The address of a TPDU: number of useful half octets, type, digits."""
        if self.kind == ALPHANUMERIC:
            septets = to_septets(self.digits)
            if len(septets) > MAX_NAME_SEPTETS:
                raise SmsError(
                    f"{self.digits!r} takes {len(septets)} septets, a name has at most {MAX_NAME_SEPTETS}",
                    field="TP-OA",
                    spec="TS 23.040 section 9.1.2.5",
                )
            return bytes(((7 * len(septets) + 3) // 4, self.type_octet)) + pack(septets)
        return bytes((len(self.digits), self.type_octet)) + _to_bcd(self.digits)

    def to_rp(self) -> bytes:
        """The address of an RP message: number of octets that follow, type, digits."""
        value = bytes((self.type_octet,)) + _to_bcd(self.digits)
        return bytes((len(value),)) + value

    def __str__(self) -> str:
        return self.text


def read_tp_address(reader: FieldReader, name: str, about: str, spec: str) -> Address:
    """Read an address of a TPDU (TS 23.040 section 9.1.2.5)."""
    start = reader.at
    count = reader.octet(name, spec)
    reader.note(f"{name} length", str(count), "useful half octets: digits, or 4 bits each of a name", spec, start=start)
    if count > MAX_DIGITS:
        raise SmsError(
            f"{name} says {count} half octets; there are at most {MAX_DIGITS}",
            offset=start,
            field=name,
            spec="TS 23.040 section 9.1.2.5",
        )
    kind, plan = _read_type(reader, name, spec)
    start = reader.at
    raw = reader.take((count + 1) // 2, name, spec)
    if kind == ALPHANUMERIC:
        address = Address(to_text(unpack(raw, count * 4 // 7)), kind, plan)
    else:
        address = Address(_from_bcd(raw, count, start, name), kind, plan)
    reader.note(name, address.text, about, spec, start=start)
    return address


def read_rp_address(reader: FieldReader, name: str, about: str, spec: str) -> Address | None:
    """Read an address of an RP message; None where its length is 0."""
    start = reader.at
    length = reader.octet(name, spec)
    absent = ": there is no address" if length == 0 else ""
    reader.note(f"{name} length", f"{length}{absent}", "octets of the address that follow", spec, start=start)
    if length == 0:
        return None
    if length == 1 or length > 11:
        raise SmsError(f"{name} has {length} octets; it has none, or 2 to 11", offset=start, field=name, spec=spec)
    kind, plan = _read_type(reader, name, spec)
    start = reader.at
    raw = reader.take(length - 1, name, spec)
    count = 2 * len(raw) - (raw[-1] >> 4 == 0xF)
    address = Address(_from_bcd(raw, count, start, name), kind, plan)
    reader.note(name, address.text, about, spec, start=start)
    return address


def _read_type(reader: FieldReader, name: str, spec: str) -> tuple[int, int]:
    start = reader.at
    octet = reader.octet(name, spec)
    kind, plan = octet >> 4 & 7, octet & 0x0F
    words = f"{TYPES[kind] if kind < len(TYPES) else 'reserved'}, {PLANS.get(plan, 'reserved')}"
    reader.note(f"{name} type", f"0x{octet:02x} {words}", "type of number and numbering plan", spec, start=start)
    return kind, plan


def _to_bcd(digits: str) -> bytes:
    wrong = sorted(set(digits) - set(_DIGITS))
    if wrong or not digits or len(digits) > MAX_DIGITS:
        why = f"a digit {wrong[0]!r}" if wrong else f"{len(digits)} digits"
        raise SmsError(
            f"A number cannot have {why}: it has 1 to {MAX_DIGITS} of {_DIGITS}",
            field="address",
            spec="TS 23.040 section 9.1.2.3",
        )
    halves = [_DIGITS.index(digit) for digit in digits] + [0xF] * (len(digits) % 2)
    return bytes(low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True))


def _from_bcd(raw: bytes, count: int, start: int, name: str) -> str:
    halves = [half for octet in raw for half in (octet & 0x0F, octet >> 4)][:count]
    if 0xF in halves:
        raise SmsError(
            f"{name} has the filler 1111 in the place of a digit",
            offset=start + halves.index(0xF) // 2,
            field=name,
            spec="TS 23.040 section 9.1.2.3",
        )
    return "".join(_DIGITS[half] for half in halves)
