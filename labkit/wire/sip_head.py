"""The head of a SIP message: cut into start line and header lines, and these read (RFC 3261 sections 7 and 7.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from labkit import native
from labkit.errors import SipError
from labkit.wire.sip_grammar import KNOWN_KEYS, TOKEN, header_key

VERSION: Final = "SIP/2.0"

_END = b"\r\n\r\n"
BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
"""What stands between headers and body."""
_BLANKS = " \t"
_OUTSIDE = " \t\r"
"""What stands around the value of a header: blanks, the CR of the line's end, and a stray CR, which counts as a blank
(RFC 9112 section 2.2 says so of HTTP; around a Content-Length none is taken)."""
_REQUEST_LINE = re.compile(r"([A-Za-z0-9\-.!%*_+`'~]+) (\S+) ((?i:SIP)/\d+\.\d+)")
# Status-Line = SIP-Version SP Status-Code SP Reason-Phrase; some senders leave out the last space with the phrase.
_STATUS_LINE = re.compile(r"(SIP/\d+\.\d+) ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE)
_STATUSES: Final = {f"{VERSION} {status} ": status for status in range(100, 700)}
_LENGTHS: Final = frozenset(name for name, key in KNOWN_KEYS.items() if key == "content-length")
_OTHERS: Final = frozenset(KNOWN_KEYS) - _LENGTHS
"""Usual spellings of all other headers."""

StartLine = tuple[str, str, int, str, str]
"""Method, Request-URI, status, reason phrase, version."""


def read_head(raw: bytes) -> tuple[StartLine, tuple[tuple[str, str], ...], int | None, int]:
    """Read the head of a message.

    Returns:
        The start line; (name, value) pairs; what Content-Length says, None where it is absent; where the body begins.
    Raises:
        SipError: no SIP start line, a line that is no header, no end of the headers, a Content-Length that is no number
            or that contradicts another one.
    """
    if native.compiled is not None and (found := native.compiled.sip_head_lines(raw)) is not None:
        line, headers, length, body_start = found
        return parse_start_line(line), headers, None if length < 0 else length, body_start
    lines, body_start = _cut_head(raw)
    start_line = parse_start_line(lines[0].removesuffix("\r"))
    headers, lengths, body_start = _read_headers(lines, raw, body_start)
    return start_line, headers, _one_length(lengths, raw), body_start


def _cut_head(raw: bytes) -> tuple[list[str], int]:
    """Cut a message into lines, which may keep their CR, up to the end of its headers or somewhat beyond it.

    Returns:
        Start line and other lines; where the body begins if none of them is empty, see `_read_headers`.
    Raises:
        SipError: no empty line ends the headers.
    """
    # most messages have no body; where one ends in an empty line, too, its lines are cut in vain
    last_lf = len(raw) - 3 if raw[-4:] == _END else raw.find(_END) + 1
    body_start = last_lf + 3
    if not last_lf:
        last_lf, body_start = _find_end(raw)
    return raw[:last_lf].decode("utf-8", "surrogateescape").split("\n"), body_start


def _find_end(raw: bytes) -> tuple[int, int]:
    """Say where the LF of the last header stands, and where the body begins, if lines end in a bare LF."""
    blank = BLANK_LINE.search(raw)
    if blank is None:
        parse_start_line(raw.split(b"\n", 1)[0])
        raise SipError("The headers do not end: no empty line follows them", offset=len(raw), spec="RFC 3261 section 7")
    return raw.find(b"\n", blank.start()), blank.end()


def parse_start_line(line: str | bytes) -> StartLine:
    """Read a Request-Line or a Status-Line into (method, request_uri, status, reason, version).

    Raises:
        SipError: it is neither.
    """
    if isinstance(line, bytes):
        line = line.rstrip(b"\r").decode("utf-8", "surrogateescape")
    status = _STATUSES.get(line[:12])
    if status is not None:
        return "", "", status, line[12:], VERSION
    if match := _REQUEST_LINE.fullmatch(line):
        method, uri, version = match.groups()
        return method, uri, 0, "", version
    if match := _STATUS_LINE.fullmatch(line):
        return "", "", int(match[2]), match[3] or "", match[1]
    raise SipError(f"Not the first line of a SIP message: {line[:60]!r}", offset=0, spec="RFC 3261 section 7.1")


def _read_headers(
    lines: Sequence[str], raw: bytes, body_start: int
) -> tuple[tuple[tuple[str, str], ...], list[str], int]:
    """Read the header lines of a message.

    Args:
        lines: start line and other lines, as `_cut_head` cuts them.
        raw: the message.
        body_start: where the body begins if none of the lines is empty.
    Returns:
        (name, value) pairs; the values of Content-Length once more; where the body begins.
    Raises:
        SipError: a line that is no header.
    """
    headers: list[tuple[str, str]] = []
    lengths: list[str] = []
    add, others = headers.append, _OTHERS
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon and name in others:
            add((name, value.strip(_OUTSIDE)))
        elif colon and name in _LENGTHS:
            lengths.append(value.removesuffix("\r").strip(_BLANKS))
            add((name, lengths[-1]))
        elif line in ("", "\r"):
            body_start = _offset_of_line(raw, lines.index(line, 1) + 1)
            break
        else:
            _read_other(line, lines, raw, headers, lengths)
    return tuple(headers), lengths, body_start


def _read_other(
    line: str, lines: Sequence[str], raw: bytes, headers: list[tuple[str, str]], lengths: list[str]
) -> None:
    """Read a header whose name or spelling is rare, or the rest of a folded one."""
    text = line.removesuffix("\r")
    name, colon, value = text.partition(":")
    name = name.rstrip(_BLANKS)
    if text[:1] in (" ", "\t") and headers:
        name, so_far = headers.pop()
        value = f"{so_far} {text.strip(_BLANKS)}"
        if header_key(name) == "content-length":
            lengths.pop()
    elif not colon or not TOKEN.fullmatch(name):
        number = lines.index(line, 1)
        raise SipError(
            f"Line {number + 1} is no header: {text[:60]!r}",
            offset=_offset_of_line(raw, number),
            spec="RFC 3261 section 7.3.1",
        )
    if header_key(name) == "content-length":
        lengths.append(value.strip(_BLANKS))
    headers.append((name, value.strip(_OUTSIDE)))


def _offset_of_line(raw: bytes, number: int) -> int:
    offset = 0
    for _ in range(number):
        offset = raw.find(b"\n", offset) + 1
    return offset


def _one_length(lengths: Sequence[str], raw: bytes) -> int | None:
    """The length that Content-Length announces, None when it is absent.

    Raises:
        SipError: it is no number, or two headers contradict each other.
    """
    if len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) < 12:
        return int(lengths[0])
    length: int | None = None
    for value in lengths:
        problem = ""
        if not (value.isascii() and value.isdigit() and len(value) < 12):
            problem = f"Content-Length is no number: {value[:40]!r}"
        elif length is not None and int(value) != length:
            problem = f"Two Content-Length headers contradict each other: {length} and {value}"
        if problem:
            found = re.search(rb"(?:content-length|\nl)[ \t]*:", raw, re.IGNORECASE)
            offset = found.start() if found else 0
            raise SipError(problem, offset=offset, field="Content-Length", spec="RFC 3261 section 20.14")
        length = int(value)
    return length
