"""The thread in which the phones live.

A phone must answer while no cell runs, and while a cell computes: an OPTIONS, a BYE, a retransmission. So the phones
have an event loop of their own in a thread, and a notebook awaits what happens there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST_PAUSE_S = 5.0


class LabLoop:
    """An event loop in a daemon thread; started on first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` in the loop; the returned future belongs to the caller's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` from another loop; cancelling the await cancels the work."""
        return await asyncio.wrap_future(self.submit(work))

    def run_blocking(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Wait for `work` without a loop of one's own."""
        return self.submit(work).result(timeout_s)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nothing happen in the loop: what is submitted inside the `with` block begins together at its end.

        What begins together has all been begun before any of it hears from the network.
        """
        begun, go_on = threading.Event(), threading.Event()

        async def stand_still() -> None:
            begun.set()
            go_on.wait(_LONGEST_PAUSE_S)

        standing = self.submit(stand_still())
        begun.wait(_LONGEST_PAUSE_S)
        try:
            yield
        finally:
            go_on.set()
            standing.result(_LONGEST_PAUSE_S)

    def stop(self) -> None:
        """End the thread; what still runs in it is cancelled."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(5)
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(self._loop,), name="labkit-phones", daemon=True).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


async def _cancel_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
