"""Diameter messages: bytes to values and back, byte for byte (RFC 6733 sections 3 and 4).

A message is a header of 20 bytes and a row of AVPs. An AVP is a code, flags, a length, a vendor when the V flag
says so, and a payload padded to four bytes. What a payload means stands in `diameter_names`; an AVP or command
that is not in there is kept as it came. Nothing is reordered and nothing is lost, so `to_bytes` gives back what
`parse_message` was given.

Three rules of the RFC decide how an error is told to the sender, and `DiameterError` carries what they need:
a protocol error (3xxx) is answered with the E flag set, a wrong AVP is named in Failed-AVP (5xxx), and a stream
whose framing is lost is closed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from labkit.errors import DiameterError
from labkit.wire.diameter_avp import (
    AVP_MANDATORY,
    AVP_PROTECTED,
    AVP_RESERVED,
    AVP_VENDOR,
    HEADS,
    Avp,
    Value,
    avp_key,
    matching,
    parse_avps,
    read_head,
    write_avps,
)
from labkit.wire.diameter_names import TGPP_VENDOR, avp_name, command_name, result_name
from labkit.wire.diameter_tree import Tree, read_tree

__all__ = [
    "AVP_MANDATORY",
    "AVP_PROTECTED",
    "AVP_RESERVED",
    "AVP_VENDOR",
    "FLAGS_RESERVED",
    "FLAG_ERROR",
    "FLAG_PROXIABLE",
    "FLAG_REQUEST",
    "FLAG_RETRANSMIT",
    "HEADER_SIZE",
    "MAX_MESSAGE_SIZE",
    "TGPP_VENDOR",
    "Avp",
    "Message",
    "Scan",
    "Tree",
    "Value",
    "avp_key",
    "avp_name",
    "command_name",
    "message_length",
    "parse_avps",
    "parse_message",
    "read_tree",
    "result_name",
    "scan_avps",
    "split_stream",
]

HEADER_SIZE: Final = 20
"""Bytes of a message header (RFC 6733 section 3)."""

MAX_MESSAGE_SIZE: Final = (1 << 24) - 1
"""The length field has 24 bits."""

# Flags of the header, RFC 6733 section 3.
FLAG_REQUEST: Final = 0x80
FLAG_PROXIABLE: Final = 0x40
FLAG_ERROR: Final = 0x20
FLAG_RETRANSMIT: Final = 0x10
FLAGS_RESERVED: Final = 0x0F

_HEADER = struct.Struct("!IIIII")


@dataclass(frozen=True, slots=True)
class Message:
    """One Diameter message; AVPs in the order of the wire."""

    command_code: int
    """For example 300 for UAR and UAA."""
    application_id: int
    """For example 16777216 for Cx."""
    flags: int
    """R 0x80, P 0x40, E 0x20, T 0x10."""
    hop_by_hop_id: int
    """Ties an answer to its request on one connection."""
    end_to_end_id: int
    """Finds a repeated request."""
    avps: tuple[Avp, ...] = ()
    """All AVPs, unknown ones too."""

    @property
    def request(self) -> bool:
        """True when the R flag is set."""
        return self.flags & FLAG_REQUEST != 0

    @property
    def name(self) -> str:
        """The command's short name: "UAR", "UAA", "CER"."""
        return command_name(self.command_code, self.request)

    def find(self, code: int | str, vendor: int = 0) -> Avp | None:
        """Return the first AVP with that code and vendor (or that name), or None."""
        return next(matching(self.avps, code, vendor), None)

    def find_all(self, code: int | str, vendor: int = 0) -> tuple[Avp, ...]:
        """Return all AVPs with that code and vendor (or that name)."""
        return tuple(matching(self.avps, code, vendor))

    def tree(self) -> Tree:
        """Return names and values of all AVPs, a group's as a tree again; see `read_tree`."""
        return read_tree(self.to_bytes())

    def answer(self, *avps: Avp, error: bool = False) -> Message:
        """Build the answer to this request: same ids, command and application; R and T cleared, P kept.

        Args:
            avps: the answer's AVPs, Session-Id first where the request has one.
            error: True sets the E flag (protocol errors, RFC 6733 section 7.2).
        """
        flags = (self.flags & FLAG_PROXIABLE) | (FLAG_ERROR if error else 0)
        return Message(self.command_code, self.application_id, flags, self.hop_by_hop_id, self.end_to_end_id, avps)

    def to_bytes(self) -> bytes:
        """Serialise; the length field is computed."""
        body = write_avps(self.avps)
        return (
            _HEADER.pack(
                0x01000000 | HEADER_SIZE + len(body),
                self.flags << 24 | self.command_code,
                self.application_id,
                self.hop_by_hop_id,
                self.end_to_end_id,
            )
            + body
        )


Scan = tuple[dict[int, bytes], int, int]
"""Payload of each AVP by `avp_key`, number of AVPs, and all their flags ORed together."""


def scan_avps(raw: bytes, start: int = HEADER_SIZE, before: Scan | None = None) -> Scan:
    """Look at the AVPs of a whole message without building values, in half the time of `parse_message`.

    Args:
        raw: the bytes of one message, length checked, or the payload of a group.
        start: where the first AVP begins; 0 for a group.
        before: what is known of the AVPs before `start`; its dictionary is added to.
    Returns:
        A `Scan`; the last AVP counts where one stands twice. A server answers from it, and parses in full only what
        looks unusual.
    Raises:
        DiameterError: a length that does not fit (5014).
    """
    found, count, seen = before or ({}, 0, 0)
    at, end, heads = start, len(raw), HEADS
    while at < end:
        try:
            begin, size, step, vendor_raw, (_, _, flags, key, _), _, _, _ = heads[raw[at : at + 8]]
        except KeyError:
            read_head(raw, at, end)
            continue
        stop = at + size
        if stop > end or (vendor_raw and raw[at + 8 : at + 12] != vendor_raw):
            read_head(raw, at, end)
            continue
        found[key] = raw[at + begin : stop]
        seen |= flags
        count += 1
        at += step
    return found, count, seen


def message_length(raw: bytes | bytearray) -> int | None:
    """Return the size in bytes of the message at the start of `raw`; None while the first 4 bytes are not there.

    Raises:
        DiameterError: the version is not 1 (5011), or the length is below 20 or no multiple of 4 (5015).
    Spec:
        RFC 6733 section 3
    """
    if len(raw) < 4:
        if raw and raw[0] != 1:
            raise _bad_version(raw[0])
        return None
    if raw[0] != 1:
        raise _bad_version(raw[0])
    size = int.from_bytes(raw[1:4], "big")
    if size < HEADER_SIZE or size & 3:
        raise DiameterError(
            f"the message length is {size}; it must be 20 or more and a multiple of 4",
            offset=1,
            field="Message Length",
            spec="RFC 6733 section 3",
            result_code=5015,
        )
    return size


def _bad_version(version: int) -> DiameterError:
    return DiameterError(
        f"Diameter version {version} is not known; only 1 is",
        offset=0,
        field="Version",
        spec="RFC 6733 section 3",
        result_code=5011,
    )


def split_stream(buffer: bytes | bytearray) -> tuple[list[bytes], bytes]:
    """Cut the whole messages off the start of a TCP stream.

    Args:
        buffer: what has arrived and is not used yet.
    Returns:
        The whole messages, and the rest that waits for more bytes.
    Raises:
        DiameterError: what stands at a message's place is none; the framing is lost.
    """
    messages: list[bytes] = []
    raw = bytes(buffer)
    at, end = 0, len(raw)
    while at < end:
        size = message_length(raw[at : at + 4])
        if size is None or at + size > end:
            break
        messages.append(raw[at : at + size])
        at += size
    return messages, raw[at:]


def parse_message(raw: bytes) -> Message:
    """Read one whole message.

    Args:
        raw: exactly the bytes of one message.
    Raises:
        DiameterError: with offset, result_code and Failed-AVP: version (5011), length (5015), flag bits (3008),
            AVP length (5014).
    Spec:
        RFC 6733 sections 3 and 4
    """
    raw = bytes(raw)
    size = len(raw)
    if size < HEADER_SIZE or message_length(raw) != size:
        raise DiameterError(
            f"{size} bytes are not one whole message; the header says {message_length(raw)}",
            offset=size,
            field="Message Length",
            spec="RFC 6733 section 3",
            result_code=5015,
        )
    _, word, application_id, hop_by_hop_id, end_to_end_id = _HEADER.unpack_from(raw)
    avps = parse_avps(raw, HEADER_SIZE)
    return Message(word & 0xFFFFFF, application_id, word >> 24, hop_by_hop_id, end_to_end_id, avps)
