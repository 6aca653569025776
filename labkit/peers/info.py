"""INFO within a call: messages of a package that both sides have agreed on by Recv-Info (RFC 6086)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from labkit.errors import CallFailed
from labkit.peers.mailbox import Mailbox
from labkit.peers.transaction import ServerTransaction
from labkit.wire import ussd
from labkit.wire.sip import SipMessage

BODY_TYPES: Final = {ussd.INFO_PACKAGE: (ussd.CONTENT_TYPE,)}
"""Media types that the bodies of a package have; any, for a package that is not here."""


class InfoExchange:
    """What one side of one call takes and may send by INFO."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.on_info: Callable[[SipMessage], None] | None = None
        """Who takes what comes; without anybody it is kept for `wait`."""
        self.packages = packages
        """Info packages that this side takes; it says so in Recv-Info."""
        self.remote_packages: tuple[str, ...] = ()
        """Info packages that the other side takes, by its last Recv-Info."""
        self._received: Mailbox[SipMessage] = Mailbox()

    @property
    def lines(self) -> tuple[str, ...]:
        """The Recv-Info header line of an INVITE or its 200; none where this side takes nothing."""
        return (f"Recv-Info: {', '.join(self.packages)}",) if self.packages else ()

    def learn(self, message: SipMessage) -> None:
        """Note what the other side takes; a message without Recv-Info changes nothing (section 5.2.1)."""
        if message.header("recv-info") is not None:
            self.remote_packages = packages_in(message)

    def receive(self, server: ServerTransaction) -> None:
        """Answer an INFO: 469 for a package that was not agreed on, 415 for a body that is not of it (section 4.2.2).

        What the body says is not judged here. An INFO that could be read is 200, and what is wrong with it is told in
        an INFO of one's own (section 4.2.2 again): the response has no room for that.
        """
        request = server.request
        package = request.header("info-package")
        if package is None and request.body:
            server.respond(415, ("Accept", ""))
        elif package is not None and _package(package) not in self.packages:
            server.respond(469, ("Recv-Info", ", ".join(self.packages)))
        elif package is not None and request.content_type not in BODY_TYPES.get(
            _package(package), (request.content_type,)
        ):
            server.respond(415, ("Accept", ", ".join(BODY_TYPES[_package(package)])))
        else:
            server.respond(200)
            (self.on_info or self._received.put)(request)

    def check(self, package: str) -> None:
        """Make sure that the other side wants this package (section 4.2.1).

        Raises:
            CallFailed: it did not say so.
        """
        if package not in self.remote_packages:
            said = ", ".join(self.remote_packages) or "none"
            raise CallFailed(f"The other side takes no INFO of {package!r}; by its Recv-Info it takes {said}.")

    async def wait(self, timeout_s: float) -> SipMessage:
        """Wait for the next INFO that was taken.

        Raises:
            CallFailed: none came in time.
        """
        return await self._received.take(timeout_s, "No INFO came")


def info_lines(package: str) -> tuple[str, ...]:
    """The header lines of an INFO of a package (section 4.1)."""
    return f"Info-Package: {package}", "Content-Disposition: Info-Package"


def packages_in(message: SipMessage) -> tuple[str, ...]:
    """The info packages that the sender of a message takes, by its Recv-Info."""
    return tuple(_package(value) for value in message.all("recv-info"))


def _package(value: str) -> str:
    return value.partition(";")[0].strip().lower()
