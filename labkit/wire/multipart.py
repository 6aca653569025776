"""Several bodies in one SIP message: multipart/mixed (RFC 2046 section 5.1, RFC 3261 section 7.4, RFC 5621).

A call that carries more than its session description does it so: SDP in one part, in another the first text of a USSD
dialogue (TS 24.390 section 4.5.2), a location, or what else it brings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from labkit.errors import SipError
from labkit.wire.sip import SipMessage, header_key

MIXED: Final = "multipart/mixed"
"""Media type of a body that has several."""
SDP: Final = "application/sdp"
"""Media type of a session description."""
MAX_PARTS: Final = 32
"""Most parts that are read."""

# RFC 2046 section 5.1.1: boundary := 0*69<bchars> bcharsnospace; quoted where it has characters that a token has not.
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One body of several."""

    content_type: str
    """Its media type as written, parameters too."""
    body: bytes
    """What is in it."""
    disposition: str = ""
    """Its Content-Disposition, for example "render;handling=optional"; empty without one."""

    @property
    def media_type(self) -> str:
        """Media type in lower case, without parameters."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def optional(self) -> bool:
        """Whether whoever does not understand it may leave it unread (RFC 3261 section 20.11)."""
        return "handling=optional" in self.disposition.replace(" ", "").lower()


def join_parts(parts: Iterable[Part], boundary: str) -> tuple[str, bytes]:
    """Write several bodies into one: (its Content-Type, the body).

    Args:
        boundary: text that occurs in none of them.
    Raises:
        SipError: it does occur in one.
    """
    lines = b""
    for part in parts:
        if boundary.encode("ascii") in part.body:
            raise SipError(f"The boundary {boundary!r} occurs in a part", spec="RFC 2046 section 5.1.1")
        head = f"--{boundary}\r\nContent-Type: {part.content_type}\r\n"
        if part.disposition:
            head += f"Content-Disposition: {part.disposition}\r\n"
        lines += head.encode("utf-8") + b"\r\n" + part.body + b"\r\n"
    return f"{MIXED};boundary={boundary}", lines + f"--{boundary}--\r\n".encode("ascii")


def split_parts(content_type: str, body: bytes) -> tuple[Part, ...]:
    """Read a multipart body.

    Args:
        content_type: the whole Content-Type, for the boundary stands in it.
    Raises:
        SipError: it has no boundary, no end, or a part without an empty line after its headers.
    Spec:
        RFC 2046 section 5.1.1: the line break before a boundary belongs to the boundary. A part without a Content-Type
        is text/plain.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise SipError("A multipart body without a boundary", field="Content-Type", spec="RFC 2046 section 5.1.1")
    mark = re.escape((found[1] or found[2]).encode("utf-8"))
    pieces = re.split(rb"(?:^|\r?\n)--" + mark + rb"(--)?[ \t]*(?=\r?\n|$)", body)
    # pieces: what stands before the first boundary, then for each boundary its "--" (or None) and what follows it
    if len(pieces) < 3 or b"--" not in pieces[1::2]:
        raise SipError("A multipart body without a closing boundary", field="boundary", spec="RFC 2046 section 5.1.1")
    end = pieces.index(b"--")
    if (end - 1) // 2 > MAX_PARTS:
        raise SipError(f"A multipart body of more than {MAX_PARTS} parts", field="Content-Type")
    return tuple(_part(piece) for piece in pieces[2:end:2])


def parts_of(message: SipMessage) -> tuple[Part, ...]:
    """The bodies of a message: those of a multipart one, else the one that it has, else none.

    Raises:
        SipError: a multipart body that is not readable.
    """
    if not message.body:
        return ()
    written = message.header("content-type") or ""
    if message.content_type == MIXED:
        return split_parts(written, message.body)
    return (Part(written, message.body, message.header("content-disposition") or ""),)


def body_of_type(message: SipMessage, media_type: str) -> bytes:
    """The first body of this media type, empty where a message has none.

    Raises:
        SipError: a multipart body that is not readable.
    """
    return next((part.body for part in parts_of(message) if part.media_type == media_type), b"")


def _part(piece: bytes) -> Part:
    # The boundary's own line end comes first; a part without any header begins with a second one at once.
    text = re.sub(rb"^\r?\n", b"", piece, count=1)
    head, gap, body = _cut(text)
    if not gap:
        raise SipError("A part without an empty line after its headers", spec="RFC 2046 section 5.1")
    headers: dict[str, str] = {}
    for line in re.sub(rb"\r?\n[ \t]+", b" ", head).splitlines():
        name, _, value = line.decode("utf-8", "surrogateescape").partition(":")
        headers.setdefault(header_key(name.strip()), value.strip())
    return Part(
        headers.get(header_key("content-type"), "text/plain"),
        body,
        headers.get(header_key("content-disposition"), ""),
    )


def _cut(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Headers, the empty line, body."""
    if text.startswith((b"\r\n", b"\n")):
        return b"", b"\n", text.partition(b"\n")[2]
    found = re.search(rb"\r?\n\r?\n", text)
    if found is None:
        return text, b"", b""
    return text[: found.start()], found[0], text[found.end() :]
