"""Diameter and SIP bytes out of the recordings in tests/data/ims, by code that shares nothing with labkit."""

from __future__ import annotations

import functools
import struct
from pathlib import Path

IMS = Path(__file__).parent / "data" / "ims"
_LINK_BYTES = {1: 14, 113: 16, 276: 20, 101: 0}


def _frames(path: Path) -> list[tuple[int, bytes]]:
    raw = path.read_bytes()
    order = "<" if raw[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    skip = _LINK_BYTES[struct.unpack(order + "I", raw[20:24])[0]]
    frames, at, number = [], 24, 0
    while at < len(raw):
        size = struct.unpack(order + "I", raw[at + 8 : at + 12])[0]
        number += 1
        frames.append((number, raw[at + 16 + skip : at + 16 + size]))
        at += 16 + size
    return frames


@functools.cache
def diameter_messages(name: str) -> tuple[tuple[int, bytes], ...]:
    """Return (frame number, bytes) of each Diameter message; none of these files splits one over segments."""
    messages = []
    for number, packet in _frames(IMS / name):
        if packet[9] != 6:
            continue
        segment = packet[(packet[0] & 15) * 4 : struct.unpack("!H", packet[2:4])[0]]
        payload = segment[(segment[12] >> 4) * 4 :]
        if 3868 not in struct.unpack("!HH", segment[:4]):
            continue
        while payload:
            size = int.from_bytes(payload[1:4], "big")
            assert payload[0] == 1, (name, number)
            assert size <= len(payload), (name, number)
            messages.append((number, payload[:size]))
            payload = payload[size:]
    return tuple(messages)


def recordings() -> list[str]:
    """Name the recordings that hold Diameter."""
    return [path.name for path in sorted(IMS.glob("*.pcap")) if diameter_messages(path.name)]


def all_messages() -> list[bytes]:
    """Return all recorded Diameter messages."""
    return [raw for name in recordings() for _, raw in diameter_messages(name)]


def one_of_each() -> dict[str, bytes]:
    """Return one recorded message of each command and direction, by "CODE R" or "CODE A"."""
    found: dict[str, bytes] = {}
    for raw in all_messages():
        found.setdefault(f"{int.from_bytes(raw[5:8], 'big')}{'R' if raw[4] & 0x80 else 'A'}", raw)
    return found
