"""RTP and RTCP among the datagrams: those from or to an address that an SDP in the same capture announced."""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterable, Iterator

from labkit.capture.fields import Row

Endpoint = tuple[str, int]
"""Address and port."""

_MOST_ENDPOINTS = 1 << 20
_MOST_SEEN = 8192
_FEWEST_PACKETS, _LONGEST_GAP = 8, 16
"""So many packets whose numbers go up by no more are believed to be RTP without SDP, when that is asked."""

_MOST_STREAMS = 64
"""An "m=" line may ask for several streams on every other port; no honest one asks for more."""

_CONNECTION = re.compile(r"IN IP[46] ([^\s/]+)")
_MEDIA = re.compile(r"\S+ (\d+)(?:/(\d+))? (?:\S*RTP\S*) ")
_TELLING_LINES = re.compile(
    rb"\n(?:c=IN IP4 ([0-9.]+)\r?(?=\n|\Z)|m=[a-z]+ ([1-9][0-9]*) RTP/[A-Z]+ |[cm]=|a=rtcp:)"
).findall
"""The lines of SDP that say where media goes; address and port where they are of the usual form."""
_RTCP = re.compile(r"rtcp:(\d+)(?: IN IP[46] (\S+))?")


def announced_endpoints(body: bytes) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Give (RTP, RTCP) endpoints that the SDP in a message body announces; multipart bodies too.

    Spec:
        RFC 8866 section 5.7 and 5.14; RFC 3605 (a=rtcp); RFC 3550 section 11 (RTCP on the next port).
    """
    session_address = ""
    media: list[tuple[str, int, int]] = []
    rtcp: dict[int, tuple[int, str]] = {}
    for line in body.decode("utf-8", "replace").splitlines():
        kind, value = line[:2], line[2:]
        if kind == "v=":
            session_address = ""
        elif kind == "c=" and (connection := _CONNECTION.match(value)):
            if media:
                media[-1] = (connection.group(1), *media[-1][1:])
            else:
                session_address = connection.group(1)
        elif kind == "m=":
            announced = _MEDIA.match(value)
            port, streams = announced.groups(default="1") if announced else (0, 0)
            media.append((session_address, int(port), min(int(streams), _MOST_STREAMS)))
        elif kind == "a=" and media and (explicit := _RTCP.match(value)):
            rtcp[len(media) - 1] = (int(explicit.group(1)), explicit.group(2) or "")
    for index, (address, port, streams) in enumerate(media):
        if address and port:
            rtcp_port, rtcp_address = rtcp.get(index, (port + 1, ""))
            yield (_plain(address), port), (_plain(rtcp_address or address), rtcp_port)
            for further in range(port + 2, port + 2 * streams, 2):
                yield _plain_pair(_plain(address), further)


def _plain(address: str) -> str:
    """An IPv6 address may be written in several ways."""
    try:
        return str(ipaddress.ip_address(address)) if ":" in address else address
    except ValueError:
        return address


def _simple_session(body: bytes) -> tuple[Endpoint, Endpoint] | None:
    """The endpoints of a session with one stream of media and nothing unusual; the fast way for nearly all of them."""
    lines = _TELLING_LINES(body)
    if len(lines) != 2 or body[:2] != b"v=":
        return None
    address, port = lines[0][0] or lines[1][0], lines[0][1] or lines[1][1]
    return _plain_pair(address.decode(), int(port)) if address and port else None


def _plain_pair(address: str, port: int) -> tuple[Endpoint, Endpoint]:
    """RTP on a port, RTCP on the next (RFC 3550 section 11)."""
    return (address, port), (address, port + 1)


def rtcp_packets(payload: bytes) -> Iterator[bytes]:
    """Give the packets of a compound RTCP datagram (RFC 3550 section 6.1); the last one takes what does not fit."""
    start = 0
    while len(payload) - start >= 8 and payload[start] >> 6 == 2 and is_rtcp(payload[start + 1]):
        size = 4 + 4 * int.from_bytes(payload[start + 2 : start + 4], "big")
        more = len(payload) - start - size >= 8
        end = start + size if more else len(payload)
        yield payload[start:end]
        start = end


def is_rtcp(second: int) -> bool:
    """Tell RTCP from RTP by the second byte, also where both share a port (RFC 5761 section 4)."""
    return 192 <= second <= 223


def rtcp_row(raw: bytes) -> Row:
    """Read the columns of an RTCP packet (RFC 3550 section 6.4)."""
    return {"protocol": "rtcp", "payload_type": raw[1], "ssrc": int.from_bytes(raw[4:8], "big")}


def rtp_row(raw: bytes) -> Row:
    """Read the columns of an RTP packet (RFC 3550 section 5.1)."""
    _first, second, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", raw)
    return {
        "protocol": "rtp",
        "payload_type": second & 0x7F,
        "marker": bool(second & 0x80),
        "sequence": sequence,
        "rtp_timestamp": timestamp,
        "ssrc": ssrc,
    }


IS_RTP, IS_RTCP = 1, 2


class MediaBook:
    """The addresses that SDP announced for RTP and RTCP."""

    def __init__(self) -> None:
        self.kinds: dict[Endpoint, int] = {}
        """IS_RTP and IS_RTCP, added up."""
        self.fresh: set[Endpoint] = set()
        """Endpoints of which something was learnt since `fresh` was last emptied."""
        self._seen: dict[bytes, None] = {}

    def learn(self, body: bytes) -> None:
        """Note what the SDP in a message body announces."""
        if b"m=" not in body:
            return
        pair = _simple_session(body)
        if pair:
            self._note(pair)
        elif body not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[body] = None
            for announced in announced_endpoints(body):
                self._note(announced)

    def guess(self, headers: Iterable[tuple[tuple[str, int, str, int], int, int, int]]) -> None:
        """Take endpoints for RTP that nobody announced: one SSRC, mostly one payload type, numbers that count up.

        Args:
            headers: ends, SSRC, payload type and sequence number of packets that may be RTP, in order.
        """
        streams: dict[tuple[tuple[str, int, str, int], int], list[int]] = {}
        for ends, ssrc, kind, sequence in headers:
            stream = streams.setdefault((ends, ssrc), [0, 0, kind, sequence])
            stream[0] += 1
            stream[1] += kind == stream[2] and 0 < (sequence - stream[3]) & 0xFFFF <= _LONGEST_GAP
            stream[2:] = kind, sequence
        for ((_src, _src_port, dst, dst_port), _ssrc), (packets, steps, _kind, _last) in streams.items():
            if packets >= _FEWEST_PACKETS and steps >= 0.8 * (packets - 1):
                self._note(_plain_pair(dst, dst_port))

    def _note(self, pair: tuple[Endpoint, Endpoint]) -> None:
        for kind, endpoint in enumerate(pair, IS_RTP):
            known = self.kinds.get(endpoint, 0)
            if not known & kind and len(self.kinds) < _MOST_ENDPOINTS:
                self.kinds[endpoint] = known | kind
                self.fresh.add(endpoint)
