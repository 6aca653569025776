"""The one way from the bytes of a capture to columns: `decode`.

frames -> segments (packets.py) -> messages (streams.py) -> rows (fields.py, media.py). Correct and simple;
whoever makes it faster changes what is behind `decode`, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.capture.fields import Row, diameter_row, sip_row, split_sip
from labkit.capture.media import Endpoint, announced_endpoints, media_row
from labkit.capture.packets import TCP, PacketReader, Segment
from labkit.capture.streams import StreamReader, looks_like_sip
from labkit.wire.pcap import read_capture_file

# fmt: off
COLUMNS = (
    "frame", "time", "src", "src_port", "dst", "dst_port", "src_node", "dst_node", "transport", "protocol",
    "method", "status", "reason", "call_id", "cseq", "cseq_method", "from_user", "to_user", "from_tag",
    "to_tag", "branch",
    "command_code", "command", "request", "flags", "application_id", "hop_by_hop_id", "end_to_end_id",
    "session_id",
    "result_code", "experimental_result_code", "user_name", "public_identity", "visited_network",
    "server_name",
    "user_authorization_type", "server_assignment_type", "origin_host",
    "payload_type", "ssrc", "sequence", "rtp_timestamp", "marker",
)
# fmt: on
"""The columns of the table, in order. `time` is in nanoseconds since 1970 here, a timestamp in the table."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `decode` found."""

    columns: dict[str, list[object]]
    """COLUMNS, each a list with one value a message, None where absent; src_node, dst_node are all None."""
    raw: list[bytes]
    """The messages themselves, aligned with the columns; of RTP and RTCP the whole packet."""
    names: dict[str, str]
    """Address to name, as the capture file itself says."""
    warning: str
    """Empty, or one sentence on a truncated or damaged capture."""


@dataclass(frozen=True, slots=True)
class _Found:
    frame: int
    order: int
    row: Row
    raw: bytes


def decode(raw: bytes) -> Decoded:
    """Decode a capture: every SIP, Diameter, RTP and RTCP message in it.

    Args:
        raw: a pcap or pcapng file, plain or gzip.
    Returns:
        Columns in the order of frames; a message belongs to the frame that completes it, as Wireshark counts.
    Raises:
        CaptureError: the bytes are no capture.
    """
    capture = read_capture_file(raw)
    packets, streams, collected = PacketReader(), StreamReader(), _Collector()
    for frame in capture.frames:
        for segment in packets.segments(frame):
            if segment.protocol == TCP:
                for message in streams.feed(segment):
                    collected.message(message.frame, message.time_ns, message.segment, message.protocol, message.raw)
            else:
                collected.datagram(segment)
    for message in streams.finish():
        collected.message(message.frame, message.time_ns, message.segment, message.protocol, message.raw)
    found = collected.finish()
    columns: dict[str, list[object]] = {name: [item.row.get(name) for item in found] for name in COLUMNS}
    return Decoded(columns, [item.raw for item in found], capture.names, capture.warning)


class _Collector:
    """Gathers rows; keeps datagrams of unknown kind until all SDP has been seen."""

    def __init__(self) -> None:
        self._found: list[_Found] = []
        self._undecided: list[Segment] = []
        self._rtp: set[Endpoint] = set()
        self._rtcp: set[Endpoint] = set()

    def datagram(self, segment: Segment) -> None:
        if looks_like_sip(segment.payload.lstrip(b"\r\n")):
            self.message(segment.frame, segment.time_ns, segment, "sip", segment.payload)
        elif len(segment.payload) >= 8 and segment.payload[0] >> 6 == 2:
            self._undecided.append(segment)

    def message(self, frame: int, time_ns: int, segment: Segment, protocol: str, raw: bytes) -> None:
        if protocol == "sip":
            self._note_media(raw)
            self._keep(frame, time_ns, segment, sip_row(raw), raw)
        else:
            self._keep(frame, time_ns, segment, diameter_row(raw), raw)

    def finish(self) -> list[_Found]:
        for segment in self._undecided:
            ends = ((segment.src, segment.src_port), (segment.dst, segment.dst_port))
            rtp, rtcp = any(end in self._rtp for end in ends), any(end in self._rtcp for end in ends)
            row = media_row(segment.payload, rtcp_port=not rtp) if rtp or rtcp else None
            if row is not None:
                self._keep(segment.frame, segment.time_ns, segment, row, segment.payload)
        return sorted(self._found, key=lambda item: (item.frame, item.order))

    def _note_media(self, raw: bytes) -> None:
        if b"\nm=" in raw:
            for rtp, rtcp in announced_endpoints(split_sip(raw)[2]):
                self._rtp.add(rtp)
                self._rtcp.add(rtcp)

    def _keep(self, frame: int, time_ns: int, segment: Segment, row: Row, raw: bytes) -> None:
        row["frame"], row["time"] = frame, time_ns
        row["src"], row["src_port"] = segment.src, segment.src_port
        row["dst"], row["dst_port"] = segment.dst, segment.dst_port
        row["transport"] = "tcp" if segment.protocol == TCP else "udp"
        self._found.append(_Found(frame, len(self._found), row, raw))
