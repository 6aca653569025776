"""Capture files and the frames in them: read pcap and pcapng, write both, build frames for mirrored messages.

Formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html (pcap),
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html (pcapng). Both may be wrapped in gzip.
Bytes in, values out: no file, no socket and no clock is touched here.
"""

from __future__ import annotations

import ipaddress
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from labkit.errors import CaptureError
from labkit.wire.pcap_records import (
    BYTE_ORDER_MAGIC,
    ENHANCED_PACKET,
    INTERFACE_DESCRIPTION,
    MAGIC_NS,
    NAME_RESOLUTION,
    OPTION_COMMENT,
    OPTION_END,
    OPTION_TSRESOL,
    SECTION_HEADER,
    SIMPLE_PACKET,
    RecordWalker,
    Run,
    options,
    whole_frames,
)

# Link types: https://www.tcpdump.org/linktypes.html
LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
LINKTYPE_LOOP = 108
LINKTYPE_LINUX_SLL = 113
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_LINUX_SLL2 = 276


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
    walker = RecordWalker()
    frames = [frame for run in walker.feed(raw) for frame in frames_of_run(run)]
    if walker.kind not in ("pcap", "pcapng"):
        raise CaptureError(
            f"This is no capture file ({len(raw)} bytes, first ones {raw[:8].hex(' ') or 'none'}): "
            "expected pcap or pcapng, plain or gzip."
        )
    return CaptureFile(tuple(frames), walker.names, ending(walker, warning))


def ending(walker: RecordWalker, gzip_warning: str = "") -> str:
    """Say in a sentence how a capture that was fed to the end is damaged or cut off; empty when it is whole."""
    if walker.damage:
        return walker.damage
    if walker.left_over:
        return f"The capture ends inside frame {walker.count + 1}: {whole_frames(walker.count)}."
    return f"{gzip_warning}: {whole_frames(walker.count)}." if gzip_warning else ""


def read_frames(raw: bytes) -> Iterator[Frame]:
    """Read the frames of a capture; like `read_capture_file`, for those who need nothing else."""
    yield from read_capture_file(raw).frames


class StreamReader:
    """Read a capture that is still growing, for example from a pipe: feed bytes, get whole frames."""

    def __init__(self) -> None:
        self._walker = RecordWalker()

    def feed(self, raw: bytes) -> list[Frame]:
        """Take the next bytes (any number) and return the frames they complete.

        Raises:
            CaptureError: the stream does not start like a capture, or is damaged.
        """
        frames = [frame for run in self._walker.feed(raw) for frame in frames_of_run(run)]
        if self._walker.kind == "unknown":
            raise CaptureError("The stream is no capture: it starts neither like pcap nor like pcapng.")
        if self._walker.damage:
            raise CaptureError(self._walker.damage)
        return frames


def frames_of_run(run: Run) -> Iterator[Frame]:
    """Give the frames of a run of records."""
    for packet in run.packets():
        raw = run.raw[packet.start : packet.start + packet.captured]
        comment = ""
        if run.kind not in (0, SIMPLE_PACKET):
            behind = packet.start + packet.captured + -packet.captured % 4
            found = options(run.raw[behind : packet.end_of_record], 0, run.order)
            comments = [value.decode("utf-8", "replace") for code, value in found if code == OPTION_COMMENT]
            comment = "\n".join(comments)
        yield Frame(packet.number, packet.time_ns, packet.linktype, raw, comment, packet.on_wire)


def gunzipped(raw: bytes) -> bytes:
    """Give a capture's plain bytes; of damaged gzip data what can be had."""
    return _gunzip(raw)[0]


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


# ---------------------------------------------------------------- writing


def pcap_header(linktype: int = LINKTYPE_ETHERNET) -> bytes:
    """Give the file header of a pcap with nanosecond times, little endian."""
    return struct.pack("<IHHiIII", MAGIC_NS, 2, 4, 0, 0, 262144, linktype)


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
    linktypes = list(dict.fromkeys(frame.linktype for frame in frames)) or [LINKTYPE_ETHERNET]
    start = pcapng_start(names, comment, linktypes)
    return start + b"".join([pcapng_packet(frame, linktypes.index(frame.linktype)) for frame in frames])


def pcapng_start(
    names: Mapping[str, str] | None = None, comment: str = "", linktypes: Sequence[int] = (LINKTYPE_ETHERNET,)
) -> bytes:
    """Give what a pcapng file begins with, for a file that is written packet by packet; see `pcapng`."""
    application = _option(4, b"labkit") + (_option(OPTION_COMMENT, comment.encode()) if comment else b"")
    header = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1) + application + _option(OPTION_END, b"")
    parts = [_block(SECTION_HEADER, header)]
    for linktype in linktypes:
        body = struct.pack("<HHI", linktype, 0, 262144) + _option(OPTION_TSRESOL, b"\x09")
        parts.append(_block(INTERFACE_DESCRIPTION, body + _option(OPTION_END, b"")))
    if names:
        parts.append(_block(NAME_RESOLUTION, _name_records(names)))
    return b"".join(parts)


def pcapng_packet(frame: Frame, interface: int = 0) -> bytes:
    """Give one packet as it stands in a pcapng file.

    Args:
        frame: the packet.
        interface: place of its link type among those that the file began with.
    """
    body = struct.pack(
        "<IIIII",
        interface,
        frame.time_ns >> 32,
        frame.time_ns & 0xFFFFFFFF,
        len(frame.raw),
        frame.wire_size_bytes or len(frame.raw),
    ) + _padded(frame.raw)
    if frame.comment:
        body += _option(OPTION_COMMENT, frame.comment.encode()) + _option(OPTION_END, b"")
    return _block(ENHANCED_PACKET, body)


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
    return records + _option(OPTION_END, b"")


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
    link, addresses = _between(src, dst)
    four = len(addresses) == 8
    if len(segment) > (65515 if four else 65535):
        raise CaptureError(f"Cannot build a frame of {len(segment)} bytes: IP carries at most 65535.")
    checksum = internet_checksum(addresses + struct.pack(">IHH", len(segment), 0, protocol) + segment)
    if protocol == _UDP and checksum == 0:
        checksum = 0xFFFF  # RFC 768: zero on the wire would mean "no checksum"
    segment = segment[:checksum_at] + struct.pack(">H", checksum) + segment[checksum_at + 2 :]
    if not four:
        return link + struct.pack(">IHBB", 6 << 28, len(segment), protocol, 64) + addresses + segment
    start = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(segment), ip_id & 0xFFFF, 0x4000, 64, protocol)
    return link + start + struct.pack(">H", internet_checksum(start + addresses)) + addresses + segment


@lru_cache(maxsize=4096)
def _between(src: str, dst: str) -> tuple[bytes, bytes]:
    """Ethernet header and both IP addresses of what goes from one address to another."""
    try:
        source, target = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    except ValueError as error:
        raise CaptureError(f"Cannot build a frame from {src!r} to {dst!r}: {error}.") from error
    if source.version != target.version:
        raise CaptureError(f"Cannot build a frame from {src} to {dst}: IPv4 and IPv6 do not mix.")
    ethertype = b"\x08\x00" if source.version == 4 else b"\x86\xdd"
    return _mac(target.packed) + _mac(source.packed) + ethertype, source.packed + target.packed


def _mac(packed: bytes) -> bytes:
    return b"\x02\x42" + packed[-4:]  # locally administered, the form that Docker gives its containers


def internet_checksum(raw: bytes) -> int:
    """RFC 1071. Sums with end-around carry are remainders modulo 0xFFFF, and one division finds those."""
    raw += bytes(len(raw) % 2)
    total = int.from_bytes(raw, "big")
    return ~(total % 0xFFFF or (0xFFFF if total else 0)) & 0xFFFF
