"""What came in, in order: filled by one thread, read by others, with marks in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from labkit.errors import CaptureError

RawFrame = tuple[int, int, bytes]
"""Time in nanoseconds since 1970, link type, frame."""

MARKER = b"labkit mark "
"""Begins every marker."""

_KEY_BYTES = 16
_MARK_TIMEOUT_S = 3.0
_UDP_PAYLOAD_AT = 42
"""Ethernet, IPv4 without options and UDP header: a marker travels in no other way."""


class FrameLog:
    """Frames in the order in which they came."""

    def __init__(self) -> None:
        self.items: list[RawFrame] = []
        """The frames, without the markers."""
        self._marks: dict[bytes, int] = {}
        self._changed = threading.Condition()
        self.ended = ""
        """Why nothing comes any more; empty while something may."""

    def extend(self, frames: Iterable[RawFrame]) -> None:
        """Take frames; markers among them only say where they stand."""
        begin, marker_end = _UDP_PAYLOAD_AT, _UDP_PAYLOAD_AT + len(MARKER)
        with self._changed:
            for frame in frames:
                if frame[2][begin:marker_end] == MARKER:
                    self._marks[frame[2][begin : marker_end + _KEY_BYTES]] = len(self.items)
                    self._changed.notify_all()
                else:
                    self.items.append(frame)

    def note_mark(self, marker: bytes) -> None:
        """Note that a marker came by another way than in a frame."""
        with self._changed:
            self._marks[marker] = len(self.items)
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """Say that nothing will come any more, and why; who waits for a mark learns it."""
        with self._changed:
            self.ended = self.ended or why
            self._changed.notify_all()

    def mark(self, send: Callable[[bytes], object]) -> int:
        """Send a marker and wait until it has come; send it again when it seems lost.

        Raises:
            CaptureError: it did not come.
        """
        marker = MARKER + os.urandom(_KEY_BYTES)
        attempts = 3
        with self._changed:
            for _attempt in range(attempts):
                try:
                    send(marker)
                except OSError as error:
                    self.ended = self.ended or f"its marker cannot be sent ({error.strerror})"
                if self._changed.wait_for(lambda: marker in self._marks or self.ended, _MARK_TIMEOUT_S / attempts):
                    break
            if marker in self._marks:
                return self._marks.pop(marker)
        why = self.ended or f"it did not see its own marker within {_MARK_TIMEOUT_S:.0f} s"
        raise CaptureError(f"The capture does not work: {why}. Stop the lab and start it anew (./lab down, ./lab up).")

    def span(self, since: int, until: int) -> list[RawFrame]:
        """Give the frames between two positions."""
        with self._changed:
            return self.items[since:until]

    def since(self, position: int) -> tuple[list[RawFrame], int]:
        """Give the frames from a position on, and the position after them."""
        with self._changed:
            return self.items[position:], len(self.items)
