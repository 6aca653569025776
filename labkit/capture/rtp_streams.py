"""RTP streams: what was lost, how evenly packets came, and when nobody spoke."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from labkit.capture.announced import Announced, Announcements
from labkit.capture.relations import codes, hops, result, taken, truth

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Numbers = npt.NDArray[np.int64]

STATIC_FORMATS = {
    **{0: ("PCMU", 8000), 3: ("GSM", 8000), 4: ("G723", 8000), 5: ("DVI4", 8000), 6: ("DVI4", 16000), 7: ("LPC", 8000)},
    **{8: ("PCMA", 8000), 9: ("G722", 8000), 10: ("L16", 44100), 11: ("L16", 44100), 12: ("QCELP", 8000)},
    **{13: ("CN", 8000), 14: ("MPA", 90000), 15: ("G728", 8000), 16: ("DVI4", 11025), 17: ("DVI4", 22050)},
    **{18: ("G729", 8000), 26: ("JPEG", 90000), 31: ("H261", 90000), 34: ("H263", 90000)},
}
"""Codec and clock rate in hertz of payload types that need no SDP (RFC 3551 section 6)."""

_CLOCKS_HZ = (8000, 12000, 16000, 24000, 32000, 44100, 48000, 90000)
"""Clock rates in use; where no SDP tells, the nearest to what timestamps and arrival times show."""
_PDV_QUANTILE = 0.999
"""RFC 5481 section 6.2: the variation is best summed up by a high quantile above the least delay."""


def rtp_streams(table: pd.DataFrame, raw: Sequence[bytes] | None = None) -> pd.DataFrame:
    """One row an RTP stream: a source (SSRC) from one address to another.

    Jitter and PDV compare arrival times with RTP timestamps; packets of another payload type than the stream's most
    frequent one (telephone events, comfort noise) are left out of that.

    Args:
        table: the table of a capture.
        raw: the messages themselves; with them the SDP tells call and codec.
    Returns:
        frame (of the first packet), time, from, to, src, src_port, dst, dst_port, ssrc, call_id (with `raw`),
        payload_type (the most frequent), codec, clock_hz, packets, lost (by sequence number, never negative),
        duplicates, out_of_order, jitter_ms (RFC 3550 section 6.4.1, at the last packet), mean_jitter_ms,
        max_jitter_ms, pdv_ms (RFC 5481: 99.9 % of the packets were delayed by no more than this above the least
        delay), longest_gap_ms (between arrivals), silences and silence_s (where the sender paused: timestamps jump,
        sequence numbers do not), duration_s (first to last packet). In the order of time.
    """
    import numpy as np

    rows = table[truth(table["protocol"] == "rtp")].reset_index(drop=True)
    if not len(rows):
        return _table(rows, np.zeros(0, np.int64), {}, [])
    stream = codes(rows["src"], rows["src_port"], rows["dst"], rows["dst_port"], rows["ssrc"])
    order = np.argsort(stream, kind="stable")
    stream = stream[order]
    starts = np.flatnonzero(np.concatenate(([True], stream[1:] != stream[:-1])))
    first = order[starts]
    payload_type = _most_frequent(rows["payload_type"].to_numpy(dtype=np.int64)[order], stream)
    known = Announcements(table, raw) if raw is not None else None
    announced = [_announced(known, rows, position) for position in first.tolist()]
    packets = _Packets(rows, order, starts)
    clock = packets.clocks(payload_type, announced)
    columns = {
        "payload_type": payload_type,
        "clock_hz": clock,
        **packets.counts(),
        **packets.timing(payload_type, clock),
    }
    by_time = np.argsort(first, kind="stable")
    columns = {name: np.asarray(values)[by_time] for name, values in columns.items()}
    return _table(rows, first[by_time], columns, [announced[index] for index in by_time.tolist()])


def _announced(known: Announcements | None, rows: pd.DataFrame, position: int) -> Announced | None:
    if known is None:
        return None
    row = rows.iloc[position]
    for side in ("dst", "src"):  # where it goes to was announced by who wants it
        found = known.of((str(row[side]), int(row[f"{side}_port"])), int(row["frame"]))
        if found is not None:
            return found
    return None


def _most_frequent(values: Numbers, stream: Numbers) -> Numbers:
    """The most frequent value of each stream (values below 128)."""
    import numpy as np

    kinds, counts = np.unique(stream * 128 + values, return_counts=True)
    order = np.lexsort((-kinds, counts, kinds >> 7))  # of equally frequent ones the smaller
    last_of_stream = np.flatnonzero(np.concatenate(((kinds >> 7)[order][1:] != (kinds >> 7)[order][:-1], [True])))
    return np.asarray(kinds[order][last_of_stream] & 127)


class _Packets:
    """All RTP packets, stream by stream in the order of arrival; arrays of one number a packet."""

    def __init__(self, rows: pd.DataFrame, order: Numbers, starts: Numbers) -> None:
        import numpy as np

        self._starts = starts
        self._sizes = np.diff(np.append(starts, len(order)))
        self._stream = np.repeat(np.arange(len(starts)), self._sizes)
        self._is_first = np.zeros(len(order), dtype=bool)
        self._is_first[starts] = True
        self._time_ns = rows["time"].to_numpy(dtype="datetime64[ns]").astype(np.int64)[order]
        self._kind = rows["payload_type"].to_numpy(dtype=np.int64)[order]
        self._sequence = self._extended(rows["sequence"].to_numpy(dtype=np.int64)[order], 16)
        self._ticks = self._extended(rows["rtp_timestamp"].to_numpy(dtype=np.int64)[order], 32)

    def _steps(self, values: Numbers) -> Numbers:
        """Difference to the packet before in the same stream, 0 at the first."""
        import numpy as np

        return np.where(self._is_first, 0, np.diff(values, prepend=values[:1]))

    def _extended(self, values: Numbers, bits: int) -> Numbers:
        """Numbers that wrap around, counted on from 0 at the first packet (RFC 3550 appendix A.1)."""
        import numpy as np

        half = 1 << (bits - 1)
        steps = ((self._steps(values) + half) & ((1 << bits) - 1)) - half
        total: Numbers = np.cumsum(np.where(self._is_first, 0, steps))
        return np.asarray(total - np.repeat(total[self._starts], self._sizes))

    def clocks(self, payload_type: Numbers, announced: list[Announced | None]) -> Numbers:
        """Clock rate of each stream in hertz: by its SDP, its payload type, else by what the packets show."""
        import numpy as np

        ends = np.append(self._starts[1:], len(self._ticks)) - 1
        spans_s = np.maximum((self._time_ns[ends] - self._time_ns[self._starts]) / 1e9, 1e-9)
        shown = np.abs(self._ticks[ends]) / spans_s
        nearest = np.asarray(_CLOCKS_HZ)[np.abs(shown[:, None] - np.asarray(_CLOCKS_HZ)).argmin(axis=1)]
        found = []
        for kind, entry, guess, size in zip(payload_type.tolist(), announced, nearest, self._sizes, strict=True):
            name_and_rate = (entry.formats.get(kind) if entry else None) or STATIC_FORMATS.get(kind)
            found.append(name_and_rate[1] if name_and_rate and name_and_rate[1] else int(guess) if size > 9 else 8000)
        return np.asarray(found, dtype=np.int64)

    def counts(self) -> dict[str, Any]:
        """packets, lost, duplicates, out_of_order."""
        import numpy as np

        lowest = np.minimum.reduceat(self._sequence, self._starts)
        highest = np.maximum.reduceat(self._sequence, self._starts)
        offset = self._sequence - np.repeat(lowest, self._sizes) + self._stream * (1 << 32)
        different = np.unique(offset) >> 32
        distinct = np.bincount(different, minlength=len(self._starts))
        late = offset < np.maximum.accumulate(offset)
        return {
            "packets": self._sizes,
            "lost": highest - lowest + 1 - distinct,
            "duplicates": self._sizes - distinct,
            "out_of_order": np.add.reduceat(late.astype(np.int64), self._starts),
        }

    def timing(self, payload_type: Numbers, clock: Numbers) -> dict[str, Any]:
        """jitter_ms and its kin, pdv_ms, longest_gap_ms, silences, silence_s, duration_s."""
        import numpy as np

        gaps_ms = self._steps(self._time_ns) / 1e6
        ends = np.append(self._starts[1:], len(self._ticks)) - 1
        main = self._kind == payload_type[self._stream]
        kept = _Kept(self._stream[main], self._time_ns[main], self._ticks[main], self._sequence[main], clock)
        return {
            **kept.jitter(),
            "pdv_ms": kept.pdv_ms(),
            "longest_gap_ms": np.maximum.reduceat(gaps_ms, self._starts),
            **kept.silences(),
            "duration_s": (self._time_ns[ends] - self._time_ns[self._starts]) / 1e9,
        }


class _Kept:
    """The packets of each stream's own payload type: every stream has at least one."""

    def __init__(self, stream: Numbers, time_ns: Numbers, ticks: Numbers, sequence: Numbers, clock: Numbers) -> None:
        import numpy as np

        self._stream = stream
        self._is_first = np.concatenate(([True], stream[1:] != stream[:-1]))
        self._starts = np.flatnonzero(self._is_first)
        self._sizes = np.diff(np.append(self._starts, len(stream)))
        self._clock = clock
        self._media_ms = ticks * 1000.0 / clock[stream]
        self._time_ms = (time_ns - np.repeat(time_ns[self._starts], self._sizes)) / 1e6
        self._sequence = sequence

    def _steps(self, values: Any) -> Any:
        import numpy as np

        return np.where(self._is_first, 0, np.diff(values, prepend=values[:1]))

    def jitter(self) -> dict[str, list[float]]:
        """RFC 3550 section 6.4.1: J += (|D| - J) / 16 at each packet after the first."""
        import numpy as np

        differences = np.abs(self._steps(self._time_ms) - self._steps(self._media_ms)).tolist()
        last, mean, most = [], [], []
        for start, size in zip(self._starts.tolist(), self._sizes.tolist(), strict=True):
            after_first = differences[start + 1 : start + size]
            jitter = list(accumulate(after_first, lambda before, now: before + (now - before) / 16, initial=0.0))
            last.append(jitter[-1])
            mean.append(sum(jitter[1:]) / max(len(jitter) - 1, 1))
            most.append(max(jitter))
        return {"jitter_ms": last, "mean_jitter_ms": mean, "max_jitter_ms": most}

    def pdv_ms(self) -> Any:
        """The delay of the packet that 0.1 % exceed, above the least delay of the stream."""
        import numpy as np

        delay = self._time_ms - self._media_ms
        delay = delay - np.repeat(np.minimum.reduceat(delay, self._starts), self._sizes)
        ordered = delay[np.lexsort((delay, self._stream))]
        return ordered[self._starts + np.ceil(_PDV_QUANTILE * self._sizes).astype(np.int64) - 1]

    def silences(self) -> dict[str, Any]:
        """Pauses of the sender: the next packet in sequence lies more than one packet time later on its own clock."""
        import numpy as np

        steps = self._steps(self._media_ms)
        consecutive = (self._steps(self._sequence) == 1) & (steps > 0)
        usual = np.minimum.reduceat(np.where(consecutive, steps, np.inf), self._starts)
        usual = np.repeat(np.where(np.isfinite(usual), usual, 0.0), self._sizes)
        paused = consecutive & (steps > 1.5 * usual)
        return {
            "silences": np.add.reduceat(paused.astype(np.int64), self._starts),
            "silence_s": np.add.reduceat(np.where(paused, steps - usual, 0.0), self._starts) / 1000,
        }


_COUNTS = ("packets", "lost", "duplicates", "out_of_order")
_TIMES = ("jitter_ms", "mean_jitter_ms", "max_jitter_ms", "pdv_ms", "longest_gap_ms")


def _table(
    rows: pd.DataFrame, first: Numbers, columns: dict[str, Any], announced: list[Announced | None]
) -> pd.DataFrame:
    here, there = hops(rows)
    kinds = columns.get("payload_type", [])
    codecs = [
        ((entry.formats.get(int(kind)) if entry else None) or STATIC_FORMATS.get(int(kind), ("", 0)))[0] or None
        for kind, entry in zip(kinds, announced, strict=True)
    ]
    names = ("src", "src_port", "dst", "dst_port", "ssrc")
    return result(
        {
            **{"frame": taken(rows["frame"], first), "time": taken(rows["time"], first)},
            **{"from": taken(here, first), "to": taken(there, first)},
            **{name: taken(rows[name], first) for name in names},
            "call_id": [entry.call_id if entry else None for entry in announced],
            "payload_type": kinds,
            "codec": codecs,
            "clock_hz": columns.get("clock_hz", []),
            **{name: columns.get(name, []) for name in (*_COUNTS, *_TIMES, "silences", "silence_s", "duration_s")},
        }
    )
