"""Frames to datagrams and segments: link header, IP (fragments put together), UDP and TCP header."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from labkit.wire import pcap

UDP, TCP = 17, 6
_ETHERTYPE_IPV4, _ETHERTYPE_IPV6 = 0x0800, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
_IPV6_OPTIONS = (0, 43, 60, 135)  # hop-by-hop, routing, destination options, mobility
_IPV6_FRAGMENT, _IPV6_AUTHENTICATION = 44, 51
_MOST_PENDING_PACKETS = 1024
_BIGGEST_PACKET = 65535


@dataclass(frozen=True, slots=True)
class Segment:
    """One UDP datagram or TCP segment, and the frame that completed it."""

    frame: int
    """Number of the frame; of the last one to come, when fragments were put together."""
    time_ns: int
    """Time of that frame."""
    protocol: int
    """UDP or TCP."""
    src: str
    """Address."""
    src_port: int
    """Port."""
    dst: str
    """Address."""
    dst_port: int
    """Port."""
    payload: bytes
    """What UDP or TCP carries."""
    sequence: int = 0
    """TCP sequence number of the first payload byte (of the SYN, when the SYN flag is set)."""
    flags: int = 0
    """TCP flags."""


class PacketReader:
    """Turns frames into segments one by one; remembers IP fragments until their packet is whole."""

    def __init__(self) -> None:
        self._fragments: dict[tuple[bytes, bytes, int, int], _Fragments] = {}

    def segments(self, frame: pcap.Frame) -> Iterator[Segment]:
        """Give the segment that this frame completes, if any; frames of no interest give none."""
        try:
            found = self._segment(frame)
        except (struct.error, IndexError):  # cut off inside a header
            return
        if found is not None:
            yield found

    def _segment(self, frame: pcap.Frame) -> Segment | None:
        packet = _network_layer(frame.linktype, frame.raw)
        if not packet:
            return None
        if packet[0] >> 4 == 4:
            whole = self._ipv4(packet)
        elif packet[0] >> 4 == 6:
            whole = self._ipv6(packet)
        else:
            return None
        return _transport_layer(frame, *whole) if whole else None

    def _ipv4(self, packet: bytes) -> tuple[bytes, bytes, int, bytes] | None:
        header_size = (packet[0] & 15) * 4
        total, ip_id, fragment = struct.unpack_from(">HHH", packet, 2)
        src, dst, protocol = packet[12:16], packet[16:20], packet[9]
        if header_size < 20 or len(packet) < 20:
            return None
        # A total length of 0 is what segmentation offload leaves behind: the packet is all there is.
        body = packet[header_size : total or None]
        more, offset = bool(fragment & 0x2000), (fragment & 0x1FFF) * 8
        if more or offset:
            joined = self._join((src, dst, protocol, ip_id), offset, more, body)
            return (src, dst, protocol, joined) if joined is not None else None
        return src, dst, protocol, body

    def _ipv6(self, packet: bytes) -> tuple[bytes, bytes, int, bytes] | None:
        size, protocol = struct.unpack_from(">HB", packet, 4)
        src, dst = packet[8:24], packet[24:40]
        body = packet[40 : 40 + size if size else None]
        while True:
            if protocol in _IPV6_OPTIONS:
                protocol, body = body[0], body[(body[1] + 1) * 8 :]
            elif protocol == _IPV6_AUTHENTICATION:
                protocol, body = body[0], body[(body[1] + 2) * 4 :]
            elif protocol == _IPV6_FRAGMENT:
                protocol, _reserved, offset, ip_id = struct.unpack_from(">BBHI", body)
                more, body = bool(offset & 1), body[8:]
                if not more and not offset & 0xFFF8:
                    continue  # an "atomic" fragment is a whole packet (RFC 6946)
                joined = self._join((src, dst, protocol, ip_id), offset & 0xFFF8, more, body)
                if joined is None:
                    return None
                body = joined
            else:
                return src, dst, protocol, body

    def _join(self, key: tuple[bytes, bytes, int, int], offset: int, more: bool, body: bytes) -> bytes | None:
        pending = self._fragments.setdefault(key, _Fragments({}))
        whole = pending.add(offset, more, body)
        if whole is not None:
            del self._fragments[key]
        elif len(self._fragments) > _MOST_PENDING_PACKETS:
            del self._fragments[next(iter(self._fragments))]  # the oldest: it will not be completed any more
        return whole


@dataclass(slots=True)
class _Fragments:
    pieces: dict[int, bytes]
    size: int | None = None

    def add(self, offset: int, more: bool, body: bytes) -> bytes | None:
        if offset + len(body) > _BIGGEST_PACKET or (more and not body):
            return None
        if len(body) > len(self.pieces.get(offset, b"")):
            self.pieces[offset] = body
        if not more:
            self.size = offset + len(body)
        if self.size is None:
            return None
        joined = b""
        for start in sorted(self.pieces):
            if start > len(joined):
                return None
            joined += self.pieces[start][len(joined) - start :]
        return joined[: self.size] if len(joined) >= self.size else None


def _network_layer(linktype: int, raw: bytes) -> bytes:
    """The IP packet in a frame, or nothing."""
    if linktype == pcap.LINKTYPE_ETHERNET:
        return _after_ethertype(raw, 12)
    if linktype == pcap.LINKTYPE_LINUX_SLL:
        return _after_ethertype(raw, 14)
    if linktype == pcap.LINKTYPE_LINUX_SLL2:
        return raw[20:] if _ethertype(raw, 0) in (_ETHERTYPE_IPV4, _ETHERTYPE_IPV6) else b""
    if linktype in (pcap.LINKTYPE_RAW, pcap.LINKTYPE_IPV4, pcap.LINKTYPE_IPV6, 12, 14):
        return raw  # 12 and 14 are what some systems write for raw IP
    if linktype in (pcap.LINKTYPE_NULL, pcap.LINKTYPE_LOOP):
        return raw[4:]  # the address family before it says nothing that the IP version does not
    return b""


def _ethertype(raw: bytes, position: int) -> int:
    return int.from_bytes(raw[position : position + 2], "big")


def _after_ethertype(raw: bytes, position: int) -> bytes:
    while _ethertype(raw, position) in _VLAN_TAGS:
        position += 4
    return raw[position + 2 :] if _ethertype(raw, position) in (_ETHERTYPE_IPV4, _ETHERTYPE_IPV6) else b""


def _transport_layer(frame: pcap.Frame, src: bytes, dst: bytes, protocol: int, body: bytes) -> Segment | None:
    if protocol == UDP:
        src_port, dst_port, size = struct.unpack_from(">HHH", body)
        payload, sequence, flags = body[8 : size if size >= 8 else None], 0, 0
    elif protocol == TCP:
        src_port, dst_port, sequence = struct.unpack_from(">HHI", body)
        flags, payload = body[13], body[(body[12] >> 4) * 4 :]
    else:
        return None
    return Segment(
        frame.number,
        frame.time_ns,
        protocol,
        _text_address(src),
        src_port,
        _text_address(dst),
        dst_port,
        payload,
        sequence,
        flags,
    )


def _text_address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))
