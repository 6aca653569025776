"""IP fragments of a run put together: orderly packets at once, others one by one in a store that outlives it."""

from __future__ import annotations

import numpy as np

from labkit.capture.decode.arrays import Addresses, Array
from labkit.capture.decode.layers import Bodies, Fragments
from labkit.capture.packets import FragmentStore
from labkit.wire.pcap_records import PADDING


def reassemble(
    raw: bytes, fragments: Fragments, store: FragmentStore, addresses: Addresses
) -> tuple[bytes, Bodies] | None:
    """Put together what can be put together.

    Args:
        raw: the bytes in which the fragments lie.
        fragments: all fragments of a run, in any order.
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
    orderly = _orderly(fragments, first, count, store)
    pieces: list[bytes | memoryview] = []
    sizes: list[int] = []
    found: list[Bodies] = []
    view = memoryview(raw)
    if orderly.any():
        inside = np.repeat(orderly, count)
        starts, ends = body.start[inside].tolist(), body.end[inside].tolist()
        pieces += [view[start:end] for start, end in zip(starts, ends, strict=True)]
        length = np.add.reduceat(body.end - body.start, first)[orderly]
        sizes += length.tolist()
        found.append(_bodies(body, first[orderly], np.maximum.reduceat(body.frame, first)[orderly]))
    if not orderly.all():
        late = _one_by_one(view, fragments.take(np.flatnonzero(~np.repeat(orderly, count))), store, addresses)
        for where, whole in late:
            pieces.append(whole)
            sizes.append(len(whole))
            found.append(where)
    if not found:
        return None
    bodies = Bodies.together(found)
    bodies.end = np.cumsum(np.array(sizes, np.int64))
    bodies.start = bodies.end - np.array(sizes, np.int64)
    if len(found) > 1:
        arrival = np.argsort(bodies.frame, kind="stable")
        bodies = bodies.take(arrival)
    return b"".join((*pieces, PADDING)), bodies


def _orderly(fragments: Fragments, first: Array, count: Array, store: FragmentStore) -> Array:
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
    view: memoryview, fragments: Fragments, store: FragmentStore, addresses: Addresses
) -> list[tuple[Bodies, bytes]]:
    found = []
    arrival = np.argsort(fragments.body.frame, kind="stable")
    fragments = fragments.take(arrival)
    body = fragments.body
    place = (fragments.ip_id, fragments.offset, fragments.more, body.start, body.end)
    columns = (body.src, body.dst, body.protocol, *place)
    for index, (src, dst, protocol, ip_id, offset, more, start, end) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        key = (addresses.packed(src), addresses.packed(dst), protocol, ip_id)
        whole = store.add(key, offset, more, bytes(view[start : max(start, end)]))
        if whole is not None:
            which = np.array([index])
            found.append((_bodies(body, which, body.frame[which]), whole))
    return found
