"""Async tests, each in an event loop of its own and never without end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

LIMIT_S = 20 + float(os.environ.get("LABKIT_FUZZ_SECONDS", "0"))
"""No test takes so long; those that fuzz for longer when told to may."""


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own, for at most LIMIT_S."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(*args, **kwargs), LIMIT_S)

        asyncio.run(bounded())

    return run
