"""Builds captures for tests of decoder and canon: messages in, pcapng bytes out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

from labkit.capture.mirror import frames_of
from labkit.capture.table import Messages, read_capture
from labkit.wire import pcap
from labkit.wire.hep import HepPacket

IMS = Path(__file__).parent / "data" / "ims"
NAMES = {
    "172.30.0.10": "hss",
    "172.30.0.11": "icscf",
    "172.30.0.12": "scscf",
    "172.30.0.13": "pcscf",
    "172.30.0.14": "gateway",
    "172.30.0.15": "app_server",
    "172.30.0.1:6001": "alice",
    "172.30.0.1:6002": "bob",
    "172.30.0.1": "phone",
}
"""Nodes of the recordings in tests/data/ims."""


def recording(name: str) -> Messages:
    """Read a recording, named."""
    return read_capture(IMS / f"{name}.pcap", NAMES)


def copies(messages: Messages) -> list[HepPacket]:
    """The messages of a capture one by one: true addresses, true times (in whole microseconds)."""
    table = messages.table
    times_us = table["time"].astype("int64") // 1000
    return [
        HepPacket(
            src=str(row["src"]),
            src_port=int(row["src_port"]),
            dst=str(row["dst"]),
            dst_port=int(row["dst_port"]),
            transport=str(row["transport"]),
            time_us=int(time_us),
            protocol=1 if row["protocol"] == "sip" else 56,
            payload=raw,
        )
        for (_, row), raw, time_us in zip(table.iterrows(), messages.raw, times_us, strict=True)
    ]


def retold(packets: Iterable[HepPacket], names: dict[str, str] | None = None) -> Messages:
    """A new capture of the same messages, as the mirror makes it: one frame a message, in order of time."""
    frames = [pcap.Frame(0, time_ns, pcap.LINKTYPE_ETHERNET, raw) for time_ns, raw in frames_of(packets)]
    return read_capture(pcap.pcapng(frames), NAMES if names is None else names)


def frames(*parts: bytes, start_ns: int = 10**18, linktype: int = 1) -> bytes:
    """A capture of given frames, a millisecond apart."""
    return pcap.pcapng(pcap.Frame(0, start_ns + index * 10**6, linktype, raw) for index, raw in enumerate(parts))


def segments(stream: bytes, cuts: Iterable[int], build: Callable[[bytes, int], bytes] | None = None) -> list[bytes]:
    """TCP segments that carry a stream, cut at the given places."""
    edges = [0, *sorted(cuts), len(stream)]
    make = build or segment
    return [make(stream[a:b], 1000 + a) for a, b in itertools.pairwise(edges) if b > a]


def segment(payload: bytes, sequence: int) -> bytes:
    """One TCP segment from 10.0.0.1:40000 to 10.0.0.2:3868."""
    return pcap.tcp_frame("10.0.0.1", 40000, "10.0.0.2", 3868, payload, sequence=sequence)
