"""RTP and RTCP among the datagrams: those from or to an address that an SDP in the same capture announced."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from labkit.capture.fields import Row

Endpoint = tuple[str, int]
"""Address and port."""

_CONNECTION = re.compile(r"IN IP[46] ([^\s/]+)")
_MEDIA = re.compile(r"\S+ (\d+)(?:/(\d+))? (?:\S*RTP\S*) ")
_RTCP = re.compile(r"rtcp:(\d+)(?: IN IP[46] (\S+))?")


def announced_endpoints(body: bytes) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Give (RTP, RTCP) endpoints that the SDP in a message body announces; multipart bodies too.

    Spec:
        RFC 8866 section 5.7 and 5.14; RFC 3605 (a=rtcp); RFC 3550 section 11 (RTCP on the next port).
    """
    session_address = ""
    media: list[tuple[str, int]] = []
    rtcp: dict[int, tuple[int, str]] = {}
    for line in body.decode("utf-8", "replace").splitlines():
        kind, value = line[:2], line[2:]
        if kind == "v=":
            session_address = ""
        elif kind == "c=" and (connection := _CONNECTION.match(value)):
            if media:
                media[-1] = (connection.group(1), media[-1][1])
            else:
                session_address = connection.group(1)
        elif kind == "m=":
            announced = _MEDIA.match(value)
            media.append((session_address, int(announced.group(1)) if announced else 0))
        elif kind == "a=" and media and (explicit := _RTCP.match(value)):
            rtcp[len(media) - 1] = (int(explicit.group(1)), explicit.group(2) or "")
    for index, (address, port) in enumerate(media):
        if address and port:
            rtcp_port, rtcp_address = rtcp.get(index, (port + 1, ""))
            yield (address, port), (rtcp_address or address, rtcp_port)


def media_row(payload: bytes, rtcp_port: bool) -> Row | None:
    """Read the columns of an RTP or RTCP packet; None when it is neither (RFC 3550 sections 5.1 and 6.4)."""
    if len(payload) < 8 or payload[0] >> 6 != 2:
        return None
    if 192 <= payload[1] <= 223:  # RFC 5761 section 4: these are RTCP also where both share a port
        return {
            "protocol": "rtcp",
            "payload_type": payload[1],
            "ssrc": int.from_bytes(payload[4:8], "big"),
        }
    if rtcp_port or len(payload) < 12:
        return None
    _first, second, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", payload)
    return {
        "protocol": "rtp",
        "payload_type": second & 0x7F,
        "marker": bool(second & 0x80),
        "sequence": sequence,
        "rtp_timestamp": timestamp,
        "ssrc": ssrc,
    }
