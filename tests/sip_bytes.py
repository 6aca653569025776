"""SIP bytes that labkit did not make: recordings of a real IMS core, and the examples of the RFCs."""

from __future__ import annotations

import functools
import struct
from pathlib import Path

IMS = Path(__file__).parent / "data" / "ims"
_LINK_BYTES = {1: 14, 113: 16, 276: 20, 101: 0}


@functools.cache
def recorded_sip(name: str) -> tuple[tuple[int, bytes], ...]:
    """Return (frame number, bytes) of every UDP datagram of a recording that holds SIP; shares no code with labkit."""
    raw = (IMS / name).read_bytes()
    order = "<" if raw[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    skip = _LINK_BYTES[struct.unpack(order + "I", raw[20:24])[0]]
    found, at, number = [], 24, 0
    while at < len(raw):
        size = struct.unpack(order + "I", raw[at + 8 : at + 12])[0]
        packet = raw[at + 16 + skip : at + 16 + size]
        at, number = at + 16 + size, number + 1
        fragmented = struct.unpack("!H", packet[6:8])[0] & 0x3FFF
        if packet[0] >> 4 != 4 or packet[9] != 17 or fragmented:
            continue
        payload = packet[(packet[0] & 15) * 4 + 8 : struct.unpack("!H", packet[2:4])[0]]
        if b"SIP/2.0" in payload.split(b"\r\n", 1)[0] and not payload.startswith(b"HEP3"):
            found.append((number, payload))
    return tuple(found)


def recordings() -> list[str]:
    """Name the recordings that hold SIP over UDP."""
    return [path.name for path in sorted(IMS.glob("*.pcap")) if recorded_sip(path.name)]


def all_recorded() -> list[bytes]:
    """Return every recorded SIP message once."""
    return list(dict.fromkeys(raw for name in recordings() for _, raw in recorded_sip(name)))


def crlf(text: str) -> bytes:
    """Turn the lines of an RFC into what was on the wire: CR LF at every line end."""
    return text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")
