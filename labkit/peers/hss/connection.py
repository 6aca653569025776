"""One Diameter connection: framing, CER, DWR, DPR, and the requests that the HSS sends itself (RFC 6733 section 5).

What a connection may cost is bounded: one unfinished message of at most `MAX_MESSAGE` bytes, a limited time to
finish it, no reading while the other side does not take its answers, a limited number of open requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from labkit.errors import DiameterError
from labkit.peers.hss.checks import RequestReader, check_header, wrong_value
from labkit.peers.hss.exchange import Exchange
from labkit.wire import cx
from labkit.wire.cx import CX_APPLICATION_ID, Command
from labkit.wire.diameter import (
    HEADER_SIZE,
    Avp,
    Message,
    avp_key,
    command_name,
    message_length,
    parse_message,
)
from labkit.wire.diameter_names import TGPP_VENDOR

if TYPE_CHECKING:
    from labkit.peers.hss.server import HssServer

MAX_MESSAGE: Final = 1 << 16
"""Largest message that is taken, in bytes; a Cx request has about 500."""

MAX_OPEN_REQUESTS: Final = 256
"""Requests of ours that may wait for an answer on one connection."""

MESSAGE_TIME_S: Final = 30.0
"""A message must be whole this long after its first byte, and a CER this long after connecting."""

WATCHDOG_S: Final = 30.0
"""Tw: silence after which a DWR goes out, and after which again the connection is closed (RFC 3539 3.4.1)."""

_CER: Final = int(Command.CAPABILITIES_EXCHANGE)
_RELAY: Final = 0xFFFFFFFF
_PRODUCT: Final = "labkit HSS"
_ORIGIN_HOST: Final = avp_key("Origin-Host")
_ORIGIN_REALM: Final = avp_key("Origin-Realm")

WAIT_CER: Final = "waiting for CER"
OPEN: Final = "open"
CLOSING: Final = "closing"


@dataclass(slots=True)
class Pending:
    """A request of ours that waits for its answer."""

    future: asyncio.Future[Message]
    """Set by the answer; cancelled when the connection ends."""


class Connection(asyncio.BufferedProtocol):
    """The server's end of one TCP connection.

    It brings its own buffer: asyncio's plain protocol asks the system for 256 KiB of fresh memory at every read, which
    costs more than answering a request.
    """

    def __init__(self, server: HssServer, exchange: Exchange) -> None:
        self._server = server
        self._exchange = exchange
        self._buffer = memoryview(bytearray(MAX_MESSAGE))
        self._rest = bytearray()
        self._needed = 0
        self._pending: dict[int, Pending] = {}
        self._transport: asyncio.Transport | None = None
        self._probing = False
        self._heard_s = self._started_s = time.monotonic()
        self.state = WAIT_CER
        self.host = ""
        self.realm = ""
        self.local: tuple[str, int] = ("", 0)
        self.remote: tuple[str, int] = ("", 0)
        self.requests = 0

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the addresses and wait for the CER."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.local = transport.get_extra_info("sockname")[:2]
        self.remote = transport.get_extra_info("peername")[:2]
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what waits for an answer."""
        self.state = CLOSING
        for pending in self._pending.values():
            pending.future.cancel()
        self._pending.clear()
        self._rest.clear()
        self._server.closed(self)

    def pause_writing(self) -> None:
        """Stop reading while the peer does not take its answers, so that they cannot pile up."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give asyncio the place to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.take(bytes(self._buffer[:nbytes]))

    def take(self, data: bytes) -> None:
        """Serve all whole messages of what has come, keep the rest."""
        self._heard_s = time.monotonic()
        self._probing = False
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
        at, end = 0, len(data)
        answers: list[bytes] = []
        while end - at >= 4 and self.state is not CLOSING:
            size = int.from_bytes(data[at + 1 : at + 4], "big")
            if data[at] != 1 or size < HEADER_SIZE or size > MAX_MESSAGE or size & 3:
                self._refuse_frame(data[at:], answers)
                break
            stop = at + size
            if stop > end:
                self._needed = size
                break
            if data[at + 4] & 0x80:
                self._serve(data[at:stop], answers)
            else:
                self._take_answer(data[at:stop])
            at = stop
        else:
            if 0 < end - at < 4 and data[at] != 1:
                self.close(f"version {data[at]} is no Diameter")
        self._keep(data, at, end)
        self._send(answers)

    # --- messages ---

    def _refuse_frame(self, data: bytes, answers: list[bytes]) -> None:
        """The framing is lost: answer a request whose header is there, and close."""
        try:
            size = message_length(data)
            error = DiameterError(
                f"a message of {size} bytes is larger than the {MAX_MESSAGE} that are taken here",
                offset=1,
                field="Message Length",
                spec="RFC 6733 section 7.1.5",
                result_code=5015,
            )
        except DiameterError as wrong_header:
            error = wrong_header
        if self.state is OPEN and len(data) >= HEADER_SIZE and data[4] & 0x80:
            answers.append(self._exchange.refuse(data[:HEADER_SIZE], error)[0])
        self.close(str(error))

    def _keep(self, data: bytes, at: int, end: int) -> None:
        if self.state is CLOSING or at == end:
            if self._rest:
                self._rest.clear()
            self._needed = 0
            return
        if end - at < 4:
            self._needed = 4
        if not self._rest or at:
            self._started_s = self._heard_s
            self._rest[:] = data[at:]

    def _send(self, answers: list[bytes]) -> None:
        if not answers:
            return
        server = self._server
        server.commit()
        if self._transport is not None:
            self._transport.write(b"".join(answers) if len(answers) > 1 else answers[0])
            if self.state is CLOSING:
                self._transport.close()
        if server.mirror is not None:
            for raw in answers:
                server.mirror.send(raw, self.local, self.remote)

    def _serve(self, raw: bytes, answers: list[bytes]) -> None:
        server = self._server
        if server.mirror is not None:
            server.mirror.send(raw, self.remote, self.local)
        code = int.from_bytes(raw[5:8], "big")
        if code in _BASE and raw[8:12] == b"\0\0\0\0" and (self.state is OPEN or code == _CER):
            self.requests += 1
            answers.append(self._serve_base(code, raw))
            return
        if self.state is not OPEN:
            self.close(f"{command_name(code, True)} before CER")
            return
        self.requests += 1
        answer, summary = self._exchange.answer(raw, server.logging)
        answers.append(answer)
        if summary:
            server.log(self.host, summary)

    def _serve_base(self, code: int, raw: bytes) -> bytes:
        try:
            request = parse_message(raw)
            check_header(code, request.application_id, request.flags)
            found, _ = RequestReader().read(code, raw)
            answer = _BASE[code](self, request, found)
        except DiameterError as error:
            refusal, summary = self._exchange.refuse(raw, error)
            self._server.log(self.host, summary)
            if code == _CER:
                self.close("CER refused")
            return refusal
        return answer

    def _answer_base(self, request: Message, result_code: int, *avps: Avp) -> bytes:
        exchange = self._exchange
        return request.answer(
            Avp.of("Result-Code", result_code),
            Avp.of("Origin-Host", exchange.origin_host),
            Avp.of("Origin-Realm", exchange.origin_realm),
            *avps,
        ).to_bytes()

    def _capabilities(self, request: Message, found: dict[int, bytes]) -> bytes:
        """Answer CER; with ONE Vendor-Specific-Application-Id and nothing beside it.

        Kamailio's cdp makes its table of applications one too small for a CEA that names Cx twice, or that names
        anything in a top-level Auth-Application-Id, and then finds no peer for Cx.
        """
        host = _text(_ORIGIN_HOST, found[_ORIGIN_HOST])
        realm = _text(_ORIGIN_REALM, found[_ORIGIN_REALM])
        common = bool(_applications(request) & {CX_APPLICATION_ID, _RELAY})
        avps = [
            Avp.of("Host-IP-Address", self.local[0]),
            Avp.of("Vendor-Id", TGPP_VENDOR),
            Avp.of("Product-Name", _PRODUCT),
            Avp.of("Supported-Vendor-Id", TGPP_VENDOR),
        ]
        if not common:
            self.close(f"{host} offers no Cx")
            return self._answer_base(request, 5010, *avps)
        self.host, self.realm, self.state = host, realm, OPEN
        self._server.identified(self)
        self._server.log(host, "CER -> DIAMETER_SUCCESS")
        return self._answer_base(request, 2001, *avps, cx.application_avp())

    def _watchdog(self, request: Message, found: dict[int, bytes]) -> bytes:
        return self._answer_base(request, 2001)

    def _disconnect(self, request: Message, found: dict[int, bytes]) -> bytes:
        self._server.log(self.host, "DPR -> DIAMETER_SUCCESS")
        answer = self._answer_base(request, 2001)
        self.close("DPR")
        return answer

    def _take_answer(self, raw: bytes) -> None:
        if self._server.mirror is not None:
            self._server.mirror.send(raw, self.remote, self.local)
        pending = self._pending.pop(int.from_bytes(raw[12:16], "big"), None)
        if pending is None or pending.future.done():
            return
        try:
            pending.future.set_result(parse_message(raw))
        except DiameterError as error:
            pending.future.set_exception(error)

    # --- our own requests ---

    async def request(self, build: Callable[[int, int], Message], timeout_s: float) -> Message:
        """Send a request and wait for its answer.

        Args:
            build: gets hop-by-hop and end-to-end id and gives the message.
            timeout_s: how long to wait.
        Raises:
            TimeoutError: no answer in that time.
            ConnectionError: the connection ended, or too many requests wait already.
        """
        if self.state is not OPEN or self._transport is None or len(self._pending) >= MAX_OPEN_REQUESTS:
            raise ConnectionError(f"no request can be sent to {self.host or 'this peer'} now")
        hop, end = self._server.next_ids()
        raw = build(hop, end).to_bytes()
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[hop] = Pending(future)
        self._send_request(raw)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except asyncio.CancelledError:
            if future.cancelled():
                raise ConnectionError(f"{self.host} closed the connection before it answered") from None
            raise
        finally:
            self._pending.pop(hop, None)

    # --- time and the end ---

    def check_time(self, now_s: float) -> None:
        """Close what has stood still too long, probe what is silent; called about once a second."""
        waiting = self.state is WAIT_CER or bool(self._rest)
        if waiting and now_s - self._started_s > self._server.message_time_s:
            self.close("a message was not finished in time" if self._rest else "no CER in time")
        elif self.state is OPEN and now_s - self._heard_s > self._server.watchdog_s * (1 + self._probing):
            if self._probing:
                self.close("no sign of life after a DWR")
            else:
                self._probing = True
                self._probe()

    def _probe(self) -> None:
        exchange = self._exchange
        hop, end = self._server.next_ids()
        request = cx.dwr(exchange.origin_host, exchange.origin_realm, hop_by_hop_id=hop, end_to_end_id=end)
        self._send_request(request.to_bytes())

    def _send_request(self, raw: bytes) -> None:
        if self._transport is not None:
            self._transport.write(raw)
        if self._server.mirror is not None:
            self._server.mirror.send(raw, self.local, self.remote)

    def close(self, why: str) -> None:
        """Stop serving; the transport goes when the last answer is out."""
        if self.state is CLOSING:
            return
        self.state = CLOSING
        self._server.log(self.host or self.remote[0], f"connection closed: {why}")
        if self._transport is not None:
            asyncio.get_running_loop().call_soon(self._transport.close)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()


_BASE: Final[dict[int, Callable[[Connection, Message, dict[int, bytes]], bytes]]] = {
    int(Command.CAPABILITIES_EXCHANGE): Connection._capabilities,
    int(Command.DEVICE_WATCHDOG): Connection._watchdog,
    int(Command.DISCONNECT_PEER): Connection._disconnect,
}


def _text(key: int, payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise wrong_value(key, payload, "is not UTF-8") from error


def _applications(request: Message) -> set[int]:
    """Collect the applications that a CER offers, at the top and inside Vendor-Specific-Application-Id."""
    offered = [avp.value for avp in request.find_all("Auth-Application-Id")]
    for group in request.find_all("Vendor-Specific-Application-Id"):
        offered += [avp.value for avp in group.children if avp.name == "Auth-Application-Id"]
    return {int(number) for number in offered}
