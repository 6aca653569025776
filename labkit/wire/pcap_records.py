"""Where the frames lie in the bytes of a capture: the walk over the records of pcap and the blocks of pcapng.

The walk is the only thing that must be done frame by frame; it says where the frames are and copies none of them.
`pcap` makes `Frame` values of them, the decoder reads thousands of them at once.
"""

from __future__ import annotations

import ipaddress
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from labkit import native

MAGIC_US: Final = 0xA1B2C3D4
MAGIC_NS: Final = 0xA1B23C4D
SECTION_HEADER: Final = 0x0A0D0D0A
BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
INTERFACE_DESCRIPTION, PACKET, SIMPLE_PACKET, NAME_RESOLUTION, ENHANCED_PACKET = 1, 2, 3, 4, 6
OPTION_END, OPTION_COMMENT, OPTION_TSRESOL, OPTION_TSOFFSET = 0, 1, 9, 14
PADDING: Final = bytes(128)
"""Follows the bytes of every run, so that a reader of fixed-size headers needs no look at the end."""
_BIGGEST_BLOCK = 64 << 20
"""No honest frame or block is longer; a longer length field means that the file is damaged there."""
_ETHERNET = 1
_BIG_PIECE = 1 << 20
"""A piece of this size is not copied."""
_STRETCH = 16 << 10
"""After so many bytes a look back tells whether a look ahead pays."""
_MANY_ALIKE = 8
"""It does after so many records of one length."""
_FIRST_ALIKE, _MOST_ALIKE = 64, 4096
"""So many records the first look takes in, and four times as many each further one, up to the most."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What a capture says of one interface."""

    linktype: int
    """Link type of its frames."""
    units_per_s: int
    """Ticks of its clock in a second."""
    offset_s: int
    """Seconds to add to its times."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Where one frame lies in the bytes of its run."""

    number: int
    """1 for the first frame of the file."""
    time_ns: int
    """Nanoseconds since 1970, 0 where the file holds no time."""
    linktype: int
    """Link type of its interface."""
    start: int
    """Offset of its first byte."""
    captured: int
    """Bytes that the file holds."""
    on_wire: int
    """Bytes that were on the wire."""
    end_of_record: int
    """Offset behind its record; options of a pcapng block stand before it."""


@dataclass(frozen=True, slots=True)
class Run:
    """Records of one kind, one after the other in the file as far as frames go."""

    raw: bytes
    """Bytes in which they lie; as many as PADDING has follow the last of them, whatever they are."""
    kind: int
    """0 for pcap records, else the block type: ENHANCED_PACKET, PACKET or SIMPLE_PACKET."""
    order: str
    """Byte order for `struct`."""
    interfaces: tuple[Interface, ...]
    """Interfaces of the section; one for pcap."""
    first_number: int
    """Number of the first frame."""
    offsets: Sequence[int]
    """Offset of each record's (block's) header."""

    def packets(self) -> Iterator[Packet]:
        """Give the frames one by one."""
        raw, order, kind = self.raw, self.order, self.kind
        for number, at in enumerate(self.offsets, start=self.first_number):
            if kind == 0:
                seconds, fraction, captured, on_wire = struct.unpack_from(order + "IIII", raw, at)
                interface = self.interfaces[0]
                time_ns = seconds * 10**9 + fraction * (10**9 // interface.units_per_s)
                yield Packet(number, time_ns, interface.linktype, at + 16, captured, on_wire, at + 16 + captured)
                continue
            size = struct.unpack_from(order + "I", raw, at + 4)[0]
            if kind == SIMPLE_PACKET:
                on_wire = struct.unpack_from(order + "I", raw, at + 8)[0]
                linktype = self.interfaces[0].linktype if self.interfaces else _ETHERNET
                yield Packet(number, 0, linktype, at + 12, min(on_wire, size - 16), on_wire, at + size - 4)
                continue
            which, high, low, captured, on_wire = struct.unpack_from(order + "IIIII", raw, at + 8)
            interface = self.interfaces[_interface_number(kind, order, which)]
            time_ns = (high << 32 | low) * 10**9 // interface.units_per_s + interface.offset_s * 10**9
            yield Packet(number, wrapped_ns(time_ns), interface.linktype, at + 28, captured, on_wire, at + size - 4)


def _interface_number(kind: int, order: str, word: int) -> int:
    if kind != PACKET:
        return word
    return word & 0xFFFF if order == "<" else word >> 16  # two bytes, then two of a drop counter


class RecordWalker:
    """Walks over a capture that comes in pieces of any size; keeps what is not whole."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        """Address to name, as name-resolution blocks say."""
        self.damage = ""
        """What ended the walk, as a clause; empty while all is well."""
        self.count = 0
        """Whole frames so far."""
        self.kind = ""
        """"pcap", "pcapng", "unknown", or empty before the first four bytes."""
        self._order = "<"
        self._interfaces: list[Interface] = []
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._needed = 4

    @property
    def left_over(self) -> int:
        """Bytes of a record that is not whole."""
        return self._waiting_size

    def feed(self, raw: bytes) -> list[Run]:
        """Take the next bytes and give the records that they complete."""
        if len(raw) >= _BIG_PIECE and not self.damage and (self.kind == "pcap" or not self._waiting):
            begun = b"".join(self._waiting)
            position = self._end_of_begun(begun, raw) if self.kind else self._start(raw, len(raw))
            if self.kind == "pcap" and position <= len(raw) - len(PADDING):
                return self._big_piece(begun, raw, position)
        self._waiting.append(raw)
        self._waiting_size += len(raw)
        if self._waiting_size < self._needed or self.damage:
            return []
        raw = b"".join((*self._waiting, PADDING))
        size = self._waiting_size
        position, runs = 0, list[Run]()
        self._needed = 4
        if not self.kind:
            position = self._start(raw, size)
        if self.kind == "pcap":
            position = self._pcap_records(raw, position, size, runs)
        elif self.kind == "pcapng":
            position = self._pcapng_blocks(raw, position, size, runs)
        self._waiting = [raw[position:size]]
        self._waiting_size = size - position
        return runs

    def _end_of_begun(self, begun: bytes, raw: bytes) -> int:
        """Offset in the next bytes behind the record of a pcap of which the first bytes are there."""
        if not begun:
            return 0
        captured: int = struct.unpack_from(self._order + "I", begun + raw[:16], 8)[0]
        return 16 + captured - len(begun)

    def _big_piece(self, begun: bytes, raw: bytes, position: int) -> list[Run]:
        """Walk over a big piece of a pcap where it lies; copied are only the records at its two ends."""
        runs = list[Run]()
        if begun:
            self._pcap_records(b"".join((begun, raw[:position], PADDING)), 0, len(begun) + position, runs)
        position = self._pcap_records(raw, position, len(raw) - len(PADDING), runs)
        rest = raw[position:]
        self._needed = 4
        done = 0 if self.damage else self._pcap_records(rest + PADDING, 0, len(rest), runs)
        self._waiting, self._waiting_size = [rest[done:]], len(rest) - done
        return runs

    def _start(self, raw: bytes, size: int) -> int:
        """Recognise the format; the position after a pcap file header, else 0."""
        if int.from_bytes(raw[:4], "big") == SECTION_HEADER:
            self.kind = "pcapng"
            return 0
        for order in "<>":
            magic = struct.unpack_from(order + "I", raw)[0]
            if magic in (MAGIC_US, MAGIC_NS):
                if size < 24:
                    self._needed = 24
                    return 0
                self.kind, self._order = "pcap", order
                linktype = struct.unpack_from(order + "I", raw, 20)[0] & 0xFFFF
                self._interfaces = [Interface(linktype, 10**9 if magic == MAGIC_NS else 10**6, 0)]
                return 24
        self.kind = "unknown"
        return 0

    def _pcap_records(self, raw: bytes, position: int, size: int, runs: list[Run]) -> int:
        if native.compiled is not None:
            found, position, captured = native.compiled.pcap_records(raw, position, size, self._order == ">")
            offsets: Sequence[int] = memoryview(found).cast("q")
        else:
            offsets, position, captured = _records(raw, position, size, self._order)
        if position > size:
            position, offsets = offsets[-1], offsets[:-1]
            if captured > _BIGGEST_BLOCK:
                self._damaged(f"claims a frame of {captured} bytes", len(offsets))
            self._needed = 16 + captured
        self._add(runs, Run(raw, 0, self._order, tuple(self._interfaces), self.count + 1, offsets))
        return position

    def _pcapng_blocks(self, raw: bytes, position: int, size: int, runs: list[Run]) -> int:
        run: Run | None = None
        offsets = array("q")
        head = struct.Struct(self._order + "III").unpack_from
        while not self.damage and size - position >= 12:
            kind, length, word = head(raw, position)
            if kind == SECTION_HEADER:  # reads the same in either order
                if not self._section(raw, position):
                    break
                run, head = None, struct.Struct(self._order + "III").unpack_from
                kind, length, word = head(raw, position)
            if length < 12 or length % 4 or length > _BIGGEST_BLOCK:
                self._damaged(f"claims a block of {length} bytes")
                break
            if size - position < length:
                self._needed = length
                break
            if kind in (ENHANCED_PACKET, PACKET, SIMPLE_PACKET):
                if not self._fits(kind, raw, position, length, word):
                    break
                if run is None or run.kind != kind:
                    offsets = array("q")
                    run = Run(raw, kind, self._order, tuple(self._interfaces), self.count + 1, offsets)
                    runs.append(run)
                offsets.append(position)
                self.count += 1
            elif kind in (INTERFACE_DESCRIPTION, NAME_RESOLUTION):
                run = None
                self._note(kind, raw[position + 8 : position + length - 4])
            position += length
            if kind == ENHANCED_PACKET and native.compiled is not None:
                arguments = (raw, position, size, self._order == ">", len(self._interfaces))
                more, position = native.compiled.packet_blocks(*arguments)
                offsets.frombytes(more)
                self.count += len(more) // offsets.itemsize
        return position

    def _fits(self, kind: int, raw: bytes, position: int, length: int, word: int) -> bool:
        if kind == SIMPLE_PACKET:
            whole = length >= 16
        else:
            captured: int = struct.unpack_from(self._order + "I", raw, position + 20)[0] if length >= 32 else 0
            whole = length >= 32 and captured + 32 <= length
            if length >= 32:
                whole = whole and _interface_number(kind, self._order, word) < len(self._interfaces)
        if not whole:
            self._damaged("has a packet block without its interface or shorter than its packet")
        return whole

    def _add(self, runs: list[Run], run: Run) -> None:
        if run.offsets:
            runs.append(run)
            self.count += len(run.offsets)

    def _section(self, raw: bytes, position: int) -> bool:
        magic = raw[position + 8 : position + 12]
        if int.from_bytes(magic, "little") == BYTE_ORDER_MAGIC:
            self._order = "<"
        elif int.from_bytes(magic, "big") == BYTE_ORDER_MAGIC:
            self._order = ">"
        else:
            self._damaged("has a section header without its byte-order magic")
            return False
        self._interfaces = []
        return True

    def _note(self, kind: int, body: bytes) -> None:
        try:
            if kind == INTERFACE_DESCRIPTION:
                self._interfaces.append(self._interface(body))
            else:
                self.names.update(self._names(body))
        except struct.error:
            self._damaged("has a block that is shorter than its own fields")

    def _interface(self, body: bytes) -> Interface:
        linktype = struct.unpack_from(self._order + "H", body)[0]
        units_per_s, offset_s = 10**6, 0
        for code, value in options(body, 8, self._order):
            if code == OPTION_TSRESOL and value:
                exponent = value[0] & 0x7F
                units_per_s = 2**exponent if value[0] & 0x80 else 10**exponent
            elif code == OPTION_TSOFFSET and len(value) >= 8:
                offset_s = struct.unpack_from(self._order + "q", value)[0]
        return Interface(linktype, units_per_s, offset_s)

    def _names(self, body: bytes) -> Iterator[tuple[str, str]]:
        position = 0
        while len(body) - position >= 4:
            kind, size = struct.unpack_from(self._order + "HH", body, position)
            record = body[position + 4 : position + 4 + size]
            width = {1: 4, 2: 16}.get(kind)
            if kind == OPTION_END:
                return
            if width and len(record) > width:
                name = record[width:].split(b"\0")[0].decode("utf-8", "replace")
                yield str(ipaddress.ip_address(record[:width])), name
            position += 4 + size + -size % 4

    def _damaged(self, what: str, more: int = 0) -> None:
        count = self.count + more
        self.damage = f"The capture {what} after frame {count}: {whole_frames(count)}."


def _records(raw: bytes, position: int, size: int, order: str) -> tuple[list[int], int, int]:
    """Walk over the records of a pcap, as `native.compiled.pcap_records` does."""
    captured_of = struct.Struct(order + "8xI").unpack_from
    offsets: list[int] = []
    append = offsets.append
    last = size - 16
    captured = 0
    while position <= last:
        stop = min(last, position + _STRETCH)
        while position <= stop:
            append(position)
            (captured,) = captured_of(raw, position)
            position += 16 + captured
        if offsets[-_MANY_ALIKE:][0] == offsets[-1] - (_MANY_ALIKE - 1) * (16 + captured):
            position = _pass_alike(raw, position, 16 + captured, size, offsets)
    return offsets, position, captured


def _pass_alike(raw: bytes, position: int, stride: int, size: int, offsets: list[int]) -> int:
    """Pass over the next whole records of a pcap that have the length of the last one (media often has)."""
    at_once = _FIRST_ALIKE
    while (count := min(at_once, (size - position) // stride)) > 0:
        alike = _alike(raw, position - stride, stride, count + 1) - 1
        offsets += range(position, position + alike * stride, stride)
        position += alike * stride
        if alike < count:
            break
        at_once = min(4 * at_once, _MOST_ALIKE)
    return position


def _alike(raw: bytes, position: int, stride: int, count: int) -> int:
    """How many of the next `count` records of a pcap have the length of the first."""
    for byte in range(8, 12):
        lengths = raw[position + byte : position + byte + count * stride : stride][:count]
        count = len(lengths) - len(lengths.lstrip(lengths[:1]))
    return count


def wrapped_ns(time_ns: int) -> int:
    """Keep a time of nonsense (a damaged block, an absurd clock) in the 64 bits that the table has for it."""
    return (time_ns + 2**63) % 2**64 - 2**63


def whole_frames(count: int) -> str:
    """Say how many frames there were before a capture ended or was damaged."""
    return "1 whole frame was read" if count == 1 else f"{count} whole frames were read"


def options(body: bytes, position: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Give the options (code, value) of a pcapng block from a position on."""
    while len(body) - position >= 4:
        code, size = struct.unpack_from(order + "HH", body, position)
        if code == OPTION_END:
            return
        yield code, body[position + 4 : position + 4 + size]
        position += 4 + size + -size % 4
