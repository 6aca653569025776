"""What TP-DCS says: the alphabet, the class, or that other messages wait (TS 23.038 section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GSM7, OCTETS, UCS2 = "GSM 7 bit", "8 bit data", "UCS-2"
"""The alphabets."""
CLASSES: Final = (
    "class 0, shown at once and not kept",
    "class 1, kept in the phone",
    "class 2, kept on the SIM",
    "class 3, for the terminal equipment",
)
"""Message classes (TS 23.038 section 4, TS 23.040 section 9.2.3.10)."""
_INDICATIONS: Final = ("voicemail", "fax", "e-mail", "other")
_BASE: Final = {GSM7: 0x00, OCTETS: 0x04, UCS2: 0x08}


@dataclass(frozen=True, slots=True)
class Coding:
    """A TP-DCS, read."""

    alphabet: str
    """GSM7, OCTETS or UCS2."""
    message_class: int | None = None
    """0 to 3; None where the message has none."""
    compressed: bool = False
    """Whether the text is compressed (TS 23.042)."""
    indication: str = ""
    """What waits, for a message waiting indication: "voicemail", ..."""
    reserved: bool = False
    """Whether the value is one that nobody has given a meaning: read as the default alphabet."""

    def __str__(self) -> str:
        parts = [self.alphabet, *(["compressed"] if self.compressed else [])]
        if self.message_class is not None:
            parts.append(CLASSES[self.message_class])
        if self.indication:
            parts.append(f"message waiting: {self.indication}")
        if self.reserved:
            parts.append("a reserved value")
        return ", ".join(parts)


def coding_of(dcs: int) -> Coding:
    """Read a TP-DCS."""
    group = dcs >> 4
    if group < 8:  # 00xx general, 01xx the same, marked for automatic deletion
        has_class = bool(dcs & 0x10)
        alphabet = (GSM7, OCTETS, UCS2, GSM7)[dcs >> 2 & 3]
        return Coding(alphabet, dcs & 3 if has_class else None, bool(dcs & 0x20), reserved=dcs >> 2 & 3 == 3)
    if group in (0xC, 0xD, 0xE):  # discard the text, keep it, keep it in UCS-2
        return Coding(UCS2 if group == 0xE else GSM7, indication=_INDICATIONS[dcs & 3])
    if group == 0xF:
        return Coding(OCTETS if dcs & 4 else GSM7, dcs & 3)
    return Coding(GSM7, reserved=True)


def dcs_for(alphabet: str, message_class: int | None = None) -> int:
    """Return the TP-DCS of the general group for an alphabet and, where given, a class."""
    return _BASE[alphabet] | (0x10 | message_class if message_class is not None else 0)
