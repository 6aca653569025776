"""Frames from a ring that the kernel fills and this program reads without a system call per frame (TPACKET_V3).

The kernel collects frames in blocks and hands a block over when it is full or RETIRE_MS after its first frame; so few
frames come soon and many come cheaply. Linux: include/uapi/linux/if_packet.h, Documentation/networking/packet_mmap.rst.
Only the standard library is needed (and labkit.wire.pcap_records, which needs no more).
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator

from labkit.wire.pcap_records import PADDING

RETIRE_MS = 8
"""A block with anything in it is handed over after so long. Where the kernel counts in ticks of 4 ms these are two;
each block wakes this program and the decoder once, whatever is in it."""

_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_VERSION = 5, 10
_TPACKET_V3 = 2
_BLOCK_BYTES, _BLOCKS, _FRAME_BYTES = 1 << 17, 400, 2048
"""A block holds the biggest frame of the loopback. Each block that was handed over counts, however little is in it: so
many of them bridge 1.6 s in which this program does not come to read, on a machine that is much too busy."""
_STATUS_KERNEL, _STATUS_USER = 0, 1
VLAN_VALID, _VLAN_TPID_VALID = 0x10, 0x40
"""In the status of a frame: the kernel has taken a VLAN tag out, and what type it had."""

_BLOCK = struct.Struct("@IIIIII")
"""Version, offset of private data, status, number of frames, offset of the first frame, bytes used."""
_FRAME = struct.Struct("@IIIIIIHHIIHH")
"""Next frame, seconds, nanoseconds, captured, length, status, offset of the frame, of IP; hash, VLAN tag, VLAN type."""
_STATUS_AT = 8
_FOLLOWING = struct.Struct("@I")

TimedFrame = tuple[int, bytes]
"""The kernel's time of arrival in nanoseconds since 1970-01-01 UTC, and the frame from its Ethernet header on."""


class Block:
    """Frames in the kernel's own layout: those who read thousands of them need no Python object for each."""

    __slots__ = ("_count", "first", "raw")

    def __init__(self, raw: bytes, first: int, count: int) -> None:
        """Prepare.

        Args:
            raw: the block, with PADDING behind it.
            first: offset of what the kernel wrote before the first frame.
            count: how many frames there are.
        """
        self.raw, self.first, self._count = raw, first, count

    def __len__(self) -> int:
        return self._count

    def offsets(self) -> Iterator[int]:
        """Give the offset of what the kernel wrote before each frame."""
        at, following = self.first, _FOLLOWING.unpack_from
        for _ in range(self._count):
            yield at
            at += following(self.raw, at)[0]

    def frames(self) -> list[TimedFrame]:
        """Give the frames one by one."""
        found, block, unpack = [], self.raw, _FRAME.unpack_from
        for at in self.offsets():
            _next, seconds, nanoseconds, captured, _length, status, begin, _net, _, tag, kind, _ = unpack(block, at)
            begin += at
            raw = block[begin : begin + captured]
            if status & VLAN_VALID:
                kind = kind if status & _VLAN_TPID_VALID else 0x8100
                raw = raw[:12] + struct.pack("!HH", kind, tag) + raw[12:]
            found.append((seconds * 1_000_000_000 + nanoseconds, raw))
        return found

    @classmethod
    def of(cls, frames: list[TimedFrame]) -> Block:
        """Put frames, of any source, into a block."""
        parts: list[bytes] = []
        for time_ns, raw in frames:
            size, gap = len(raw), -len(raw) % 8
            seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
            sizes = (_FRAME.size + size + gap, seconds, nanoseconds, size, size)
            parts += (_FRAME.pack(*sizes, 0, _FRAME.size, 0, 0, 0, 0, 0), raw, bytes(gap))
        return cls(b"".join((*parts, PADDING)), 0, len(frames))


class FrameRing:
    """A ring on a packet socket. Set it up before the socket is bound."""

    def __init__(self, packets: socket.socket) -> None:
        """Set the ring up.

        Raises:
            OSError: the kernel refuses: too old, or no memory for it.
        """
        packets.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        request = struct.pack(
            "@IIIIIII",
            *(_BLOCK_BYTES, _BLOCKS, _FRAME_BYTES, _BLOCK_BYTES // _FRAME_BYTES * _BLOCKS, RETIRE_MS, 0, 0),
        )
        packets.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        self._memory = mmap.mmap(packets.fileno(), _BLOCK_BYTES * _BLOCKS, mmap.MAP_SHARED)
        self._view = memoryview(self._memory)
        self._block = 0

    def read(self) -> Block | None:
        """Give the next block and let the kernel have its memory back; None when none is ready."""
        start = self._block * _BLOCK_BYTES
        _version, _private, status, count, first, used = _BLOCK.unpack_from(self._memory, start)
        if not status & _STATUS_USER:
            return None
        raw = b"".join((self._view[start : start + max(used, first)], PADDING))
        struct.pack_into("@I", self._memory, start + _STATUS_AT, _STATUS_KERNEL)
        self._block = (self._block + 1) % _BLOCKS
        return Block(raw, first, count)

    def close(self) -> None:
        """Give the memory back; the socket is closed by whoever opened it."""
        self._view.release()
        self._memory.close()
