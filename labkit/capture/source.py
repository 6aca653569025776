"""Live sources of packets: the wire where it may be sniffed, else the copies that nodes send.

A source is started once; captures are spans between two marks of it. A mark comes after everything that was sent
before it: the source sends itself a datagram that nobody else could have sent, and waits until it comes by.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any, Protocol

from labkit.capture.mirror import CopyMatcher, frames_of
from labkit.capture.sniff import PacketSocket
from labkit.errors import CaptureError, ProtocolError
from labkit.wire import pcap
from labkit.wire.hep import HepPacket, parse_packet

RawFrame = tuple[int, int, bytes]
"""Time in nanoseconds since 1970, link type, frame."""

_MARKER = b"labkit mark "
_MARK_TIMEOUT_S = 3.0
_DISCARD_PORT = 9
_UDP_PAYLOAD_AT = 42
"""Ethernet, IPv4 without options and UDP header: a marker travels in no other way."""


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


class _Log:
    """What came in, in order, filled by one thread and read by others."""

    def __init__(self) -> None:
        self.items: list[RawFrame] = []
        self._marks: dict[bytes, int] = {}
        self._changed = threading.Condition()
        self.ended = ""

    def add(self, frame: RawFrame) -> None:
        marker = frame[2][_UDP_PAYLOAD_AT : _UDP_PAYLOAD_AT + len(_MARKER) + 16]
        with self._changed:
            if marker.startswith(_MARKER):
                self._marks[marker] = len(self.items)
                self._changed.notify_all()
            else:
                self.items.append(frame)

    def note_mark(self, marker: bytes) -> None:
        with self._changed:
            self._marks[marker] = len(self.items)
            self._changed.notify_all()

    def end(self, why: str) -> None:
        with self._changed:
            self.ended = self.ended or why
            self._changed.notify_all()

    def mark(self, send: Callable[[bytes], object]) -> int:
        """Send a marker and wait until it has come; send it again when it seems lost."""
        marker = _MARKER + os.urandom(16)
        attempts = 3
        with self._changed:
            for _attempt in range(attempts):
                try:
                    send(marker)
                except OSError as error:
                    self.ended = self.ended or f"its marker cannot be sent ({error.strerror})"
                if self._changed.wait_for(lambda: marker in self._marks or self.ended, _MARK_TIMEOUT_S / attempts):
                    break
            if marker in self._marks:
                return self._marks.pop(marker)
        why = self.ended or f"it did not see its own marker within {_MARK_TIMEOUT_S:.0f} s"
        raise CaptureError(f"The capture does not work: {why}. Stop the lab and start it anew (./lab down, ./lab up).")

    def span(self, since: int, until: int) -> list[RawFrame]:
        with self._changed:
            return self.items[since:until]


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
        self._log = _Log()
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
        self._packets = PacketSocket(self._interface, str(self._net))
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
            while (sighting := self._packets.read()) is not None:
                self._log.add((sighting.time_ns, pcap.LINKTYPE_ETHERNET, sighting.raw))
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
        self._log = _Log()
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

    def _listen(self) -> None:
        reader = pcap.StreamReader()
        try:
            while raw := self._read(1 << 16):
                for frame in reader.feed(raw):
                    self._log.add((frame.time_ns, frame.linktype, frame.raw))
            self._log.end("its program has ended")
        except (OSError, ValueError, CaptureError) as error:  # ValueError: the stream was closed under us
            self._log.end(str(error))


class MirrorSniffer:
    """Collects the copies of messages that nodes send (HEP3 over UDP) and makes frames of them; needs no right."""

    kind = "mirrored"

    def __init__(self, address: tuple[str, int]) -> None:
        """Prepare.

        Args:
            address: where the nodes send their copies to.
        """
        self._address = address
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._log = _Log()
        self._lock = threading.Lock()
        self._copies: list[HepPacket] = []
        self._matcher = CopyMatcher()
        self.dropped = 0
        """Copies that made no sense. Those that the system lost on the way cannot be counted."""

    def start(self) -> None:
        """Begin to collect.

        Raises:
            CaptureError: the address is taken, for example by another notebook that captures in the same lab.
        """
        if self._thread is not None:
            return
        collecting = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        collecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        try:
            collecting.bind(self._address)
        except OSError as error:
            collecting.close()
            host, port = self._address
            raise CaptureError(
                f"Cannot collect mirrored messages on {host}:{port}: {error.strerror}. Only one notebook at a time can "
                "capture in a lab that mirrors: shut the other one down."
            ) from error
        self._socket = collecting
        self._thread = threading.Thread(target=self._listen, name="labkit-mirror", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End collecting; what came stays."""
        if self._thread is None or self._socket is None:
            return
        self._socket.sendto(b"", self._address)  # wakes the thread
        self._thread.join(5)
        self._log.end("it was stopped")
        self._socket.close()
        self._thread = self._socket = None

    def mark(self) -> int:
        """Give the position after every copy sent so far."""
        if self._socket is None:
            raise CaptureError("The capture is not running: start it first.")
        own = self._socket
        return self._log.mark(lambda marker: own.sendto(marker, self._address))

    def frames(self, since: int, until: int) -> list[RawFrame]:
        """Give the messages between two marks as frames, in the order of the nodes' clocks."""
        with self._lock:
            copies = [self._copies[place] for place in range(since, until) if self._matcher.needed(place)]
        return [(time_ns, pcap.LINKTYPE_ETHERNET, raw) for time_ns, raw in frames_of(copies)]

    def _listen(self) -> None:
        assert self._socket is not None
        while True:
            try:
                raw, (reporter, _port) = self._socket.recvfrom(65535)
            except OSError as error:
                self._log.end(str(error))
                return
            if not raw:
                return
            if raw.startswith(_MARKER):
                self._log.note_mark(raw)
            else:
                self._collect(raw, reporter)

    def _collect(self, raw: bytes, reporter: str) -> None:
        try:
            copy = parse_packet(raw)
        except ProtocolError:
            self.dropped += 1
            return
        with self._lock:
            self._matcher.add(len(self._copies), copy, reporter)
            self._copies.append(copy)
            self._log.add((0, 0, b""))  # the log counts; what counts is in self._copies
