"""AVPs: bytes to values and back, byte for byte (RFC 6733 section 4).

An AVP is a code, flags, a length, a vendor when the V flag says so, and a payload padded to four bytes. What a payload
means stands in `diameter_names`; an AVP that is not in there is kept as it came.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from labkit.errors import DiameterError
from labkit.wire.diameter_names import AVPS, AVPS_BY_NAME, AvpEntry, avp_name

# Flags of an AVP, RFC 6733 section 4.1.
AVP_VENDOR: Final = 0x80
AVP_MANDATORY: Final = 0x40
AVP_PROTECTED: Final = 0x20
AVP_RESERVED: Final = 0x1F


_AVP_HEAD = struct.Struct("!II")
_VENDOR_HEAD = struct.Struct("!III")
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
_TEXTS = frozenset({"UTF8String", "DiameterIdentity", "DiameterURI", "IPFilterRule"})
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
        form = _FORMS.get(name if isinstance(name, str) else (name, vendor or 0))
        if form is None:
            if isinstance(name, int) and isinstance(value, bytes):
                return cls(name, value, vendor or 0, AVP_VENDOR if vendor else 0)
            raise DiameterError(
                f"AVP {name!r} of vendor {vendor or 0} is not in the dictionary; give its code and bytes",
                field=str(name),
            )
        code, its_vendor, flags, write = form
        try:
            raw = write(value)
        except (struct.error, TypeError, ValueError, AttributeError) as error:
            entry = AVPS[code, its_vendor]
            raise DiameterError(
                f"{entry.name} is a {entry.kind} and cannot hold {value!r}",
                field=entry.name,
                spec="RFC 6733 section 4.2",
            ) from error
        return tuple.__new__(cls, (code, raw, its_vendor, flags, None))

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
        return next(matching(self.children, code, vendor), None)

    @property
    def size_bytes(self) -> int:
        """The length field: header and payload, without padding."""
        return (12 if self.flags & AVP_VENDOR else 8) + len(self.raw)

    def to_bytes(self) -> bytes:
        """Serialise with header and padding."""
        return write_avps((self,))


def matching(avps: Iterable[Avp], code: int | str, vendor: int) -> Iterator[Avp]:
    """Walk the AVPs with a code and vendor, or with a name.

    Raises:
        DiameterError: the name is not in the dictionary.
    """
    if isinstance(code, str):
        entry = AVPS_BY_NAME.get(code)
        if entry is None:
            raise DiameterError(f"AVP name {code!r} is not in the dictionary; give its code", field=code)
        code, vendor = entry.code, entry.vendor
    for avp in avps:
        if avp.code == code and avp.vendor == vendor:
            yield avp


# --- Payloads -------------------------------------------------------------------------------------


Writer = Callable[[Value], bytes]
Reader = Callable[[bytes], Value]


def write_avps(avps: Iterable[Avp]) -> bytes:
    """Serialise a row of AVPs, each with header and padding."""
    parts: list[bytes] = []
    for code, raw, vendor, flags, padding in avps:
        size = len(raw)
        if flags & AVP_VENDOR:
            head = _VENDOR_HEAD.pack(code, flags << 24 | size + 12, vendor)
        else:
            head = _AVP_HEAD.pack(code, flags << 24 | size + 8)
        parts += head, raw, _ZEROS[size & 3] if padding is None else padding
    return b"".join(parts)


def _write_octets(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else bytes(memoryview(value))


def _write_address(value: str) -> bytes:
    address = ipaddress.ip_address(value)
    return struct.pack("!H", 1 if address.version == 4 else 2) + address.packed


def _write_time(value: datetime) -> bytes:
    seconds = (value - _NTP_EPOCH) // timedelta(seconds=1)
    return struct.pack("!I", seconds & 0xFFFFFFFF)


_WRITERS: Final[dict[str, Writer]] = {
    **{kind: number.pack for kind, number in _NUMBERS.items()},
    "Grouped": write_avps,
    "Address": _write_address,
    "Time": _write_time,
}


def _form(entry: AvpEntry) -> tuple[int, int, int, Writer]:
    flags = (AVP_VENDOR if entry.vendor else 0) | (AVP_MANDATORY if entry.mandatory else 0)
    return entry.code, entry.vendor, flags, _WRITERS.get(entry.kind, _write_octets)


_FORMS: Final = {key: _form(entry) for book in (AVPS, AVPS_BY_NAME) for key, entry in book.items()}
"""What `Avp.of` needs of a line of the dictionary, by name and by code and vendor: code, vendor, flags, and what makes
the payload."""


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

Identity = tuple[int, int, int, int, bytes]
"""Code, vendor, flags; code and vendor in one number, as `avp_key` makes it; the padding that should follow."""
Unpacker = Callable[[bytes, int], tuple[Value]]
Head = tuple[int, int, int, bytes, Identity, str, Unpacker | None, Reader | None]
"""What the header of an AVP says, all that it takes to cut the AVP out of a message and to read it.

Start and end of the payload and start of the next AVP, counted from the AVP's first byte; the vendor as it stands
behind the first eight bytes, empty without the V flag; the identity; the name; what reads a number where it stands,
None for all else; what makes a value of any payload, None for a group. Plain tuples, for they are taken apart at every
AVP, and a named one takes three times as long for that.
"""

HEADS: Final[dict[bytes, Head]] = {}
"""The headers met before, by their first eight bytes: the same few come in every message, and to look one up takes half
the time of reading it. The vendor stands behind the eight bytes, so it must be compared. `read_head` adds to it."""
_MAX_HEADS: Final = 4096


def read_head(raw: bytes, at: int, end: int) -> None:
    """Read the header of the AVP at `at` into `HEADS`, or say what is wrong with its length.

    Whoever walks a row of AVPs comes here when the header is not known, or when the one that is does not fit.

    Args:
        raw: the bytes that hold the AVP.
        at: where it begins.
        end: where the row of AVPs ends.
    Raises:
        DiameterError: less than a header is left, or the length is shorter than that or longer than the row (5014).
    """
    first = raw[at : at + 8]
    code, word = _AVP_HEAD.unpack(first) if len(first) == 8 else (0, 0)
    size, flags = word & 0xFFFFFF, word >> 24
    start = 12 if flags & AVP_VENDOR else 8
    vendor_raw = raw[at + 8 : at + start]
    if size < start or len(vendor_raw) != start - 8 or size > end - at:
        raise bad_length(raw, at, end)
    vendor = int.from_bytes(vendor_raw, "big")
    identity = (code, vendor, flags, code | vendor << 32, _ZEROS[size & 3])
    avp = Avp(code, b"", vendor, flags)
    number = _NUMBERS.get(avp.kind)
    unpack = number.unpack_from if number and number.size == size - start else None
    if len(HEADS) >= _MAX_HEADS:
        HEADS.clear()
    HEADS[first] = (start, size, size + (-size & 3), vendor_raw, identity, avp.name, unpack, _payload_reader(avp))


def _payload_reader(avp: Avp) -> Reader | None:
    """Choose what reads the payload of an AVP that looks like this one."""
    kind = avp.kind
    if kind == "Grouped":
        return None
    if kind == "OctetString":
        return bytes
    if kind in _TEXTS:
        return bytes.decode
    return lambda raw: avp._replace(raw=raw).value


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
    raw = bytes(raw)
    if end is None:
        end = len(raw)
    avps: list[Avp] = []
    add, make, heads = avps.append, tuple.__new__, HEADS
    at = start
    while at < end:
        try:
            begin, size, step, vendor_raw, (code, vendor, flags, _, zeros), _, _, _ = heads[raw[at : at + 8]]
        except KeyError:
            read_head(raw, at, end)
            continue
        stop = at + size
        if stop > end or (vendor_raw and raw[at + 8 : at + 12] != vendor_raw):
            read_head(raw, at, end)
            continue
        payload = raw[at + begin : stop]
        at += step
        usual = not zeros or (raw[stop:at] == zeros and at <= end)
        add(make(Avp, (code, payload, vendor, flags, None if usual else raw[stop : min(at, end)])))
    return tuple(avps)


def bad_length(raw: bytes, at: int, end: int) -> DiameterError:
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
