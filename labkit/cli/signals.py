"""Ctrl-C and its relatives: the first ends the work, and what was started is then stopped whatever comes next."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, a polite kill, a closed terminal (which Windows does not have)."""


class StopSignals:
    """The first signal raises KeyboardInterrupt; later ones are only counted, so that clean-up goes on."""

    def __init__(self) -> None:
        self.seen = 0
        """How many came; more than one means: hurry."""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.seen += 1
        if self.seen == 1:
            raise KeyboardInterrupt

    def ignore_from_now(self) -> None:
        """Treat signals to come as a wish to hurry, nothing more: clean-up has begun."""
        self.seen = max(self.seen, 1)


class NotedSignals:
    """Signals that are noted and raise nothing, so that no lock and no half-written packet is left behind."""

    def __init__(self) -> None:
        self.seen = 0
        """How many came."""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.seen += 1


@contextmanager
def noted_signals() -> Iterator[NotedSignals]:
    """Note the signals that end a program, for the length of the block; a loop in it looks whether one came.

    An exception may be raised anywhere: between taking a lock and the block that gives it back, or where the
    interpreter throws it away.
    """
    noted = NotedSignals()
    with _handled(noted._on_signal):
        yield noted


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Turn the signals that end a program into one KeyboardInterrupt, for the length of the block."""
    watch = StopSignals()
    with _handled(watch._on_signal):
        yield watch


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before: dict[int, Any] = {}
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
