"""A charging trigger function: the network element that asks an online charging system by Diameter (RFC 8506).

The role of an application server, an S-CSCF or a gateway in the eyes of the charging system (TS 32.299, the Ro
reference point). It asks for seconds before they are spoken, comes back when they are used up, and says at the end how
many they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from labkit.errors import ChargingEngineGone, DiameterError, PortBusy
from labkit.wire.diameter import FLAG_PROXIABLE, FLAG_REQUEST, HEADER_SIZE, Avp, Message, message_length, parse_message
from labkit.wire.diameter_names import result_name

CREDIT_CONTROL: Final = 4
"""Application-Id (RFC 8506 section 1.1)."""
CONTEXT: Final = "32260@3gpp.org"
"""Service-Context-Id of IMS (TS 32.299 section 7.1.12)."""
_CER, _CCR = 257, 272
_KINDS = {"initial": 1, "update": 2, "terminate": 3}
_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What the charging system answered."""

    result_code: int
    """For example 2001, or 4012 where there is no money."""
    result: str
    """Its name (RFC 8506 section 9, RFC 6733 section 7.1)."""
    granted_s: int | None
    """Seconds that may be spoken before the next question; None where the answer grants none."""


class ChargingTrigger:
    """One Diameter connection to a charging system, and the sessions on it."""

    def __init__(
        self, name: str, *, address: str, port: int, server: tuple[str, int], realm: str, answer_s: float = _ANSWER_S
    ) -> None:
        """Prepare.

        Args:
            name: first label of its Diameter name.
            address: own address.
            port: own port.
            server: address and port of the charging system.
            realm: own realm, and that of the charging system.
            answer_s: how long an answer may take.
        """
        self.host = f"{name}.{realm}"
        """Its Diameter name, Origin-Host."""
        self._own, self._server, self._realm, self._answer_s = (address, port), server, realm, answer_s
        self._ids = itertools.count(1)
        self._numbers: dict[str, int] = {}
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._server_host = ""

    # ---- the connection ---------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Connect and exchange capabilities (RFC 6733 section 5.3).

        Raises:
            PortBusy: the own port is taken.
            ChargingEngineGone: nobody listens, or the charging system has no credit control.
        """
        try:
            reader, self._writer = await asyncio.open_connection(*self._server, local_addr=self._own)
        except ConnectionError as error:
            raise ChargingEngineGone(f"no charging system at {self._server[0]}:{self._server[1]}: {error}") from error
        except OSError as error:
            raise PortBusy(f"{self._own[0]}:{self._own[1]} cannot be used: {error}") from error
        self._reading = asyncio.create_task(self._read(reader))
        answer = await self._ask(
            _CER,
            0,
            Avp.of("Host-IP-Address", self._own[0]),
            Avp.of("Vendor-Id", 0),
            Avp.of("Product-Name", "labkit"),
            Avp.of("Auth-Application-Id", CREDIT_CONTROL),
        )
        host = answer.find("Origin-Host")
        self._server_host = str(host.value) if host is not None else ""
        if _result(answer) != 2001:
            await self.stop()
            raise ChargingEngineGone(f"the charging system refuses the connection: {result_name(_result(answer))}")

    async def stop(self) -> None:
        """Close the connection. Without a DPR (RFC 6733 section 5.4): CGrateS 0.10.4 does not answer it."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ---- a session --------------------------------------------------------------------------------------------------
    async def initial(self, session: str, subscriber: str, called: str, *, asks_s: int) -> Grant:
        """Begin a session: CCR-I asks for the first seconds.

        Args:
            session: a name for it; the Session-Id is made of it.
            subscriber: who pays, as the charging system knows him.
            called: the number that is called, as a tel: URI carries it.
            asks_s: seconds that are wanted.
        Raises:
            ChargingEngineGone: no answer, or no connection.
        """
        return await self._credit("initial", session, subscriber, called, {"Requested-Service-Unit": asks_s})

    async def update(self, session: str, subscriber: str, called: str, *, used_s: int, asks_s: int) -> Grant:
        """Go on with a session: CCR-U says what was used of the last seconds, and asks for the next."""
        units = {"Requested-Service-Unit": asks_s, "Used-Service-Unit": used_s}
        return await self._credit("update", session, subscriber, called, units)

    async def terminate(self, session: str, subscriber: str, called: str, *, used_s: int) -> Grant:
        """End a session: CCR-T says what was used since the last answer."""
        return await self._credit("terminate", session, subscriber, called, {"Used-Service-Unit": used_s})

    async def _credit(self, kind: str, session: str, subscriber: str, called: str, units: Mapping[str, int]) -> Grant:
        number = self._numbers.get(session, -1) + 1
        self._numbers[session] = number
        answer = await self._ask(
            _CCR,
            CREDIT_CONTROL,
            Avp.of("Auth-Application-Id", CREDIT_CONTROL),
            Avp.of("Service-Context-Id", CONTEXT),
            Avp.of("CC-Request-Type", _KINDS[kind]),
            Avp.of("CC-Request-Number", number),
            Avp.of("Event-Timestamp", datetime.now(UTC)),
            Avp.of(
                "Subscription-Id",
                (Avp.of("Subscription-Id-Type", 4), Avp.of("Subscription-Id-Data", subscriber)),
            ),
            *(Avp.of(name, (Avp.of("CC-Time", seconds),)) for name, seconds in units.items()),
            Avp.of(
                "Service-Information",
                (Avp.of("IMS-Information", (Avp.of("Called-Party-Address", f"tel:{called}"),)),),
            ),
            session=f"{self.host};{session}",
        )
        return Grant(_result(answer), result_name(_result(answer)), _granted(answer))

    # ---- messages ---------------------------------------------------------------------------------------------------
    async def _ask(self, command: int, application: int, *avps: Avp, session: str = "") -> Message:
        if self._writer is None or self._reading is None or self._reading.done():
            raise ChargingEngineGone("the Diameter connection with the charging system is not open")
        number = next(self._ids)
        ends = [Avp.of("Origin-Host", self.host), Avp.of("Origin-Realm", self._realm)]
        if session:
            ends = [Avp.of("Session-Id", session), *ends, Avp.of("Destination-Realm", self._realm)]
        flags = FLAG_REQUEST | (FLAG_PROXIABLE if application else 0)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(Message(command, application, flags, number, number, (*ends, *avps)).to_bytes())
            await self._writer.drain()
            return await asyncio.wait_for(future, self._answer_s)
        except TimeoutError as error:
            raise ChargingEngineGone(f"the charging system has not answered in {self._answer_s:g} s") from error
        except OSError as error:
            raise ChargingEngineGone(f"the charging system is gone: {error}") from error
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = "closed the connection"
        try:
            while True:
                head = await reader.readexactly(HEADER_SIZE)
                size = message_length(head) or HEADER_SIZE
                message = parse_message(head + await reader.readexactly(size - HEADER_SIZE))
                future = self._waiting.get(message.hop_by_hop_id)
                if not message.request and future is not None and not future.done():
                    future.set_result(message)
        except (asyncio.IncompleteReadError, OSError, DiameterError) as error:
            why = f"is gone: {error}" if not isinstance(error, asyncio.IncompleteReadError) else why
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChargingEngineGone(f"the charging system {why} before it answered"))


def _result(answer: Message) -> int:
    found = answer.find("Result-Code")
    return int(found.value) if found is not None else 0


def _granted(answer: Message) -> int | None:
    group = answer.find("Granted-Service-Unit")
    inner: Any = () if group is None else group.children
    return next((int(child.value) for child in inner if child.name == "CC-Time"), None)
