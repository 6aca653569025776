"""POSIX extended regular expressions (IEEE 1003.1 chapter 9), as filter criteria are written, in Python's terms.

They look like Python's and are not: inside brackets a backslash is a backslash, `[[:digit:]]` is a class, `\\d` is no
digit (a favourite mistake), `$` is the end and nothing else, `.` is any character, a line end too.
"""

from __future__ import annotations

import re
from typing import Final

CLASSES: Final = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r" \t\n\r\f\v",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "print": " -~",
    "graph": "!-~",
    "cntrl": r"\x00-\x1f\x7f",
}
"""What a named class holds, for the inside of a bracket."""
_GNU: Final = frozenset("wWsSbB")
"""Escapes that the GNU library knows beyond POSIX, with the same meaning as Python's."""


def compile_ere(text: str) -> re.Pattern[str]:
    """Compile an extended regular expression; letter case does not matter, as in every filter criterion.

    Raises:
        re.error: it is none.
    """
    return re.compile(python_from_ere(text), re.IGNORECASE | re.DOTALL)


def python_from_ere(text: str, *, ignore_case: bool = True) -> str:
    """Return the same expression as Python writes it, to be compiled with DOTALL (and IGNORECASE).

    One thing Python cannot: of several alternatives POSIX takes the longest, and Python the first that fits.

    Raises:
        re.error: it is none.
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "[":
            part, at = _bracket(text, at)
            parts.append(part)
            continue
        if char == "\\":
            at += 1
            if at == len(text):
                raise re.error("a backslash at the end")
            parts.append(_escaped(text[at], ignore_case))
        elif char == "$":
            parts.append(r"\Z")
        elif char == "(" and text[at + 1 : at + 2] == "?":
            raise re.error("'(?' is Python's, not POSIX")
        else:
            parts.append(char)
        at += 1
    return "".join(parts)


def _escaped(char: str, ignore_case: bool) -> str:
    if char in _GNU or char.isdigit():
        return "\\" + char
    if char.isascii() and char.islower() and ignore_case:
        return "(?!)"  # POSIX leaves it open; the GNU library, told to ignore case, never finds it; else it is itself
    return {"<": r"\b(?=\w)", ">": r"\b(?<=\w)"}.get(char) or re.escape(char)


def _bracket(text: str, start: int) -> tuple[str, int]:
    """Turn a bracket expression round; return it and where it ends."""
    at = start + 1
    negated = text[at : at + 1] == "^"
    at += negated
    inner: list[str] = []
    first = True
    while at < len(text) and (text[at] != "]" or first):
        first = False
        if text.startswith("[:", at):
            end = text.find(":]", at)
            name = text[at + 2 : end] if end > 0 else ""
            if name not in CLASSES:
                raise re.error(f"no character class [:{name}:]")
            inner.append(CLASSES[name])
            at = end + 2
            continue
        # two hyphens in a row are a range that ends in a hyphen here, and a warning in Python
        special = text[at] in "\\[]^&~|" or (text[at] == "-" and inner[-1:] == ["-"])
        inner.append("\\" + text[at] if special else text[at])
        at += 1
    if at >= len(text):
        raise re.error("a bracket does not end")
    return f"[{'^' * negated}{''.join(inner)}]", at + 1
