"""SIP over a stream: where messages begin and end (RFC 3261 section 18.3)."""

from __future__ import annotations

from typing import Final

from labkit.errors import SipError
from labkit.wire.sip_head import BLANK_LINE, parse_start_line, read_head

MAX_HEAD_BYTES: Final = 65535
"""Longest start line plus headers that a stream may send before it is given up."""
MAX_BODY_BYTES: Final = 1 << 20
"""Longest body that a stream may announce before it is given up."""


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
    blank = BLANK_LINE.search(stream, start)
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
    _, _, announced, _ = read_head(stream[start : blank.end()])
    length = announced or 0
    if length > MAX_BODY_BYTES:
        raise SipError(
            f"Content-Length announces {length} bytes, more than the {MAX_BODY_BYTES} taken here",
            offset=start,
            field="Content-Length",
            spec="RFC 3261 section 18.3",
        )
    return blank.end() + length
