"""User data of a short message: the text, the header before it, long texts in parts (TS 23.040 section 9.2.3.24)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from labkit.errors import SmsError
from labkit.wire.gsm7 import fits, pack, pieces, to_septets, to_text, unpack
from labkit.wire.gsm7_tables import LANGUAGES
from labkit.wire.sms_coding import GSM7, OCTETS, UCS2, Coding, coding_of
from labkit.wire.sms_fields import FieldReader

ROOM: Final = 140
"""Octets of user data in one message; 160 septets."""
CONCAT_8, PORTS_16, CONCAT_16, SINGLE_SHIFT, LOCKING_SHIFT = 0x00, 0x05, 0x08, 0x24, 0x25
ELEMENTS: Final = {
    CONCAT_8: ("concatenated, 8 bit reference", 3, "9.2.3.24.1"),
    0x01: ("special message indication", 2, "9.2.3.24.2"),
    0x04: ("ports, 8 bit", 2, "9.2.3.24.3"),
    PORTS_16: ("ports, 16 bit", 4, "9.2.3.24.4"),
    CONCAT_16: ("concatenated, 16 bit reference", 4, "9.2.3.24.8"),
    SINGLE_SHIFT: ("national language, single shift", 1, "9.2.3.24.15"),
    LOCKING_SHIFT: ("national language, locking shift", 1, "9.2.3.24.16"),
}
"""Information elements: name, length in octets, section."""


@dataclass(frozen=True, slots=True)
class Element:
    """One information element of a user data header."""

    identifier: int
    """Which one (IEI)."""
    raw: bytes
    """Its octets, without identifier and length."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a message stands in a long text."""

    reference: int
    """The same in all parts of one text."""
    total: int
    """How many parts there are."""
    number: int
    """Which one this is, from 1."""
    bits: int
    """8 or 16: how long the reference is."""


@dataclass(frozen=True, slots=True)
class UserData:
    """TP-UD with what its header and TP-DCS say of it."""

    content: bytes
    """Septets, one a byte, in the 7 bit alphabets; octets otherwise. Without the header."""
    alphabet: str = GSM7
    """GSM7, OCTETS or UCS2."""
    header: tuple[Element, ...] = ()
    """Elements of the user data header."""

    @property
    def part(self) -> Part | None:
        """Which part of a long text this is; None for a text of its own.

        An element whose total or number is 0, or whose number is above the total, counts as none (9.2.3.24.1).
        """
        for element in self.header:
            if element.identifier in (CONCAT_8, CONCAT_16):
                *reference, total, number = element.raw
                if 0 < number <= total:
                    return Part(int.from_bytes(bytes(reference), "big"), total, number, 8 * len(reference))
        return None

    @property
    def languages(self) -> tuple[int, int]:
        """Language of the locking and of the single shift table; 0 is the default."""
        found = {element.identifier: element.raw[0] for element in self.header if len(element.raw) == 1}
        return found.get(LOCKING_SHIFT, 0), found.get(SINGLE_SHIFT, 0)

    @property
    def text(self) -> str:
        """The text of this message alone; half a surrogate pair at its end is shown as U+FFFD."""
        return text_of([self])

    def to_bytes(self) -> bytes:
        """TP-UDL and TP-UD."""
        header = b"".join(bytes((one.identifier, len(one.raw))) + one.raw for one in self.header)
        if self.header:
            header = bytes((len(header),)) + header
        if self.alphabet != GSM7:
            length, body = len(header) + len(self.content), header + self.content
        else:
            fill = -8 * len(header) % 7
            length = (8 * len(header) + fill) // 7 + len(self.content)
            body = header + pack(self.content, fill)
        if len(body) > ROOM:
            raise SmsError(
                f"The user data has {len(body)} octets, one message takes {ROOM}: split the text",
                field="TP-UD",
                spec="TS 23.040 section 9.2.3.16",
            )
        return bytes((length,)) + body


def text_of(parts: Sequence[UserData]) -> str:
    """Join the parts of a text, given in order, and read them.

    UCS-2 is joined before it is read: whoever split it may have cut a character in two (an emoji is two 16 bit units).
    """
    text = ""
    units = b""
    for part in parts:
        if part.alphabet == UCS2:
            units += part.content
            continue
        text += units.decode("utf-16-be", "replace")
        units = b""
        if part.alphabet == GSM7:
            text += to_text(part.content, *part.languages)
        else:
            text += part.content.decode("latin-1")
    return text + units.decode("utf-16-be", "replace")


def user_data(
    text: str,
    *,
    alphabet: str = "",
    locking: int = 0,
    single: int = 0,
    reference: int = 1,
    reference_bits: int = 8,
    careless: bool = False,
) -> list[UserData]:
    """Write a text as the user data of one message, or of several where it is long.

    Args:
        text: what to write.
        alphabet: GSM7, OCTETS or UCS2; by default GSM7 where it has all characters, else UCS2.
        locking, single: languages of the national tables.
        reference: of the parts, in case there are several.
        reference_bits: 8 or 16.
        careless: cut UCS-2 anywhere, also inside an emoji, as some senders do.
    Raises:
        SmsError: the alphabet lacks a character, or more than 255 parts would be needed.
    """
    chosen = alphabet or (GSM7 if fits(text, locking, single) else UCS2)
    languages = _language_elements(locking, single) if chosen == GSM7 else ()
    whole = _cut(text, chosen, _room(chosen, languages), locking, single, careless)
    if len(whole) == 1:
        return [UserData(whole[0], chosen, languages)]
    size = 2 if reference_bits == 16 else 1
    kind = CONCAT_16 if size == 2 else CONCAT_8
    sample = (Element(kind, bytes(size + 2)), *languages)
    parts = _cut(text, chosen, _room(chosen, sample), locking, single, careless)
    if len(parts) > 255:
        raise SmsError(
            f"The text needs {len(parts)} messages, there can be 255",
            field="TP-UD",
            spec="TS 23.040 section 9.2.3.24.1",
        )
    mark = (reference % (1 << 8 * size)).to_bytes(size, "big")
    return [
        UserData(content, chosen, (Element(kind, mark + bytes((len(parts), number))), *languages))
        for number, content in enumerate(parts, start=1)
    ]


def read_user_data(reader: FieldReader, dcs: int, has_header: bool) -> UserData:
    """Read TP-UDL and TP-UD (TS 23.040 sections 9.2.3.16 and 9.2.3.24)."""
    coding = coding_of(dcs)
    in_septets = coding.alphabet == GSM7 and not coding.compressed
    start = reader.at
    length = reader.octet("TP-UDL", "23.040 9.2.3.16")
    unit = "septets" if in_septets else "octets"
    reader.note("TP-UDL", f"{length} {unit}", f"length of TP-UD in {unit}", "23.040 9.2.3.16", start=start)
    start = reader.at
    raw = reader.take((7 * length + 7) // 8 if in_septets else length, "TP-UD", "23.040 9.2.3.24")
    header, size = _read_header(reader, start, raw) if has_header else ((), 0)
    if in_septets:
        fill = -8 * size % 7
        count = length - (8 * size + fill) // 7
        if count < 0:
            raise SmsError(
                "TP-UDL ends inside the header", offset=start, field="TP-UDL", spec="TS 23.040 section 9.2.3.24"
            )
        read = UserData(unpack(raw[size:], count, fill), GSM7, header)
    else:
        read = UserData(raw[size:], OCTETS if coding.compressed else coding.alphabet, header)
    if len(raw) > size:
        reader.note("TP-UD", _shown(read, coding), "the text", "23.040 9.2.3.24", start=start + size)
    return read


def _shown(data: UserData, coding: Coding) -> str:
    if coding.compressed or data.alphabet == OCTETS:
        return data.content.hex()
    return repr(data.text)[1:-1]


def _read_header(reader: FieldReader, start: int, raw: bytes) -> tuple[tuple[Element, ...], int]:
    """Read the user data header: its elements, and how many octets it takes with its length."""
    spec = "23.040 9.2.3.24"
    size = raw[0] + 1 if raw else 1
    if size > len(raw):
        raise SmsError("The user data header is longer than TP-UD", offset=start, field="TP-UDHL", spec=f"TS {spec}")
    reader.note("TP-UDHL", str(raw[0]), "octets of the header that follow", spec, start=start, size=1)
    elements = []
    at = 1
    while at < size:
        length = raw[at + 1] if at + 1 < size else 0
        if at + 2 + length > size:
            raise SmsError(
                "An information element is longer than the header", offset=start + at, field="TP-UDH", spec=f"TS {spec}"
            )
        element = Element(raw[at], raw[at + 2 : at + 2 + length])
        name, wanted, section = ELEMENTS.get(
            element.identifier, (f"element 0x{element.identifier:02x}", length, "9.2.3.24")
        )
        if length != wanted:
            raise SmsError(
                f"The element {name!r} has {length} octets, not {wanted}",
                offset=start + at,
                field="TP-UDH",
                spec=f"TS 23.040 section {section}",
            )
        elements.append(element)
        reader.note("TP-UDH element", _told(element), name, f"23.040 {section}", start=start + at, size=2 + length)
        at += 2 + length
    return tuple(elements), size


def _told(element: Element) -> str:
    if element.identifier in (CONCAT_8, CONCAT_16):
        *reference, total, number = element.raw
        return f"reference {int.from_bytes(bytes(reference), 'big')}, part {number} of {total}"
    if element.identifier in (SINGLE_SHIFT, LOCKING_SHIFT):
        return LANGUAGES.get(element.raw[0], f"language {element.raw[0]}")
    if element.identifier == PORTS_16:
        return f"to port {int.from_bytes(element.raw[:2], 'big')}, from port {int.from_bytes(element.raw[2:], 'big')}"
    return element.raw.hex()


def _language_elements(locking: int, single: int) -> tuple[Element, ...]:
    pairs = ((SINGLE_SHIFT, single), (LOCKING_SHIFT, locking))
    return tuple(Element(identifier, bytes((language,))) for identifier, language in pairs if language)


def _room(alphabet: str, header: Iterable[Element]) -> int:
    """How many septets or octets of text fit beside a header."""
    octets = sum(2 + len(element.raw) for element in header)
    left = ROOM - (octets + 1 if octets else 0)
    return left * 8 // 7 if alphabet == GSM7 else left


def _cut(text: str, alphabet: str, room: int, locking: int, single: int, careless: bool) -> list[bytes]:
    if alphabet == GSM7:
        to_septets(text, locking, single)  # says which character is missing
        return pieces(text, room, locking, single)
    if alphabet == OCTETS or careless:
        raw = text.encode("latin-1", "replace") if alphabet == OCTETS else text.encode("utf-16-be")
        room -= room % 2 if alphabet == UCS2 else 0
        return [raw[at : at + room] for at in range(0, len(raw), room)] or [b""]
    found, current = [], b""
    for character in text:
        code = character.encode("utf-16-be", "surrogatepass")
        if len(current) + len(code) > room:
            found.append(current)
            current = b""
        current += code
    return [*found, current]
