"""Media as it nearly always travels, told in one look: RTP in UDP, in IPv4 without options, in an Ethernet frame.

What is not told here goes through the layers one by one (`decode.layers`), where such a packet would come out the same.
Two ways that give the same: one in C (labkit/native) where that is built, and one with arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labkit import native
from labkit.capture.decode.arrays import Array, Flags, Ints, Raw, Rows, at, bytes_of, constant, picked
from labkit.capture.decode.layers import IPV4
from labkit.capture.decode.media import RTP, Candidates
from labkit.capture.decode.meta import TRANSPORTS, Meta
from labkit.capture.packets import ETHERTYPE_IPV4, PORT_GTP_U, PORT_VXLAN, UDP

_HEAD_AT = 12
"""The Ethertype; the hardware addresses before it tell nothing."""
_HEAD = np.dtype(
    [
        ("ethertype", ">u2"),
        *IPV4.descr,
        ("src_port", ">u2"),
        ("dst_port", ">u2"),
        ("size", ">u2"),
        ("sum", ">u2"),
        *RTP.descr,
        ("payload", "V6"),
    ]
)
"""From the Ethertype on; the first bytes of the sound make it six words of 64 bits."""
_BEFORE_IP, _BEFORE_UDP, _BEFORE_RTP = 14, 20, 8
"""Bytes of each header before the next one."""
_RTP_AT = _BEFORE_IP + _BEFORE_UDP + _BEFORE_RTP
_SMALLEST_RTP = 12


def _words(**fields: int) -> Array:
    """A header with some fields set, as words."""
    head = np.zeros(1, _HEAD)
    for name, value in fields.items():
        head[name] = value
    return head.view(np.uint64)


_RULED = _words(ethertype=0xFFFF, version=0xFF, fragment=0x3FFF, protocol=0xFF)
"""The bits that are the same in all such packets..."""
_WANTED = _words(ethertype=ETHERTYPE_IPV4, version=0x45, protocol=UDP)
"""... and what they are."""
_NATIVE = {"src": np.uint64, "src_port": np.uint16, "dst": np.uint64, "dst_port": np.uint16, "size": np.int64}
"""Fields of the header that rows need, and what numpy computes with; the size is that of the RTP packet."""
_MEDIA = np.dtype(
    [
        *[(name, _NATIVE[name]) for name in ("src", "dst", "size")],
        ("timestamp", np.uint32),
        ("ssrc", np.uint32),
        *[(name, _NATIVE[name]) for name in ("src_port", "dst_port")],
        ("sequence", np.uint16),
        ("first", np.uint8),
        ("second", np.uint8),
    ]
)
"""What C tells of a packet."""
_OVER_UDP = np.array([TRANSPORTS.index("udp")], np.int8)

_Found = tuple[Ints, Array, list[Array]]
"""Index of the frame of each packet; its RTP header, maybe among other fields; the columns of _NATIVE."""


@dataclass(slots=True)
class Frames(Rows):
    """Ethernet frames."""

    number: Ints
    """Number of the frame."""
    time: Ints
    """Nanoseconds since 1970."""
    start: Ints
    """Offset of its first byte."""
    captured: Ints
    """Bytes of it that are there."""


def plain_media(raw: Raw, frames: Frames) -> tuple[Candidates | None, Flags | None]:
    """Give the packets that may be RTP among frames, None without any, and which frames they are, None for all.

    Args:
        raw: the bytes in which the frames lie, with PADDING behind them.
        frames: at least one.
    """
    which, header, ends = (_by_arrays if native.compiled is None else _compiled)(raw, frames)
    told: Flags | None = None
    if len(which) < len(frames.start):
        told = np.zeros(len(frames.start), bool)
        told[which] = True
        frames = frames.take(which)
    if not len(which):
        return None, told
    src, src_port, dst, dst_port, size = ends
    meta = Meta(frames.number, frames.time, src, src_port, dst, dst_port, constant(_OVER_UDP, len(which)))
    return Candidates(meta, header, raw, frames.start + _RTP_AT, size), told


def _compiled(raw: Raw, frames: Frames) -> _Found:
    count = len(frames.start)
    which, media = np.empty(count, np.int64), np.empty(count, _MEDIA)
    found, one_stream = native.compiled.plain_media(raw, frames.start, frames.captured, which, media)  # type: ignore[union-attr]
    media = media[:found]
    ends = [media[name] for name in _NATIVE]
    if one_stream:
        ends = [constant(column[:1], found) for column in ends]
    return which[:found], media, ends


def _by_arrays(raw: Raw, frames: Frames) -> _Found:
    which = np.flatnonzero(bytes_of(raw)[frames.start + _RTP_AT] & 0xC0 == 0x80)
    head = at(raw, _HEAD, frames.start[which] + _HEAD_AT)
    told = _is_plain(head, frames.captured[which])
    if not told.all():
        which, head = which[told], picked(head, np.flatnonzero(told))
    ends = [head[name].astype(kind) for name, kind in _NATIVE.items()]
    ends[-1] -= _BEFORE_RTP
    return which, head, ends


def _is_plain(head: Array, captured: Array) -> Flags:
    """Which headers are as described above, of packets that are whole."""
    words = head.view(np.uint64).reshape(-1, _RULED.size)
    plain: Flags = ((words & _RULED) == _WANTED).all(axis=1)
    plain &= head["second"] & 0xE0 != 0xC0  # RTCP: 192 to 223
    total, size = head["total"].astype(np.int64), head["size"].astype(np.int64)
    plain &= (total + _BEFORE_IP <= captured) & (size + _BEFORE_UDP <= total)
    plain &= size >= _BEFORE_RTP + _SMALLEST_RTP
    source, target = head["src_port"], head["dst_port"]  # of tunnels the layers know more
    plain &= (target != PORT_VXLAN) & (target != PORT_GTP_U) & (source != PORT_GTP_U)
    return plain
