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
from collections.abc import Iterable
from dataclasses import dataclass, field

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
from labkit.wire.sip_head import VERSION, parse_start_line, read_head
from labkit.wire.sip_reasons import REASONS
from labkit.wire.sip_stream import MAX_BODY_BYTES, MAX_HEAD_BYTES, looks_like_sip, message_end, split_stream

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_HEAD_BYTES",
    "REASONS",
    "VERSION",
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
    "parse_start_line",
    "parse_uri",
    "parse_via",
    "problems",
    "salvage",
    "split_list",
    "split_stream",
]


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


_set_method = SipMessage.__dict__["method"].__set__
_set_request_uri = SipMessage.__dict__["request_uri"].__set__
_set_status = SipMessage.__dict__["status"].__set__
_set_reason = SipMessage.__dict__["reason"].__set__
_set_headers = SipMessage.__dict__["headers"].__set__
_set_body = SipMessage.__dict__["body"].__set__
_set_version = SipMessage.__dict__["version"].__set__
_set_raw = SipMessage.__dict__["raw"].__set__


def _read_message(
    method: str,
    uri: str,
    status: int,
    reason: str,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    version: str,
    raw: bytes,
) -> SipMessage:
    """Make a message that was read; filling the slots directly takes a third of what a frozen dataclass's own way does,
    and that was a sixth of all the reading."""
    message = object.__new__(SipMessage)
    _set_method(message, method)
    _set_request_uri(message, uri)
    _set_status(message, status)
    _set_reason(message, reason)
    _set_headers(message, headers)
    _set_body(message, body)
    _set_version(message, version)
    _set_raw(message, raw)
    return message


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
    (method, uri, status, reason, version), headers, length, body_start = read_head(raw)
    body_end = len(raw) if length is None else body_start + length
    if body_end > len(raw):
        raise SipError(
            f"Content-Length says {length} bytes, only {len(raw) - body_start} follow",
            offset=len(raw),
            field="Content-Length",
            spec="RFC 3261 section 18.3",
        )
    return _read_message(
        method,
        uri,
        status,
        reason,
        headers,
        raw[body_start:body_end],
        version,
        raw if body_end == len(raw) else raw[:body_end],
    )


def _tag_of(value: str | None) -> str | None:
    if value is None:
        return None
    # the parameters of the header stand behind the last ">"; without brackets behind the first ";"
    tail = value.rpartition(">")[2] if ">" in value else value
    if ";" not in tail:
        return None
    if tail.startswith(";tag=") and '"' not in tail:
        return tail[5:].partition(";")[0].strip()
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
