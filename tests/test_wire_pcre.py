"""Our reading of PCRE against the library itself, which is what Kamailio's dialplan module calls."""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import re

import pytest

from labkit.wire.pcre import python_from_pcre

_FOUND = ctypes.util.find_library("pcre2-8")
needs_library = pytest.mark.skipif(_FOUND is None, reason="the oracle is libpcre2-8")
_LIBRARY = ctypes.CDLL(_FOUND) if _FOUND else None
for _name in ("pcre2_compile_8", "pcre2_match_data_create_from_pattern_8", "pcre2_get_ovector_pointer_8"):
    if _LIBRARY is not None:
        getattr(_LIBRARY, _name).restype = ctypes.c_void_p

TEXTS = (
    "", "a", "ab", "b0", "d5", "10.0.0.11", "c=IN IP4 10.0.0.11", "m=audio 4002 RTP/AVP 8", "a b\tc", "]", "-", "\\",
    "a\nb", "a\r\nb\r\n", "aab", "aaab", "{2}", "x\xe9y", "v=0\r\nm=audio 1 X 0\r\nc=IN IP6 ::1\r\nm=audio 2 X 0\r\n",
)  # fmt: skip


class Oracle:
    """A pattern compiled by the library, without any option, as Kamailio does it."""

    def __init__(self, pattern: str) -> None:
        assert _LIBRARY is not None
        self._library = _LIBRARY
        raw, error, offset = pattern.encode("latin-1"), ctypes.c_int(), ctypes.c_size_t()
        self._code = self._library.pcre2_compile_8(
            raw, ctypes.c_size_t(len(raw)), 0, ctypes.byref(error), ctypes.byref(offset), None
        )
        self.valid = bool(self._code)

    def free(self) -> None:
        """Give the memory back."""
        self._library.pcre2_code_free_8(ctypes.c_void_p(self._code))

    def groups(self, text: str) -> list[str] | None:
        """The whole match and its groups, "" for one that took no part; None for no match."""
        raw, code = text.encode("latin-1"), ctypes.c_void_p(self._code)
        found = ctypes.c_void_p(self._library.pcre2_match_data_create_from_pattern_8(code, None))
        count = self._library.pcre2_match_8(code, raw, ctypes.c_size_t(len(raw)), ctypes.c_size_t(0), 0, found, None)
        if count <= 0:
            self._library.pcre2_match_data_free_8(found)
            return None
        number = self._library.pcre2_get_ovector_count_8(found)
        places = ctypes.cast(self._library.pcre2_get_ovector_pointer_8(found), ctypes.POINTER(ctypes.c_size_t))
        unset = ctypes.c_size_t(-1).value
        pairs = [(places[2 * i], places[2 * i + 1]) for i in range(number)]
        groups = [raw[a:b].decode("latin-1") if a != unset else "" for a, b in pairs]
        self._library.pcre2_match_data_free_8(found)
        return groups


def compare(pattern: str) -> bool:
    """Hold one pattern against the library; False where one of the two refuses it."""
    oracle = Oracle(pattern)
    try:
        ours = re.compile(python_from_pcre(pattern), re.ASCII)
    except re.error:
        return False
    if not oracle.valid:
        return False
    for text in TEXTS:
        match = ours.search(text)
        groups = None if match is None else [match[0], *match.groups(default="")]
        assert groups == oracle.groups(text), (pattern, text)
    oracle.free()
    return True


@needs_library
@pytest.mark.parametrize(
    "pattern",
    [
        r"m=audio (\d*)", r"o=[^ ]* (\d*) (\d*) IN IP4 (\d*.d*.\d*.\d*)", r"(\d*[.]\d*[.]\d*[.]\d*)",
        r"^c=IN IP[46] (\S+)", r"(?s)\A(?>.*?\nm=audio)((?!\nm=).)*?\nc=IN IP. ([^/\s]+)", r"(?m)^m=audio (\d+)",
        r"a++b", r"(?>a+)b", r"a{2,}b", r"\d++x", r"[[:digit:]]+", r"[^[:space:]]+", r"[]a]", r"[^]a]", r"[\]\\-]",
        r"\Q10.0\E", r"\h+", r"a\Rb", r"b\z", r"b$", r"b\Z", r"(?<ip>\d+)", r"(?'ip'\d+)", r"\{2\}", r"[a&&b]",
        r"[a||b]", r"[\w.]+", r"\x61", r"[\x61-c]", r"(a)|(b)", r"a(?=b)", r"(?<!a)b", r"(?i)AAB", r"\N+", r".+",
        r"(?s).+", r"[\d.]+", r"\Aa", r"\.", r"\-", r"\=", r"\s+", r"[\h\v]+",
    ],
)  # fmt: skip
def test_expressions_as_people_write_them(pattern: str) -> None:
    """Each means to us what it means to the library, group by group."""
    assert compare(pattern)


@needs_library
def test_random_expressions() -> None:
    """Two thousand, built of pieces whose combinations both sides take."""
    rng = random.Random(8866)
    atoms = [
        "a",
        "b",
        "0",
        ".",
        "[ab]",
        "[^a]",
        r"\d",
        r"\S",
        r"\s",
        "(a|b)",
        "(ab)",
        r"\.",
        "[[:alnum:]]",
        "(?:a|ab)",
        "=",
    ]
    quantifiers = ["", "", "", "*", "+", "?", "*?", "+?", "{1,2}", "++"]
    held = 0
    for _ in range(2000):
        pieces = [rng.choice(atoms) + rng.choice(quantifiers) for _ in range(rng.randint(1, 5))]
        pattern = rng.choice(["", "", "^"]) + "".join(pieces) + rng.choice(["", "", "$"])
        held += compare(pattern)
    assert held > 1700


@pytest.mark.parametrize(
    "pattern", [r"\K", r"a(?R)?b", r"(?|a|b)", r"(*FAIL)", r"\p{L}", r"\C", r"(?1)", r"(?&x)", "a\\"]
)
def test_what_python_has_not_is_refused(pattern: str) -> None:
    """Nothing is tried that would mean something else."""
    with pytest.raises(re.error):
        python_from_pcre(pattern)


@pytest.mark.parametrize("pattern", ["[a", "[[:nothing:]]", "[[:alpha"])
def test_broken_brackets_are_refused(pattern: str) -> None:
    """With the place where they begin."""
    with pytest.raises(re.error):
        python_from_pcre(pattern)
