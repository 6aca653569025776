"""A transport that tells a collector of each message, in a lab whose packets cannot be sniffed.

Nodes send copies of what they send and receive; what one phone sends straight to another passes no node, so the phone
itself has to tell. Of a message that a node has got as well, the collector keeps the node's copy.
"""

from __future__ import annotations

from labkit.peers.mirror import Mirror
from labkit.peers.transport import Endpoint, TcpLink, Transport
from labkit.wire.hep import PROTOCOL_SIP

SIP_MIRROR_ID = 5060
"""Tells phones' copies of SIP messages from copies of others."""


class MirroredTransport:
    """Another transport, with a copy of all that is sent over it."""

    def __init__(self, inner: Transport, collector: Endpoint) -> None:
        """Open the mirrors.

        Args:
            inner: what messages really travel over.
            collector: where copies go (HEP3).
        """
        self._inner = inner
        self._own: Endpoint = ("", 0)
        self._mirrors = {
            transport: Mirror(collector, transport=transport, protocol=PROTOCOL_SIP, capture_id=SIP_MIRROR_ID)
            for transport in ("udp", "tcp")
        }
        self.name = inner.name
        """As Via writes it."""

    async def open(self, address: str, port: int) -> int:
        """Take the port and return its number."""
        taken = await self._inner.open(address, port)
        self._own = (address, taken)
        return taken

    def send(self, raw: bytes, destination: Endpoint, link: TcpLink | None = None) -> None:
        """Copy, then send: so the copy comes before that of whoever gets the message."""
        over_tcp = link is not None or self._inner.name == "TCP" or self._inner.is_reliable(raw)
        self._mirrors["tcp" if over_tcp else "udp"].send(raw, self._own, destination)
        self._inner.send(raw, destination, link)

    def is_reliable(self, raw: bytes) -> bool:
        """As the other transport says."""
        return self._inner.is_reliable(raw)

    def close(self) -> None:
        """Give the port back."""
        self._inner.close()
        for mirror in self._mirrors.values():
            mirror.close()
