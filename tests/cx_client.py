"""A small Diameter client for the tests of the HSS: it plays the CSCFs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
from collections.abc import AsyncIterator
from typing import Any

from labkit.peers.hss.server import HssOptions, HssServer
from labkit.peers.hss.subscribers import load_subscribers
from labkit.wire import cx
from labkit.wire.diameter import Message, parse_message

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
SCSCF = f"sip:scscf.{REALM}:6060"
HSS = f"hss.{REALM}"
SUBSCRIBERS = load_subscribers()
USERS = {subscriber.name: subscriber for subscriber in SUBSCRIBERS}


class CxClient:
    """One connection to the HSS in the name of a CSCF."""

    def __init__(self, port: int, host: str = "scscf", address: str = "127.0.0.1") -> None:
        self.host = f"{host}.{REALM}"
        self.port = port
        self.address = address
        self.ids = itertools.count(1)
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.answers: dict[int, asyncio.Future[Message]] = {}

    async def __aenter__(self) -> CxClient:
        await self.connect()
        cea = await self.ask(cx.cer(self.host, REALM, "127.0.0.1", hop_by_hop_id=next(self.ids)))
        assert cea.find("Result-Code").value == 2001
        return self

    async def connect(self) -> None:
        """Open the connection without a CER."""
        self.reader, self.writer = await asyncio.open_connection(self.address, self.port)
        self.task = asyncio.create_task(self._read())

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        self.task.cancel()
        self.writer.close()

    async def hush(self) -> None:
        """Stop reading in the background."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._read_all()

    async def _read_all(self) -> None:
        while True:
            message = parse_message(await self.read_raw())
            if message.request:
                self.incoming.put_nowait(message)
            elif message.hop_by_hop_id in self.answers:
                self.answers.pop(message.hop_by_hop_id).set_result(message)

    async def read_raw(self) -> bytes:
        """Read the bytes of one message."""
        head = await self.reader.readexactly(4)
        return head + await self.reader.readexactly(int.from_bytes(head[1:], "big") - 4)

    def envelope(self, **changes: Any) -> cx.Envelope:
        """Make the common part of a request."""
        number = next(self.ids)
        fields = {
            "session_id": f"{self.host};1;{number}",
            "origin_host": self.host,
            "origin_realm": REALM,
            "destination_realm": REALM,
            "hop_by_hop_id": number,
            "end_to_end_id": number,
        }
        return cx.Envelope(**(fields | changes))

    async def ask(self, request: Message) -> Message:
        """Send a request and return its answer."""
        future = asyncio.get_running_loop().create_future()
        self.answers[request.hop_by_hop_id] = future
        self.writer.write(request.to_bytes())
        return await asyncio.wait_for(future, 5)

    async def uar(self, user: Any, impu: str = "", network: str = REALM, kind: int | None = None) -> Message:
        return await self.ask(
            cx.uar(
                self.envelope(),
                user_name=user.impi,
                public_identity=impu or user.impus[0],
                visited_network=network,
                user_authorization_type=kind,
            )
        )

    async def mar(self, user: Any, impu: str = "", server: str = SCSCF, **more: Any) -> Message:
        return await self.ask(
            cx.mar(
                self.envelope(),
                user_name=user.impi,
                public_identity=impu or user.impus[0],
                server_name=server,
                **more,
            )
        )

    async def sar(self, user: Any, kind: int, server: str = SCSCF, **more: Any) -> Message:
        fields = {"user_name": user.impi, "public_identities": user.impus[:1]} | more
        return await self.ask(cx.sar(self.envelope(), server_name=server, server_assignment_type=kind, **fields))

    async def lir(self, impu: str, **more: Any) -> Message:
        return await self.ask(cx.lir(self.envelope(), public_identity=impu, **more))


def outcome(message: Message) -> tuple[int, bool]:
    """Read the result of an answer: number, and True when it is experimental."""
    plain = message.find("Result-Code")
    group = message.find("Experimental-Result")
    assert (plain is None) != (group is None), "exactly one of the two must be there"
    if plain is not None:
        return plain.value, False
    assert group.find("Vendor-Id").value == 10415
    return group.find("Experimental-Result-Code").value, True


@contextlib.asynccontextmanager
async def running_hss(**options: Any) -> AsyncIterator[HssServer]:
    """Run an HSS on free ports inside this event loop; an exception that escapes anywhere fails the test."""
    escaped: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    log = io.StringIO()
    fields = {"diameter_port": 0, "admin_port": 0} | options
    server = HssServer(HssOptions("127.0.0.1", realm=REALM, origin_host=HSS, **fields), SUBSCRIBERS, log)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
    assert not escaped, escaped
