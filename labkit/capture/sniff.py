"""Frames from the kernel: an AF_PACKET socket, and a program around it for the capture container.

    python3 -m labkit.capture.sniff [--until-eof] INTERFACE [NET]

writes a pcap with nanosecond times to stdout, flushed frame by frame, and "ready" to stderr once nothing can be missed.
With --until-eof it ends when its stdin does: whoever started it and held that open is gone.
Only the standard library is needed (and labkit.wire.pcap, which needs no more). Runs on Linux with CAP_NET_RAW.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import select
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

from labkit.errors import CaptureError
from labkit.wire.pcap import pcap_header, pcap_record

# Linux: include/uapi/linux/if_packet.h and include/uapi/asm-generic/socket.h; Python has no names for most of them.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC, _PACKET_STATISTICS = 1, 1, 6
_PACKET_HOST, _PACKET_OUTGOING = 0, 4
_ETH_P_ALL = 3
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_RECEIVE_BUFFER_BYTES = 16 << 20
_BIGGEST_FRAME = 262144
_TIMESPEC = struct.Struct("@qq" if ctypes.sizeof(ctypes.c_long) == 8 else "@ll")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A frame as the kernel handed it over."""

    time_ns: int
    """The kernel's time of arrival: nanoseconds since 1970-01-01 UTC."""
    raw: bytes
    """The frame from its Ethernet header on."""


class PacketSocket:
    """Every frame of one interface, each once."""

    def __init__(self, interface: str, net: str | None = None) -> None:
        """Open it; frames from now on are kept by the kernel until they are read.

        Args:
            interface: for example "lo" or "br-0a1b2c3d4e5f"; a bridge is listened to promiscuously.
            net: only IPv4 packets from or to this network, for example "127.3.9.0/24"; None for all frames.
        Raises:
            CaptureError: not Linux, no such interface, or no right to do so.
        """
        family = getattr(socket, "AF_PACKET", None)
        if family is None:
            raise CaptureError("Packets can only be sniffed on Linux; replay needs no sniffing.")
        self._loopback = interface == "lo"
        try:
            # Protocol 0: deaf until it is bound, so that no frame of another interface slips in.
            self._socket = socket.socket(family, socket.SOCK_RAW, 0)
        except PermissionError as error:
            raise CaptureError(
                "This process may not sniff packets: it lacks CAP_NET_RAW. Run it as root, or let the nodes send "
                "copies of their messages (LABKIT_CAPTURE=mirror)."
            ) from error
        try:
            self._prepare(interface, net)
        except OSError as error:
            self._socket.close()
            raise CaptureError(f"Cannot sniff on interface {interface!r}: {error.strerror}.") from error
        self._dropped = 0

    def _prepare(self, interface: str, net: str | None) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:  # without CAP_NET_ADMIN the system's limit holds
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        if net is not None:
            _attach_filter(self._socket, net)
        if not self._loopback:
            request = struct.pack("@iHH8s", socket.if_nametoindex(interface), _PACKET_MR_PROMISC, 0, b"")
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._socket.fileno()

    def read(self) -> Sighting | None:
        """Give the next frame, None when there is none now."""
        while True:
            try:
                raw, ancillary, _flags, address = self._socket.recvmsg(_BIGGEST_FRAME, 128)
            except (BlockingIOError, InterruptedError):
                return None
            # The loopback shows each frame twice, going out and coming in. The copy going out is shown before the
            # sender's call returns, so whoever has sent may count on its being here.
            if not self._loopback or address[2] == _PACKET_OUTGOING:
                return Sighting(_arrival_ns(ancillary), raw)

    def dropped(self) -> int:
        """How many frames the kernel has had to throw away since the start, because nobody read them in time."""
        counters = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._dropped += struct.unpack("@II", counters)[1]  # reading sets the kernel's counter to zero
        return self._dropped

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def _arrival_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * 10**9 + nanoseconds)
    import time  # the kernel always gives the time; a clock read late is still better than none

    return time.time_ns()


def _attach_filter(sniffing: socket.socket, net: str) -> None:
    """Let the kernel pass only IPv4 packets from or to a network: classic BPF, as `tcpdump -dd net ...` shows it."""
    network = ipaddress.IPv4Network(net)
    address, mask = int(network.network_address), int(network.netmask)
    program = [
        (0x28, 0, 0, 12),  # load half word: EtherType
        (0x15, 0, 7, 0x0800),  # not IPv4: reject
        (0x20, 0, 0, 26),  # load word: source address
        (0x54, 0, 0, mask),
        (0x15, 3, 0, address),  # in the network: accept
        (0x20, 0, 0, 30),  # load word: destination address
        (0x54, 0, 0, mask),
        (0x15, 0, 1, address),  # not in the network: reject
        (0x06, 0, 0, _BIGGEST_FRAME),
        (0x06, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *step) for step in program))
    sniffing.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def main(arguments: list[str]) -> int:
    """Sniff until the reader goes away or SIGTERM comes; exit code 0 then, 2 when it cannot be done."""
    until_eof = "--until-eof" in arguments
    arguments = [argument for argument in arguments if argument != "--until-eof"]
    if not 1 <= len(arguments) <= 2:
        print("usage: python3 -m labkit.capture.sniff [--until-eof] INTERFACE [NET]", file=sys.stderr)
        return 2
    try:
        packets = PacketSocket(*arguments)
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
        while (sighting := packets.read()) is not None:
            _write(pcap_record(sighting.time_ns, sighting.raw))
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
