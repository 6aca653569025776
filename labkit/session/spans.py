"""The captures of a lesson: spans of what one sniffer hears, or what was recorded of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labkit.errors import ReplayError
from labkit.paths import cassettes_folder
from labkit.session.capture import Capture
from labkit.session.quiet import QuietSniffer
from labkit.session.tape import Tape, tape_from

if TYPE_CHECKING:
    from labkit.capture.cassette import Cassette
    from labkit.lab.running import RunningLab
    from labkit.view.live import LiveView

OWN_SPAN = "lesson"
"""The span of a cassette folder that holds what was asked outside of every capture."""
_QUIET_S = 0.06
"""So long nothing new may arrive before a capture ends: longer than a hop through the core takes on a busy machine."""
_PATIENCE_S = 3.0
"""So long a capture waits for open transactions at its end; a call left ringing on purpose stays open for ever."""


class RecordedSpans:
    """Captures of a recording."""

    def __init__(self, lesson: str) -> None:
        self._lesson, self._cassette = lesson, cassette(lesson)
        if not self._cassette.holds(OWN_SPAN):
            raise ReplayError(
                f"Lesson {lesson} has no recording to replay: run it live (./lab up), or record it with "
                f"./lab record {lesson}."
            )
        self.about: dict[str, Any] = self._cassette.about(OWN_SPAN)
        """Engine, versions and date of the recording."""
        self.own = tape_from(lesson, OWN_SPAN, self.about["calls"], repeat_last=True)
        """What was asked outside of every capture."""

    @contextmanager
    def span(self, capture: Capture, put: Callable[[Tape], None]) -> Iterator[None]:
        """Play a capture: `put` gets the tape to use meanwhile."""
        packets, about = self._cassette.load(capture.name)
        put(tape_from(self._lesson, capture.name, about["calls"]))
        capture.watched(lambda: _recorded_view(capture.name, packets, about["names"]))
        try:
            yield
        finally:
            put(self.own)
            capture.close(packets, about["names"], about["capture"])

    def end(self) -> None:
        """Nothing is open."""


class LiveSpans:
    """Captures of a running lab."""

    def __init__(self, lesson: str, lab: RunningLab, known: Callable[[], dict[str, str]]) -> None:
        self._lesson, self._lab, self._known = lesson, lab, known
        self._sniffer: Any = None
        self.own = Tape(OWN_SPAN, lesson)
        """What is asked outside of every capture."""

    @property
    def sniffer(self) -> Any:
        """One for the whole lesson, started when it is first needed."""
        if self._sniffer is None:
            self._sniffer = QuietSniffer(self._lab.sniffer())
            self._sniffer.start()
        return self._sniffer

    @contextmanager
    def span(self, capture: Capture, put: Callable[[Tape], None]) -> Iterator[None]:
        """Collect packets, and a little longer: until all is answered. `put` gets the tape to use meanwhile."""
        tape, sniffer = Tape(capture.name, self._lesson), self.sniffer
        lost_before, begin = sniffer.dropped, sniffer.mark()
        capture.watched(lambda: self._live_view(capture.name, begin))
        put(tape)
        try:
            yield
        finally:
            put(self.own)
            capture.lost = sniffer.dropped - lost_before
            packets = self._until_settled(begin)
            capture.close(packets, self._known(), sniffer.kind)
            self._record(capture.name, packets, tape, capture)

    def end(self) -> None:
        """Stop listening, and keep what was asked outside of captures."""
        if self._sniffer is not None:
            self._sniffer.stop()
            self._sniffer = None
        self._record(OWN_SPAN, b"", self.own)

    def _live_view(self, name: str, begin: int) -> LiveView:
        from labkit.capture.live import LiveFeed
        from labkit.view.live import LiveView

        return LiveView(LiveFeed(self.sniffer, begin), self._known, name)

    def _until_settled(self, begin: int) -> bytes:
        """Return the span's packets once what was sent has been answered, and all of it has been seen.

        Sound may go on meanwhile.
        """
        from labkit.capture.source import to_pcapng
        from labkit.capture.table import read_capture, settled

        names, sniffer = self._known(), self.sniffer
        give_up = time.monotonic() + _PATIENCE_S
        before = -1
        while True:
            packets = to_pcapng(sniffer.frames(begin, sniffer.mark()), names)
            if time.monotonic() > give_up:
                return packets
            said = read_capture(packets, names=names, protocols=("sip", "diameter", "evapi", "jsonrpc"))
            if len(said.table) == before and not settled(said):
                return packets
            before = len(said.table)
            time.sleep(_QUIET_S)

    def _record(self, span: str, packets: bytes, tape: Tape, capture: Capture | None = None) -> None:
        """Keep a span in the lesson's cassette, where `./lab record` asked for that."""
        if os.environ.get("LABKIT_RECORD") != "1":
            return
        cassette(self._lesson).save(
            span,
            packets,
            engine=self._lab.engine_name,
            versions=self._lab.versions(),
            names=capture.names if capture else {},
            capture=capture.kind if capture else "none",
            calls=tape.calls,
        )


def cassette(lesson: str) -> Cassette:
    """Return the recordings of a lesson."""
    from labkit.capture.cassette import Cassette

    return Cassette(cassettes_folder() / lesson, lesson)


def _recorded_view(name: str, packets: bytes, names: dict[str, str]) -> LiveView:
    from labkit.capture.live import RecordedFeed
    from labkit.view.live import LiveView

    return LiveView(RecordedFeed(packets), lambda: names, name)
