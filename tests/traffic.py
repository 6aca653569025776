"""Paced traffic on the loopback for live tests and benchmarks; every packet says when it was sent.

    python tests/traffic.py sip ADDRESS RATE SECONDS          OPTIONS requests; CSeq is the time in ms, modulo 2**31
    python tests/traffic.py rtp ADDRESS RATE SECONDS [PAYLOAD]  RTP; the payload begins with the time in ns

`sip` also sends 50 packets of RTP a second, announced by SDP, so that there is a stream to measure; `rtp` begins with
that SDP. At the end it prints how many packets were sent, and how long it took.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time

RTP_PORT = 40_000
_BURST = 64
_SDP = "v=0\r\no=- 0 0 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n"


def options(sent_ms: int) -> bytes:
    """A small request that says when it was sent."""
    number = sent_ms % 2**31
    return (
        f"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{number}\r\nCall-ID: {number % 7}\r\n"
        f"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def invite(address: str) -> bytes:
    """A request whose SDP announces the RTP."""
    body = _SDP.format(address, RTP_PORT)
    return (
        "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKi\r\nCall-ID: i\r\nFrom: <sip:a@x>;tag=1\r\n"
        "To: <sip:b@x>\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def rtp(number: int, payload_bytes: int = 160) -> bytes:
    """An RTP packet with the time in its payload."""
    header = struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, 7)
    return header + struct.pack(">Q", time.time_ns()) + bytes(payload_bytes - 8)


def send_sip(address: str, rate: int, seconds: float) -> int:
    """Send requests at a rate, and a stream beside them; return how many requests."""
    with _bound(address, 5060) as sink, _bound(address, 5061) as source, _bound(address, RTP_PORT):
        target, media = sink.getsockname(), (address, RTP_PORT)
        source.sendto(invite(address), target)
        begin = time.perf_counter()
        sent = packets = 0
        while (elapsed := time.perf_counter() - begin) < seconds:
            while sent < elapsed * rate:
                source.sendto(options(time.time_ns() // 1_000_000), target)
                sent += 1
            while packets < elapsed * 50:
                source.sendto(rtp(packets), media)
                packets += 1
            time.sleep(min(0.005, 1 / rate))
        return sent


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr of Linux."""

    _fields_ = (
        *(("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32)),
        *(("vector", ctypes.c_void_p), ("vectors", ctypes.c_size_t)),
        *(("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t)),
        *(("flags", ctypes.c_int), ("padding", ctypes.c_int), ("sent", ctypes.c_uint32)),
    )


def send_rtp(address: str, rate: int, seconds: float, payload_bytes: int = 160) -> int:
    """Send packets at a rate with as few system calls as can be; return how many."""
    with _bound(address, RTP_PORT) as sink, _bound(address, 5061) as source, _bound(address, 5060) as signalling:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # nobody reads it
        source.sendto(invite(address), signalling.getsockname())
        source.connect((address, RTP_PORT))
        time.sleep(0.1)
        library = ctypes.CDLL(None, use_errno=True)
        packets = [bytearray(rtp(0, payload_bytes)) for _ in range(_BURST)]
        buffers = [(ctypes.c_char * len(packet)).from_buffer(packet) for packet in packets]
        vectors = (_Vector * _BURST)(*((ctypes.addressof(buffer), len(buffer)) for buffer in buffers))
        messages = (_Message * _BURST)()
        for place, message in enumerate(messages):
            message.vector, message.vectors = ctypes.addressof(vectors) + place * ctypes.sizeof(_Vector), 1
        total, sent, begin = int(rate * seconds), 0, time.perf_counter()
        while sent < total:
            due = min(int((time.perf_counter() - begin) * rate) + 1, total)
            while sent < due:
                count = min(due - sent, _BURST)
                now_ns = time.time_ns()
                for packet, number in zip(packets, range(sent, sent + count), strict=False):
                    struct.pack_into(">HI", packet, 2, number & 0xFFFF, number * 160 & 0xFFFFFFFF)
                    struct.pack_into(">Q", packet, 12, now_ns)
                done = library.sendmmsg(source.fileno(), messages, count, 0)
                sent += max(done, 0)
            time.sleep(0.0005)
        return sent


def _bound(address: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((address, port))
    return opened


def main(kind: str, address: str, rate: str, seconds: str, payload_bytes: str = "160") -> None:
    """Send, and say what was sent."""
    begin = time.perf_counter()
    if kind == "sip":
        sent = send_sip(address, int(rate), float(seconds))
    else:
        sent = send_rtp(address, int(rate), float(seconds), int(payload_bytes))
    print(sent, f"{time.perf_counter() - begin:.3f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
