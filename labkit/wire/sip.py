"""SIP messages: bytes to values and back (RFC 3261).

Two rules. First, what was written is kept: header names, their order, their spelling and the bytes themselves, so
that `parse_message(raw).to_bytes() == raw`. Second, this file judges only what makes a message unreadable (start line,
header lines, Content-Length); whether a readable message makes sense is asked of `problems`, which a server uses for
its 400.

Reading is lenient where RFC 3261 section 7.3.1 wants it so: compact names, any letter case, folded lines, spaces before
the colon; and where the world wants it so: lines that end in a bare LF, a missing Content-Length, a missing reason
phrase.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from labkit.errors import SipError
from labkit.wire.sip_grammar import (
    KNOWN_KEYS,
    LIST_HEADERS,
    TOKEN,
    Address,
    SipUri,
    Via,
    find_param,
    header_key,
    parse_address,
    parse_host_port,
    parse_params,
    parse_uri,
    parse_via,
    split_list,
)

__all__ = [
    "REASONS",
    "Address",
    "SipMessage",
    "SipUri",
    "Via",
    "header_key",
    "looks_like_sip",
    "message_end",
    "parse_address",
    "parse_host_port",
    "parse_message",
    "parse_params",
    "parse_uri",
    "parse_via",
    "problems",
    "salvage",
    "split_list",
    "split_stream",
]

VERSION: Final = "SIP/2.0"
MAX_HEAD_BYTES: Final = 65535
"""Longest start line plus headers that a stream may send before it is given up."""
MAX_BODY_BYTES: Final = 1 << 20
"""Longest body that a stream may announce before it is given up."""

_BLANKS = " \t"
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([A-Za-z0-9\-.!%*_+`'~]+) (\S+) (SIP/\d+\.\d+)", re.IGNORECASE)
# Status-Line = SIP-Version SP Status-Code SP Reason-Phrase; some senders leave out the last space with the phrase.
_STATUS_LINE = re.compile(r"(SIP/\d+\.\d+) ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE)

REASONS: Final[dict[int, str]] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    423: "Interval Too Brief",
    469: "Bad Info Package",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}
"""Reason phrases of RFC 3261 section 21 and of the later RFCs that the lab meets."""


@dataclass(frozen=True, slots=True, repr=False)
class SipMessage:
    """One SIP request or response: what was written, in the order in which it was written."""

    method: str
    """Method of a request; empty for a response."""
    request_uri: str
    """Request-URI of a request; empty for a response."""
    status: int
    """Status code of a response; 0 for a request."""
    reason: str
    """Reason phrase of a response; empty for a request."""
    headers: tuple[tuple[str, str], ...]
    """(name, value) pairs: the name as written, the value unfolded and without outer blanks."""
    body: bytes = b""
    """The body, exactly as long as Content-Length says (all that is left where there is no Content-Length)."""
    version: str = VERSION
    """Protocol version of the start line."""
    raw: bytes = field(default=b"", init=False, compare=False)
    """The bytes that this message was read from; empty for a message that was made here."""

    @classmethod
    def request(cls, method: str, uri: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> SipMessage:
        """Make a request; Content-Length is added last."""
        return cls(method, uri, 0, "", (*headers, ("Content-Length", str(len(body)))), body)

    @classmethod
    def response(
        cls, status: int, headers: Iterable[tuple[str, str]], body: bytes = b"", reason: str | None = None
    ) -> SipMessage:
        """Make a response; Content-Length is added last, and the usual reason phrase where none is given."""
        phrase = REASONS.get(status, "Unknown") if reason is None else reason
        return cls("", "", status, phrase, (*headers, ("Content-Length", str(len(body)))), body)

    @property
    def is_request(self) -> bool:
        """True for a request, False for a response."""
        return self.status == 0

    @property
    def start_line(self) -> str:
        """The first line, without its line end."""
        if self.status == 0:
            return f"{self.method} {self.request_uri} {self.version}"
        return f"{self.version} {self.status} {self.reason}"

    def header(self, name: str) -> str | None:
        """The value of the first header of that name (long, compact, any case), None when there is none."""
        key = header_key(name)
        for written, value in self.headers:
            if (KNOWN_KEYS.get(written) or header_key(written)) == key:
                return value
        return None

    def lines(self, name: str) -> tuple[str, ...]:
        """The values of all header lines of that name, one for each line, commas untouched."""
        key = header_key(name)
        return tuple(
            value for written, value in self.headers if (KNOWN_KEYS.get(written) or header_key(written)) == key
        )

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a header in order; several in one line are split where the grammar has a list there."""
        values = self.lines(name)
        if header_key(name) not in LIST_HEADERS:
            return values
        return tuple(item for value in values for item in split_list(value))

    @property
    def call_id(self) -> str | None:
        """Call-ID (RFC 3261 section 20.8)."""
        return self.header("call-id")

    @property
    def cseq(self) -> int | None:
        """Sequence number of CSeq (RFC 3261 section 20.16); None when absent or not a number."""
        number = (self.header("cseq") or "").split(None, 1)[:1]
        return (
            int(number[0]) if number and number[0].isascii() and number[0].isdigit() and len(number[0]) < 20 else None
        )

    @property
    def cseq_method(self) -> str | None:
        """Method of CSeq: the method that a response answers."""
        parts = (self.header("cseq") or "").split(None, 1)
        return parts[1] if len(parts) == 2 else None

    @property
    def from_tag(self) -> str | None:
        """The tag of From (RFC 3261 section 19.3)."""
        return _tag_of(self.header("from"))

    @property
    def to_tag(self) -> str | None:
        """The tag of To; None until the called side has given one."""
        return _tag_of(self.header("to"))

    @property
    def from_user(self) -> str | None:
        """User part (or telephone number) of the From URI."""
        return _user_of(self.header("from"))

    @property
    def to_user(self) -> str | None:
        """User part (or telephone number) of the To URI."""
        return _user_of(self.header("to"))

    @property
    def branch(self) -> str | None:
        """The branch of the top Via, which names the transaction (RFC 3261 section 8.1.1.7)."""
        top = self.header("via")
        if top is None:
            return None
        found = top.find(";branch=")
        if found > 0 and "," not in top and '"' not in top:
            end = top.find(";", found + 8)
            return (top[found + 8 :] if end < 0 else top[found + 8 : end]).strip()
        if "," in top:
            top = (split_list(top) or ("",))[0]
        return find_param(parse_params(top.partition(";")[2]), "branch")

    @property
    def content_type(self) -> str | None:
        """Media type of the body in lower case, without parameters, for example "application/sdp"."""
        value = self.header("content-type")
        return value.partition(";")[0].strip().lower() if value is not None else None

    def to_bytes(self) -> bytes:
        """The message as bytes; for a message that was read, the very bytes it was read from."""
        if self.raw:
            return self.raw
        lines = [self.start_line, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body

    def __str__(self) -> str:
        return self.to_bytes().decode("utf-8", "backslashreplace").replace("\r\n", "\n")

    def __repr__(self) -> str:
        if self.status == 0:
            return f"<SIP {self.method} {self.request_uri}>"
        return f"<SIP {self.status} {self.reason} (answer to {self.cseq_method})>"


def parse_message(raw: bytes) -> SipMessage:
    """Read one SIP message, for example the payload of one UDP datagram.

    Args:
        raw: the bytes; empty lines before the start line and bytes after the body are not part of the message.
    Returns:
        The message; its `raw` is `raw` without such leading and trailing bytes.
    Raises:
        SipError: no SIP start line, a line that is no header, no end of the headers, a Content-Length that is no
            number, that contradicts another one, or that promises more than is there. `offset` says where.
    Spec:
        RFC 3261 sections 7 and 18.3.
    """
    raw = bytes(raw)
    if raw[:1] in (b"\r", b"\n"):
        raw = raw.lstrip(b"\r\n")
    lines, body_start = _cut_head(raw)
    method, uri, status, reason, version = parse_start_line(lines[0])
    headers, lengths = _parse_headers(lines, raw)
    length = _one_length(lengths, raw)
    body_end = len(raw) if length is None else body_start + length
    if body_end > len(raw):
        raise SipError(
            f"Content-Length says {length} bytes, only {len(raw) - body_start} follow",
            offset=len(raw),
            field="Content-Length",
            spec="RFC 3261 section 18.3",
        )
    message = SipMessage(method, uri, status, reason, headers, raw[body_start:body_end], version)
    object.__setattr__(message, "raw", raw if body_end == len(raw) else raw[:body_end])
    return message


def _cut_head(raw: bytes) -> tuple[list[str], int]:
    """Cut start line and headers into lines; also say where the body begins."""
    end = raw.find(b"\r\n\r\n")
    if end >= 0:
        head = raw[:end].decode("utf-8", "surrogateescape")
        lines = head.split("\r\n")
        if head.count("\n") == len(lines) - 1:
            return lines, end + 4
    # somewhere a line ends in a bare LF, so the empty line may be an earlier one
    blank = _BLANK_LINE.search(raw)
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
    if match := _STATUS_LINE.fullmatch(line):
        return "", "", int(match[2]), match[3] or "", match[1]
    if match := _REQUEST_LINE.fullmatch(line):
        return match[1], match[2], 0, "", match[3]
    raise SipError(f"Not the first line of a SIP message: {line[:60]!r}", offset=0, spec="RFC 3261 section 7.1")


def _parse_headers(lines: Sequence[str], raw: bytes) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Read header lines into (name, value) pairs; the values of Content-Length come a second time, on their own."""
    headers: list[tuple[str, str]] = []
    lengths: list[int] = []
    known, add = KNOWN_KEYS.get, headers.append
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = known(name) if colon else None
        if key is None:
            if line[:1] in (" ", "\t") and headers:
                before, so_far = headers[-1]
                headers[-1] = (before, f"{so_far} {line.strip(_BLANKS)}".strip(" "))
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
        if key == "content-length":
            lengths.append(len(headers))
        add((name, value.strip(_BLANKS)))
    return tuple(headers), [headers[index][1] for index in lengths]


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


def looks_like_sip(raw: bytes) -> bool:
    """Say quickly whether bytes begin like a SIP message; true does not promise that the rest is right."""
    if raw[:1] in (b"\r", b"\n"):
        raw = raw.lstrip(b"\r\n")
    if raw[:8] == b"SIP/2.0 ":
        return raw[8:11].isdigit()
    line_end = raw.find(b"\n", 0, MAX_HEAD_BYTES)
    line = raw[:line_end].rstrip(b"\r") if line_end > 0 else b""
    return line[-8:].upper() == b" SIP/2.0" and line.count(b" ", 0, len(line) - 8) >= 1 and line[:1].isalpha()


def split_stream(buffer: bytes | bytearray) -> tuple[list[bytes], bytes]:
    """Cut the bytes of a TCP connection into whole messages.

    Args:
        buffer: what has been received and not been cut yet.
    Returns:
        The whole messages in order, and the rest that waits for more bytes. Empty lines between messages (keep-alives,
        RFC 5626 section 3.5.1) are dropped. A message without Content-Length counts as one without a body.
    Raises:
        SipError: the stream cannot be cut any more (a start line that is none, a wrong Content-Length, too long);
            close it.
    Spec:
        RFC 3261 section 18.3.
    """
    stream = bytes(buffer)
    messages: list[bytes] = []
    position = 0
    while True:
        while stream[position : position + 1] in (b"\r", b"\n"):
            position += 1
        end = message_end(stream, position)
        if end is None or end > len(stream):
            return messages, stream[position:]
        messages.append(stream[position:end])
        position = end


def message_end(stream: bytes, start: int = 0) -> int | None:
    """Say where the message that begins at `start` ends, which may be beyond what has come; None while that is open.

    Raises:
        SipError: as `split_stream`.
    """
    blank = _BLANK_LINE.search(stream, start)
    first_line_end = stream.find(b"\n", start)
    if first_line_end >= 0:
        parse_start_line(stream[start:first_line_end])
    if blank is None:
        if len(stream) - start > MAX_HEAD_BYTES:
            raise SipError(
                f"{MAX_HEAD_BYTES} bytes of headers and no end",
                offset=len(stream),
                spec="RFC 3261 section 18.3",
            )
        return None
    head = stream[start : blank.start()]
    lines = re.split("\r?\n", head.decode("utf-8", "surrogateescape"))
    length = _one_length(_parse_headers(lines, head)[1], head) or 0
    if length > MAX_BODY_BYTES:
        raise SipError(
            f"Content-Length announces {length} bytes, more than the {MAX_BODY_BYTES} taken here",
            offset=start,
            field="Content-Length",
            spec="RFC 3261 section 18.3",
        )
    return blank.end() + length


def _tag_of(value: str | None) -> str | None:
    if value is None:
        return None
    # the parameters of the header stand behind the last ">"; without brackets behind the first ";"
    tail = value.rpartition(">")[2] if ">" in value else value
    if ";" not in tail:
        return None
    return find_param(parse_params(tail.partition(";")[2]), "tag")


def _user_of(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return parse_uri(parse_address(value).uri).user or None
    except SipError:
        return None


def salvage(raw: bytes) -> SipMessage | None:
    """Read as much as can be read of a message that `parse_message` refuses, so that a server can still say 400.

    Returns:
        The start line and those header lines that are headers, without a body; None when this was never meant to be
        SIP. What could not be read is left out, so never pass such a message on.
    """
    lines = re.split("\r?\n", raw.lstrip(b"\r\n")[:MAX_HEAD_BYTES].decode("utf-8", "surrogateescape"))
    try:
        method, uri, status, reason, version = parse_start_line(lines[0])
    except SipError:
        words = lines[0].split()
        if len(words) < 3 or not TOKEN.fullmatch(words[0]) or not words[-1].upper().startswith("SIP/"):
            return None
        method, uri, status, reason, version = words[0], " ".join(words[1:-1]), 0, "", words[-1]
    end = lines.index("") if "" in lines else len(lines)
    headers = []
    for line in lines[1:end]:
        name, colon, value = line.partition(":")
        if colon and TOKEN.fullmatch(name.rstrip(" \t")) and header_key(name) != "content-length":
            headers.append((name.rstrip(" \t"), value.strip(" \t")))
    return SipMessage(method, uri, status, reason, tuple(headers), b"", version)


def problems(message: SipMessage) -> list[str]:
    """Say in words what of RFC 3261 a readable message breaks; empty when it is fine.

    A server answers a request that has such problems with 400 and the first of them as the reason phrase.
    """
    found = [f"Missing {name}" for name in ("Via", "From", "To", "Call-ID", "CSeq") if message.header(name) is None]
    for name in ("From", "To", "Call-ID", "CSeq", "Max-Forwards"):
        if len(message.lines(name)) > 1:
            found.append(f"More than one {name}")
    if message.header("cseq") is not None:
        if message.cseq is None or message.cseq >= 1 << 32:
            found.append("CSeq is no number below 2**32")
        elif message.is_request and message.cseq_method != message.method:
            found.append("CSeq names another method than the request line")
    for name in ("From", "To", "Via"):
        problem = _unreadable(name, message.header(name))
        if problem:
            found.append(problem)
    hops = message.header("max-forwards")
    if hops is not None and not (hops.isascii() and hops.isdigit() and len(hops) < 20 and int(hops) < 256):
        found.append("Max-Forwards is no number from 0 to 255")
    if message.is_request and message.request_uri[:1] == "<":
        found.append("Request-URI stands in angle brackets")
    return found


def _unreadable(name: str, value: str | None) -> str:
    if value is None:
        return ""
    try:
        if name == "Via":
            parse_via((split_list(value) or ("",))[0])
        else:
            parse_uri(parse_address(value).uri)
    except SipError as error:
        return f"Unreadable {name}: {error}"
    return ""
