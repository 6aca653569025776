"""Live sources of packets: the wire where it may be sniffed, else the copies that nodes send.

A source is started once; captures are spans between two marks of it. A mark comes after everything that was sent
before it: the source sends itself a datagram that nobody else could have sent, and waits until it comes by.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any, Protocol

from labkit.capture.frame_log import FrameLog, RawFrame
from labkit.capture.sniff import PacketSocket
from labkit.errors import CaptureError
from labkit.wire import pcap

_DISCARD_PORT = 9


class Sniffer(Protocol):
    """A live source of packets."""

    kind: str
    """"wire" where frames are sniffed, "mirrored" where they are made from copies of messages."""

    def start(self) -> None:
        """Begin to listen; when this returns, nothing is missed any more."""

    def stop(self) -> None:
        """End listening; safe to call twice."""

    def mark(self) -> int:
        """Give the position after all that was sent so far.

        Raises:
            CaptureError: the source does not see what is sent.
        """

    def frames(self, since: int, until: int) -> list[RawFrame]:
        """Give what came between two marks, without the markers, in the order in which it came."""

    def position(self) -> int:
        """Give the position after what has come so far, without waiting for anything."""

    def since(self, position: int) -> tuple[list[RawFrame], int]:
        """Give what has come since a position, without waiting, and the position after it."""

    @property
    def dropped(self) -> int:
        """How many frames were lost because they could not be read in time."""


def can_sniff() -> bool:
    """Tell whether this process may open a packet socket (Linux with CAP_NET_RAW)."""
    family = getattr(socket, "AF_PACKET", None)
    if family is None:
        return False
    try:
        socket.socket(family, socket.SOCK_RAW, 0).close()
    except OSError:
        return False
    return True


def to_pcapng(frames: Iterable[RawFrame], names: Mapping[str, str] | None = None) -> bytes:
    """Give frames as a pcapng file that Wireshark opens, with names of nodes by address."""
    numbered = (pcap.Frame(n, time_ns, linktype, raw) for n, (time_ns, linktype, raw) in enumerate(frames, start=1))
    return pcap.pcapng(numbered, names)


class AfPacketSniffer:
    """Sniffs an interface of this machine; needs CAP_NET_RAW."""

    kind = "wire"

    def __init__(self, interface: str, net: str) -> None:
        """Prepare; nothing is opened yet.

        Args:
            interface: "lo" for the local engine.
            net: IPv4 network of the lab; all else is left out.
        """
        self._interface, self._net = interface, IPv4Network(net)
        self._log = FrameLog()
        self._packets: PacketSocket | None = None
        self._thread: threading.Thread | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._own: socket.socket | None = None
        self._lost = 0

    def start(self) -> None:
        """Begin to listen.

        Raises:
            CaptureError: no right to sniff, or no such interface.
        """
        if self._thread is not None:
            return
        self._packets = PacketSocket((self._interface, str(self._net)))
        self._wake = socket.socketpair()
        self._own = _own_socket(self._interface, self._net)
        self._thread = threading.Thread(target=self._listen, name="labkit-sniffer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End listening; what was seen stays."""
        if self._thread is None or self._wake is None or self._packets is None or self._own is None:
            return
        self._wake[1].send(b"x")
        self._thread.join()
        self._lost = self._packets.dropped()
        self._log.end("it was stopped")
        for opened in (self._packets, self._own, *self._wake):
            opened.close()
        self._thread = self._own = None

    def mark(self) -> int:
        """Give the position after everything sent so far."""
        if self._own is None:
            raise CaptureError("The capture is not running: start it first.")
        own = self._own
        target = own.getsockname() if self._interface == "lo" else (str(self._net.broadcast_address), _DISCARD_PORT)
        return self._log.mark(lambda marker: own.sendto(marker, target))

    def frames(self, since: int, until: int) -> list[RawFrame]:
        """Give what came between two marks."""
        return self._log.span(since, until)

    def position(self) -> int:
        """Give the position after what has come so far."""
        return len(self._log.items)

    def since(self, position: int) -> tuple[list[RawFrame], int]:
        """Give what has come since a position, and the position after it."""
        return self._log.since(position)

    @property
    def dropped(self) -> int:
        """Frames that the kernel threw away because this program read too slowly."""
        return self._packets.dropped() if self._thread is not None and self._packets else self._lost

    def _listen(self) -> None:
        assert self._packets is not None
        assert self._wake is not None
        while True:
            waiting: list[Any] = [self._packets, self._wake[0]]
            readable, _, _ = select.select(waiting, [], [])
            while block := self._packets.read():
                self._log.extend([(time_ns, pcap.LINKTYPE_ETHERNET, raw) for time_ns, raw in block.frames()])
            if self._wake[0] in readable:
                return


def _own_socket(interface: str, net: IPv4Network) -> socket.socket:
    """A socket for markers: on the loopback bound into the network, else allowed to broadcast into it."""
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if interface == "lo":
        own.bind((str(net.network_address + 1), 0))
    else:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return own


class ByteStream(Protocol):
    """What a StreamSniffer reads from."""

    def read(self, size: int, /) -> bytes:
        """Give up to `size` bytes as soon as there are any; none at the end."""


class StreamSniffer:
    """Reads the pcap stream of `python3 -m labkit.capture.sniff` in the capture container.

    Markers are broadcast into the lab's network: a broadcast crosses the bridge without anybody being asked for an
    address, and nobody answers it.
    """

    kind = "wire"

    def __init__(
        self,
        stream: ByteStream,
        marker_target: tuple[str, int],
        *,
        stop: Callable[[], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            stream: gives the bytes of the pcap; an unbuffered pipe, or a BufferedReader (its read1 is used).
            marker_target: broadcast address of the captured network, and a port where nobody listens.
            stop: ends the program that writes the stream; called once by `stop`.
        """
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self._target, self._stop = marker_target, stop
        self._log = FrameLog()
        self._own: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Frames that the kernel threw away; whoever reads the program's stderr may set it."""

    def start(self) -> None:
        """Begin to read, and wait until the stream shows what is sent.

        Raises:
            CaptureError: the stream ended, is no pcap, or shows nothing.
        """
        if self._thread is not None:
            return
        self._own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._thread = threading.Thread(target=self._listen, name="labkit-sniffer", daemon=True)
        self._thread.start()
        self.mark()

    def stop(self) -> None:
        """End the program and the reading."""
        if self._thread is None or self._own is None:
            return
        self._log.end("it was stopped")
        if self._stop is not None:
            self._stop()
        self._thread.join(5)
        self._own.close()
        self._thread = self._own = None

    def mark(self) -> int:
        """Give the position after everything sent so far."""
        if self._own is None:
            raise CaptureError("The capture is not running: start it first.")
        own = self._own
        return self._log.mark(lambda marker: own.sendto(marker, self._target))

    def frames(self, since: int, until: int) -> list[RawFrame]:
        """Give what came between two marks."""
        return self._log.span(since, until)

    def position(self) -> int:
        """Give the position after what has come so far."""
        return len(self._log.items)

    def since(self, position: int) -> tuple[list[RawFrame], int]:
        """Give what has come since a position, and the position after it."""
        return self._log.since(position)

    def _listen(self) -> None:
        reader = pcap.StreamReader()
        try:
            while raw := self._read(1 << 16):
                self._log.extend([(frame.time_ns, frame.linktype, frame.raw) for frame in reader.feed(raw)])
            self._log.end("its program has ended")
        except (OSError, ValueError, CaptureError) as error:  # ValueError: the stream was closed under us
            self._log.end(str(error))
