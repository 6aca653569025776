"""What a lesson sees of the wire: everything but the lab's own questions whether a node lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.lab.probes import is_question

if TYPE_CHECKING:
    from labkit.capture.frame_log import RawFrame
    from labkit.lab.engine import Sniffer


class QuietSniffer:
    """A sniffer whose frames are those of the lesson."""

    def __init__(self, sniffer: Sniffer) -> None:
        self._sniffer = sniffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sniffer, name)

    def frames(self, since: int, until: int) -> list[RawFrame]:
        """What came between two marks."""
        return [frame for frame in self._sniffer.frames(since, until) if not is_question(frame[2])]

    def since(self, position: int) -> tuple[list[RawFrame], int]:
        """What has come since a position, and the position after it."""
        frames, after = self._sniffer.since(position)
        return [frame for frame in frames if not is_question(frame[2])], after
