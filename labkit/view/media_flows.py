"""Packets a second: who sends sound and reports to whom, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.capture.owners import MediaEnds
from labkit.capture.phases import REPORTS, goodbyes

if TYPE_CHECKING:
    from labkit.capture.table import Messages

STEP_S = 0.05
"""Rates are told for moments so far apart."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The packets of one protocol from one node to another."""

    sender: str
    receiver: str
    times_s: tuple[float, ...]
    """Since the first message of the capture."""
    kinds: tuple[str, ...]
    """What each packet is: "RTP", "SR", "RR"."""


def flows(messages: Messages, start_s: float) -> tuple[list[Flow], list[Flow]]:
    """Give RTP and RTCP by sender and receiver, each in the order of their first packets.

    Args:
        messages: a capture.
        start_s: the time that is 0, in seconds since 1970.
    """
    ends = MediaEnds.of(messages)
    farewells = goodbyes(messages.table)
    packets: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
    media = messages.table[messages.table["protocol"].isin(["rtp", "rtcp"])]
    times_s = media["time"].astype("int64") * 1e-9 - start_s
    for cells, time_s in zip(media.to_dict("records"), times_s.tolist(), strict=True):
        kind = "RTP" if cells["protocol"] == "rtp" else REPORTS.get(cells["payload_type"], "")
        sender, receiver = ends.ends(cells)
        key = cells["protocol"], sender or str(cells["src"]), receiver or str(cells["dst"])
        if kind and (kind == "RTP" or cells["frame"] not in farewells):
            packets.setdefault(key, []).append((round(time_s, 4), kind))
    found = [
        (protocol, Flow(sender, receiver, *zip(*sorted(seen), strict=True)))
        for (protocol, sender, receiver), seen in packets.items()
    ]
    rtp, rtcp = ([flow for protocol, flow in found if protocol == wanted] for wanted in ("rtp", "rtcp"))
    return rtp, rtcp


def rate(times_s: Sequence[float], until_s: float, window_s: float) -> tuple[list[float], list[float]]:
    """Count packets a second in the time before each moment, so that a rate changes after its cause and never before.

    Args:
        times_s: when packets came.
        until_s: the last moment.
        window_s: over how long each count goes.
    Returns:
        Moments, STEP_S apart from 0 on, and rates; moments amid others of the same rate are left out.
    """
    import numpy as np

    moments = np.arange(0, max(until_s, STEP_S) + STEP_S / 2, STEP_S)
    ordered = np.sort(np.asarray(times_s, dtype=float))
    counts = np.searchsorted(ordered, moments, "right") - np.searchsorted(ordered, moments - window_s, "right")
    steady = np.zeros(len(counts), dtype=bool)
    steady[1:-1] = (counts[1:-1] == counts[:-2]) & (counts[1:-1] == counts[2:])
    return np.round(moments, 3)[~steady].tolist(), np.round(counts / window_s, 1)[~steady].tolist()
