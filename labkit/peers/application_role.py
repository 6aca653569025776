"""What those have in common whom filter criteria name: a port to take and give back, a URI (TS 24.229 section 5.7)."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from labkit.peers.agent import Agent


class ApplicationRole:
    """An application server, a short message centre, a gateway: whoever plays one makes its agent."""

    name: str
    """User part of its URI."""
    _agent: Agent

    async def start(self) -> None:
        """Take the port and begin to listen.

        Raises:
            PortBusy: another program has it.
            StackError: the address is none of this host.
        """
        await self._agent.start()

    async def stop(self) -> None:
        """Give the port back, without a word to anybody."""
        self._agent.stop()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def uri(self) -> str:
        """The URI for an initial filter criterion: where it listens right now."""
        return f"sip:{self.name}@{self._agent.hostport}"
