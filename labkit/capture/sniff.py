"""Frames from the kernel: an AF_PACKET socket with a ring, and a program around it for the capture container.

    python3 -m labkit.capture.sniff [--until-eof] INTERFACE [NET] [and INTERFACE [NET]]

writes a pcap with nanosecond times to stdout, flushed as they come, and "ready" to stderr once nothing can be missed.
With --until-eof it ends when its stdin does: whoever started it and held that open is gone.
Only the standard library is needed (and labkit.wire.pcap, labkit.capture.ring and labkit.capture.frame_filter, which
need no more). Runs on Linux with CAP_NET_RAW.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import sys
import threading
from typing import Any

from labkit.capture.frame_filter import BIGGEST_FRAME, Choice, filter_program
from labkit.capture.ring import Block, FrameRing, TimedFrame
from labkit.errors import CaptureError
from labkit.wire.pcap import pcap_header, pcap_record

# Linux: include/uapi/linux/if_packet.h and include/uapi/asm-generic/socket.h; Python has no names for most of them.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC, _PACKET_STATISTICS = 1, 1, 6
_ETH_P_ALL = 3
_ALL_INTERFACES = 0
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_RECEIVE_BUFFER_BYTES = 16 << 20
_MOST_AT_ONCE = 1000
_USAGE = "[--until-eof] INTERFACE [NET] [and INTERFACE [NET]]"
_NOTHING = Block.of([])
_TIMESPEC = struct.Struct("@qq" if ctypes.sizeof(ctypes.c_long) == 8 else "@ll")


class PacketSocket:
    """Every frame of some interfaces, each once: from a ring, or one by one where the kernel refuses a ring.

    One socket for all: the frames come in the order in which the kernel saw them, whatever they came by.
    """

    def __init__(self, *interfaces: tuple[str, str | None]) -> None:
        """Open it; frames from now on are kept by the kernel until they are read.

        Args:
            interfaces: of each its name, for example "lo" or "br-0a1b2c3d4e5f" (a bridge is listened to
                promiscuously), and an IPv4 network, for example "127.3.9.0/24", if only packets from or to that
                are wanted.
        Raises:
            CaptureError: not Linux, no such interface, or no right to do so.
        """
        family = getattr(socket, "AF_PACKET", None)
        if family is None:
            raise CaptureError("Packets can only be sniffed on Linux; replay needs no sniffing.")
        choices = [_choice(name, net) for name, net in interfaces]
        try:
            # Protocol 0: deaf until it is bound, so that no frame of another interface slips in.
            self._socket = socket.socket(family, socket.SOCK_RAW, 0)
        except PermissionError as error:
            raise CaptureError(
                "This process may not sniff packets: it lacks CAP_NET_RAW. Run it as root, or let the nodes send "
                "copies of their messages (LABKIT_CAPTURE=mirror)."
            ) from error
        try:
            self._prepare(choices)
            _bind(self._socket, choices[0].interface if len(choices) == 1 else _ALL_INTERFACES)
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            names = " and ".join(repr(name) for name, _net in interfaces)
            raise CaptureError(f"Cannot sniff on interface {names}: {error.strerror}.") from error
        self._dropped = 0
        self._lock = threading.Lock()

    def _prepare(self, choices: list[Choice]) -> None:
        _attach_filter(self._socket, filter_program(choices))
        self.ring = _ring(self._socket)
        """The ring, None where frames are read one by one."""
        if self.ring is None:
            self._prepare_without_ring()
        for choice in choices:
            if not choice.only_outgoing:
                request = struct.pack("@iHH8s", choice.interface, _PACKET_MR_PROMISC, 0, b"")
                self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._socket.fileno()

    def _prepare_without_ring(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:  # without CAP_NET_ADMIN the system's limit holds
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)

    def read(self) -> Block:
        """Give the frames that wait, as many as come at once; none when there is none now."""
        if self.ring is None:
            return Block.of(self._read_one_by_one())
        while (block := self.ring.read()) is not None:
            if len(block):
                return block
        return _NOTHING

    def _read_one_by_one(self) -> list[TimedFrame]:
        frames: list[TimedFrame] = []
        while len(frames) < _MOST_AT_ONCE:
            try:
                raw, ancillary, _flags, _address = self._socket.recvmsg(BIGGEST_FRAME, 128)
            except (BlockingIOError, InterruptedError):
                break
            frames.append((_arrival_ns(ancillary), raw))
        return frames

    def dropped(self) -> int:
        """How many frames the kernel has had to throw away since the start, because nobody read them in time."""
        with self._lock:  # reading sets the kernel's counter to zero
            counters = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12)
            self._dropped += struct.unpack_from("@II", counters)[1]
            return self._dropped

    def close(self) -> None:
        """Stop listening."""
        if self.ring is not None:
            self.ring.close()
        self._socket.close()


def _ring(packets: socket.socket) -> FrameRing | None:
    try:
        return FrameRing(packets)
    except OSError:
        return None


def _arrival_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * 10**9 + nanoseconds)
    import time  # the kernel always gives the time; a clock read late is still better than none

    return time.time_ns()


def _choice(interface: str, net: str | None) -> Choice:
    """What to take of an interface.

    The loopback shows each frame twice, going out and coming in. The copy going out is there before the sender's call
    returns, so whoever has sent may count on it: that one is kept.
    """
    try:
        return Choice(socket.if_nametoindex(interface), net, only_outgoing=interface == "lo")
    except OSError as error:
        raise CaptureError(f"Cannot sniff on interface {interface!r}: {error.strerror}.") from error


def _bind(sniffing: socket.socket, interface: int) -> None:
    """Let frames of an interface in, by its index: socket.bind knows names only, and no name stands for all."""
    address = struct.pack("@HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), interface, 0, 0, 0, b"")
    if ctypes.CDLL(None, use_errno=True).bind(sniffing.fileno(), address, len(address)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _attach_filter(sniffing: socket.socket, program: list[bytes]) -> None:
    code = ctypes.create_string_buffer(b"".join(program))
    sniffing.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def main(arguments: list[str]) -> int:
    """Sniff until the reader goes away or SIGTERM comes; exit code 0 then, 2 when it cannot be done."""
    until_eof = "--until-eof" in arguments
    wanted = " ".join(argument for argument in arguments if argument != "--until-eof").split(" and ")
    if not all(1 <= len(one.split()) <= 2 for one in wanted):
        print(f"usage: python3 -m labkit.capture.sniff {_USAGE}", file=sys.stderr)
        return 2
    try:
        packets = PacketSocket(*((one.split()[0], " ".join(one.split()[1:]) or None) for one in wanted))
    except CaptureError as error:
        print(error, file=sys.stderr)
        return 2
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_ignored: None)  # the wake-up pipe tells the loop
    try:
        _write(pcap_header())
        print("ready", file=sys.stderr, flush=True)
        _pump(packets, [wake_read, 0] if until_eof else [wake_read])
    except BrokenPipeError:
        pass
    lost = packets.dropped()
    if lost:
        print(f"dropped {lost} frames", file=sys.stderr, flush=True)
    return 0


def _pump(packets: PacketSocket, ends: list[int]) -> None:
    """Copy frames until one of the descriptors in `ends` becomes readable: a signal came, or stdin ended."""
    lost = 0
    while True:
        waiting: list[Any] = [packets, *ends]
        readable, _, _ = select.select(waiting, [], [])
        while block := packets.read():
            _write(b"".join([pcap_record(time_ns, raw) for time_ns, raw in block.frames()]))
        if packets.dropped() > lost:
            lost = packets.dropped()
            print(f"dropped {lost} frames", file=sys.stderr, flush=True)
        if any(end in readable for end in ends):
            return


def _write(raw: bytes) -> None:
    while raw:
        raw = raw[os.write(1, raw) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
