"""Where frames lie and when they came: records of files, blocks of the kernel's ring, frames one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit import native
from labkit.capture.decode.arrays import Array, Ints, Raw, Rows, at, constant, is_constant
from labkit.capture.ring import VLAN_VALID, Block
from labkit.wire.pcap import LINKTYPE_ETHERNET
from labkit.wire.pcap_records import ENHANCED_PACKET, PADDING, Run, wrapped_ns

_PCAP_RECORD = [("seconds", "u4"), ("fraction", "u4"), ("captured", "u4"), ("on_wire", "u4")]
_PACKET_BLOCK = [
    ("interface", "u4"),
    ("high", "u4"),
    ("low", "u4"),
    ("captured", "u4"),
    ("on_wire", "u4"),
]
_RING_FRAME = np.dtype(
    [
        ("following", "u4"),
        ("seconds", "u4"),
        ("nanoseconds", "u4"),
        ("captured", "u4"),
        ("on_wire", "u4"),
        ("status", "u4"),
        ("begin", "u2"),
    ]
)
"""See `capture.ring`."""
_ETHERNET = np.array([LINKTYPE_ETHERNET])


@dataclass(slots=True)
class Columns(Rows):
    """What is known of frames before anybody looks into them."""

    time: Ints
    """Nanoseconds since 1970."""
    linktype: Array
    """Link type."""
    start: Ints
    """Offset of the first byte."""
    captured: Array
    """Bytes that are there."""
    on_wire: Array
    """Bytes that there were."""

    @property
    def all_ethernet(self) -> bool:
        """Whether they are Ethernet frames, as in nearly every capture."""
        if is_constant(self.linktype):
            return int(self.linktype[0]) == LINKTYPE_ETHERNET
        return bool((self.linktype == LINKTYPE_ETHERNET).all())


def of_frames(frames: Sequence[tuple[int, int, bytes]]) -> tuple[Raw, Columns]:
    """Put frames, (nanoseconds since 1970, link type, bytes) each, into one buffer."""
    times, linktypes, parts = zip(*frames, strict=True)
    size = np.fromiter(map(len, parts), np.int64, len(parts))
    start = np.cumsum(size) - size
    return b"".join((*parts, PADDING)), Columns(np.array(times), np.array(linktypes), start, size, size)


def of_block(block: Block) -> tuple[Raw, Columns]:
    """Read what the kernel wrote before each frame of a block."""
    count = len(block)
    linktype = constant(_ETHERNET, count)
    if native.compiled is not None:
        columns = np.empty((4, count), np.int64)
        plain = native.compiled.ring_frames(block.raw, block.first, count, columns)
        time, start, captured, on_wire = columns
    else:
        offsets = np.array(list(block.offsets()), np.int64)
        head = at(block.raw, _RING_FRAME, offsets)
        plain = not (head["status"] & VLAN_VALID).any()
        time = head["seconds"] * np.int64(10**9) + head["nanoseconds"]
        start, captured, on_wire = offsets + head["begin"], head["captured"].astype(np.int64), head["on_wire"]
    if not plain:  # VLAN tags stand beside the frames and not in them
        return of_frames([(time_ns, LINKTYPE_ETHERNET, raw) for time_ns, raw in block.frames()])
    return block.raw, Columns(time, linktype, start, captured, on_wire)


def of_run(run: Run) -> Columns:
    """Read the records of a file."""
    if run.kind not in (0, ENHANCED_PACKET):
        packets = list(run.packets())
        columns = [(p.time_ns, p.linktype, p.start, p.captured, p.on_wire) for p in packets]
        return Columns(*np.array(columns, np.int64).reshape(-1, 5).T)
    offsets = np.array(run.offsets, np.int64)
    if run.kind == 0:
        record = at(run.raw, np.dtype([(name, run.order + kind) for name, kind in _PCAP_RECORD]), offsets)
        interface = run.interfaces[0]
        time = record["seconds"].astype(np.int64) * 10**9
        time += record["fraction"].astype(np.int64) * (10**9 // interface.units_per_s)
        start, linktype = offsets + 16, constant(np.array([interface.linktype]), len(offsets))
    else:
        record = at(run.raw, np.dtype([(name, run.order + kind) for name, kind in _PACKET_BLOCK]), offsets + 8)
        time = _block_times(run, record)
        start = offsets + 28
        linktype = np.array([interface.linktype for interface in run.interfaces])[record["interface"]]
    captured, on_wire = record["captured"].astype(np.int64), record["on_wire"].astype(np.int64)
    return Columns(time, linktype, start, captured, on_wire)


def _block_times(run: Run, record: Array) -> Ints:
    number = record["interface"].astype(np.int64)
    ticks = (record["high"].astype(np.uint64) << np.uint64(32)) | record["low"].astype(np.uint64)
    time = np.zeros(len(number), np.int64)
    for index, interface in enumerate(run.interfaces):
        mask = number == index
        if not mask.any():
            continue
        units, offset = interface.units_per_s, wrapped_ns(interface.offset_s * 10**9)
        if 10**9 % units == 0:
            time[mask] = (ticks[mask] * np.uint64(10**9 // units)).astype(np.int64) + offset
        else:
            time[mask] = [wrapped_ns(tick * 10**9 // units + offset) for tick in ticks[mask].tolist()]
    return time
