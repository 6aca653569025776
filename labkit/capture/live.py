"""A running source as rows: what has come since one last looked, decoded, and how the streams of media are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.capture.decode import Decoder

if TYPE_CHECKING:
    from labkit.capture.rows import Row
    from labkit.capture.source import Sniffer

_RATE_S = 1.0
"""Packets a second are counted over so long."""
_CLOCK_HZ = 8000
"""Of all the payload types that the lab uses (RFC 3551 section 6); others are measured as if they had it too."""


class LiveFeed:
    """Decodes what a source gives, from its present position on."""

    def __init__(self, sniffer: Sniffer, since: int | None = None) -> None:
        """Prepare.

        Args:
            sniffer: a started source.
            since: position to begin at; None for what comes from now on.
        """
        self._sniffer = sniffer
        self._at = sniffer.position() if since is None else since
        self._decoder = Decoder(keep_raw=True)
        self._lost_before = sniffer.dropped
        import labkit.capture.decode.bulk  # noqa: F401  # now, and not when the first burst comes

    def take(self) -> list[Row]:
        """Return the rows of all messages that became whole since the last call."""
        frames, self._at = self._sniffer.since(self._at)
        return list(self._decoder.feed_frames(frames).rows()) if frames else []

    @property
    def lost(self) -> int:
        """How many packets were lost since the beginning because nobody could read them in time."""
        return self._sniffer.dropped - self._lost_before


@dataclass(slots=True)
class StreamMeter:
    """One RTP stream, measured as its packets come."""

    packets: int = 0
    """Packets that came."""
    jitter_ms: float = 0.0
    """Interarrival jitter (RFC 3550 section 6.4.1), at the last packet."""
    first: int = 0
    """Lowest sequence number, continued over wraps."""
    highest: int = 0
    """Highest sequence number, continued over wraps."""
    last_ns: int = 0
    """When the last packet came."""
    last_timestamp: int = 0
    """RTP timestamp of the last packet."""
    window_ns: int = 0
    """When the counting of the present rate began."""
    window_packets: int = 0
    """Packets since then."""
    rate: float = 0.0
    """Packets a second, over the last second."""

    def add(self, time_ns: int, sequence: int, rtp_timestamp: int) -> None:
        """Count a packet."""
        if not self.packets:
            self.first = self.highest = sequence
            self.window_ns = time_ns
        else:
            ahead = ((sequence - self.highest + 0x8000) & 0xFFFF) - 0x8000
            self.first = min(self.first, self.highest + ahead)
            self.highest = max(self.highest, self.highest + ahead)
            ticks = ((rtp_timestamp - self.last_timestamp + 0x80000000) & 0xFFFFFFFF) - 0x80000000
            difference_ms = abs((time_ns - self.last_ns) / 1e6 - ticks * 1000 / _CLOCK_HZ)
            self.jitter_ms += (difference_ms - self.jitter_ms) / 16
        self.packets += 1
        self.window_packets += 1
        self.last_ns, self.last_timestamp = time_ns, rtp_timestamp

    def measure(self, now_ns: int) -> None:
        """Bring the rate up to date, about once a second."""
        elapsed_s = (now_ns - self.window_ns) / 1e9
        if elapsed_s >= _RATE_S:
            self.rate = self.window_packets / elapsed_s
            self.window_ns, self.window_packets = now_ns, 0

    @property
    def lost(self) -> int:
        """Packets that are missing by their sequence numbers; never negative, for one that came twice is none lost."""
        return max(self.highest - self.first + 1 - self.packets, 0) if self.packets else 0


class RecordedFeed:
    """A recorded span as a feed: everything comes at once, nothing was lost."""

    lost = 0
    """Nothing is lost while a recording is read."""

    def __init__(self, packets: bytes) -> None:
        """Prepare.

        Args:
            packets: a capture file.
        """
        self._packets = packets

    def take(self) -> list[Row]:
        """Return all rows the first time, none later."""
        if not self._packets:
            return []
        decoder = Decoder(keep_raw=True)
        found = [*decoder.feed(self._packets).rows(), *decoder.finish().rows()]
        self._packets = b""
        return sorted(found, key=lambda row: int(row["frame"]))
