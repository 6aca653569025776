"""The 7 bit alphabets against vectors and tables that others made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit.errors import SmsError
from labkit.wire.gsm7 import fits, pack, pieces, to_septets, to_text, unpack
from labkit.wire.gsm7_tables import ESCAPE, LANGUAGES, LOCKING, SINGLE

TABLES = json.loads((Path(__file__).parent / "data" / "sms" / "national_tables.json").read_text(encoding="utf-8"))
"""Another reading of TS 23.038 annex A; it says where it comes from."""
INDIC = range(4, 14)

# "hello" packed is the example of many a textbook; the second one is from the tests of another encoder (CyberChef).
VECTORS = {
    "hellohello": "e8329bfd4697d9ec37",
    "a long sms with escapes [{ ~}) should be enough to validate encoding & packing": (
        "6110fbed3e83e6ed39e89ea6a341e5f9380c2fcf411bde0605daf436a914688e7ed7d96490b80c2abbdff5331a447f83ec61769a"
        "1ca6974165f7f84d4ebbcf2013081e1eafd3ee33"
    ),
}


@pytest.mark.parametrize("text", VECTORS)
def test_packing_is_as_others_do_it(text: str) -> None:
    """Characters to septets, septets to octets, and back."""
    septets, raw = to_septets(text), bytes.fromhex(VECTORS[text])
    assert pack(septets) == raw
    assert unpack(raw, len(septets)) == septets
    assert to_text(septets) == text


def differing(kind: str, language: int) -> dict[int, tuple[str, str]]:
    """Where our table and the other one differ: septet -> (ours, theirs)."""
    theirs = {int(pair[:2], 16): chr(int(pair[3:], 16)) for pair in TABLES[kind][str(language)].split()}
    table = LOCKING if kind == "locking" else SINGLE
    ours = table[language]
    mine = dict(enumerate(ours)) if isinstance(ours, tuple) else ours
    septets = {*theirs, *(septet for septet, character in mine.items() if character)}
    pairs = {septet: (mine.get(septet, ""), theirs.get(septet, "")) for septet in septets}
    return {septet: pair for septet, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("kind", ["locking", "single"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_national_tables_are_as_another_reader_has_them(kind: str, language: int) -> None:
    """All 27 tables, septet by septet, but for three places where phones (Android's GsmAlphabet) agree with ours."""
    if str(language) not in TABLES[kind]:
        assert (kind, language) == ("locking", 2)
        assert language not in LOCKING
        return
    allowed: dict[int, tuple[str, str]] = {}
    if kind == "locking" and language in INDIC:
        allowed = {0x2C: (",", "'")}
    if (kind, language) == ("locking", 7):
        allowed[0x24] = ("\u0ca1", "\u0caa")  # the specification names one letter twice, and this one nowhere
    if (kind, language) == ("single", 12):
        allowed = {0x65: ("€", "")}
    assert differing(kind, language) == allowed


def test_every_character_of_every_pair_of_tables_comes_back() -> None:
    """Also those that only the extension has, which take two septets."""
    for language in LANGUAGES:
        locking = language if language in LOCKING else 0
        single = language if language in SINGLE else 0
        for character in {*LOCKING[locking], *SINGLE[single].values()} - {""}:
            septets = to_septets(character, locking, single)
            assert to_text(septets, locking, single) == character
            assert len(septets) == 1 or septets[0] == ESCAPE


def test_the_euro_takes_two_septets_and_what_is_nowhere_is_named() -> None:
    """The error names the characters and what to do."""
    assert to_septets("€") == b"\x1b\x65"
    assert fits("{[]}~\\|^€")
    assert not fits("ğ")
    assert fits("ğ", 1)
    with pytest.raises(SmsError, match=r"no 'ğ': send the text in UCS-2"):
        to_septets("dağ")
    with pytest.raises(SmsError, match="no such table for language 99"):
        to_septets("a", 99)


def test_an_escape_before_nothing_is_shown_as_the_specification_wants() -> None:
    """Before an unknown septet it is passed over; twice, and at the end, it is a space (section 6.2.1.1)."""
    assert to_text(b"\x1b\x41") == "A"
    assert to_text(b"\x1b\x1b") == " "
    assert to_text(b"A\x1b") == "A "
    assert to_text(b"\x1b\x65", single=99) == "€"


def test_septets_that_are_not_there_are_missed() -> None:
    """Seven octets hold eight septets, not nine."""
    assert len(unpack(bytes(7), 8)) == 8
    with pytest.raises(SmsError, match="9 septets need 8 octets, there are 7"):
        unpack(bytes(7), 9)


def test_a_cut_is_never_between_an_escape_and_what_follows() -> None:
    """Where the euro would be cut in two it goes into the next piece whole."""
    assert pieces("aaa€b", 4) == [b"aaa", b"\x1b\x65b"]
    assert pieces("", 4) == [b""]
