"""A whole message at once, as names and values: what a person wants to look at, and quick to make."""

from __future__ import annotations

from typing import Final

from labkit.errors import DiameterError
from labkit.wire.diameter_avp import HEADS, Avp, Value, read_head

Tree = list[tuple[str, Value]]
"""Name and value of each AVP in the order of the wire; the value of a group is a tree again."""

HEADER_SIZE: Final = 20
_MAX_DEPTH: Final = 32
"""Groups in groups in groups: nothing real goes deeper than four."""


def read_tree(raw: bytes) -> Tree:
    """Read all AVPs of a message, at every depth, with their values.

    Args:
        raw: the bytes of one message.
    Returns:
        For example [("Session-Id", "scscf;1;2"), ("Experimental-Result", [("Vendor-Id", 10415), ...]), ...]
    Raises:
        DiameterError: a length that does not fit, or a payload that does not fit its type.
    """
    raw = bytes(raw)
    if len(raw) < HEADER_SIZE:
        raise DiameterError(f"{len(raw)} bytes are not even a header", offset=len(raw), result_code=5015)
    return _walk(raw, HEADER_SIZE, len(raw), _MAX_DEPTH)


def _walk(raw: bytes, at: int, end: int, depth: int) -> Tree:
    """Read the AVPs from `at` to `end`; groups may stand in each other `depth` times more."""
    if depth < 0:
        raise DiameterError(f"groups stand in each other more than {_MAX_DEPTH} deep", offset=at, result_code=5004)
    tree: Tree = []
    add, heads = tree.append, HEADS
    while at < end:
        try:
            start, size, step, vendor_raw, identity, name, unpack, read = heads[raw[at : at + 8]]
        except KeyError:
            read_head(raw, at, end)
            continue
        stop = at + size
        if stop > end or (vendor_raw and raw[at + 8 : at + 12] != vendor_raw):
            read_head(raw, at, end)
            continue
        if unpack is not None:
            (value,) = unpack(raw, at + start)
            add((name, value))
        elif read is None:
            add((name, _walk(raw, at + start, stop, depth - 1)))
        else:
            try:
                add((name, read(raw[at + start : stop])))
            except UnicodeDecodeError:
                code, vendor, flags, _, _ = identity
                add((name, Avp(code, raw[at + start : stop], vendor, flags).value))  # which says what is wrong
        at += step
    return tree
