"""Capture files and the frames in them: read pcap and pcapng, write both, build frames for mirrored messages.

Formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html (pcap),
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html (pcapng). Both may be wrapped in gzip.
Bytes in, values out: no file, no socket and no clock is touched here.
"""

from __future__ import annotations

import ipaddress
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labkit.errors import CaptureError

# Link types: https://www.tcpdump.org/linktypes.html
LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
LINKTYPE_LOOP = 108
LINKTYPE_LINUX_SLL = 113
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_LINUX_SLL2 = 276

_MAGIC_US = 0xA1B2C3D4
_MAGIC_NS = 0xA1B23C4D
_SECTION_HEADER = 0x0A0D0D0A
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_INTERFACE_DESCRIPTION, _PACKET, _SIMPLE_PACKET, _NAME_RESOLUTION, _ENHANCED_PACKET = 1, 2, 3, 4, 6
_OPTION_END, _OPTION_COMMENT, _OPTION_TSRESOL, _OPTION_TSOFFSET = 0, 1, 9, 14
_BIGGEST_BLOCK = 64 << 20
"""No honest frame or block is longer; a longer length field means that the file is damaged there."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it stands in a capture file."""

    number: int
    """1 for the first frame of the file, as Wireshark counts."""
    time_ns: int
    """Nanoseconds since 1970-01-01 UTC; 0 where the file holds no time."""
    linktype: int
    """Link type of the interface, LINKTYPE_ETHERNET and so on."""
    raw: bytes
    """The frame from its link header on, as far as it was captured."""
    comment: str = ""
    """Comment of the frame (pcapng), empty when it has none."""
    wire_size_bytes: int = 0
    """Length on the wire; larger than len(raw) when the capture cut the frame off."""


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """All that a capture file holds."""

    frames: tuple[Frame, ...]
    """The whole frames, in file order."""
    names: dict[str, str]
    """Address to name, from name-resolution blocks (pcapng)."""
    warning: str = ""
    """Empty, or one sentence that says where a damaged or truncated file ends."""


@dataclass(frozen=True, slots=True)
class _Interface:
    linktype: int
    units_per_s: int
    offset_s: int


def read_capture_file(raw: bytes) -> CaptureFile:
    """Read a whole capture: pcap or pcapng, either byte order, plain or gzip.

    Args:
        raw: the bytes of the file.
    Returns:
        Its frames and names; a file that ends in the middle gives what is whole, and a warning.
    Raises:
        CaptureError: the bytes are no capture.
    """
    raw, warning = _gunzip(raw)
    reader = _Reader()
    frames = reader.feed(raw)
    if not reader.recognised:
        raise CaptureError(
            f"This is no capture file ({len(raw)} bytes, first ones {raw[:8].hex(' ') or 'none'}): "
            "expected pcap or pcapng, plain or gzip."
        )
    if reader.damage:
        warning = reader.damage
    elif reader.left_over:
        warning = f"The capture ends inside frame {len(frames) + 1}: {len(frames)} whole frames were read."
    elif warning:
        warning = f"{warning}: {len(frames)} whole frames were read."
    return CaptureFile(tuple(frames), reader.names, warning)


def read_frames(raw: bytes) -> Iterator[Frame]:
    """Read the frames of a capture; like `read_capture_file`, for those who need nothing else."""
    yield from read_capture_file(raw).frames


class StreamReader:
    """Read a capture that is still growing, for example from a pipe: feed bytes, get whole frames."""

    def __init__(self) -> None:
        self._reader = _Reader()

    def feed(self, raw: bytes) -> list[Frame]:
        """Take the next bytes (any number) and return the frames they complete.

        Raises:
            CaptureError: the stream does not start like a capture, or is damaged.
        """
        frames = self._reader.feed(raw)
        if self._reader.hopeless:
            raise CaptureError("The stream is no capture: it starts neither like pcap nor like pcapng.")
        if self._reader.damage:
            raise CaptureError(self._reader.damage)
        return frames


def _gunzip(raw: bytes) -> tuple[bytes, str]:
    if raw[:2] != b"\x1f\x8b":
        return raw, ""
    parts: list[bytes] = []
    while raw[:2] == b"\x1f\x8b":
        unpacker = zlib.decompressobj(31)
        # In small steps: an error in the last step must not cost what came before it.
        for start in range(0, len(raw), 4096):
            try:
                parts.append(unpacker.decompress(raw[start : start + 4096]))
            except zlib.error:
                return b"".join(parts), f"The gzip data is damaged near byte {start}"
        if not unpacker.eof:
            return b"".join(parts), "The gzip data ends too early"
        raw = unpacker.unused_data
    return b"".join(parts), ""


class _Reader:
    """Incremental reader of both formats; keeps the incomplete tail between calls."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.damage = ""
        self._tail = b""
        self._count = 0
        self._kind = ""
        self._order = "<"
        self._pcap = _Interface(0, 10**6, 0)
        self._interfaces: list[_Interface] = []

    @property
    def recognised(self) -> bool:
        return self._kind in {"pcap", "pcapng"}

    @property
    def hopeless(self) -> bool:
        return self._kind == "unknown"

    @property
    def left_over(self) -> int:
        return len(self._tail)

    def feed(self, raw: bytes) -> list[Frame]:
        buffer = self._tail + raw
        position = 0
        if not self._kind:
            position = self._start(buffer)
        frames: list[Frame] = []
        if self._kind == "pcap":
            position = self._pcap_records(buffer, position, frames)
        elif self._kind == "pcapng":
            position = self._pcapng_blocks(buffer, position, frames)
        self._tail = buffer[position:]
        return frames

    def _start(self, buffer: bytes) -> int:
        """Recognise the format; the position after a pcap file header, else 0."""
        if len(buffer) < 4:
            return 0
        if int.from_bytes(buffer[:4], "big") == _SECTION_HEADER:
            self._kind = "pcapng"
            return 0
        for order in "<>":
            magic = struct.unpack_from(order + "I", buffer)[0]
            if magic in (_MAGIC_US, _MAGIC_NS):
                if len(buffer) < 24:
                    return 0
                self._kind, self._order = "pcap", order
                linktype = struct.unpack_from(order + "I", buffer, 20)[0] & 0xFFFF
                self._pcap = _Interface(linktype, 10**9 if magic == _MAGIC_NS else 10**6, 0)
                return 24
        self._kind = "unknown"
        return 0

    def _pcap_records(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        header = struct.Struct(self._order + "IIII")
        factor = 10**9 // self._pcap.units_per_s
        while not self.damage and len(buffer) - position >= 16:
            seconds, fraction, captured, on_wire = header.unpack_from(buffer, position)
            if captured > _BIGGEST_BLOCK:
                self._damaged(f"claims a frame of {captured} bytes")
                break
            if len(buffer) - position - 16 < captured:
                break
            time_ns = seconds * 10**9 + fraction * factor
            raw = buffer[position + 16 : position + 16 + captured]
            self._append(frames, time_ns, self._pcap.linktype, raw, "", on_wire)
            position += 16 + captured
        return position

    def _pcapng_blocks(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        while not self.damage and len(buffer) - position >= 12:
            if int.from_bytes(buffer[position : position + 4], "big") == _SECTION_HEADER and not self._section(
                buffer, position
            ):
                break
            kind, size = struct.unpack_from(self._order + "II", buffer, position)
            if size < 12 or size % 4 or size > _BIGGEST_BLOCK:
                self._damaged(f"claims a block of {size} bytes")
                break
            if len(buffer) - position < size:
                break
            self._block(kind, buffer[position + 8 : position + size - 4], frames)
            position += size
        return position

    def _section(self, buffer: bytes, position: int) -> bool:
        magic = buffer[position + 8 : position + 12]
        if int.from_bytes(magic, "little") == _BYTE_ORDER_MAGIC:
            self._order = "<"
        elif int.from_bytes(magic, "big") == _BYTE_ORDER_MAGIC:
            self._order = ">"
        else:
            self._damaged("has a section header without its byte-order magic")
            return False
        self._interfaces = []
        return True

    def _block(self, kind: int, body: bytes, frames: list[Frame]) -> None:
        try:
            if kind == _INTERFACE_DESCRIPTION:
                self._interfaces.append(self._interface(body))
            elif kind == _ENHANCED_PACKET:
                number, high, low, captured, on_wire = struct.unpack_from(self._order + "IIIII", body)
                self._packet(frames, number, (high << 32) | low, body, 20, captured, on_wire)
            elif kind == _PACKET:
                number, _drops, high, low, captured, on_wire = struct.unpack_from(self._order + "HHIIII", body)
                self._packet(frames, number, (high << 32) | low, body, 20, captured, on_wire)
            elif kind == _SIMPLE_PACKET:
                on_wire = struct.unpack_from(self._order + "I", body)[0]
                linktype = self._interfaces[0].linktype if self._interfaces else LINKTYPE_ETHERNET
                self._append(frames, 0, linktype, body[4 : 4 + on_wire], "", on_wire)
            elif kind == _NAME_RESOLUTION:
                self.names.update(self._names(body))
        except struct.error:
            self._damaged("has a block that is shorter than its own fields")

    def _interface(self, body: bytes) -> _Interface:
        linktype = struct.unpack_from(self._order + "H", body)[0]
        units_per_s, offset_s = 10**6, 0
        for code, value in self._options(body, 8):
            if code == _OPTION_TSRESOL and value:
                exponent = value[0] & 0x7F
                units_per_s = 2**exponent if value[0] & 0x80 else 10**exponent
            elif code == _OPTION_TSOFFSET and len(value) >= 8:
                offset_s = struct.unpack_from(self._order + "q", value)[0]
        return _Interface(linktype, units_per_s, offset_s)

    def _packet(
        self,
        frames: list[Frame],
        number: int,
        ticks: int,
        body: bytes,
        start: int,
        captured: int,
        on_wire: int,
    ) -> None:
        if number >= len(self._interfaces) or start + captured > len(body):
            self._damaged("has a packet block without its interface or shorter than its packet")
            return
        interface = self._interfaces[number]
        time_ns = ticks * 10**9 // interface.units_per_s + interface.offset_s * 10**9
        comments = [
            value.decode("utf-8", "replace")
            for code, value in self._options(body, start + captured + -captured % 4)
            if code == _OPTION_COMMENT
        ]
        raw = body[start : start + captured]
        self._append(frames, time_ns, interface.linktype, raw, "\n".join(comments), on_wire)

    def _append(self, frames: list[Frame], time_ns: int, linktype: int, raw: bytes, comment: str, on_wire: int) -> None:
        self._count += 1
        frames.append(Frame(self._count, time_ns, linktype, raw, comment, on_wire))

    def _options(self, body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
        while len(body) - position >= 4:
            code, size = struct.unpack_from(self._order + "HH", body, position)
            if code == _OPTION_END:
                return
            yield code, body[position + 4 : position + 4 + size]
            position += 4 + size + -size % 4

    def _names(self, body: bytes) -> Iterator[tuple[str, str]]:
        position = 0
        while len(body) - position >= 4:
            kind, size = struct.unpack_from(self._order + "HH", body, position)
            record = body[position + 4 : position + 4 + size]
            width = {1: 4, 2: 16}.get(kind)
            if kind == _OPTION_END:
                return
            if width and len(record) > width:
                name = record[width:].split(b"\0")[0].decode("utf-8", "replace")
                yield str(ipaddress.ip_address(record[:width])), name
            position += 4 + size + -size % 4

    def _damaged(self, what: str) -> None:
        self.damage = f"The capture {what} after frame {self._count}: {self._count} whole frames were read."


# ---------------------------------------------------------------- writing


def pcap_header(linktype: int = LINKTYPE_ETHERNET) -> bytes:
    """Give the file header of a pcap with nanosecond times, little endian."""
    return struct.pack("<IHHiIII", _MAGIC_NS, 2, 4, 0, 0, 262144, linktype)


def pcap_record(time_ns: int, raw: bytes, wire_size_bytes: int = 0) -> bytes:
    """Give one record for a file that starts with `pcap_header`."""
    return struct.pack("<IIII", time_ns // 10**9, time_ns % 10**9, len(raw), wire_size_bytes or len(raw)) + raw


def pcapng(frames: Iterable[Frame], names: Mapping[str, str] | None = None, comment: str = "") -> bytes:
    """Give a pcapng file: one section, one interface a link type, nanosecond times.

    Args:
        frames: in file order; their numbers are not stored (position counts).
        names: address to node name; written as a name-resolution block that Wireshark shows.
        comment: comment of the whole file.
    """
    frames = list(frames)
    application = _option(4, b"labkit") + (_option(_OPTION_COMMENT, comment.encode()) if comment else b"")
    header = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1) + application + _option(_OPTION_END, b"")
    parts = [_block(_SECTION_HEADER, header)]
    linktypes = list(dict.fromkeys(frame.linktype for frame in frames)) or [LINKTYPE_ETHERNET]
    for linktype in linktypes:
        body = struct.pack("<HHI", linktype, 0, 262144) + _option(_OPTION_TSRESOL, b"\x09")
        parts.append(_block(_INTERFACE_DESCRIPTION, body + _option(_OPTION_END, b"")))
    if names:
        parts.append(_block(_NAME_RESOLUTION, _name_records(names)))
    for frame in frames:
        body = struct.pack(
            "<IIIII",
            linktypes.index(frame.linktype),
            frame.time_ns >> 32,
            frame.time_ns & 0xFFFFFFFF,
            len(frame.raw),
            frame.wire_size_bytes or len(frame.raw),
        ) + _padded(frame.raw)
        if frame.comment:
            body += _option(_OPTION_COMMENT, frame.comment.encode()) + _option(_OPTION_END, b"")
        parts.append(_block(_ENHANCED_PACKET, body))
    return b"".join(parts)


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _name_records(names: Mapping[str, str]) -> bytes:
    records = b""
    for address, name in names.items():
        try:
            packed = ipaddress.ip_address(address).packed
        except ValueError:  # "address:port" names have no place in this block
            continue
        records += _option(1 if len(packed) == 4 else 2, packed + name.encode() + b"\0")
    return records + _option(_OPTION_END, b"")


# ---------------------------------------------------------------- building frames

TCP_FIN, TCP_SYN, TCP_RST, TCP_PSH, TCP_ACK = 1, 2, 4, 8, 16
_UDP, _TCP = 17, 6


def udp_frame(src: str, src_port: int, dst: str, dst_port: int, payload: bytes, *, ip_id: int = 0) -> bytes:
    """Build an Ethernet frame with one UDP datagram, all checksums right.

    Args:
        payload: at most 65507 bytes (IPv4), 65527 (IPv6).
        ip_id: identification of the IPv4 packet.
    Raises:
        CaptureError: an address is none, the families differ, or the payload does not fit.
    """
    header = struct.pack(">HHHH", src_port, dst_port, min(8 + len(payload), 0xFFFF), 0)
    return _ethernet(src, dst, _UDP, header + payload, 6, ip_id)


def tcp_frame(
    src: str,
    src_port: int,
    dst: str,
    dst_port: int,
    payload: bytes,
    *,
    sequence: int,
    acknowledgment: int = 0,
    flags: int = TCP_PSH | TCP_ACK,
    ip_id: int = 0,
) -> bytes:
    """Build an Ethernet frame with one TCP segment, all checksums right; arguments as for `udp_frame`."""
    header = struct.pack(
        ">HHIIBBHHH",
        src_port,
        dst_port,
        sequence & 0xFFFFFFFF,
        acknowledgment & 0xFFFFFFFF,
        5 << 4,
        flags,
        0xFFFF,
        0,
        0,
    )
    return _ethernet(src, dst, _TCP, header + payload, 16, ip_id)


def _ethernet(src: str, dst: str, protocol: int, segment: bytes, checksum_at: int, ip_id: int) -> bytes:
    try:
        source, target = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    except ValueError as error:
        raise CaptureError(f"Cannot build a frame from {src!r} to {dst!r}: {error}.") from error
    if source.version != target.version:
        raise CaptureError(f"Cannot build a frame from {src} to {dst}: IPv4 and IPv6 do not mix.")
    if len(segment) > (65515 if source.version == 4 else 65535):
        raise CaptureError(f"Cannot build a frame of {len(segment)} bytes: IP carries at most 65535.")
    pseudo = source.packed + target.packed + struct.pack(">IHH", len(segment), 0, protocol)
    checksum = _internet_checksum(pseudo + segment)
    if protocol == _UDP and checksum == 0:
        checksum = 0xFFFF  # RFC 768: zero on the wire would mean "no checksum"
    segment = segment[:checksum_at] + struct.pack(">H", checksum) + segment[checksum_at + 2 :]
    if source.version == 4:
        header = struct.pack(
            ">BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(segment),
            ip_id & 0xFFFF,
            0x4000,
            64,
            protocol,
            0,
            source.packed,
            target.packed,
        )
        header = header[:10] + struct.pack(">H", _internet_checksum(header)) + header[12:]
    else:
        header = struct.pack(">IHBB", 6 << 28, len(segment), protocol, 64) + source.packed + target.packed
    ethertype = b"\x08\x00" if source.version == 4 else b"\x86\xdd"
    return _mac(target.packed) + _mac(source.packed) + ethertype + header + segment


def _mac(packed: bytes) -> bytes:
    return b"\x02\x42" + packed[-4:]  # locally administered, the form that Docker gives its containers


def _internet_checksum(raw: bytes) -> int:
    raw += bytes(len(raw) % 2)
    total: int = sum(struct.unpack(f">{len(raw) // 2}H", raw))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
