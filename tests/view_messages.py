"""Captures for the tests of the view room: recordings of a real core, and messages made up for one behaviour."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

import pandas as pd

from labkit.capture.table import Messages, read_capture
from labkit.wire import pcap

IMS = Path(__file__).parent / "data" / "ims"
NAMES = {
    "172.30.0.1:6001": "alice",
    "172.30.0.1:6002": "bob",
    "172.30.0.10": "hss",
    "172.30.0.11": "icscf",
    "172.30.0.12": "scscf",
    "172.30.0.13": "pcscf",
}


@cache
def recording(name: str) -> Messages:
    """Read the recording whose name begins so; treat it as constant."""
    return read_capture(next(IMS.glob(f"{name}*.pcap")), NAMES)


def changed(messages: Messages, row: int, raw: bytes | None = None, **cells: object) -> Messages:
    """Return a copy in which one message has other bytes or other cells."""
    table = messages.table.copy()
    for column, value in cells.items():
        table.loc[row, column] = value
    all_raw = list(messages.raw)
    all_raw[row] = raw if raw is not None else all_raw[row]
    return Messages(table, all_raw, messages.names)


def repeated(messages: Messages, times: int) -> Messages:
    """Return the capture several times over, each time three seconds later and with other Call-IDs and sessions."""
    tables, raw = [], []
    for turn in range(times):
        table = messages.table.copy()
        table["time"] += pd.Timedelta(seconds=3 * turn)
        table["frame"] += 1000 * turn
        table["hop_by_hop_id"] += 100_000 * turn
        for column in ("call_id", "branch", "session_id"):
            table[column] += f"-{turn}"
        tables.append(table)
        raw += [message + b" " * turn for message in messages.raw]
    return Messages(pd.concat(tables, ignore_index=True), raw, messages.names)


def with_media() -> Messages:
    """The recorded call (05) with media; see `with_media_packets`."""
    return read_capture(with_media_packets(), NAMES)


@cache
def with_media_packets() -> bytes:
    """The recorded call (05) with 40 packets of RTP in each direction, begun when it was answered."""
    raw = next(IMS.glob("05*.pcap")).read_bytes()
    frames = list(pcap.read_frames(raw))
    answered_ns = next(frame.time_ns for frame in frames if frame.number == 68)  # the ACK arrives
    phone, ports = "172.30.0.1", (40000, 40002)
    for ssrc, (source, target) in enumerate((ports, ports[::-1]), start=1):
        for number in range(40):
            rtp = struct.pack(">BBHII", 0x80, 0, number, number * 160, ssrc) + bytes(160)
            packet = pcap.udp_frame(phone, source, phone, target, rtp)
            when_ns = answered_ns + 5_000_000 * ssrc + 20_000_000 * number
            frames.append(pcap.Frame(0, when_ns, pcap.LINKTYPE_ETHERNET, packet))
    in_time = sorted(frames, key=lambda frame: frame.time_ns)
    return pcap.pcapng(in_time)
