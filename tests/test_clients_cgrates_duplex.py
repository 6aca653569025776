"""The bi-JSON connection: answers in any order, in pieces, and the engine's own requests between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from labkit.clients.cgrates import CgratesDuplex
from labkit.clients.cgrates.units import from_json, to_json
from labkit.errors import BadChargingRequest, ChargingEngineGone
from tests.cgrates_parts import exchanges

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
ORDER = next(e["request"] for e in exchanges("cut-bijson") if e["from"] == "engine")


def talk(
    engine: Callable[[Reader, Writer], Awaitable[None]], platform: Callable[[CgratesDuplex], Awaitable[Any]]
) -> Any:
    """What the platform gets from this engine."""

    async def serve(reader: Reader, writer: Writer) -> None:
        try:
            await engine(reader, writer)
        finally:
            writer.close()  # newer Pythons wait for it when the server ends

    async def run() -> Any:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address, port = server.sockets[0].getsockname()
        async with server, CgratesDuplex(address, port, timeout_s=5) as duplex:
            return await platform(duplex)

    return asyncio.run(asyncio.wait_for(run(), 20))


async def asked(reader: Reader) -> dict[str, Any]:
    """The next request."""
    return dict(from_json(await reader.readline()))


def answer(request: dict[str, Any], result: object) -> bytes:
    """A reply to it."""
    return to_json({"id": request["id"], "result": result, "error": None}).encode()


def test_answers_are_matched_by_id() -> None:
    """Two calls, answered in the other order, byte by byte and without a separator."""

    async def engine(reader: Reader, writer: Writer) -> None:
        first, second = await asked(reader), await asked(reader)
        for byte in answer(second, second["method"]) + answer(first, first["method"]):
            writer.write(bytes([byte]))
            await writer.drain()
        await reader.read()

    async def platform(duplex: CgratesDuplex) -> Any:
        return await asyncio.gather(duplex.call("A.One", {}), duplex.call("B.Two", {}))

    assert talk(engine, platform) == ["A.One", "B.Two"]


def test_the_engine_can_hang_up_a_call() -> None:
    """The recorded order arrives as a Disconnect and is answered OK with its id, while a call of ours is open."""

    async def engine(reader: Reader, writer: Writer) -> None:
        ours = await asked(reader)
        writer.write(to_json(ORDER).encode() + b"\n")
        replied = await asked(reader)
        writer.write(answer(ours, replied))
        await reader.read()

    async def platform(duplex: CgratesDuplex) -> Any:
        said = await duplex.call("SessionSv1.InitiateSession", {"Event": {}})
        return said, await duplex.next_disconnect(1)

    said, order = talk(engine, platform)
    assert said == {"id": ORDER["id"], "result": "OK", "error": None}
    assert (order.origin_id, order.reason, order.paid) == ("call-1", "INSUFFICIENT_CREDIT", timedelta(seconds=3))


def test_who_waits_for_an_order_learns_that_the_engine_has_gone() -> None:
    """At once when the connection ends, else when the time is over; never not at all."""

    async def hangs_up(reader: Reader, writer: Writer) -> None:
        """Ends the connection."""

    async def says_nothing(reader: Reader, writer: Writer) -> None:
        await reader.read()

    with pytest.raises(ChargingEngineGone, match=r"ended the connection|not open"):
        talk(hangs_up, lambda duplex: duplex.next_disconnect(10))
    with pytest.raises(ChargingEngineGone, match=r"has not said in 0.1 s"):
        talk(says_nothing, lambda duplex: duplex.next_disconnect(0.1))


def test_an_order_of_another_kind_is_refused() -> None:
    """The engine hears an error, and the connection lives on."""

    async def engine(reader: Reader, writer: Writer) -> None:
        ours = await asked(reader)
        writer.write(b'{"method":"SessionSv1.Nonsense","params":[{}],"id":7}')
        replied = await asked(reader)
        writer.write(answer(ours, replied["error"]))
        await reader.read()

    assert talk(engine, lambda duplex: duplex.call("X.Y", {"a": 1})) == "unknown method"


def test_errors_have_names_here_too() -> None:
    """As over HTTP."""

    async def engine(reader: Reader, writer: Writer) -> None:
        request = await asked(reader)
        writer.write(to_json({"id": request["id"], "result": None, "error": "MANDATORY_IE_MISSING: [Event]"}).encode())
        await reader.read()

    with pytest.raises(BadChargingRequest, match="Event"):
        talk(engine, lambda duplex: duplex.call("X.Y", {"a": 1}))


def test_a_connection_that_ends_ends_the_open_calls() -> None:
    """No time-out is waited for."""

    async def engine(reader: Reader, writer: Writer) -> None:
        await asked(reader)
        writer.close()

    with pytest.raises(ChargingEngineGone, match=r"closed the connection before it answered X\.Y"):
        talk(engine, lambda duplex: duplex.call("X.Y", {"a": 1}))


def test_nobody_there_is_said() -> None:
    """With the address."""

    async def run() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        address, port = server.sockets[0].getsockname()
        server.close()
        await server.wait_closed()
        await CgratesDuplex(address, port).open()

    with pytest.raises(ChargingEngineGone, match=r"no CGrateS accepts bi-JSON at 127\.0\.0\.1"):
        asyncio.run(run())
