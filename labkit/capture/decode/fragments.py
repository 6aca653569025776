"""IP fragments of a run put together: orderly packets at once, others one by one in a store that outlives it."""

from __future__ import annotations

import numpy as np

from labkit.capture.decode import text
from labkit.capture.decode.arrays import Addresses, Array, Ints, Raw
from labkit.capture.decode.layers import Bodies, Fragments
from labkit.capture.packets import LONGEST_WAIT_NS, FragmentStore


def reassemble(
    raw: Raw, fragments: Fragments, times: Ints, store: FragmentStore, addresses: Addresses
) -> tuple[Raw, Bodies] | None:
    """Put together what can be put together.

    Args:
        raw: the bytes in which the fragments lie.
        fragments: all fragments of a run, in any order.
        times: time of each frame of the run.
        store: fragments of earlier runs; takes those that stay incomplete.
        addresses: keys of addresses.
    Returns:
        Bytes that hold the bodies of the packets that are now whole, and where each lies; None without any.
    """
    body = fragments.body
    # Two words name the packet: keys of IPv6 addresses are small numbers but for one bit, which their ip_id has too.
    ends = (body.src << np.uint64(32)) | (body.dst & np.uint64(0xFFFFFFFF))
    packet = (fragments.ip_id << np.uint64(8)) | body.protocol
    order = np.lexsort(((packet << np.uint64(16)) | fragments.offset.astype(np.uint64), ends))
    fragments, ends, packet = fragments.take(order), ends[order], packet[order]
    body = fragments.body
    different = (ends[1:] != ends[:-1]) | (packet[1:] != packet[:-1])
    first = np.flatnonzero(np.concatenate(([True], different)))
    count = np.diff(np.append(first, len(different) + 1))
    orderly = _orderly(fragments, times, first, count, store)
    inside = np.repeat(orderly, count)
    starts, ends = body.start[inside], body.end[inside]
    length = np.add.reduceat(body.end - body.start, first)[orderly]
    found = [_bodies(body, first[orderly], np.maximum.reduceat(body.frame, first)[orderly])]
    late: list[bytes] = []
    if not inside.all():
        for where, whole in _one_by_one(memoryview(raw), fragments.take(~inside), times, store, addresses):
            late.append(whole)
            found.append(where)
    bodies = Bodies.together(found)
    if not len(bodies.frame):
        return None
    late_sizes = np.fromiter(map(len, late), np.int64, len(late))
    which = np.concatenate((np.zeros(len(starts), np.int64), np.arange(1, len(late) + 1)))
    begin = np.concatenate((starts, np.zeros(len(late), np.int64)))
    together, _ = text.gathered([raw, *late], which, begin, np.concatenate((ends - starts, late_sizes)))
    bodies.end = np.cumsum(np.concatenate((length, late_sizes)))
    bodies.start = bodies.end - np.concatenate((length, late_sizes))
    if len(found) > 1:
        bodies = bodies.take(np.argsort(bodies.frame, kind="stable"))
    return together, bodies


def _orderly(fragments: Fragments, times: Ints, first: Array, count: Array, store: FragmentStore) -> Array:
    """Which groups are one packet, each piece there once, with nothing of it in the store."""
    body, offset = fragments.body, fragments.offset
    following = offset + (body.end - body.start)
    joins = np.ones(len(offset), bool)
    joins[1:] = offset[1:] == following[:-1]
    joins[first] = offset[first] == 0
    last = first + count - 1
    ends_well = fragments.more.copy()
    ends_well[last] = ~fragments.more[last]
    good: Array = np.logical_and.reduceat(joins & ends_well & ~body.cut, first) & (following[last] <= 65535)
    good &= (count > 1) & (np.minimum.reduceat(body.end - body.start, first) > 0) & (count <= 256)
    time = times[body.frame]
    good &= np.maximum.reduceat(time, first) - np.minimum.reduceat(time, first) <= LONGEST_WAIT_NS
    if store.pending:
        ids = np.array([key[3] for key in store.pending], np.uint64)
        good &= ~np.isin(fragments.ip_id[first], ids)
    return good


def _bodies(body: Bodies, which: Array, frame: Array) -> Bodies:
    """The packets' own rows: addresses of the first piece, number of the frame that came last."""
    part = body.take(which)
    part.frame = frame
    part.cut = np.zeros(len(frame), bool)
    return part


def _one_by_one(
    view: memoryview, fragments: Fragments, times: Ints, store: FragmentStore, addresses: Addresses
) -> list[tuple[Bodies, bytes]]:
    found = []
    arrival = np.argsort(fragments.body.frame, kind="stable")
    fragments = fragments.take(arrival)
    body = fragments.body
    place = (fragments.ip_id, fragments.offset, fragments.more, body.start, body.end, times[body.frame])
    columns = (body.src, body.dst, body.protocol, *place)
    for index, (src, dst, protocol, ip_id, offset, more, start, end, time_ns) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        key = (addresses.packed(src), addresses.packed(dst), protocol, ip_id)
        whole = store.add(key, offset, more, bytes(view[start : max(start, end)]), time_ns)
        if whole is not None:
            which = np.array([index])
            found.append((_bodies(body, which, body.frame[which]), whole))
    return found
