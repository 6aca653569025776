"""UDP for what is short, TCP for requests of more than 1300 bytes (RFC 3261 section 18.1.1).

A datagram that is longer than what a link carries travels in pieces, and is lost when one of them is, or when something
on the way drops pieces on principle. The top Via says which way a request goes (`over_tcp`), so what belongs to one
transaction (repetition, CANCEL, ACK to a refusal) takes the same way without anybody remembering it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from labkit.errors import PortBusy
from labkit.peers.transport import Deliver, Endpoint, Failed, TcpLink, TcpTransport, UdpTransport

LARGE_BYTES: Final = 1300
"""Longest request for UDP where the path's limit is not known."""
_UDP, _TCP = b"\r\nVia: SIP/2.0/UDP ", b"\r\nVia: SIP/2.0/TCP "
_TRIES: Final = 20


def over_tcp(raw: bytes) -> bytes:
    """The same request with TCP in its top Via."""
    return raw.replace(_UDP, _TCP, 1)


class DualTransport:
    """A UDP socket and a TCP listener with the same port number (RFC 3261 section 18.2.1)."""

    name = "UDP"

    def __init__(self, deliver: Deliver, failed: Failed) -> None:
        self._udp = UdpTransport(deliver, failed)
        self._tcp = TcpTransport(deliver, self._tcp_failed)
        self._failed = failed

    async def open(self, address: str, port: int) -> int:
        """Take the port for both and return its number (port 0 takes any that is free for both).

        Raises:
            PortBusy: somebody else has it.
            StackError: the address is none of this host.
        """
        for attempt in range(1, _TRIES + 1):
            taken = await self._udp.open(address, port)
            try:
                return await self._tcp.open(address, taken)
            except PortBusy:
                self._udp.close()
                await asyncio.sleep(0)  # until then the socket is not closed
                if port or attempt == _TRIES:
                    raise
        raise AssertionError("the last try has returned or raised")

    def send(self, raw: bytes, destination: Endpoint, link: TcpLink | None = None) -> None:
        """Send over the link that a request came by, or as the top Via says."""
        if link is not None or self.is_reliable(raw):
            self._tcp.send(raw, destination, link)
        else:
            self._udp.send(raw, destination)

    def is_reliable(self, raw: bytes) -> bool:
        """Whether a request goes over TCP: its Via, right behind the request line, says so."""
        return raw.startswith(_TCP, raw.find(b"\r\n")) and not raw.startswith(b"SIP/2.0 ")

    def _tcp_failed(self, destination: Endpoint, why: str, unsent: list[bytes]) -> None:
        """No TCP there: what was to go over it goes over UDP after all (section 18.1.1); else tell who waits."""
        for raw in unsent:
            self._udp.send(raw.replace(_TCP, _UDP, 1), destination)
        if not unsent:
            self._failed(destination, why, [])

    def close(self) -> None:
        """Give the port back."""
        self._udp.close()
        self._tcp.close()
