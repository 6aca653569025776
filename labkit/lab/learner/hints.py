"""What a learner may have meant: hints read from the text alone, so that they are the same whatever Kamailio says."""

from __future__ import annotations

import re

_ROW_HINTS = (
    (r"[“”„‘’]", 'quotes have to be straight: " and not “ or ”'),
    (r"\b(?:elseif|elsif|elif)\b", "it is written in two words: else if (...)"),
    (r"\$\w+(?:\([^)]*\))?\[", "an index needs the long form, with the variable in parentheses: $(hdr(X-A)[1])"),
    (r"^\s*\$\S+\s*==", "one = assigns, two compare"),
    (r"\b(?:if|while|switch)\b\s*[^\s(]", "a condition stands in parentheses: if (...) { ... }"),
    (r"\b(?:xlog|xinfo|xnotice|append_hf|remove_hf|sl_send_reply|t_reply|forward|is_method)\(\s*[A-Za-z]", "quotes"),
    (r"\)\s*\.\s*[\"$]|[\"\w]\s\.\s[\"$]", "texts are put together with +"),
)
"""What stands in the line, and what that means."""
_ENDS_WELL = re.compile(r"(?:[;{}),:]|&&|\|\||\bor|\band|\belse)\s*$")
_BARE = re.compile(r"^\s*(?:#.*|//.*|#!.*)?$")
_ASSIGNED = re.compile(r"\b(?:if|while)\s*\(\s*(\$[^\s=<>!&|]+)\s*=\s*(?![=~>])")


def syntax_hint(text: str, line: int, column: int) -> str:
    """What may have been meant where Kamailio was surprised; empty where nothing comes to mind.

    Args:
        line, column: where it was surprised, counted from 1: what is wrong may stand before.
    """
    rows = text.splitlines()
    row = rows[line - 1] if 0 < line <= len(rows) else ""
    for pattern, hint in _ROW_HINTS:
        if re.search(pattern, _without_texts(row)):
            return 'a text that a function is given stands in quotes: xlog("...")' if hint == "quotes" else hint
    plain = _without_texts(row)
    if plain.count("(") > plain.count(")"):
        return "a ) may be missing in this line"
    if not row[: column - 1].strip() and (before := _before(rows, line)):
        return before
    return ""


def strange(text: str) -> list[str]:
    """What Kamailio takes and hardly anybody means, each with its line."""
    found = []
    for number, row in enumerate(text.splitlines(), start=1):
        if assigned := _ASSIGNED.search(_without_texts(row)):
            what = f"this sets {assigned[1]} and compares nothing; == compares"
            found.append(f"line {number}: {what}")
    return found


def _before(rows: list[str], line: int) -> str:
    """A hint from the statement before this line."""
    for row in reversed(rows[: line - 1]):
        if _BARE.match(row):
            continue
        plain = re.sub(r"\s(?:#|//).*$", "", _without_texts(row))
        if not _ENDS_WELL.search(plain) or (
            re.search(r"\w\([^;{}]*\)\s*$", plain) and not re.search(r"\bif\b|\bwhile\b", plain)
        ):
            return "a ; may be missing at the end of the statement before"
        if re.search(r"\b(?:if|while|switch)\b\s*[^\s(]", plain):
            return "a condition stands in parentheses: while (...) { ... }"
        return ""
    return ""


def _without_texts(row: str) -> str:
    """The line with what stands in quotes left empty."""
    return re.sub(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', '""', row)
