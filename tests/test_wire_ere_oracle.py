"""Our POSIX expressions against the C library's own regcomp(), which is what Kamailio calls."""

from __future__ import annotations

import ctypes
import random
import re
import sys

import pytest

from labkit.wire.ere import compile_ere

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the oracle is the GNU C library")

REG_EXTENDED, REG_ICASE, REG_NOSUB = 1, 2, 8
TEXTS = ("", "a", "ab", "b0", "INVITE", "g.3gpp.ussd", "sip:bob@x", "+15550002", "a b", "]", "-", "\\", "a\nb", "aab")


class Oracle:
    """A pattern compiled by the C library."""

    def __init__(self, pattern: str) -> None:
        self._libc = ctypes.CDLL(None)
        self._compiled = ctypes.create_string_buffer(256)  # regex_t is 64 bytes on 64-bit systems
        self.valid = self._libc.regcomp(self._compiled, pattern.encode(), REG_EXTENDED | REG_ICASE | REG_NOSUB) == 0

    def finds(self, text: str) -> bool:
        """Whether the text holds it."""
        return bool(self._libc.regexec(self._compiled, text.encode(), 0, None, 0) == 0)

    def free(self) -> None:
        """Give the memory back."""
        if self.valid:
            self._libc.regfree(self._compiled)


def compare(pattern: str) -> bool:
    """Hold one pattern against the oracle; False where one of the two refuses it."""
    oracle = Oracle(pattern)
    try:
        ours = compile_ere(pattern)
    except re.error:
        oracle.free()
        return False
    if not oracle.valid:
        return False
    for text in TEXTS:
        assert (ours.search(text) is not None) is oracle.finds(text), (pattern, text)
    oracle.free()
    return True


@pytest.mark.parametrize(
    "pattern",
    [
        "^sip:[a-z]+@", "g[.]3gpp[.]ussd", "\\+[[:digit:]]{8,}", "\\d", "[\\d]", "^$", "a$", "(a|b)+0", "[^a-z]",
        "[]]", "[]a-]", "[[:alnum:]]+", "INV", "^[+]1555", ".", "a.b", "(ab|a)b", "a{2}", "a{1,}b", "\\.", "[.]",
    ],
)  # fmt: skip
def test_expressions_of_real_criteria(pattern: str) -> None:
    """What people write into profiles."""
    assert compare(pattern)


def test_random_expressions() -> None:
    """Thousands of them, built of pieces whose combinations both sides take."""
    rng = random.Random(29228)
    atoms = [
        "a",
        "b",
        "0",
        ".",
        "[ab]",
        "[^a]",
        "[[:digit:]]",
        "[a-c]",
        "(a|b)",
        "(ab)",
        "\\.",
        "\\+",
        "[]x]",
        "-",
        "@",
    ]
    repeats = ["", "", "", "*", "+", "?", "{2}", "{0,1}"]
    agreed = 0
    for _ in range(4000):
        body = "".join(rng.choice(atoms) + rng.choice(repeats) for _ in range(rng.randint(1, 4)))
        pattern = rng.choice(["", "^"]) + body + rng.choice(["", "$"])
        agreed += compare(pattern)
    assert agreed > 3900
