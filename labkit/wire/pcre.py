"""Perl-compatible regular expressions (PCRE), as Kamailio's dialplan and regex modules take them, in Python's terms.

The two are nearly the same. What differs in spelling is translated; what Python cannot do is refused by name, so that
nothing is tried that would mean something else. Letters stand for bytes, as in Kamailio, which does not ask for UTF-8.
"""

from __future__ import annotations

import re
from typing import Final

from labkit.wire.ere import CLASSES

_SPELLED: Final = {
    "h": r"[ \t\xa0]",
    "H": r"[^ \t\xa0]",
    "N": r"[^\n]",
    "R": r"(?:\r\n|[\n-\r\x85])",
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
    "e": r"\x1b",
    "A": r"\A",
}
"""Escapes that Python spells otherwise, or reads otherwise."""
_IN_CLASS: Final = {"h": r" \t\xa0", "v": r"\n-\r\x85", "e": r"\x1b"}
_UNKNOWN: Final = frozenset("KGCXpPgkLlUu")
_ORDINARY: Final = frozenset("dDsSwWbBnrtfavx0123456789") - {"v"}
_GROUP_NAMES: Final = re.compile(r"\(\?(?:<(?P<angle>[A-Za-z_]\w*)>|'(?P<quote>[A-Za-z_]\w*)')")
_FOREIGN_GROUP: Final = re.compile(r"\(\?(?:\||R\)|[0-9+]|&|C|P>|-[0-9]|[imsx]*[JU])|\(\*")


def python_from_pcre(text: str) -> str:
    """Return the same expression as Python writes it, to be compiled with ASCII and searched in latin-1 text.

    Raises:
        re.error: it uses what Python has not (recursion, \\K, verbs, ...); `pos` says where.
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        part, at = _piece(text, at)
        parts.append(part)
    return "".join(parts)


def _piece(text: str, at: int) -> tuple[str, int]:
    """Return the next piece in Python's spelling, and where it ends."""
    if text.startswith("\\Q", at):
        end = text.find("\\E", at + 2)
        stop = len(text) if end < 0 else end
        return re.escape(text[at + 2 : stop]), stop + 2 * (end >= 0)
    if text[at] == "\\":
        return _escape(text, at)
    if text[at] == "[":
        return _bracket(text, at)
    if text[at] == "(":
        named = _GROUP_NAMES.match(text, at)
        if named:
            return f"(?P<{named['angle'] or named['quote']}>", named.end()
        if _FOREIGN_GROUP.match(text, at):
            raise re.error(f"{text[at : at + 4]!r} cannot be tried here", text, at)
    if text[at] == "$":
        return "$", at + 1
    return text[at], at + 1


def _escape(text: str, at: int) -> tuple[str, int]:
    letter = text[at + 1 : at + 2]
    if not letter:
        raise re.error("a backslash at the end", text, at)
    if letter == "E":
        return "", at + 2
    if letter in _UNKNOWN:
        raise re.error(f"\\{letter} cannot be tried here", text, at)
    if letter in _SPELLED:
        return _SPELLED[letter], at + 2
    if letter == "v":
        return r"[\n-\r\x85]", at + 2
    if letter in _ORDINARY:
        return text[at : at + 2], at + 2
    return re.escape(letter), at + 2


def _bracket(text: str, start: int) -> tuple[str, int]:
    """Return a character class and where it ends."""
    at = start + 1
    negated = text.startswith("^", at)
    at += negated
    inner: list[str] = []
    if text.startswith("]", at):
        inner.append(r"\]")
        at += 1
    while at < len(text) and text[at] != "]":
        part, at = _member(text, at)
        inner.append(part)
    if at >= len(text):
        raise re.error("a bracket does not end", text, start)
    return f"[{'^' * negated}{''.join(inner)}]", at + 1


def _member(text: str, at: int) -> tuple[str, int]:
    if text.startswith("[:", at):
        end = text.find(":]", at)
        name = text[at + 2 : end] if end > 0 else ""
        if name not in CLASSES:
            raise re.error(f"no character class [:{name}:]", text, at)
        return CLASSES[name], end + 2
    if text[at] == "\\":
        letter = text[at + 1 : at + 2]
        if letter == "b":
            return r"\x08", at + 2
        if letter in _IN_CLASS:
            return _IN_CLASS[letter], at + 2
        if letter in _UNKNOWN or letter in "HNRzZA":
            raise re.error(f"\\{letter} in a bracket cannot be tried here", text, at)
        if letter in _ORDINARY:
            return text[at : at + 2], at + 2
        return re.escape(letter) if letter else "\\", at + 2
    return ("\\" + text[at] if text[at] in "[&~|" else text[at]), at + 1
