"""How a phone's SIP messages travel: over UDP or over TCP (RFC 3261 section 18).

A transport delivers whole messages as bytes and knows nothing of what they say. Each delivery names its source and, for
TCP, the link it came over, so that an answer can go back the same way.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Protocol

from labkit.errors import PortBusy, SipError, StackError
from labkit.wire.sip import message_end, split_stream

Endpoint = tuple[str, int]
"""(address, port)."""

MAX_LINKS = 64
"""TCP connections that a phone keeps; beyond that the one used least recently is closed."""


MAX_DATAGRAM_BYTES = 65535
"""Longest UDP payload that there can be."""


class Transport(Protocol):
    """What the transaction layer needs of a transport."""

    name: str
    """"UDP" or "TCP", as Via writes it."""

    async def open(self, address: str, port: int) -> int: ...
    def send(self, raw: bytes, destination: Endpoint, link: TcpLink | None = None) -> None: ...
    def is_reliable(self, raw: bytes) -> bool:
        """Whether lost bytes of this request are sent again below SIP, so that SIP need not do it."""

    def close(self) -> None: ...


Deliver = Callable[[bytes, Endpoint, "TcpLink | None"], None]
Failed = Callable[[Endpoint, str, list[bytes]], None]
"""(destination, why, what could not be sent at all)."""


class UdpTransport(asyncio.DatagramProtocol):
    """One UDP socket, one message a datagram."""

    name = "UDP"

    def __init__(self, deliver: Deliver, failed: Failed) -> None:
        self._deliver = deliver
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self, address: str, port: int) -> int:
        """Take the port and return its number (port 0 takes any free one).

        Raises:
            PortBusy: somebody else has it.
            StackError: the address is none of this host.
        """
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(address, port))
        except OSError as error:
            raise _cannot_open("UDP", address, port, error) from error
        if hasattr(self._transport, "max_size"):
            # asyncio reads into a fresh buffer of 256 KiB for every datagram, which costs more than the reading
            self._transport.max_size = MAX_DATAGRAM_BYTES
        return int(self._transport.get_extra_info("sockname")[1])

    def send(self, raw: bytes, destination: Endpoint, link: TcpLink | None = None) -> None:
        """Send one datagram; nothing tells whether it arrives."""
        if self._transport is not None:
            self._transport.sendto(raw, destination)

    def is_reliable(self, raw: bytes) -> bool:
        """UDP is not."""
        return False

    def datagram_received(self, raw: bytes, source: tuple[str, int]) -> None:
        """Called by asyncio for every datagram."""
        self._deliver(raw, (source[0], source[1]), None)

    def error_received(self, error: Exception) -> None:
        """An ICMP error: it does not say which datagram it is about, so the transaction timers decide."""

    def close(self) -> None:
        """Give the port back."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class TcpLink(asyncio.Protocol):
    """One TCP connection: cuts what comes into messages."""

    def __init__(self, owner: TcpTransport, peer: Endpoint | None = None) -> None:
        self._owner = owner
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._needed = 0
        self.peer: Endpoint = peer or ("", 0)
        """The other end."""

    @property
    def is_open(self) -> bool:
        """Whether bytes can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once the connection stands."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if peer:
            self.peer = (peer[0], peer[1])
        self._owner.link_up(self)

    def data_received(self, raw: bytes) -> None:
        """Called by asyncio for whatever has come; closes a connection that cannot be SIP."""
        self._buffer += raw
        if len(self._buffer) < self._needed:
            return
        try:
            messages, rest = split_stream(self._buffer)
            self._needed = (message_end(rest) or 0) if rest else 0
        except SipError:
            self.close()
            return
        self._buffer = bytearray(rest)
        for message in messages:
            self._owner.deliver(message, self.peer, self)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by asyncio when the connection is gone."""
        self._transport = None
        self._buffer.clear()
        self._owner.link_down(self)

    def write(self, raw: bytes) -> None:
        """Send bytes."""
        if self._transport is not None:
            self._transport.write(raw)

    def close(self) -> None:
        """Close the connection after what was written has gone out."""
        if self._transport is not None:
            self._transport.close()


class TcpTransport:
    """A listening socket on the phone's port, and connections: those it opens itself and those that come.

    Requests go out over a connection of their own with any free port, answers come back over the same one; requests to
    the phone come over connections that the other side opens to the port in its Contact (RFC 3261 section 18.2).
    """

    name = "TCP"

    def __init__(self, deliver: Deliver, failed: Failed) -> None:
        self.deliver = deliver
        self._failed = failed
        self._address = ""
        self._server: asyncio.Server | None = None
        self._links: dict[Endpoint, TcpLink] = {}
        self._opening: dict[Endpoint, tuple[asyncio.Task[None], list[bytes]]] = {}

    async def open(self, address: str, port: int) -> int:
        """Listen on the port and return its number (port 0 takes any free one).

        Raises:
            PortBusy: somebody else has it.
            StackError: the address is none of this host.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: TcpLink(self), address, port)
        except OSError as error:
            raise _cannot_open("TCP", address, port, error) from error
        self._address = address
        return int(self._server.sockets[0].getsockname()[1])

    def send(self, raw: bytes, destination: Endpoint, link: TcpLink | None = None) -> None:
        """Send over the given link while it is open, else over one to the destination, opened when there is none."""
        if link is None or not link.is_open:
            link = self._links.get(destination)
        if link is not None and link.is_open:
            self._links[link.peer] = self._links.pop(link.peer, link)
            link.write(raw)
        elif destination in self._opening:
            self._opening[destination][1].append(raw)
        elif self._server is not None:
            task = asyncio.get_running_loop().create_task(self._connect(destination))
            self._opening[destination] = (task, [raw])

    def is_reliable(self, raw: bytes) -> bool:
        """TCP is."""
        return True

    async def _connect(self, destination: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_connection(
                lambda: TcpLink(self, destination), *destination, local_addr=(self._address, 0)
            )
        except OSError as error:
            _, unsent = self._opening.pop(destination)
            self._failed(destination, f"no TCP connection: {error.strerror or error}", unsent)
            return
        for raw in self._opening.pop(destination)[1]:
            link.write(raw)

    def link_up(self, link: TcpLink) -> None:
        """Note a connection; one too many costs the one that was used least recently."""
        self._links[link.peer] = link
        if len(self._links) > MAX_LINKS:
            self._links.pop(next(iter(self._links))).close()

    def link_down(self, link: TcpLink) -> None:
        """Forget a connection, and tell whoever waits for an answer over it."""
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
            self._failed(link.peer, "the TCP connection was closed", [])

    def close(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task, _ in self._opening.values():
            task.cancel()
        self._opening.clear()
        links, self._links = list(self._links.values()), {}
        for link in links:
            link.close()


def _cannot_open(kind: str, address: str, port: int, error: OSError) -> StackError:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(
            f"{kind} port {port} of {address} is taken: stop what holds it, or give the phone another port."
        )
    why = error.strerror or error
    return StackError(f"A phone cannot take {kind} port {port} of {address}: {why}. Is the address one of this host?")
