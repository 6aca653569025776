"""From frames to IP packets, all frames of a run at once: link headers, IPv4, IPv6, tunnels.

Headers are peeled off in rounds: each round takes the outermost IP header of what is left, until only UDP, TCP, SCTP
and fragments remain. The same rules, packet by packet, stand in `capture.packets`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from labkit.capture.decode.arrays import Addresses, Array, Bytes, Flags, Ints, Keys, Raw, Rows, at, bytes_of, picked
from labkit.capture.packets import (
    ERSPAN_TYPES,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_TRANSPARENT,
    GRE,
    IP_IN_IP,
    IPV6_AUTHENTICATION,
    IPV6_FRAGMENT,
    IPV6_IN_IP,
    IPV6_OPTIONS,
    LINK_ADDRESS_FAMILY,
    LINK_RAW,
    MOST_EXTENSIONS,
    MOST_LAYERS,
    PORT_GTP_U,
    PORT_VXLAN,
    SCTP,
    TCP,
    UDP,
    VLAN_TAGS,
)
from labkit.wire import pcap

IPV4 = np.dtype(
    [
        ("version", "u1"),
        ("tos", "u1"),
        ("total", ">u2"),
        ("id", ">u2"),
        ("fragment", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("src", ">u4"),
        ("dst", ">u4"),
    ]
)
"""The header (RFC 791 section 3.1); `version` holds the header's length, too."""
_IPV6 = np.dtype(
    [("flow", ">u4"), ("size", ">u2"), ("protocol", "u1"), ("hops", "u1"), ("src", ">u8", 2), ("dst", ">u8", 2)]
)


@dataclass(slots=True)
class Bodies(Rows):
    """What IP packets carry."""

    frame: Ints
    """Index of the frame in the run."""
    src: Keys
    """Key of the address."""
    dst: Keys
    """Key of the address."""
    protocol: Array
    """IP protocol number."""
    start: Ints
    """Offset of the first byte behind the IP header."""
    end: Ints
    """Offset behind the last captured byte."""
    cut: Flags
    """True where the capture holds less than was on the wire."""


@dataclass(slots=True)
class Fragments(Rows):
    """Fragments of IP packets."""

    body: Bodies
    """Where the piece lies."""
    ip_id: Keys
    """Identification field."""
    offset: Ints
    """Place of the piece in the packet, in bytes."""
    more: Flags
    """False for the last piece."""

    def take(self, which: Array) -> Fragments:
        """Those at some indices, or those where a mask is true."""
        return Fragments(self.body.take(which), self.ip_id[which], self.offset[which], self.more[which])

    @classmethod
    def together(cls, parts: list[Fragments]) -> Fragments:
        """One after the other."""
        return Fragments(
            Bodies.together([part.body for part in parts]),
            np.concatenate([part.ip_id for part in parts]),
            np.concatenate([part.offset for part in parts]),
            np.concatenate([part.more for part in parts]),
        )


@dataclass(slots=True)
class _Inside(Rows):
    """IP packets still to be peeled."""

    frame: Ints
    start: Ints
    end: Ints
    cut: Flags


class Peeler:
    """Peels the frames of one buffer."""

    def __init__(self, raw: Raw, addresses: Addresses) -> None:
        self._raw = raw
        self._u8: Bytes = bytes_of(raw)
        self._addresses = addresses
        self._whole: list[Bodies] = []
        self._fragments: list[Fragments] = []
        self.unread: Counter[int] = Counter()
        """Frames of each link type that is not read."""

    def frames(
        self, number: Ints, linktype: Array, start: Ints, end: Ints, cut: Flags
    ) -> tuple[list[Bodies], list[Fragments]]:
        """Peel frames, of which `number` is the index in the run; give what UDP, TCP, SCTP and fragments carry."""
        frames = _Inside(number, start, end, cut)
        if (linktype == linktype[:1]).all():  # as in nearly every capture
            self._link(int(linktype[0]), frames, 0)
            return self._whole, self._fragments
        for kind in np.unique(linktype).tolist():
            self._link(kind, frames.take(linktype == kind), 0)
        return self._whole, self._fragments

    def bodies(self, bodies: Bodies) -> tuple[list[Bodies], list[Fragments]]:
        """Peel on inside packets that were put together from fragments."""
        self._sort_by_protocol(bodies, 0)
        return self._whole, self._fragments

    def _link(self, linktype: int, frames: _Inside, layer: int) -> None:
        if linktype in LINK_RAW:
            self._network(frames, layer)
        elif linktype in LINK_ADDRESS_FAMILY:
            self._network(self._shifted(frames, 4), layer)
        elif linktype == pcap.LINKTYPE_LINUX_SLL2:
            kind = at(self._raw, ">u2", np.minimum(frames.start, frames.end))
            self._network(self._shifted(frames.take(_is_ip(kind)), 20), layer)
            if (tagged := np.isin(kind, VLAN_TAGS)).any():  # the rest of the tag stands behind the header
                self._ethertype(self._shifted(frames.take(tagged), 20 + 2), layer)
        elif linktype in (pcap.LINKTYPE_ETHERNET, pcap.LINKTYPE_LINUX_SLL):
            self._ethertype(self._shifted(frames, 12 if linktype == pcap.LINKTYPE_ETHERNET else 14), layer)
        else:
            self.unread[linktype] += len(frames.frame)

    @staticmethod
    def _shifted(frames: _Inside, by: int) -> _Inside:
        return _Inside(frames.frame, frames.start + by, frames.end, frames.cut)

    def _ethertype(self, frames: _Inside, layer: int) -> None:
        """`start` is at the Ethertype; VLAN tags are passed over, all else that is no IP is left out."""
        kind = at(self._raw, ">u2", np.minimum(frames.start, frames.end))
        for _ in range(MOST_LAYERS):
            tagged = np.isin(kind, VLAN_TAGS) if (kind >= 0x8100).any() else kind > 0xFFFF
            if not tagged.any():
                break
            frames.start = frames.start + 4 * tagged
            kind = at(self._raw, ">u2", np.minimum(frames.start, frames.end))
        fits = _is_ip(kind) & (frames.start + 2 <= frames.end)
        self._network(self._shifted(frames if fits.all() else frames.take(fits), 2), layer)

    def _network(self, packets: _Inside, layer: int) -> None:
        if layer > MOST_LAYERS:
            return
        packets = packets if (fits := packets.start < packets.end).all() else packets.take(fits)
        version = self._u8[packets.start] >> 4
        four = version == 4
        if four.all():
            self._ipv4(packets, layer)
            return
        self._ipv4(packets.take(four), layer)
        self._ipv6(packets.take(version == 6), layer)

    def _ipv4(self, packets: _Inside, layer: int) -> None:
        head = at(self._raw, IPV4, packets.start)
        size = (head["version"] & 15).astype(np.int64) * 4
        total = head["total"].astype(np.int64)
        good = (size >= 20) & (packets.start + 20 <= packets.end)
        if not good.all():
            packets, head, size, total = packets.take(good), picked(head, good), size[good], total[good]
        # A total length of 0 is what segmentation offload leaves behind: the packet is all there is.
        end = np.where(total > 0, packets.start + total, packets.end)
        bodies = Bodies(
            packets.frame,
            head["src"].astype(np.uint64),
            head["dst"].astype(np.uint64),
            head["protocol"],
            packets.start + size,
            np.minimum(end, packets.end),
            np.where(total > 0, end > packets.end, packets.cut),
        )
        fragment = head["fragment"] & 0x3FFF
        pieces = fragment != 0
        if pieces.any():
            word = fragment[pieces].astype(np.int64)
            ids = head["id"][pieces].astype(np.uint64)
            self._fragments.append(Fragments(bodies.take(pieces), ids, (word & 0x1FFF) * 8, (word & 0x2000) != 0))
            bodies = bodies.take(~pieces)
        self._sort_by_protocol(bodies, layer)

    def _ipv6(self, packets: _Inside, layer: int) -> None:
        packets = packets.take(packets.start + 40 <= packets.end)
        if not len(packets.frame):
            return
        head = at(self._raw, _IPV6, packets.start)
        size = head["size"].astype(np.int64)
        end = np.where(size > 0, packets.start + 40 + size, packets.end)
        bodies = Bodies(
            packets.frame,
            self._addresses.ipv6_keys(head["src"]),
            self._addresses.ipv6_keys(head["dst"]),
            head["protocol"].copy(),
            packets.start + 40,
            np.minimum(end, packets.end),
            np.where(size > 0, end > packets.end, packets.cut),
        )
        for _ in range(MOST_EXTENSIONS):
            bodies = self._pass_fragment_headers(bodies)
            extended = np.isin(bodies.protocol, (*IPV6_OPTIONS, IPV6_AUTHENTICATION))
            if extended.any():
                bodies = bodies.take(~extended | (bodies.start + 2 <= bodies.end))
                self._pass_options(bodies)
            elif not (bodies.protocol == IPV6_FRAGMENT).any():
                break
        self._sort_by_protocol(bodies, layer)

    def _pass_options(self, bodies: Bodies) -> None:
        place = np.minimum(bodies.start, bodies.end)
        following, size = self._u8[place], self._u8[place + 1].astype(np.int64)
        for numbers, length in ((IPV6_OPTIONS, size * 8 + 8), ((IPV6_AUTHENTICATION,), size * 4 + 8)):
            mask = np.isin(bodies.protocol, numbers)
            bodies.start = np.minimum(np.where(mask, bodies.start + length, bodies.start), bodies.end)
            bodies.protocol = np.where(mask, following, bodies.protocol)
            if mask.any():
                return

    def _pass_fragment_headers(self, bodies: Bodies) -> Bodies:
        mask = bodies.protocol == IPV6_FRAGMENT
        if not mask.any():
            return bodies
        bodies = bodies.take(~mask | (bodies.start + 8 <= bodies.end))
        mask = bodies.protocol == IPV6_FRAGMENT
        place = np.minimum(bodies.start, bodies.end)
        following = self._u8[place]
        word = at(self._raw, ">u2", place + 2).astype(np.int64)
        ip_id = at(self._raw, ">u4", place + 4).astype(np.uint64)
        bodies.start = np.where(mask, bodies.start + 8, bodies.start)
        bodies.protocol = np.where(mask, following, bodies.protocol)
        pieces = mask & (word & 0xFFF9 != 0)  # an "atomic" fragment is a whole packet (RFC 6946)
        if pieces.any():
            # IPv6 identifications have 32 bits: one more keeps them apart from those of IPv4
            part = bodies.take(pieces)
            piece_word = word[pieces]
            ids = ip_id[pieces] | np.uint64(1 << 32)
            self._fragments.append(Fragments(part, ids, piece_word & 0xFFF8, (piece_word & 1) != 0))
            bodies = bodies.take(~pieces)
        return bodies

    def _sort_by_protocol(self, bodies: Bodies, layer: int) -> None:
        protocol = bodies.protocol
        simple = (protocol == UDP) | (protocol == TCP)
        if simple.all():
            self._whole.append(self._without_udp_tunnels(bodies, layer))
            return
        self._whole.append(self._without_udp_tunnels(bodies.take(simple | (protocol == SCTP)), layer))
        for number in (IP_IN_IP, IPV6_IN_IP, GRE):
            if (mask := protocol == number).any():
                inside = bodies.take(mask)
                packets = _Inside(inside.frame, inside.start, inside.end, inside.cut)
                self._gre(packets, layer + 1) if number == GRE else self._network(packets, layer + 1)

    def _without_udp_tunnels(self, bodies: Bodies, layer: int) -> Bodies:
        place = np.minimum(bodies.start, bodies.end)
        ports = at(self._raw, ">u4", place)  # source port above, destination port below
        dst = ports & np.uint32(0xFFFF)
        suspect = (dst == PORT_VXLAN) | (dst == PORT_GTP_U) | (ports >> np.uint32(16) == PORT_GTP_U)
        if not suspect.any():
            return bodies
        suspect &= (bodies.protocol == UDP) & (bodies.start + 16 < bodies.end)
        first = self._u8[np.minimum(place + 8, bodies.end)]
        kind = self._u8[np.minimum(place + 9, bodies.end)]
        vxlan = suspect & (dst == PORT_VXLAN) & (first & 0x08 != 0)
        gtp = suspect & ~vxlan & (dst != PORT_VXLAN) & (first & 0xF0 == 0x30) & (kind == 255)
        if vxlan.any():
            inside = bodies.take(vxlan)
            packets = _Inside(inside.frame, inside.start + 16 + 12, inside.end, inside.cut)
            self._ethertype(packets, layer + 1)
        if gtp.any():
            self._gtp_u(bodies.take(gtp), first[gtp], layer + 1)
        tunnel = vxlan | gtp
        return bodies.take(~tunnel) if tunnel.any() else bodies

    def _gtp_u(self, bodies: Bodies, flags: Array, layer: int) -> None:
        """3GPP TS 29.281 section 5: eight bytes, four more with any of E, S, PN, then extension headers."""
        start = bodies.start + 16
        extension = np.zeros(len(start), np.uint8)
        longer = flags & 7 != 0
        extension[longer] = self._u8[np.minimum(start + 3, bodies.end)][longer] * (flags[longer] & 4 != 0)
        start = start + 4 * longer
        for _ in range(MOST_LAYERS):
            open_ = (extension != 0) & (start < bodies.end)
            if not open_.any():
                break
            size = self._u8[np.minimum(start, bodies.end)].astype(np.int64) * 4
            start = np.where(open_, np.where(size > 0, start + size, bodies.end), start)
            extension = np.where(open_, self._u8[np.clip(start - 1, 0, bodies.end)], extension)
        self._network(_Inside(bodies.frame, start, bodies.end, bodies.cut), layer)

    def _gre(self, packets: _Inside, layer: int) -> None:
        """RFC 2784, 2890; ERSPAN types I to III inside."""
        packets = packets.take(packets.start + 4 <= packets.end)
        word = at(self._raw, ">u2", packets.start)
        kind = at(self._raw, ">u2", packets.start + 2)
        optional = sum((word & bit != 0).astype(np.int64) * 4 for bit in (0x8000, 0x2000, 0x1000))
        start = packets.start + 4 + optional
        plain = word & 0x4007 == 0  # no routing, version 0
        inside = _Inside(packets.frame, start, packets.end, packets.cut)
        self._network(inside.take(plain & _is_ip(kind)), layer)
        ethernet = plain & (kind == ETHERTYPE_TRANSPARENT)
        if ethernet.any():
            self._ethertype(self._shifted(inside.take(ethernet), 12), layer)
        for code, with_sequence, without in ERSPAN_TYPES:
            mask = plain & (kind == code)
            if mask.any():
                header = np.where(word & 0x1000 != 0, with_sequence, without)
                if code == 0x22EB:  # type III has an optional subheader of eight bytes
                    header = header + 8 * (self._u8[np.minimum(start + 11, packets.end)] & 1)
                part = _Inside(packets.frame, start + header + 12, packets.end, packets.cut)
                self._ethertype(part.take(mask), layer)


def _is_ip(kind: Array) -> Flags:
    found: Flags = (kind == ETHERTYPE_IPV4) | (kind == ETHERTYPE_IPV6)
    return found
