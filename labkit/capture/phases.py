"""Phases of a call: between one offer and the next, who sends sound, and who reports by RTCP.

Statements and no counts: they are the same in every run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from labkit.capture.offers import Exchange, exchanges
from labkit.capture.owners import MediaEnds
from labkit.capture.rows import Row, hop, plain_rows

if TYPE_CHECKING:
    import pandas as pd

    from labkit.capture.messages import Messages

SHORTEST_S: Final = 0.3
"""A phase must last so long before anything is said about its media."""
FEWEST_A_SECOND: Final = 10.0
"""So many RTP packets a second are sound; fewer are what was under way when the sound ended."""
REPORTS: Final = {200: "SR", 201: "RR"}
"""Types of RTCP packets that report (RFC 3550 section 6.4)."""
_BYE: Final = 203
_PCMU: Final = 0
NOTHING: Final = "-"
"""What stands where nothing was sent."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What flows after an offer was answered or refused, until the next thing is said."""

    exchange: Exchange
    """The offer that it follows."""
    begin_ns: int
    """When its answer had done its work."""
    end_ns: int
    """When the next offer or the BYE was sent, else the last message of the capture."""

    @property
    def lasts_s(self) -> float:
        """How long, in seconds; 0 where the next offer came before this one was answered."""
        return max(self.end_ns - self.begin_ns, 0) / 1e9 if self.begin_ns else 0.0


def phases(messages: Messages) -> list[Phase]:
    """Give a phase for each offer of a capture."""
    rows = plain_rows(messages.table)
    offered = exchanges(messages)
    last_ns = max((row["time"] for row in rows), default=0)
    found = []
    for place, exchange in enumerate(offered):
        later = [one.sent_ns for one in offered[place + 1 :] if one.call_id == exchange.call_id]
        hung_up = [row["time"] for row in rows if row["method"] == "BYE" and row["call_id"] == exchange.call_id]
        found.append(Phase(exchange, exchange.done_ns, min([*later, *hung_up, last_ns])))
    return found


def phase_table(messages: Messages) -> pd.DataFrame:
    """One row an offer: who made it, what was answered, and what each side sent until the next one.

    Returns:
        index n = 1..; by, request, offer and answer (directions as written, or the status of a refusal); then for each
        side of the calls `<name> sends`: "tone 400 Hz", "music", "silence", "sound" (of another codec) or "-"; and
        `<name> reports`: "SR", "RR" or "-". Empty where the phase lasted less than SHORTEST_S.
    """
    import pandas as pd

    media = _Media(messages)
    found = phases(messages)
    parties = list(dict.fromkeys(name for phase in found for name in _parties(phase.exchange, media.senders)))
    rows = []
    for phase in found:
        exchange = phase.exchange
        row: dict[str, Any] = {
            "by": exchange.by,
            "request": exchange.request,
            "offer": exchange.offer,
            "answer": exchange.answer,
        }
        long_enough = phase.lasts_s >= SHORTEST_S
        for name in parties:
            row[f"{name} sends"] = media.sound(name, phase) if long_enough else ""
        for name in parties:
            row[f"{name} reports"] = media.report(name, phase) if long_enough else ""
        rows.append(row)
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="n"))


def _parties(exchange: Exchange, senders: set[str]) -> list[str]:
    """The two ends; a proxy that refuses by itself is none."""
    ends = [exchange.by, exchange.to] if exchange.to else [exchange.by]
    return [name for name in ends if exchange.taken or name in senders]


def goodbyes(table: pd.DataFrame) -> set[int]:
    """Frames in which a source says by RTCP that it leaves; the report in them is no sign of life (section 6.6)."""
    return set(table.loc[(table["protocol"] == "rtcp") & (table["payload_type"] == _BYE).fillna(False), "frame"])


class _Media:
    """RTP and RTCP of a capture by who sent them."""

    def __init__(self, messages: Messages) -> None:
        owners = MediaEnds.of(messages)
        farewells = goodbyes(messages.table)
        self._raw = messages.raw
        self._rtp: dict[str, list[tuple[Row, int]]] = {}
        self._rtcp: dict[str, list[Row]] = {}
        for number, row in enumerate(plain_rows(messages.table)):
            if row["protocol"] in ("rtp", "rtcp"):
                name = owners.ends(row)[0] or hop(row)[0]
                if row["protocol"] == "rtp":
                    self._rtp.setdefault(name, []).append((row, number))
                elif row["payload_type"] in REPORTS and row["frame"] not in farewells:
                    self._rtcp.setdefault(name, []).append(row)
        self.senders = {*self._rtp, *self._rtcp}

    def sound(self, name: str, phase: Phase) -> str:
        """What a node sent in a phase, in words."""
        sent = [one for one in self._rtp.get(name, ()) if phase.begin_ns <= one[0]["time"] < phase.end_ns]
        if len(sent) < FEWEST_A_SECOND * phase.lasts_s:
            return NOTHING
        if any(row["payload_type"] != _PCMU for row, _number in sent):
            return "sound"
        return _heard([self._raw[number] for _row, number in sent])

    def report(self, name: str, phase: Phase) -> str:
        """What a node reported in a phase: by sender reports, by receiver reports, or not."""
        sent = [row for row in self._rtcp.get(name, ()) if phase.begin_ns <= row["time"] < phase.end_ns]
        return REPORTS[sent[-1]["payload_type"]] if sent else NOTHING


def _heard(packets: list[bytes]) -> str:
    """Tell one tone from a tune."""
    from labkit.wire.rtp import parse_rtp, pitch_hz

    pitches = Counter(pitch_hz(parse_rtp(raw).payload) for raw in packets)
    pitch, times = pitches.most_common(1)[0]
    if times < 0.8 * len(packets):
        return "music"
    return f"tone {pitch} Hz" if pitch else "silence"
