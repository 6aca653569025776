"""Things that come one after another, kept until somebody waits for them: calls, messages, NOTIFYs, requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from labkit.errors import CallFailed

T = TypeVar("T")

MAX_KEPT: Final = 256
"""Things kept until somebody asks for them; the oldest go first."""


class Mailbox(Generic[T]):
    """A queue that nobody has to empty."""

    def __init__(self, kept: int = MAX_KEPT) -> None:
        self._things: deque[T] = deque(maxlen=kept)
        self._arrival = asyncio.Event()

    def __len__(self) -> int:
        return len(self._things)

    def put(self, thing: T) -> None:
        """Keep something, and wake whoever waits."""
        self._things.append(thing)
        self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._arrival.set()
        self._arrival = asyncio.Event()

    def clear(self) -> None:
        """Throw everything away."""
        self._things.clear()

    async def take(self, timeout_s: float, nothing: str, wanted: Callable[[T], bool] | None = None) -> T:
        """Return the first thing that is wanted, now or when it comes; what came before it is thrown away.

        Args:
            timeout_s: how long to wait.
            nothing: what to say when none comes in time; " in ... s." follows.
            wanted: whether a thing will do; anything does by default.
        Raises:
            CallFailed: none came in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            while self._things:
                thing = self._things.popleft()
                if wanted is None or wanted(thing):
                    return thing
            try:
                await asyncio.wait_for(self._arrival.wait(), max(deadline - loop.time(), 0))
            except TimeoutError:
                raise CallFailed(f"{nothing} in {timeout_s:g} s.") from None
