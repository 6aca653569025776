"""Copies of the HSS's Diameter messages for a collector, as HEP3 over UDP.

A lab without the right to open a packet socket sees its Diameter traffic this way.
"""

from __future__ import annotations

import socket
import time
from typing import Final

from labkit.errors import ProtocolError
from labkit.wire.hep import PROTOCOL_DIAMETER, HepPacket

CAPTURE_ID: Final = 3868
"""Tells the HSS's copies from others."""


class Mirror:
    """Sends each message once, never waits, and never lets a missing collector disturb the HSS."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._address = address

    def send(self, raw: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        """Copy one message.

        Args:
            raw: the Diameter message.
            source: true address and port it came from.
            target: true address and port it went to.
        """
        packet = HepPacket(
            src=source[0],
            src_port=source[1],
            dst=target[0],
            dst_port=target[1],
            transport="tcp",
            time_us=time.time_ns() // 1000,
            protocol=PROTOCOL_DIAMETER,
            payload=raw,
            capture_id=CAPTURE_ID,
        )
        try:
            self._socket.sendto(packet.to_bytes(), self._address)
        except (OSError, ProtocolError):
            return  # nobody listens, or the message is too large for a datagram: the lab goes on

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
