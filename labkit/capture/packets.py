"""Frames to datagrams and segments one by one: link headers, IP (fragments put together), tunnels, UDP, TCP, SCTP.

The same rules for thousands of frames at once stand in `capture.decode.layers`; tests hold the two together.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from labkit.wire import pcap

IP_IN_IP, TCP, UDP, IPV6_IN_IP, GRE, SCTP = 4, 6, 17, 41, 47, 132
ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TRANSPARENT = 0x0800, 0x86DD, 0x6558
VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
IPV6_OPTIONS = (0, 43, 60, 135)  # hop-by-hop, routing, destination options, mobility
IPV6_FRAGMENT, IPV6_AUTHENTICATION = 44, 51
LINK_RAW = (pcap.LINKTYPE_RAW, pcap.LINKTYPE_IPV4, pcap.LINKTYPE_IPV6, 12, 14)
"""Raw IP; 12 and 14 are what some systems write for it."""
LINK_ADDRESS_FAMILY = (pcap.LINKTYPE_NULL, pcap.LINKTYPE_LOOP)
"""Four bytes before the IP packet; the family in them says nothing that the IP version does not."""
PORT_VXLAN, PORT_GTP_U = 4789, 2152
ERSPAN_TYPES = ((0x88BE, 8, 0), (0x22EB, 12, 12))
"""GRE protocol, size of the ERSPAN header where GRE has a sequence number, and where it has none (type I)."""
MOST_LAYERS, MOST_EXTENSIONS = 8, 16
"""Deeper nesting of tunnels or more IPv6 extension headers are not honest."""

_MOST_PENDING_PACKETS = 1024
_MOST_PENDING_PIECES = 65536
_MOST_PIECES = 256
"""A packet of 65535 bytes in pieces of 576, the smallest that every network must carry, has 119."""
_BIGGEST_PACKET = 65535
LONGEST_WAIT_NS = 60 * 10**9
"""Pieces further apart are of different packets: RFC 8200 section 4.5 gives them up after 60 s, and identifications
come again soon, 16 bits of them in IPv4."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One UDP datagram, TCP segment or SCTP packet, and the frame that completed it."""

    frame: int
    """Number of the frame; of the last one to come, when fragments were put together."""
    time_ns: int
    """Time of that frame."""
    protocol: int
    """UDP, TCP or SCTP."""
    src: str
    """Address."""
    src_port: int
    """Port."""
    dst: str
    """Address."""
    dst_port: int
    """Port."""
    payload: bytes
    """What UDP or TCP carries; the chunks of an SCTP packet."""
    sequence: int = 0
    """TCP sequence number of the first payload byte (of the SYN, when the SYN flag is set)."""
    flags: int = 0
    """TCP flags."""


FragmentKey = tuple[bytes, bytes, int, int]
"""Source, destination, protocol, identification (above 2**32 for IPv6)."""


class FragmentStore:
    """Keeps IP fragments until their packet is whole, within bounds."""

    def __init__(self) -> None:
        self.pending: dict[FragmentKey, _Fragments] = {}
        """Packets of which some pieces have come, oldest first."""
        self.dropped = 0
        """Packets given up because too many were open, or because a piece was absurd."""
        self.outdated = 0
        """Packets given up because a piece of another with the same identification came."""
        self._pieces = 0

    def add(self, key: FragmentKey, offset: int, more: bool, body: bytes, time_ns: int) -> bytes | None:
        """Take a piece; give the packet's body when that makes it whole."""
        pending = self.pending.get(key)
        if pending is not None and abs(time_ns - pending.time_ns) > LONGEST_WAIT_NS:
            self.outdated += 1
            self._remove(key)
            pending = None
        if pending is None:
            pending = self.pending[key] = _Fragments(time_ns)
        before = len(pending.pieces)
        whole = pending.add(offset, more, body)
        self._pieces += len(pending.pieces) - before
        if whole is not None:
            self._remove(key)
            return whole
        if len(pending.pieces) > _MOST_PIECES:
            self._drop(key)
        while len(self.pending) > _MOST_PENDING_PACKETS or self._pieces > _MOST_PENDING_PIECES:
            self._drop(next(iter(self.pending)))  # the oldest: it will not be completed any more
        return None

    def _drop(self, key: FragmentKey) -> None:
        self.dropped += 1
        self._remove(key)

    def _remove(self, key: FragmentKey) -> None:
        self._pieces -= len(self.pending.pop(key).pieces)


@dataclass(slots=True)
class _Fragments:
    time_ns: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    received: int = 0
    size: int | None = None

    def add(self, offset: int, more: bool, body: bytes) -> bytes | None:
        if offset + len(body) > _BIGGEST_PACKET or (more and not body):
            return None
        known = self.pieces.get(offset, b"")
        if len(body) > len(known) or not body:
            self.pieces[offset] = body
            self.received += len(body) - len(known)
        if not more:
            self.size = offset + len(body)
        if self.size is None or self.received < self.size:
            return None
        joined = bytearray()
        for start in sorted(self.pieces):
            if start > len(joined):
                return None
            joined += self.pieces[start][len(joined) - start :]
        return bytes(joined[: self.size]) if len(joined) >= self.size else None


class PacketReader:
    """Turns frames into segments one by one."""

    def __init__(self, fragments: FragmentStore | None = None) -> None:
        self.fragments = fragments or FragmentStore()
        """Pieces of packets that are not whole."""
        self.cut = 0
        """Segments of which the capture holds only the beginning."""
        self.unread: Counter[int] = Counter()
        """Frames of each link type that is not read."""

    def segments(self, frame: pcap.Frame) -> Iterator[Segment]:
        """Give the segment that this frame completes, if any; frames of no interest give none."""
        try:
            found = self._link(frame, frame.linktype, frame.raw, 0)
        except (struct.error, IndexError):  # cut off inside a header
            return
        if found is not None:
            yield found

    def _link(self, frame: pcap.Frame, linktype: int, raw: bytes, layer: int) -> Segment | None:
        if linktype == pcap.LINKTYPE_ETHERNET:
            return self._ethertype(frame, raw, 12, layer)
        if linktype == pcap.LINKTYPE_LINUX_SLL:
            return self._ethertype(frame, raw, 14, layer)
        if linktype == pcap.LINKTYPE_LINUX_SLL2:
            if int.from_bytes(raw[:2], "big") in VLAN_TAGS:  # the rest of the tag stands behind the header
                return self._ethertype(frame, raw, 20 + 2, layer)
            return self._network(frame, raw[20:], layer) if _is_ip(raw, 0) else None
        if linktype in LINK_RAW:
            return self._network(frame, raw, layer)
        if linktype in LINK_ADDRESS_FAMILY:
            return self._network(frame, raw[4:], layer)
        self.unread[linktype] += 1
        return None

    def _ethertype(self, frame: pcap.Frame, raw: bytes, position: int, layer: int) -> Segment | None:
        for _ in range(MOST_LAYERS):
            if int.from_bytes(raw[position : position + 2], "big") not in VLAN_TAGS:
                break
            position += 4
        return self._network(frame, raw[position + 2 :], layer) if _is_ip(raw, position) else None

    def _network(self, frame: pcap.Frame, packet: bytes, layer: int) -> Segment | None:
        if not packet or layer > MOST_LAYERS:
            return None
        if packet[0] >> 4 == 4:
            return self._ipv4(frame, packet, layer)
        if packet[0] >> 4 == 6:
            return self._ipv6(frame, packet, layer)
        return None

    def _ipv4(self, frame: pcap.Frame, packet: bytes, layer: int) -> Segment | None:
        header_size = (packet[0] & 15) * 4
        total, ip_id, fragment = struct.unpack_from(">HHH", packet, 2)
        src, dst, protocol = packet[12:16], packet[16:20], packet[9]
        if header_size < 20 or len(packet) < 20:
            return None
        # A total length of 0 is what segmentation offload leaves behind: the packet is all there is.
        body = packet[header_size : total or None]
        cut = total > len(packet) if total else frame.wire_size_bytes > len(frame.raw)
        more, offset = bool(fragment & 0x2000), (fragment & 0x1FFF) * 8
        if more or offset:
            joined = self.fragments.add((src, dst, protocol, ip_id), offset, more, body, frame.time_ns)
            if joined is None:
                return None
            body, cut = joined, False
        return self._transport(frame, src, dst, protocol, body, cut, layer)

    def _ipv6(self, frame: pcap.Frame, packet: bytes, layer: int) -> Segment | None:
        size, protocol = struct.unpack_from(">HB", packet, 4)
        src, dst = packet[8:24], packet[24:40]
        if len(packet) < 40:
            return None
        body = packet[40 : 40 + size if size else None]
        cut = 40 + size > len(packet) if size else frame.wire_size_bytes > len(frame.raw)
        for _ in range(MOST_EXTENSIONS):
            if protocol == IPV6_FRAGMENT:
                protocol, _reserved, offset, ip_id = struct.unpack_from(">BBHI", body)
                more, body = bool(offset & 1), body[8:]
                if not more and not offset & 0xFFF8:
                    continue  # an "atomic" fragment is a whole packet (RFC 6946)
                # IPv6 identifications have 32 bits: one more keeps them apart from those of IPv4
                key = (src, dst, protocol, ip_id | 1 << 32)
                joined = self.fragments.add(key, offset & 0xFFF8, more, body, frame.time_ns)
                if joined is None:
                    return None
                body, cut = joined, False
                break
            if protocol in IPV6_OPTIONS:
                protocol, body = body[0], body[(body[1] + 1) * 8 :]
            elif protocol == IPV6_AUTHENTICATION:
                protocol, body = body[0], body[(body[1] + 2) * 4 :]
            else:
                break
        return self._transport(frame, src, dst, protocol, body, cut, layer)

    def _transport(
        self, frame: pcap.Frame, src: bytes, dst: bytes, protocol: int, body: bytes, cut: bool, layer: int
    ) -> Segment | None:
        if protocol in (IP_IN_IP, IPV6_IN_IP):
            return self._network(frame, body, layer + 1)
        if protocol == GRE:
            return self._gre(frame, body, layer + 1)
        sequence = flags = 0
        if protocol == UDP:
            src_port, dst_port, size = struct.unpack_from(">HHH", body)
            payload = body[8 : size if size >= 8 else None]
            if len(body) < 8:
                return None
            if len(body) > 16 and dst_port == PORT_VXLAN and body[8] & 0x08:
                return self._ethertype(frame, body, 16 + 12, layer + 1)
            if len(body) > 16 and PORT_GTP_U in (src_port, dst_port) and body[8] & 0xF0 == 0x30 and body[9] == 255:
                return self._network(frame, body[_gtp_u_header(body) :], layer + 1)
        elif protocol == TCP:
            src_port, dst_port, sequence = struct.unpack_from(">HHI", body)
            flags, payload = body[13], body[max(20, (body[12] >> 4) * 4) :]
        elif protocol == SCTP:
            src_port, dst_port = struct.unpack_from(">HH", body)
            payload = body[12:]
        else:
            return None
        self.cut += cut
        source, target = _text_address(src), _text_address(dst)
        return Segment(
            frame.number, frame.time_ns, protocol, source, src_port, target, dst_port, payload, sequence, flags
        )

    def _gre(self, frame: pcap.Frame, body: bytes, layer: int) -> Segment | None:
        """RFC 2784, 2890; ERSPAN types I to III inside."""
        word, kind = struct.unpack_from(">HH", body)
        if word & 0x4007:  # routing, or another version
            return None
        start = 4 + sum(4 for bit in (0x8000, 0x2000, 0x1000) if word & bit)
        if kind in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
            return self._network(frame, body[start:], layer)
        if kind == ETHERTYPE_TRANSPARENT:
            return self._ethertype(frame, body, start + 12, layer)
        for code, with_sequence, without in ERSPAN_TYPES:
            if kind == code:
                header = with_sequence if word & 0x1000 else without
                if code == 0x22EB:  # type III has an optional subheader of eight bytes
                    header += 8 * (body[start + 11] & 1)
                return self._ethertype(frame, body, start + header + 12, layer)
        return None


def _gtp_u_header(body: bytes) -> int:
    """Where the user's packet starts behind UDP and GTP-U headers (3GPP TS 29.281 section 5)."""
    start = 16
    if not body[8] & 7:
        return start
    extension = body[start + 3] if body[8] & 4 else 0
    start += 4
    for _ in range(MOST_LAYERS):
        if not extension or start >= len(body):
            break
        if not body[start]:
            return len(body)
        start += body[start] * 4
        extension = body[start - 1] if start <= len(body) else 0
    return start


def _is_ip(raw: bytes, position: int) -> bool:
    return int.from_bytes(raw[position : position + 2], "big") in (ETHERTYPE_IPV4, ETHERTYPE_IPV6)


def _text_address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))
