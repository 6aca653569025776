"""Media as it nearly always travels, told in one look: RTP in UDP, in IPv4 without options, in an Ethernet frame.

What is not told here goes through the layers one by one (`decode.layers`), where such a packet would come out the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from labkit.capture.decode.arrays import Array, Flags, Ints, Raw, Rows, at, bytes_of, constant, picked
from labkit.capture.decode.media import Candidates
from labkit.capture.decode.meta import TRANSPORTS, Meta
from labkit.capture.packets import ETHERTYPE_IPV4, PORT_GTP_U, PORT_VXLAN, UDP

_HEAD_AT = 12
"""The Ethertype; the hardware addresses before it tell nothing."""
_HEAD = np.dtype(
    [
        ("ethertype", ">u2"),
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
        ("src_port", ">u2"),
        ("dst_port", ">u2"),
        ("size", ">u2"),
        ("sum", ">u2"),
        ("first", "u1"),
        ("second", "u1"),
        ("sequence", ">u2"),
        ("timestamp", ">u4"),
        ("ssrc", ">u4"),
        ("payload", "V6"),
    ]
)
"""From the Ethertype on; the first bytes of the sound make it six words of 64 bits."""
_BEFORE_IP, _BEFORE_UDP, _BEFORE_RTP = 14, 20, 8
"""Bytes of each header before the next one."""
_RTP_AT = _BEFORE_IP + _BEFORE_UDP + _BEFORE_RTP
_SMALLEST_RTP = 12
_MOST_STREAMS, _MOST_PACKETS = 4, 4096
"""So many streams are told one by one in batches up to that size, as live media come: those of a call or two."""
_BIGGEST_FRAME = 1 << 17
"""No IPv4 packet makes a bigger one."""
_NATIVE = {"src": np.uint64, "src_port": np.uint16, "dst": np.uint64, "dst_port": np.uint16, "size": np.int64}
"""Fields of the header that rows need, and what numpy computes with."""
_OVER_UDP = np.array([TRANSPORTS.index("udp")], np.int8)


def _words(**fields: int) -> Array:
    """A header with some fields set, as words."""
    head = np.zeros(1, _HEAD)
    for name, value in fields.items():
        head[name] = value
    return head.view(np.uint64)


_RULES = {"ethertype": 0xFFFF, "version": 0xFF, "fragment": 0x3FFF, "protocol": 0xFF, "first": 0xC0}
_RULED = _words(**_RULES)
"""The bits that are the same in all such packets..."""
_WANTED = _words(ethertype=ETHERTYPE_IPV4, version=0x45, protocol=UDP, first=0x80)
"""... and what they are."""
_ENDS = {"src": 0xFFFFFFFF, "dst": 0xFFFFFFFF, "src_port": 0xFFFF, "dst_port": 0xFFFF}
_STREAM = _words(**_RULES, **_ENDS, total=0xFFFF, size=0xFFFF, second=0x7F, ssrc=0xFFFFFFFF)
"""The bits that are the same in all packets of a stream, where the codec gives packets of one size."""


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


def plain_media(raw: Raw, frames: Frames) -> tuple[list[Candidates], Flags | None]:
    """Give the packets that may be RTP among frames, and which frames they are, None for all.

    Args:
        raw: the bytes in which the frames lie, with PADDING behind them.
        frames: at least one, numbered one after the other.
    """
    count, first = len(frames.number), frames.number[0]
    found, rest = _streams(raw, frames) if count <= _MOST_PACKETS else ([], frames)
    if rest is None:
        return found, None
    likely = bytes_of(raw)[rest.start + _RTP_AT] & 0xC0 == 0x80
    rest = rest if likely.all() else rest.take(likely)
    head = at(raw, _HEAD, rest.start + _HEAD_AT)
    told = _is_plain(head, rest.captured)
    if not told.all():
        rest, head = rest.take(told), picked(head, np.flatnonzero(told))
    if len(head):
        found.append(_candidates(raw, rest, head, _ends(head)))
    if sum(len(some.header) for some in found) == count:
        return found, None
    plain = np.zeros(count, bool)
    for some in found:
        plain[some.meta.frame - first] = True
    return found, plain


def _streams(raw: Raw, frames: Frames) -> tuple[list[Candidates], Frames | None]:
    """Give packets stream by stream, and what is left, None for nothing: of a stream's packets one is looked at.

    Ends at one that has less than a quarter of the frames that are left: others are told together as quickly.
    """
    found: list[Candidates] = []
    head = at(raw, _HEAD, frames.start + _HEAD_AT)
    while len(found) < _MOST_STREAMS and len(head):
        words = head.view(np.uint64).reshape(-1, _RULED.size)
        common = (words & _STREAM).tobytes()  # compared as bytes: operations on arrays take their time at each kind
        stream = _stream(common[: _HEAD.itemsize])
        if not stream.plain or np.minimum.reduce(frames.captured) < stream.captured:
            break
        if common == common[: _HEAD.itemsize] * len(head):
            found.append(_candidates(raw, frames, head, [constant(column, len(head)) for column in stream.ends]))
            return found, None
        others = ((words ^ words[0]) & _STREAM).any(axis=1)
        same = np.flatnonzero(~others)
        if 4 * len(same) < len(head):
            break
        ends = [constant(column, len(same)) for column in stream.ends]
        found.append(_candidates(raw, frames.take(same), picked(head, same), ends))
        frames, head = frames.take(others), picked(head, np.flatnonzero(others))
    return found, frames


def _candidates(raw: Raw, frames: Frames, head: Array, ends: list[Array]) -> Candidates:
    src, src_port, dst, dst_port, size = ends
    meta = Meta(frames.number, frames.time, src, src_port, dst, dst_port, constant(_OVER_UDP, len(head)))
    return Candidates(meta, head, raw, frames.start + _RTP_AT, size)


def _is_plain(head: Array, captured: Array | int) -> Flags:
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


def _ends(head: Array) -> list[Array]:
    """Source, destination and size of RTP packets, see _NATIVE."""
    columns = [head[name].astype(kind) for name, kind in _NATIVE.items()]
    columns[-1] -= _BEFORE_RTP
    return columns


class _Stream(NamedTuple):
    """What all packets of a stream have in common."""

    plain: bool
    """Whether they are as described above, where they are whole."""
    captured: int
    """Bytes of a whole frame."""
    ends: list[Array]
    """Of one packet, see `_ends`."""


@lru_cache
def _stream(common: bytes) -> _Stream:
    """Look at what all packets of a stream have in common: once, however often there are some."""
    head = np.frombuffer(common, _HEAD)
    plain = _is_plain(head, _BIGGEST_FRAME) & _is_plain(_with_marker(head), _BIGGEST_FRAME)
    return _Stream(bool(plain[0]), int(head["total"][0]) + _BEFORE_IP, _ends(head))


def _with_marker(head: Array) -> Array:
    """With a marker some payload types become types of RTCP."""
    head = head.copy()
    head["second"] |= 0x80
    return head
