"""Text in the GSM 7 bit alphabets, and seven bits packed into octets (TS 23.038 sections 6.1.2 and 6.2.1).

Septets are handled one a byte; `pack` and `unpack` make octets of them and back.
"""

from __future__ import annotations

from functools import cache

from labkit.errors import SmsError
from labkit.wire.gsm7_tables import ESCAPE, LANGUAGES, LOCKING, SINGLE

UNKNOWN = "\ufffd"
"""Shown for a septet that has no character."""


def to_septets(text: str, locking: int = 0, single: int = 0) -> bytes:
    """Write text in septets, one a byte; a character of the single shift table takes two.

    Args:
        text: what to write.
        locking, single: language of the two tables; 0 is the default alphabet and its extension.
    Raises:
        SmsError: a character is in neither table.
    """
    codes = _codes(locking, single)
    missing = sorted({character for character in text if character not in codes})
    if missing:
        tables = LANGUAGES[locking] if locking == single else f"{LANGUAGES[locking]} and {LANGUAGES[single]}"
        raise SmsError(
            f"The 7 bit tables ({tables}) have no {', '.join(map(repr, missing[:5]))}: send the text in UCS-2.",
            field="TP-UD",
            spec="TS 23.038 section 6.2.1",
        )
    return b"".join(codes[character] for character in text)


def fits(text: str, locking: int = 0, single: int = 0) -> bool:
    """Whether every character of a text is in the two tables."""
    return _codes(locking, single).keys() >= set(text)


def to_text(septets: bytes, locking: int = 0, single: int = 0) -> str:
    """Read septets, one a byte.

    An escape before something that the single shift table lacks is passed over; a septet without a character is shown
    as U+FFFD. A table that nobody has defined is read as the default one (TS 23.038 section 6.2.1.2.1).
    """
    base, extension = LOCKING.get(locking, LOCKING[0]), SINGLE.get(single, SINGLE[0])
    text = []
    escaped = False
    for septet in septets:
        if septet == ESCAPE and not escaped:
            escaped = True
            continue
        character = extension.get(septet) if escaped else None
        if escaped and septet == ESCAPE:
            character = " "  # reserved for a further table: shown as a space (section 6.2.1.1, note 1)
        text.append(character or base[septet & 0x7F] or UNKNOWN)
        escaped = False
    return "".join(text) + (" " if escaped else "")


def pack(septets: bytes, fill_bits: int = 0) -> bytes:
    """Pack septets into octets, the first into the lowest bits.

    Args:
        septets: one a byte.
        fill_bits: bits of value 0 before the first septet (after a user data header, TS 23.040 section 9.2.3.24).
    """
    whole = sum((septet & 0x7F) << (7 * place + fill_bits) for place, septet in enumerate(septets))
    return whole.to_bytes((7 * len(septets) + fill_bits + 7) // 8, "little")


def unpack(raw: bytes, count: int, fill_bits: int = 0) -> bytes:
    """Take `count` septets out of octets, one a byte.

    Raises:
        SmsError: there are not so many in them.
    """
    if 7 * count + fill_bits > 8 * len(raw):
        raise SmsError(
            f"{count} septets need {(7 * count + fill_bits + 7) // 8} octets, there are {len(raw)}",
            field="TP-UD",
            spec="TS 23.038 section 6.1.2.1",
        )
    whole = int.from_bytes(raw, "little") >> fill_bits
    return bytes((whole >> (7 * place)) & 0x7F for place in range(count))


def pieces(text: str, room: int, locking: int = 0, single: int = 0) -> list[bytes]:
    """Cut a text into septets of at most `room` each, never between an escape and what follows it."""
    codes = _codes(locking, single)
    found, current = [], b""
    for character in text:
        code = codes[character]
        if len(current) + len(code) > room:
            found.append(current)
            current = b""
        current += code
    return [*found, current]


@cache
def _codes(locking: int, single: int) -> dict[str, bytes]:
    """Character -> its one or two septets.

    Raises:
        SmsError: nobody has defined such a table.
    """
    if locking not in LOCKING or single not in SINGLE:
        wrong = locking if locking not in LOCKING else single
        raise SmsError(
            f"There is no such table for language {wrong}", field="TP-UDH", spec="TS 23.040 section 9.2.3.24.16"
        )
    shifted = {character: bytes((ESCAPE, septet)) for septet, character in SINGLE[single].items()}
    plain = {character: bytes((septet,)) for septet, character in enumerate(LOCKING[locking]) if character}
    return {**shifted, **plain}
