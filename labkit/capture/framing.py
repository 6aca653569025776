"""Where messages begin and end in a stream of bytes: SIP by Content-Length, Diameter by its length field, WebSocket.

Nothing here depends on how the bytes were cut into segments: what is not yet decided waits for more bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from labkit.capture.rpc_framing import NOWHERE, RPC, rpc_again, rpc_start, take_rpc

LONGEST_HEAD = 65536
"""A SIP message whose header section has not ended after so many bytes is none."""
LONGEST_SIP_BODY = 16 << 20
LONGEST_DIAMETER = 1 << 20
"""RFC 6733 allows 16 MiB; nobody sends that; waiting longer would swallow what follows a damaged length."""
LONGEST_START_LINE = 2200
LONGEST_SEARCH = 1 << 20
"""Bytes of a stream that are searched for a first message; one that has shown none carries something else."""

SIP, DIAMETER, WEBSOCKET, HEP, OTHER = "sip", "diameter", "ws", "hep", "other"

_SIP_START = re.compile(
    rb"(?:SIP/2\.0 [1-6]\d\d[ \r\n]|[A-Za-z0-9.!%*_+`'~-]{1,32} [^\s\x00-\x1f]{1,2048} SIP/2\.0\r?\n)", re.IGNORECASE
)
_CONTENT_LENGTH = re.compile(rb"\n(?:content-length|l)[ \t]*:[ \t]*(?:\r?\n[ \t]+)?(\d{1,9})", re.IGNORECASE)
_USUAL_LENGTH = re.compile(rb" ?(\d{1,9})\r\n")
_WEB_UPGRADE = re.compile(
    rb"(?:GET [^\r\n]* HTTP/1\.1|HTTP/1\.1 101[^\r\n]*)\r\n(?:[^\r\n]+\r\n)*?upgrade[ \t]*:[ \t]*websocket[^\n]*\n",
    re.IGNORECASE,
)
_HEP_START = re.compile(rb"HEP3..\0\0\0[\1-\x20]\0", re.DOTALL)
"""Magic, length, and the head of a first chunk that is no vendor's own."""
_CONTROL = re.compile(rb"[\x00-\x08]")
_DIAMETER_NEEDED, _DIAMETER_LOOKED_AT, _AVPS_LOOKED_AT = 28, 256, 3
"""Bytes that show a first AVP; bytes and AVPs that a stream must show before it is taken for Diameter."""
_FIRST_AVPS = frozenset((263, 264, 268, 283, 296))
"""Session-Id, Origin-Host, Result-Code, Destination-Realm, Origin-Realm: every message begins with some of them.
Without this test, programs and sounds that go over TCP hold a believable message in every megabyte or two."""
_WORD, _AVP_HEAD = struct.Struct(">I"), struct.Struct(">II")
_SHORTEST, _LONGEST = 0x01000014, 0x01000000 | LONGEST_DIAMETER
_NOWHERE, _UNDECIDED = -1, -2


def looks_like_sip(raw: bytes) -> bool:
    """Tell whether bytes start like a SIP message (RFC 3261 section 7)."""
    return _SIP_START.match(raw) is not None


def looks_like_diameter(raw: bytes) -> bool:
    """Tell whether bytes start with a believable Diameter header (RFC 6733 section 3); needs 20 bytes."""
    return (
        len(raw) >= 20
        and raw[0] == 1
        and 20 <= int.from_bytes(raw[1:4], "big") <= LONGEST_DIAMETER
        and raw[3] % 4 == 0
        and raw[4] & 0x0F == 0
        and _believable_first_avp(raw)
    )


def _believable_first_avp(raw: bytes) -> bool:
    if len(raw) < _DIAMETER_NEEDED:
        return True
    size = int.from_bytes(raw[1:4], "big")
    avp_size = int.from_bytes(raw[25:28], "big")
    return size == 20 or (raw[24] & 0x1F == 0 and 8 <= avp_size <= size - 20)


def _diameter_at(raw: bytes, position: int) -> bool | None:
    """Tell whether any stream shows a Diameter header and first AVPs at a position; None: more bytes are needed."""
    head = raw[position : position + _DIAMETER_LOOKED_AT]
    if len(head) < 20:
        return None
    size = int.from_bytes(head[1:4], "big")
    if not looks_like_diameter(head[:_DIAMETER_NEEDED]) or head[5:8] == b"\0\0\0":
        return False
    avps = list(_first_avps(head, size))
    if None in avps:
        return False
    if not _FIRST_AVPS.isdisjoint(avps):
        return True
    return False if len(avps) == _AVPS_LOOKED_AT or len(head) >= min(size, _DIAMETER_LOOKED_AT) else None


def _first_avps(head: bytes, size: int) -> Iterator[int | None]:
    """Give the codes of the first AVPs of a message as far as they are there (0: a vendor's own), None for no AVP."""
    position = 20
    for _ in range(_AVPS_LOOKED_AT):
        if position + 8 > min(size, len(head)):
            return
        code, word = _AVP_HEAD.unpack_from(head, position)
        length = word & 0xFFFFFF
        fits = code and not word & 0x1F000000 and (12 if word >> 31 else 8) <= length <= size - position
        yield (0 if word >> 31 else code) if fits else None
        position += length + -length % 4


@dataclass(slots=True)
class Cut:
    """Messages found in a piece of a stream."""

    starts: list[int]
    """Offset of each."""
    ends: list[int]
    """Offset behind each."""
    unwrapped: list[bytes] = field(default_factory=list)
    """The messages themselves where they were wrapped in WebSocket frames."""
    done: int = 0
    """How many bytes need not be kept."""


@dataclass(slots=True)
class Framer:
    """How far one direction of a stream has been understood."""

    protocol: str = ""
    """SIP, DIAMETER, WEBSOCKET, HEP, one of RPC, or OTHER; empty while unknown."""
    synchronised: bool = False
    """False while the start of a message is looked for."""
    needed: int = 0
    """With fewer bytes, another look makes no sense."""
    searched: int = 0
    """Bytes in which no message was found, before there was any."""
    lost: int = 0
    """How often reading had to look for the next message because what came was none."""
    _parts: bytes = b""
    _mid_line: bool = False

    def cut(self, raw: bytes) -> Cut:
        """Find the messages at the front of what came so far."""
        cut = Cut([], [])
        position, size = 0, len(raw)
        self.needed = 0
        if self.protocol == OTHER:
            position = size
        while position < size:
            if not self.synchronised:
                position, decided = self._synchronise(raw, position)
                if not decided:
                    break
            if self.protocol == DIAMETER:
                position, length = _diameter_messages(raw, position, cut)
            elif self.protocol == SIP:
                length = _sip_size(raw, position)
            elif self.protocol in RPC:
                length = take_rpc(self.protocol, raw, position, cut.starts, cut.ends)
            elif self.protocol == HEP:
                length = _hep_size(raw, position)
            else:
                length = self._web_frame(raw, position, cut)
            if length < 0:
                self.needed = -length if length < -1 else size - position + 1
                break
            if length == 0:  # not the start of a message: look for the next one
                self.lose()
                position += 1 if self.protocol != SIP or size - position < LONGEST_HEAD else _hopeless(raw, position)
                continue
            if self.protocol == HEP or (self.protocol == SIP and raw[position] not in b"\r\n"):
                cut.starts.append(position)
                cut.ends.append(position + length)
            position += length
        cut.done = min(position, size)
        return cut

    def lose(self) -> None:
        """Bytes are missing: the next ones may be in the middle of a message."""
        self.synchronised = False
        self.needed = 0
        self.lost += 1
        self._parts = b""
        self._mid_line = False

    def _synchronise(self, raw: bytes, position: int) -> tuple[int, bool]:
        """Find the start of a message: (where, True), or (what may be forgotten, False) when more bytes are needed."""
        size = len(raw)
        if self.protocol in ("", WEBSOCKET) and not (position == 0 and self._mid_line):
            start = _web_start(raw, position)
            if start >= 0:
                self.protocol, self.synchronised = WEBSOCKET, True
                return start, True
            if start == _UNDECIDED:
                return position, False
        hep, hep_decided = _next_hep(raw, position) if self.protocol in ("", HEP) else (size, False)
        if self.protocol == HEP:
            self.synchronised = hep_decided
            return hep, hep_decided
        if self.protocol in RPC:
            start, self.synchronised = rpc_again(self.protocol, raw, position)
            return start, self.synchronised
        if not self.protocol and position == 0 and not self.searched and not self._mid_line:
            start, protocol = rpc_start(raw, position)
            if start != NOWHERE:
                self.protocol, self.synchronised = protocol, start >= 0
                return position, self.synchronised
        if self.protocol != SIP and raw[position] == 1 and _diameter_at(raw, position):
            self.protocol, self.synchronised = DIAMETER, True  # nothing can start before it: spare the search
            return position, True
        at_line = raw[position - 1] == 10 if position else not self._mid_line
        sip, sip_decided = (size, False) if self.protocol == DIAMETER else _next_sip(raw, position, at_line)
        diameter, decided = (size, False) if self.protocol == SIP else _next_diameter(raw, position, sip)
        start, decided, protocol = min((hep, hep_decided, HEP), (sip, sip_decided, SIP), (diameter, decided, DIAMETER))
        if decided:
            self.protocol, self.synchronised = protocol, True
            return start, True
        self._mid_line = start == size and raw[-1] != 10
        if not self.protocol:
            self.searched += start - position
            if self.searched > LONGEST_SEARCH:
                self.protocol = OTHER
        return start, False

    def _web_frame(self, raw: bytes, position: int, cut: Cut) -> int:
        """RFC 6455 section 5.2: size of the frame at a position, with the SIP message in it added to the cut."""
        if raw[position] & 0x70 or raw[position] & 0x0F not in (0, 1, 2, 8, 9, 10):
            return 0
        payload = _web_payload(raw, position, LONGEST_SIP_BODY)
        if payload is None:
            return -1
        body, size = payload
        if size == 0:
            return 0
        if raw[position] & 0x08:
            return size
        self._parts = self._parts + body if raw[position] & 0x0F == 0 else body
        if len(self._parts) > LONGEST_SIP_BODY:
            return 0
        if raw[position] & 0x80:
            message, self._parts = self._parts, b""
            if looks_like_sip(message):
                cut.starts.append(position)
                cut.ends.append(position + size)
                cut.unwrapped.append(message)
        return size


def _next_hep(raw: bytes, position: int) -> tuple[int, bool]:
    """The next HEP3 packet: (where, True), or (where one may begin, False)."""
    found = _HEP_START.search(raw, position)
    if found is not None:
        return found.start(), True
    for start in range(max(position, len(raw) - 10), len(raw)):
        if raw[start : start + 4] == b"HEP3"[: len(raw) - start]:
            return start, False
    return len(raw), False


def _hep_size(raw: bytes, position: int) -> int:
    """Size of the HEP3 packet at a position; 0 when there is none, minus the bytes needed when it is not whole."""
    head = raw[position : position + 6]
    if head[:4] != b"HEP3"[: len(head)]:
        return 0
    if len(head) < 6:
        return -6
    size = int.from_bytes(head[4:], "big")
    return 0 if size <= 6 else size if size <= len(raw) - position else -size


def _web_start(raw: bytes, position: int) -> int:
    """Where WebSocket frames begin, behind the handshake where there is one; _NOWHERE or _UNDECIDED else."""
    if raw[position : position + 5] in (b"GET /", b"HTTP/"):
        end = raw.find(b"\r\n\r\n", position, position + LONGEST_HEAD)
        if end < 0:
            return _UNDECIDED if len(raw) - position < LONGEST_HEAD else _NOWHERE
        return end + 4 if _WEB_UPGRADE.match(raw, position, end + 4) else _NOWHERE
    if raw[position] not in (0x81, 0x82):
        return _NOWHERE
    payload = _web_payload(raw, position, LONGEST_START_LINE)
    if payload is None:
        return _UNDECIDED
    return position if looks_like_sip(payload[0]) else _NOWHERE


def _web_payload(raw: bytes, position: int, most: int) -> tuple[bytes, int] | None:
    """Payload (unmasked, at most so many bytes) and size of a WebSocket frame; None when more bytes are needed."""
    if len(raw) - position < 2:
        return None
    masked, length, start = raw[position + 1] & 0x80, raw[position + 1] & 0x7F, position + 2
    if length >= 126:
        width = 2 if length == 126 else 8
        if len(raw) - start < width:
            return None
        length, start = int.from_bytes(raw[start : start + width], "big"), start + width
    if length > LONGEST_SIP_BODY:
        return b"", 0
    mask = raw[start : start + 4] if masked else b""
    start += 4 if masked else 0
    if len(raw) < start + min(length, most):
        return None
    body = raw[start : start + min(length, most)]
    if masked:
        key = (mask * (len(body) // 4 + 1))[: len(body)]
        body = (int.from_bytes(body, "big") ^ int.from_bytes(key, "big")).to_bytes(len(body), "big")
    return body, start + length - position


def _next_sip(raw: bytes, position: int, at_line: bool) -> tuple[int, bool]:
    """The next line that starts like SIP: (where, True), or (what must be kept, False).

    Args:
        raw: the stream.
        position: where to begin.
        at_line: whether a line begins there.
    """
    if at_line and _SIP_START.match(raw, position):
        return position, True
    version = position
    while (version := raw.find(b"SIP/2.0", version)) >= 0:
        line = raw.rfind(b"\n", position, version) + 1
        if line and _SIP_START.match(raw, line):
            return line, True
        version += 1
    last = raw.rfind(b"\n", position) + 1 or (position if at_line else len(raw))
    # the start of the next message may be in the tail already
    possible = len(raw) - last <= LONGEST_START_LINE and not _CONTROL.search(raw, last)
    return last if possible else len(raw), False


def _next_diameter(raw: bytes, position: int, before: int) -> tuple[int, bool]:
    """The next believable Diameter header that starts before `before`."""
    size = len(raw)
    while (position := raw.find(b"\x01", position, before)) >= 0:
        word = int.from_bytes(raw[position : position + 4], "big")
        if position + 4 <= size and (not _SHORTEST <= word <= _LONGEST or word & 3):
            position += 1
            continue
        found = _diameter_at(raw, position)
        if found is not False:
            return position, found is True
        position += 1
    return size, False


def _diameter_messages(raw: bytes, position: int, cut: Cut) -> tuple[int, int]:
    """Take whole messages, one after the other: where they end, and what `_sip_size` would say of that place.

    In a stream that is understood, version and length are test enough.
    """
    last, first_word = len(raw) - 4, _WORD.unpack_from
    starts = cut.starts
    before = len(starts)
    length = -1
    while position <= last:
        word: int = first_word(raw, position)[0]
        if not _SHORTEST <= word <= _LONGEST or word & 3:
            length = 0
            break
        starts.append(position)
        position += word & 0xFFFFFF
    if position > len(raw):
        length = starts[-1] - position
        position = starts.pop()
    cut.ends += starts[before + 1 :]
    if len(starts) > before:
        cut.ends.append(position)
    if length == -1 and position < len(raw):
        length = -4 if raw[position] == 1 else 0
    return position, length


def _sip_size(raw: bytes, position: int) -> int:
    """Size of the message at a position; 0 when there is none, minus the bytes needed when it is not whole.

    Empty lines between messages (RFC 5626 section 3.5.1) count as one of their own.
    """
    if raw[position] in b"\r\n":
        blank = position + 1
        while blank < len(raw) and raw[blank] in b"\r\n":
            blank += 1
        return blank - position
    head_end = _head_end(raw, position)
    if head_end < 0:
        return -1 if len(raw) - position < LONGEST_HEAD else 0
    if not _SIP_START.match(raw, position, head_end):
        return 0
    body = _content_length(raw, position, head_end)
    if body > LONGEST_SIP_BODY:
        return 0
    size = head_end + body - position
    return size if len(raw) - position >= size else -size


def _hopeless(raw: bytes, position: int) -> int:
    """Bytes in which no message can start, because no header section ends there."""
    return 1 if _head_end(raw, position) >= 0 else LONGEST_HEAD - LONGEST_START_LINE


def _head_end(raw: bytes, position: int) -> int:
    """Offset behind the first empty line, -1 when there is none or it is too far away."""
    with_return = raw.find(b"\n\r\n", position, position + LONGEST_HEAD)
    bare = raw.find(b"\n\n", position, with_return if with_return >= 0 else position + LONGEST_HEAD)
    if bare >= 0:
        return bare + 2
    return with_return + 3 if with_return >= 0 else -1


def _content_length(raw: bytes, position: int, head_end: int) -> int:
    usual = raw.find(b"\nContent-Length:", position, head_end)
    if usual >= 0 and (number := _USUAL_LENGTH.match(raw, usual + 16)):
        return int(number.group(1))
    number = _CONTENT_LENGTH.search(raw, position, head_end)
    return int(number.group(1)) if number else 0
