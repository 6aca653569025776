"""The engine's JSON doors over TCP. Bi-JSON (2014): requests go both ways, so that the engine can say "hang up".

Plain JSON (2012) is the same without that, and with every method of the HTTP door.

Messages are JSON objects one after the other, without framing. Replies come in any order; `id` says which is which. A
message with "method" is a request of the engine's own: DisconnectSession is answered "OK" and handed to the user.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from labkit.clients.cgrates.refusals import named_error, refuse_deadly
from labkit.clients.cgrates.rpc import TIMEOUT_S
from labkit.clients.cgrates.units import to_json, usage
from labkit.errors import ChargingEngineGone

_LONGEST_MESSAGE = 1 << 22
_DECODER = json.JSONDecoder(parse_float=Decimal)


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The engine's word that a call must end."""

    origin_id: str
    reason: str
    """"INSUFFICIENT_CREDIT", "FORCED_DISCONNECT"."""
    event: Mapping[str, Any] = field(repr=False, hash=False)
    """The session's event, with the Usage that was paid."""

    @property
    def paid(self) -> Any:
        """How long (or how much) the money lasted."""
        return usage(self.event.get("Usage", 0), str(self.event.get("ToR", "*voice")))


class CgratesDuplex:
    """One bi-JSON connection: `call()` as over HTTP, and `next_disconnect()`, the engine's own word to hang up."""

    def __init__(self, address: str, port: int = 2014, *, timeout_s: float = TIMEOUT_S) -> None:
        self._disconnects: asyncio.Queue[Disconnect] = asyncio.Queue()
        self._target, self._timeout_s = (address, port), timeout_s
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._writer is not None and self._reading is not None and not self._reading.done()

    async def open(self) -> Self:
        """Connect; ChargingEngineGone where nobody listens."""
        address, port = self._target
        try:
            reader, self._writer = await asyncio.wait_for(asyncio.open_connection(address, port), self._timeout_s)
        except (OSError, TimeoutError) as error:
            raise ChargingEngineGone(f"no CGrateS accepts bi-JSON at {address}:{port}: {error}") from error
        self._reading = asyncio.create_task(self._read(reader))
        return self

    async def call(self, method: str, parameter: Any) -> Any:
        """The result of one call; errors as JsonRpc.call."""
        refuse_deadly(method, parameter)
        if not self.is_open:
            raise ChargingEngineGone("the bi-JSON connection is not open; open() it (again)")
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (method, future)
        try:
            await self._send({"method": method, "params": [parameter], "id": number})
            return await asyncio.wait_for(future, self._timeout_s)
        except TimeoutError as error:
            raise ChargingEngineGone(f"CGrateS does not answer {method} in {self._timeout_s:g} s") from error
        except OSError as error:
            raise ChargingEngineGone(f"CGrateS is gone in {method}: {error}") from error
        finally:
            self._waiting.pop(number, None)

    async def next_disconnect(self, timeout_s: float = 30.0) -> Disconnect:
        """Wait for the engine's next word that a call must end.

        Raises:
            ChargingEngineGone: the connection has ended, so that no word can come, or none came in time.
        """
        if not self._disconnects.empty():
            return self._disconnects.get_nowait()
        if not self.is_open or self._reading is None:
            raise ChargingEngineGone("the bi-JSON connection is not open; open() it (again)")
        word = asyncio.ensure_future(self._disconnects.get())
        try:
            await asyncio.wait((word, self._reading), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if word.done():
                return word.result()
        finally:
            word.cancel()
        if self._reading.done():
            raise ChargingEngineGone("CGrateS ended the connection before it said that a call must end")
        raise ChargingEngineGone(f"CGrateS has not said in {timeout_s:g} s that a call must end")

    async def close(self) -> None:
        """Hang up."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(to_json(message).encode() + b"\n")
        await self._writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        said = "closed the connection"
        text = ""
        try:
            while piece := await reader.read(65536):
                text = (text + piece.decode("utf-8", "replace")).lstrip()
                text = await self._take(text)
                if len(text) > _LONGEST_MESSAGE:
                    said = "sent a message without an end"
                    break
        except OSError as error:
            said = f"is gone: {error}"
        finally:
            for method, future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChargingEngineGone(f"CGrateS {said} before it answered {method}"))

    async def _take(self, text: str) -> str:
        """Handle every whole message at the front; what is left begins an unfinished one."""
        while text:
            try:
                message, end = _DECODER.raw_decode(text)
            except ValueError:
                return text
            text = text[end:].lstrip()
            await self._handle(message)
        return text

    async def _handle(self, message: Mapping[str, Any]) -> None:
        if "method" in message:
            await self._answer(message)
            return
        method, future = self._waiting.get(message.get("id", 0), ("", None))
        if future is None or future.done():
            return
        if message.get("error"):
            future.set_exception(named_error(method, str(message["error"])))
        else:
            future.set_result(message.get("result"))

    async def _answer(self, request: Mapping[str, Any]) -> None:
        known = str(request["method"]).endswith(".DisconnectSession")
        if known:
            asked = request["params"][0]
            event = asked["EventStart"]
            self._disconnects.put_nowait(Disconnect(str(event["OriginID"]), str(asked["Reason"]), event))
        await self._send(
            {"id": request["id"], "result": "OK" if known else None, "error": None if known else "unknown method"}
        )
