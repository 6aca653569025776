"""The thread in which the phones live: what is submitted while it stands still begins together."""

from __future__ import annotations

import asyncio
import time

from labkit.session.loop import LabLoop


def test_what_is_submitted_during_a_pause_begins_together() -> None:
    """Both works take their first step before either takes its second, however much time lies between the two calls."""
    loop, steps = LabLoop(), []

    async def work(name: str) -> None:
        steps.append(f"{name} begins")
        await asyncio.sleep(0)
        steps.append(f"{name} goes on")

    try:
        with loop.paused():
            first = loop.submit(work("first"))
            time.sleep(0.05)
            assert steps == []
            second = loop.submit(work("second"))
        first.result(5)
        second.result(5)
        assert steps[:2] == ["first begins", "second begins"]
    finally:
        loop.stop()
