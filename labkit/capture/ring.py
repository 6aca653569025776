"""Frames from a ring that the kernel fills and this program reads without a system call per frame (TPACKET_V3).

The kernel collects frames in blocks and hands a block over when it is full or RETIRE_MS after its first frame; so few
frames come soon and many come cheaply. Linux: include/uapi/linux/if_packet.h, Documentation/networking/packet_mmap.rst.
Only the standard library is needed.
"""

from __future__ import annotations

import mmap
import socket
import struct

RETIRE_MS = 4
"""A block with anything in it is handed over after so long."""

_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_VERSION = 5, 10
_TPACKET_V3 = 2
_BLOCK_BYTES, _BLOCKS, _FRAME_BYTES = 1 << 17, 400, 2048
"""A block holds the biggest frame of the loopback. Each block that was handed over counts, however little is in it: so
many of them bridge 1.6 s in which this program does not come to read, on a machine that is much too busy."""
_STATUS_KERNEL, _STATUS_USER = 0, 1
_VLAN_VALID, _VLAN_TPID_VALID = 0x10, 0x40

_BLOCK = struct.Struct("@IIIIII")
"""Version, offset of private data, status, number of frames, offset of the first frame, bytes used."""
_FRAME = struct.Struct("@IIIIIIHHIIHH")
"""Next frame, seconds, nanoseconds, captured, length, status, offset of the frame, of IP; hash, VLAN tag, VLAN type."""
_STATUS_AT = 8


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
        self._block = 0

    def read(self) -> list[tuple[int, bytes]] | None:
        """Give the frames of the next block, (time in nanoseconds since 1970, frame) each; None when none is ready."""
        start = self._block * _BLOCK_BYTES
        _version, _private, status, count, first, used = _BLOCK.unpack_from(self._memory, start)
        if not status & _STATUS_USER:
            return None
        block = self._memory[start : start + max(used, first)]
        struct.pack_into("@I", self._memory, start + _STATUS_AT, _STATUS_KERNEL)
        self._block = (self._block + 1) % _BLOCKS
        return _frames(block, first, count)

    def close(self) -> None:
        """Give the memory back; the socket is closed by whoever opened it."""
        self._memory.close()


def _frames(block: bytes, at: int, count: int) -> list[tuple[int, bytes]]:
    found = []
    unpack = _FRAME.unpack_from
    for _ in range(count):
        following, seconds, nanoseconds, captured, _length, status, begin, _net, _, tag, kind, _ = unpack(block, at)
        begin += at
        raw = block[begin : begin + captured]
        if status & _VLAN_VALID:  # the kernel has taken the tag out
            kind = kind if status & _VLAN_TPID_VALID else 0x8100
            raw = raw[:12] + struct.pack("!HH", kind, tag) + raw[12:]
        found.append((seconds * 1_000_000_000 + nanoseconds, raw))
        at += following
    return found
