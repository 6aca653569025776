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

import ipaddress
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from labkit.errors import DiameterError
from labkit.wire.diameter_names import (
    AVPS,
    AVPS_BY_NAME,
    COMMANDS,
    RESULTS,
    TGPP_RESULTS,
    TGPP_VENDOR,
)

__all__ = [
    "HEADER_SIZE",
    "MAX_MESSAGE_SIZE",
    "TGPP_VENDOR",
    "Avp",
    "Message",
    "Scan",
    "avp_key",
    "avp_name",
    "command_name",
    "message_length",
    "parse_avps",
    "parse_message",
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

# Flags of an AVP, RFC 6733 section 4.1.
AVP_VENDOR: Final = 0x80
AVP_MANDATORY: Final = 0x40
AVP_PROTECTED: Final = 0x20
AVP_RESERVED: Final = 0x1F

_HEADER = struct.Struct("!IIIII")
_AVP_HEAD = struct.Struct("!II")
_VENDOR_HEAD = struct.Struct("!III")
_USUAL_PADDING: Final[dict[bytes, None]] = {b"\0": None, b"\0\0": None, b"\0\0\0": None}
_ZEROS = (b"", b"\0\0\0", b"\0\0", b"\0")

_NUMBERS = {
    "Unsigned32": struct.Struct("!I"),
    "Enumerated": struct.Struct("!i"),
    "Integer32": struct.Struct("!i"),
    "Unsigned64": struct.Struct("!Q"),
    "Integer64": struct.Struct("!q"),
    "Float32": struct.Struct("!f"),
    "Float64": struct.Struct("!d"),
}
_TEXTS = frozenset({"UTF8String", "DiameterIdentity", "DiameterURI"})
_NTP_EPOCH = datetime(1900, 1, 1, tzinfo=UTC)
_NTP_ERA = timedelta(seconds=1 << 32)

Value = Any
"""A typed payload: int, str, bytes, float, datetime, or a tuple of Avp for a group."""


class Avp(NamedTuple):
    """One attribute-value pair, immutable (RFC 6733 section 4.1).

    Example:
        >>> Avp.of("Result-Code", 2001).to_bytes().hex()
        '0000010c4000000c000007d1'
    """

    code: int
    """AVP code, 32 bits."""
    raw: bytes
    """The payload, without header and padding."""
    vendor: int = 0
    """Vendor-Id, 0 where the header has none."""
    flags: int = 0
    """V 0x80, M 0x40, P 0x20."""
    padding: bytes | None = None
    """Bytes after the payload where they are not the usual zeros; None for the usual."""

    @classmethod
    def of(cls, name: str | int, value: Value, vendor: int | None = None) -> Avp:
        """Build an AVP by the dictionary: code, flags and the payload's form come from there.

        Args:
            name: the AVP's name, or its code.
            value: what the type wants: int, str, bytes, datetime; an iterable of Avp for a group.
            vendor: needed beside a code of a vendor's AVP.
        Raises:
            DiameterError: the name is not in the dictionary, or the value does not fit the type.
        """
        entry = AVPS_BY_NAME.get(name) if isinstance(name, str) else AVPS.get((name, vendor or 0))
        if entry is None:
            if isinstance(name, int) and isinstance(value, bytes):
                return cls(name, value, vendor or 0, AVP_VENDOR if vendor else 0)
            raise DiameterError(
                f"AVP {name!r} of vendor {vendor or 0} is not in the dictionary; give its code and bytes",
                field=str(name),
            )
        flags = (AVP_VENDOR if entry.vendor else 0) | (AVP_MANDATORY if entry.mandatory else 0)
        return cls(entry.code, _encode(entry.kind, value, entry.name), entry.vendor, flags)

    @property
    def name(self) -> str:
        """The name in the dictionary, else "AVP 999" or "AVP 999 of vendor 9"."""
        return avp_name(self.code, self.vendor)

    @property
    def kind(self) -> str:
        """Type of the payload, "OctetString" where the dictionary knows nothing."""
        entry = AVPS.get((self.code, self.vendor))
        return "OctetString" if entry is None else entry.kind

    @property
    def value(self) -> Value:
        """The payload as its type says: int, str, bytes, float, datetime, IP address text, tuple of Avp.

        Raises:
            DiameterError: the payload does not fit the type (5014, or 5004 for text that is not UTF-8).
        """
        read = _READER_OF.get((self.code, self.vendor))
        return self.raw if read is None else read(self)

    @property
    def children(self) -> tuple[Avp, ...]:
        """The AVPs inside a group; empty for any other type.

        Raises:
            DiameterError: the group's bytes are no AVPs.
        """
        return parse_avps(self.raw) if (self.code, self.vendor) in _GROUPS else ()

    def find(self, code: int | str, vendor: int = 0) -> Avp | None:
        """Return the first AVP inside this group with that code, or None."""
        return next(_matching(self.children, code, vendor), None)

    @property
    def size_bytes(self) -> int:
        """The length field: header and payload, without padding."""
        return (12 if self.flags & AVP_VENDOR else 8) + len(self.raw)

    def to_bytes(self) -> bytes:
        """Serialise with header and padding."""
        raw = self.raw
        size = len(raw)
        padding = _ZEROS[size & 3] if self.padding is None else self.padding
        if self.flags & AVP_VENDOR:
            return _VENDOR_HEAD.pack(self.code, self.flags << 24 | size + 12, self.vendor) + raw + padding
        return _AVP_HEAD.pack(self.code, self.flags << 24 | size + 8) + raw + padding


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
        return next(_matching(self.avps, code, vendor), None)

    def find_all(self, code: int | str, vendor: int = 0) -> tuple[Avp, ...]:
        """Return all AVPs with that code and vendor (or that name)."""
        return tuple(_matching(self.avps, code, vendor))

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
        body = b"".join([avp.to_bytes() for avp in self.avps])
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


def _matching(avps: Iterable[Avp], code: int | str, vendor: int) -> Iterator[Avp]:
    if isinstance(code, str):
        entry = AVPS_BY_NAME.get(code)
        if entry is None:
            raise DiameterError(f"AVP name {code!r} is not in the dictionary; give its code", field=code)
        code, vendor = entry.code, entry.vendor
    for avp in avps:
        if avp.code == code and avp.vendor == vendor:
            yield avp


# --- Payloads -------------------------------------------------------------------------------------


def _encode(kind: str, value: Value, name: str) -> bytes:
    try:
        if kind in _NUMBERS:
            return _NUMBERS[kind].pack(value)
        if kind == "Grouped":
            return b"".join([avp.to_bytes() for avp in value])
        if kind == "Address":
            return _encode_address(value)
        if kind == "Time":
            seconds = (value - _NTP_EPOCH) // timedelta(seconds=1)
            return struct.pack("!I", seconds & 0xFFFFFFFF)
        return value.encode() if isinstance(value, str) else bytes(memoryview(value))
    except (struct.error, TypeError, ValueError, AttributeError) as error:
        raise DiameterError(
            f"{name} is a {kind} and cannot hold {value!r}", field=name, spec="RFC 6733 section 4.2"
        ) from error


def _encode_address(value: str) -> bytes:
    address = ipaddress.ip_address(value)
    return struct.pack("!H", 1 if address.version == 4 else 2) + address.packed


def _read_number(number: struct.Struct) -> Callable[[Avp], Value]:
    size, unpack = number.size, number.unpack

    def read(avp: Avp) -> Value:
        if len(avp.raw) != size:
            raise _bad_size(avp, size)
        return unpack(avp.raw)[0]

    return read


def _read_text(avp: Avp) -> str:
    try:
        return avp.raw.decode()
    except UnicodeDecodeError as error:
        raise DiameterError(
            f"{avp.name} is not UTF-8", field=avp.name, spec="RFC 6733 section 4.3.1", failed_avp=avp.to_bytes()
        ) from error


def _read_time(avp: Avp) -> datetime:
    if len(avp.raw) != 4:
        raise _bad_size(avp, 4)
    moment = _NTP_EPOCH + timedelta(seconds=int.from_bytes(avp.raw, "big"))
    return moment if avp.raw[0] & 0x80 else moment + _NTP_ERA


def _read_address(avp: Avp) -> str | bytes:
    family = int.from_bytes(avp.raw[:2], "big")
    wanted = {1: 6, 2: 18}.get(family)
    if len(avp.raw) < 2 or (wanted is not None and len(avp.raw) != wanted):
        raise _bad_size(avp, wanted or 6)
    return avp.raw if wanted is None else str(ipaddress.ip_address(avp.raw[2:]))


def _bad_size(avp: Avp, wanted: int) -> DiameterError:
    return DiameterError(
        f"{avp.name} has {len(avp.raw)} bytes of payload and needs {wanted}",
        field=avp.name,
        spec="RFC 6733 section 4.1",
        result_code=5014,
        failed_avp=avp._replace(raw=bytes(wanted)).to_bytes(),
    )


def _read_group(avp: Avp) -> tuple[Avp, ...]:
    return parse_avps(avp.raw)


_READERS: Final[dict[str, Callable[[Avp], Value]]] = {
    **{kind: _read_number(number) for kind, number in _NUMBERS.items()},
    **dict.fromkeys(_TEXTS, _read_text),
    "Address": _read_address,
    "Time": _read_time,
    "Grouped": _read_group,
}
_READER_OF: Final = {key: _READERS[entry.kind] for key, entry in AVPS.items() if entry.kind in _READERS}
"""How the payload of each AVP in the dictionary is read; one that is missing is bytes."""
_GROUPS: Final = frozenset(key for key, entry in AVPS.items() if entry.kind == "Grouped")


# --- Bytes to values ------------------------------------------------------------------------------


def parse_avps(raw: bytes, start: int = 0, end: int | None = None) -> tuple[Avp, ...]:
    """Read a row of AVPs.

    Args:
        raw: the bytes that hold them.
        start: where the first begins.
        end: where the row ends; the end of `raw` by default.
    Raises:
        DiameterError: a length that does not fit (5014), with the offset in `raw` and a Failed-AVP.
    Spec:
        RFC 6733 section 4.1
    """
    if end is None:
        end = len(raw)
    avps: list[Avp] = []
    at = begin = start
    padded = raw + b"\0\0\0\0"  # so that a vendor can be read behind a last header that has none
    make, unpack = tuple.__new__, _VENDOR_HEAD.unpack_from
    try:
        while at < end:
            begin = at
            code, word, vendor = unpack(padded, at)
            stop = at + (word & 0xFFFFFF)
            if word & 0x80000000:
                head = at + 12
            else:
                head, vendor = at + 8, 0
            if not head <= stop <= end:
                raise _bad_length(raw, begin, end)
            padding = None
            if stop & 3 != at & 3:
                at = stop + (begin - stop & 3)
                padding = _USUAL_PADDING.get(padded[stop:at], padded[stop:at]) if at <= end else raw[stop:end]
            else:
                at = stop
            avps.append(make(Avp, (code, raw[head:stop], vendor, word >> 24, padding)))
    except struct.error:  # less than a header is left
        raise _bad_length(raw, begin, end) from None
    return tuple(avps)


def _bad_length(raw: bytes, at: int, end: int) -> DiameterError:
    """Name the AVP whose length is wrong; Failed-AVP holds its header and an empty payload (section 7.5)."""
    head = raw[at : min(at + 12, end)]
    code = int.from_bytes(head[:4].ljust(4, b"\0"), "big")
    flags = head[4] if len(head) > 4 else 0
    vendor = int.from_bytes(head[8:12].ljust(4, b"\0"), "big") if flags & AVP_VENDOR else 0
    entry = AVPS.get((code, vendor))
    number = None if entry is None else _NUMBERS.get(entry.kind)
    failed = Avp(code, bytes(number.size if number else 0), vendor, flags)
    return DiameterError(
        f"{failed.name} has a length that does not fit the {end - at} bytes left",
        offset=at,
        field=failed.name,
        spec="RFC 6733 section 4.1",
        result_code=5014,
        failed_avp=failed.to_bytes(),
    )


def avp_key(name: str) -> int:
    """Return the key of an AVP in the result of `scan_avps`: its code, plus its vendor shifted by 32 bits."""
    entry = AVPS_BY_NAME[name]
    return entry.code | entry.vendor << 32


Scan = tuple[dict[int, bytes], int, int]
"""Payload of each AVP by `avp_key`, number of AVPs, and all their flags ORed together."""


def scan_avps(raw: bytes, start: int = HEADER_SIZE, before: Scan | None = None) -> Scan:
    """Look at the AVPs of a whole message without building values, in a third of the time of `parse_message`.

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
    seen <<= 24
    at, end = start, len(raw)
    padded = raw + b"\0\0\0\0"  # so that a vendor can be read behind a last header that has none
    unpack = _VENDOR_HEAD.unpack_from
    begin = at
    try:
        while at < end:
            begin = at
            code, word, vendor = unpack(padded, at)
            if word & 0x80000000:
                head = at + 12
                code |= vendor << 32
            else:
                head = at + 8
            at += word & 0xFFFFFF
            if not head <= at <= end:
                raise _bad_length(raw, begin, end)
            found[code] = raw[head:at]
            seen |= word
            count += 1
            at = at + 3 & ~3
    except struct.error:  # less than a header is left
        raise _bad_length(raw, begin, end) from None
    return found, count, seen >> 24


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
    size = message_length(raw)
    if size is None or len(raw) < HEADER_SIZE or size != len(raw):
        raise DiameterError(
            f"{len(raw)} bytes are not one whole message; the header says {size}",
            offset=len(raw),
            field="Message Length",
            spec="RFC 6733 section 3",
            result_code=5015,
        )
    _, word, application_id, hop_by_hop_id, end_to_end_id = _HEADER.unpack_from(raw)
    flags = word >> 24
    avps = parse_avps(raw, HEADER_SIZE)
    return Message(word & 0xFFFFFF, application_id, flags, hop_by_hop_id, end_to_end_id, avps)


# --- Names ----------------------------------------------------------------------------------------


def command_name(code: int, request: bool) -> str:
    """Name a command: 300 is "UAR" or "UAA"; an unknown code is "999-Request" or "999-Answer"."""
    letters = COMMANDS.get(code)
    if letters is None:
        return f"{code}-Request" if request else f"{code}-Answer"
    return letters + ("R" if request else "A")


def avp_name(code: int, vendor: int = 0) -> str:
    """Name an AVP, "AVP 999" or "AVP 999 of vendor 9" where the dictionary has none."""
    entry = AVPS.get((code, vendor))
    if entry is not None:
        return entry.name
    return f"AVP {code} of vendor {vendor}" if vendor else f"AVP {code}"


def result_name(code: int, experimental: bool = False, vendor: int = TGPP_VENDOR) -> str:
    """Name a result: 2001 is DIAMETER_SUCCESS, but DIAMETER_FIRST_REGISTRATION as Experimental-Result-Code of 3GPP.

    Args:
        code: the value of Result-Code or Experimental-Result-Code.
        experimental: True for a value of Experimental-Result-Code.
        vendor: whose experimental code it is.
    Returns:
        The name, else the number as text.
    """
    if not experimental:
        return RESULTS.get(code, str(code))
    return TGPP_RESULTS.get(code, str(code)) if vendor == TGPP_VENDOR else str(code)
