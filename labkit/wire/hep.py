"""HEP version 3: how a node sends copies of its messages to a collector.

Spec: https://github.com/sipcapture/HEP/blob/master/docs/HEP3NetworkProtocolSpecification_REV26.pdf
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from labkit.errors import ProtocolError

_SPEC = "HEP3 revision 26"

# Protocol type (chunk 11)
PROTOCOL_SIP = 1
PROTOCOL_RTP = 4
PROTOCOL_DIAMETER = 56

_CHUNK_FAMILY, _CHUNK_TRANSPORT = 0x01, 0x02
_CHUNK_SRC4, _CHUNK_DST4, _CHUNK_SRC6, _CHUNK_DST6 = 0x03, 0x04, 0x05, 0x06
_CHUNK_SRC_PORT, _CHUNK_DST_PORT = 0x07, 0x08
_CHUNK_SECONDS, _CHUNK_MICROSECONDS = 0x09, 0x0A
_CHUNK_PROTOCOL, _CHUNK_CAPTURE_ID = 0x0B, 0x0C
_CHUNK_PAYLOAD, _CHUNK_CORRELATION_ID = 0x0F, 0x11
_FAMILY_IPV4, _FAMILY_IPV6 = 2, 10
_UDP, _TCP = 17, 6


@dataclass(frozen=True, slots=True)
class HepPacket:
    """One mirrored message."""

    src: str
    """Address the message came from."""
    src_port: int
    """Port it came from."""
    dst: str
    """Address it went to."""
    dst_port: int
    """Port it went to."""
    transport: str
    """"udp" or "tcp"; other IP protocols as their number."""
    time_us: int
    """When the mirroring node saw it: microseconds since 1970-01-01 UTC."""
    protocol: int
    """PROTOCOL_SIP, PROTOCOL_DIAMETER, PROTOCOL_RTP, ..."""
    payload: bytes
    """The message itself."""
    capture_id: int = 0
    """Number of the mirroring node."""
    correlation_id: str = ""
    """Usually the Call-ID; empty when not sent."""

    def to_bytes(self) -> bytes:
        """Give the packet as it travels."""
        source, target = ipaddress.ip_address(self.src), ipaddress.ip_address(self.dst)
        ipv4 = source.version == 4
        number = {"udp": _UDP, "tcp": _TCP}.get(self.transport)
        chunks = [
            (_CHUNK_FAMILY, bytes([_FAMILY_IPV4 if ipv4 else _FAMILY_IPV6])),
            (_CHUNK_TRANSPORT, bytes([number if number is not None else int(self.transport)])),
            (_CHUNK_SRC4 if ipv4 else _CHUNK_SRC6, source.packed),
            (_CHUNK_DST4 if ipv4 else _CHUNK_DST6, target.packed),
            (_CHUNK_SRC_PORT, struct.pack(">H", self.src_port)),
            (_CHUNK_DST_PORT, struct.pack(">H", self.dst_port)),
            (_CHUNK_SECONDS, struct.pack(">I", self.time_us // 10**6)),
            (_CHUNK_MICROSECONDS, struct.pack(">I", self.time_us % 10**6)),
            (_CHUNK_PROTOCOL, bytes([self.protocol])),
            (_CHUNK_CAPTURE_ID, struct.pack(">I", self.capture_id)),
        ]
        if self.correlation_id:
            chunks.append((_CHUNK_CORRELATION_ID, self.correlation_id.encode()))
        chunks.append((_CHUNK_PAYLOAD, self.payload))
        body = b"".join(struct.pack(">HHH", 0, kind, 6 + len(value)) + value for kind, value in chunks)
        if 6 + len(body) > 0xFFFF:
            raise ProtocolError(
                f"A message of {len(self.payload)} bytes does not fit into one HEP packet",
                field="payload",
                spec=_SPEC,
            )
        return b"HEP3" + struct.pack(">H", 6 + len(body)) + body


def parse_packet(raw: bytes) -> HepPacket:
    """Read one HEP3 packet; chunks of unknown kind or vendor are passed over.

    Raises:
        ProtocolError: no HEP3, a length that does not fit, or a chunk missing that tells where and what.
    """
    if raw[:4] != b"HEP3":
        raise ProtocolError("Not a HEP3 packet", offset=0, field="id", spec=_SPEC)
    if len(raw) < 6 or struct.unpack_from(">H", raw, 4)[0] != len(raw):
        raise ProtocolError(f"The length field does not say {len(raw)}", offset=4, field="length", spec=_SPEC)
    chunks = _chunks(raw)
    try:
        src, dst = _address(chunks, _CHUNK_SRC4, _CHUNK_SRC6), _address(chunks, _CHUNK_DST4, _CHUNK_DST6)
        number = _number(chunks, _CHUNK_TRANSPORT)
        return HepPacket(
            src=src,
            src_port=_number(chunks, _CHUNK_SRC_PORT),
            dst=dst,
            dst_port=_number(chunks, _CHUNK_DST_PORT),
            transport={_UDP: "udp", _TCP: "tcp"}.get(number, str(number)),
            time_us=_number(chunks, _CHUNK_SECONDS) * 10**6 + _number(chunks, _CHUNK_MICROSECONDS),
            protocol=_number(chunks, _CHUNK_PROTOCOL),
            payload=chunks[_CHUNK_PAYLOAD],
            capture_id=int.from_bytes(chunks.get(_CHUNK_CAPTURE_ID, b""), "big"),
            correlation_id=chunks.get(_CHUNK_CORRELATION_ID, b"").decode("utf-8", "replace"),
        )
    except (KeyError, ValueError) as error:
        raise ProtocolError(f"A chunk is missing or has a wrong size: {error}", field="chunk", spec=_SPEC) from error


def _chunks(raw: bytes) -> dict[int, bytes]:
    chunks: dict[int, bytes] = {}
    position = 6
    while position < len(raw):
        if len(raw) - position < 6:
            raise ProtocolError("A chunk header is cut off", offset=position, field="chunk", spec=_SPEC)
        vendor, kind, size = struct.unpack_from(">HHH", raw, position)
        if size < 6 or position + size > len(raw):
            raise ProtocolError(f"A chunk claims {size} bytes", offset=position, field="chunk", spec=_SPEC)
        if vendor == 0:
            chunks.setdefault(kind, raw[position + 6 : position + size])
        position += size
    return chunks


def _address(chunks: dict[int, bytes], ipv4: int, ipv6: int) -> str:
    return str(ipaddress.ip_address(chunks[ipv4] if ipv4 in chunks else chunks[ipv6]))


def _number(chunks: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(chunks[kind], "big")
