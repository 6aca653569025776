"""The HSS process: Diameter peers on one side, the admin door on the other, one store between them."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from labkit.errors import PortBusy
from labkit.peers.hss.admin import AdminDoor
from labkit.peers.hss.application import Application, Replaced
from labkit.peers.hss.behaviour import Behaviour
from labkit.peers.hss.connection import MESSAGE_TIME_S, OPEN, WATCHDOG_S, Connection
from labkit.peers.hss.exchange import Exchange
from labkit.peers.hss.requests import OwnRequests
from labkit.peers.hss.state import Store
from labkit.peers.hss.subscribers import Subscriber
from labkit.peers.hss.user import User
from labkit.peers.mirror import Mirror
from labkit.wire import cx
from labkit.wire.cx import DeregistrationReason
from labkit.wire.diameter import Message
from labkit.wire.hep import PROTOCOL_DIAMETER

MAX_CONNECTIONS: Final = 64
"""Diameter connections at a time; one more is closed at once."""

_DPA_TIME_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class HssOptions:
    """What the command line says."""

    address: str
    """Address to listen on."""
    diameter_port: int
    """TCP port for Diameter; 0 lets the system choose."""
    admin_port: int
    """TCP port of the admin door; 0 lets the system choose."""
    realm: str
    """Origin-Realm."""
    origin_host: str
    """Origin-Host."""
    state: str = ":memory:"
    """SQLite file."""
    token: str = ""
    """What the admin door wants to hear; empty: it asks for nothing."""
    mirror: tuple[str, int] | None = None
    """Collector for copies of all messages."""
    quiet: bool = False
    """True: no log line per exchange."""


MIRROR_ID: Final = 3868
"""Tells the HSS's copies of messages from others."""


class HssServer:
    """One HSS: `start`, `stop`, and what its connections and its admin door need."""

    def __init__(self, options: HssOptions, subscribers: tuple[Subscriber, ...], log_to: TextIO | None = None) -> None:
        self.options = options
        self.store = Store(options.state, subscribers, options.realm)
        self.application = Application(self.store)
        self.mirror = (
            Mirror(options.mirror, transport="tcp", protocol=PROTOCOL_DIAMETER, capture_id=MIRROR_ID)
            if options.mirror
            else None
        )
        self.message_time_s = MESSAGE_TIME_S
        self.watchdog_s = WATCHDOG_S
        self.logging = not options.quiet
        self.peers: dict[str, Connection] = {}
        self.behaviour = Behaviour(self._behaviour_changed)
        self.requests = OwnRequests(self.store, self.peers, (options.origin_host, options.realm), self.log)
        self._connections: set[Connection] = set()
        self._log_to = sys.stderr if log_to is None else log_to
        self._lines: list[str] = []
        self._flushing = False
        self._stopped = False
        self._hop = random.getrandbits(32)
        # RFC 6733 section 3: the upper 12 bits are the lower 12 bits of the start time.
        self._end = (int(time.time()) & 0xFFF) << 20 | random.getrandbits(20)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- life ---

    async def start(self) -> None:
        """Open both ports; when this returns, they accept.

        Raises:
            PortBusy: another program holds a port.
        """
        options = self.options
        loop = asyncio.get_running_loop()
        try:
            diameter = await loop.create_server(
                self.connection, options.address, options.diameter_port, reuse_address=True
            )
            self._servers.append(diameter)
            door = AdminDoor(self.store, self.requests, self.behaviour, self.peers, options.token)
            self._servers.append(
                await asyncio.start_server(door.serve, options.address, options.admin_port, limit=1 << 16)
            )
        except OSError as error:
            for server in self._servers:
                server.close()
            raise PortBusy(
                f"the HSS cannot listen on {options.address}, ports {options.diameter_port} (Diameter) and"
                f" {options.admin_port} (admin): {error.strerror}"
            ) from error
        self._spawn(self._tick())
        ports = ", ".join(str(port) for port in (self.diameter_port, self.admin_port))
        self.log("hss", f"{options.origin_host} listens on {options.address}, ports {ports}")

    @property
    def diameter_port(self) -> int:
        """The TCP port that Diameter listens on."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    @property
    def admin_port(self) -> int:
        """The TCP port of the admin door."""
        return int(self._servers[1].sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Say goodbye to the peers (DPR), close everything, write what is open; a second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self.behaviour.end()
        for server in self._servers:
            server.close()
        open_peers = [peer for peer in self._connections if peer.state is OPEN]
        if open_peers:
            farewells = [peer.request(self._farewell, _DPA_TIME_S) for peer in open_peers]
            await asyncio.gather(*farewells, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()
        if self.mirror is not None:
            self.mirror.close()
        self.log("hss", "stopped")
        self._flush_log()

    def _farewell(self, hop: int, end: int) -> Message:
        options = self.options
        return cx.dpr(options.origin_host, options.realm, hop_by_hop_id=hop, end_to_end_id=end)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now_s = time.monotonic()
            for connection in tuple(self._connections):
                connection.check_time(now_s)

    # --- for the connections ---

    def connection(self) -> Connection:
        """Make the server's end of a new connection."""
        return Connection(self, Exchange(self.application, self.options.origin_host, self.options.realm))

    def opened(self, connection: Connection) -> None:
        """Take a new connection, or refuse it where there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self.log("hss", f"more than {MAX_CONNECTIONS} connections: one refused")
            connection.abort()
            return
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if self.peers.get(connection.host) is connection:
            del self.peers[connection.host]
            self.log(connection.host, "connection ended")

    def identified(self, connection: Connection) -> None:
        """Learn who is at the other end; a peer that comes again was restarted, its old connection is dead."""
        before = self.peers.get(connection.host)
        self.peers[connection.host] = connection
        if before is not None and before is not connection:
            before.close("the peer has connected anew")

    def commit(self) -> None:
        """Write what has changed; called before answers leave."""
        self.store.flush()
        if self.application.replaced:
            replaced, self.application.replaced = self.application.replaced, []
            for entry in replaced:
                self._spawn(self._release(entry))

    async def _release(self, entry: Replaced) -> None:
        """Tell an S-CSCF that another one serves its subscriber now (TS 29.228 section 8.1.1)."""
        reason = DeregistrationReason.NEW_SERVER_ASSIGNED
        await self.requests.terminate(entry.user, reason, "", scscf=entry.scscf)

    def _behaviour_changed(self, user: User | None) -> None:
        if user is not None:
            user.sqn_kept = -1
            self.store.touch(user)
            self.store.flush()
        if not self.behaviour.active:
            for connection in tuple(self._connections):
                connection.let_go_all()

    def next_ids(self) -> tuple[int, int]:
        """Give a fresh hop-by-hop and end-to-end id."""
        self._hop = (self._hop + 1) & 0xFFFFFFFF
        self._end = (self._end + 1) & 0xFFFFFFFF
        return self._hop, self._end

    def log(self, peer: str, text: str) -> None:
        """Write one line to the log; lines of one turn of the loop go out together."""
        if not self.logging:
            return
        self._lines.append(f"{peer} {text}")
        if not self._flushing:
            try:
                asyncio.get_running_loop().call_soon(self._flush_log)
                self._flushing = True
            except RuntimeError:  # no loop: before start, after stop
                self._flush_log()

    def _flush_log(self) -> None:
        self._flushing = False
        if not self._lines:
            return
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")[:23]
        lines = [f"{stamp} {line}\n" for line in self._lines]
        self._lines.clear()
        with suppress(OSError, ValueError):  # the reader of the log is gone: no reason to stop serving
            self._log_to.write("".join(lines))
            self._log_to.flush()


def read_token(path: str | Path | None) -> str:
    """Read the admin door's token from a file; empty when there is none."""
    return Path(path).read_text(encoding="utf-8").strip() if path else ""
