"""The source of packets where nobody may sniff: the nodes send copies of their messages."""

from __future__ import annotations

import socket
import threading
import time

from labkit.capture.frame_log import MARKER, FrameLog, RawFrame
from labkit.capture.mirror import CopyMatcher, frames_of
from labkit.errors import CaptureError, ProtocolError
from labkit.wire import pcap
from labkit.wire.hep import HepPacket, parse_packet

_COPIES_APART_US = 60_000
"""The two copies of a mirrored message come within this time."""
_QUIET_S = 0.03
"""A node sends a message first and its copy then: where no copy came for so long, none is on its way."""
_LONGEST_WAIT_S = 0.5
"""Traffic that never pauses keeps nobody waiting longer."""


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
        self._log = FrameLog()
        self._lock = threading.Lock()
        self._copies: list[HepPacket] = []
        self._last_copy_s = 0.0
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
        """Give the position after the copies of all messages sent so far."""
        if self._socket is None:
            raise CaptureError("The capture is not running: start it first.")
        own = self._socket
        give_up = time.monotonic() + _LONGEST_WAIT_S
        while time.monotonic() < min(self._last_copy_s + _QUIET_S, give_up):
            time.sleep(_QUIET_S / 10)
        return self._log.mark(lambda marker: own.sendto(marker, self._address))

    def frames(self, since: int, until: int) -> list[RawFrame]:
        """Give the messages between two marks as frames, in the order of the nodes' clocks."""
        with self._lock:
            copies = [self._copies[place] for place in range(since, until) if self._matcher.needed(place)]
        return [(time_ns, pcap.LINKTYPE_ETHERNET, raw) for time_ns, raw in frames_of(copies)]

    def position(self) -> int:
        """Give the position after what has come so far."""
        return len(self._copies)

    def since(self, position: int) -> tuple[list[RawFrame], int]:
        """Give what has come since a position, but for the last moment: the second copy of a message may follow yet."""
        settled_us = time.time_ns() // 1000 - _COPIES_APART_US
        with self._lock:
            fresh = self._copies[position:]
        young = (place for place, copy in enumerate(fresh) if copy.time_us > settled_us)
        until = position + next(young, len(fresh))
        return self.frames(position, until), until

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
            if raw.startswith(MARKER):
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
            self._last_copy_s = time.monotonic()
            self._log.extend([(0, 0, b"")])  # the log counts; what counts is in self._copies
