"""The head of a SIP message: cut into start line and header lines, and these read (RFC 3261 sections 7 and 7.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from labkit.errors import SipError
from labkit.wire.sip_grammar import KNOWN_KEYS, TOKEN, header_key

VERSION: Final = "SIP/2.0"

BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
"""What stands between headers and body."""
_BLANKS = " \t"
_REQUEST_LINE = re.compile(r"([A-Za-z0-9\-.!%*_+`'~]+) (\S+) (SIP/\d+\.\d+)", re.IGNORECASE)
# Status-Line = SIP-Version SP Status-Code SP Reason-Phrase; some senders leave out the last space with the phrase.
_STATUS_LINE = re.compile(r"(SIP/\d+\.\d+) ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE)
_STATUSES: Final = frozenset(str(status) for status in range(100, 700))


def cut_head(raw: bytes) -> tuple[list[str], int]:
    """Cut start line and headers into lines; also say where the body begins."""
    end = raw.find(b"\r\n\r\n")
    if end >= 0:
        head = raw[:end].decode("utf-8", "surrogateescape")
        lines = head.split("\r\n")
        if head.count("\n") == len(lines) - 1:
            return lines, end + 4
    # somewhere a line ends in a bare LF, so the empty line may be an earlier one
    blank = BLANK_LINE.search(raw)
    if blank is None:
        parse_start_line(raw.split(b"\n", 1)[0])
        raise SipError("The headers do not end: no empty line follows them", offset=len(raw), spec="RFC 3261 section 7")
    return re.split("\r?\n", raw[: blank.start()].decode("utf-8", "surrogateescape")), blank.end()


def parse_start_line(line: str | bytes) -> tuple[str, str, int, str, str]:
    """Read a Request-Line or a Status-Line into (method, request_uri, status, reason, version).

    Raises:
        SipError: it is neither.
    """
    if isinstance(line, bytes):
        line = line.rstrip(b"\r").decode("utf-8", "surrogateescape")
    if line[:8] == "SIP/2.0 " and line[8:11] in _STATUSES and line[11:12] == " ":
        return "", "", int(line[8:11]), line[12:], VERSION
    if match := _STATUS_LINE.fullmatch(line):
        return "", "", int(match[2]), match[3] or "", match[1]
    if match := _REQUEST_LINE.fullmatch(line):
        return match[1], match[2], 0, "", match[3]
    raise SipError(f"Not the first line of a SIP message: {line[:60]!r}", offset=0, spec="RFC 3261 section 7.1")


def read_headers(lines: Sequence[str], raw: bytes) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Read header lines into (name, value) pairs; the values of Content-Length come a second time, on their own."""
    headers: list[tuple[str, str]] = []
    lengths: list[str] = []
    known, add = KNOWN_KEYS.get, headers.append
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = known(name) if colon else None
        if key is None:
            if line[:1] in (" ", "\t") and headers:
                before, so_far = headers[-1]
                headers[-1] = (before, f"{so_far} {line.strip(_BLANKS)}".strip(" "))
                if header_key(before) == "content-length":
                    lengths[-1] = headers[-1][1]
                continue
            name = name.rstrip(_BLANKS)
            if not colon or not TOKEN.fullmatch(name):
                number = lines.index(line, 1)
                raise SipError(
                    f"Line {number + 1} is no header: {line[:60]!r}",
                    offset=_offset_of_line(raw, number),
                    spec="RFC 3261 section 7.3.1",
                )
            key = header_key(name)
        value = value.strip(_BLANKS)
        if key == "content-length":
            lengths.append(value)
        add((name, value))
    return tuple(headers), lengths


def _offset_of_line(raw: bytes, number: int) -> int:
    offset = 0
    for _ in range(number):
        offset = raw.find(b"\n", offset) + 1
    return offset


def one_length(lengths: Sequence[str], raw: bytes) -> int | None:
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
