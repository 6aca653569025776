"""Captures for the tests of the view room: recordings of a real core, and messages made up for one behaviour."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from labkit.capture.table import Messages, read_capture

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
