"""Copies of what our own peers send, for a collector, as HEP3 over UDP.

A lab without the right to open a packet socket sees the HSS's Diameter messages and the sound of phones this way.
"""

from __future__ import annotations

import socket
import time

from labkit.errors import ProtocolError
from labkit.wire.hep import HepPacket


class Mirror:
    """Sends each copy once, never waits, and never lets a missing collector disturb the peer."""

    def __init__(self, address: tuple[str, int], *, transport: str, protocol: int, capture_id: int) -> None:
        """Open a socket for the copies.

        Args:
            address: where the collector listens.
            transport: what the messages themselves travel over: "udp" or "tcp".
            protocol: what they are, one of the PROTOCOL_ numbers of labkit.wire.hep.
            capture_id: tells this peer's copies from others.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._address = address
        self._transport, self._protocol, self._capture_id = transport, protocol, capture_id

    def send(self, raw: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        """Copy one message.

        Args:
            raw: the message.
            source: true address and port it came from.
            target: true address and port it went to.
        """
        packet = HepPacket(
            src=source[0],
            src_port=source[1],
            dst=target[0],
            dst_port=target[1],
            transport=self._transport,
            time_us=time.time_ns() // 1000,
            protocol=self._protocol,
            payload=raw,
            capture_id=self._capture_id,
        )
        try:
            self._socket.sendto(packet.to_bytes(), self._address)
        except (OSError, ProtocolError):
            return  # nobody listens, or the message is too large for a datagram: the lab goes on

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
