"""One Diameter connection: framing, time limits, and the requests that the HSS sends itself (RFC 6733 section 5).

What a connection may cost is bounded: one unfinished message of at most `MAX_MESSAGE` bytes, a limited time to
finish it, no reading while the other side does not take its answers, a limited number of open requests.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from labkit.errors import DiameterError
from labkit.peers.hss.base import BASE_COMMANDS, CER, answer_base
from labkit.peers.hss.behaviour import Behaviour
from labkit.peers.hss.checks import CX_COMMANDS
from labkit.peers.hss.exchange import Exchange
from labkit.peers.mirror import Mirror
from labkit.wire import cx
from labkit.wire.diameter import HEADER_SIZE, Message, command_name, message_length, parse_message

MAX_MESSAGE: Final = 1 << 16
"""Largest message that is taken, in bytes; a Cx request has about 500."""

_FIRST_WORD = struct.Struct("!I")
_SMALLEST: Final = 1 << 24 | HEADER_SIZE
"""First word of a message: the version, which is 1, and the length."""
_LARGEST: Final = 1 << 24 | MAX_MESSAGE
_CX_REQUESTS: Final = frozenset((0xC0 << 24 | code).to_bytes(4, "big") for code in CX_COMMANDS)
"""Second word of what comes all the time: flags R and P, and a command of Cx."""

MAX_OPEN_REQUESTS: Final = 256
"""Requests of ours that may wait for an answer on one connection."""

MESSAGE_TIME_S: Final = 30.0
"""A message must be whole this long after its first byte, and a CER this long after connecting."""

WATCHDOG_S: Final = 30.0
"""Tw: silence after which a DWR goes out, and after which again the connection is closed (RFC 3539 3.4.1)."""

MAX_HELD: Final = 1024
"""Answers that may be held back on one connection; more are sent at once."""

WAIT_CER: Final = "waiting for CER"
OPEN: Final = "open"
CLOSING: Final = "closing"


class Node(Protocol):
    """What a connection needs of the node that it belongs to."""

    logging: bool
    """False: no line about an exchange is wanted."""
    mirror: Mirror | None
    """Where copies of all messages go."""
    behaviour: Behaviour
    """What is answered wrongly on purpose."""
    message_time_s: float
    """See `MESSAGE_TIME_S`."""
    watchdog_s: float
    """See `WATCHDOG_S`."""

    def opened(self, connection: Connection) -> None:
        """Take a new connection."""

    def identified(self, connection: Connection) -> None:
        """Learn who is at the other end."""

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""

    def commit(self) -> None:
        """Write down what has changed, before answers leave."""

    def next_ids(self) -> tuple[int, int]:
        """Give a fresh hop-by-hop and end-to-end id."""

    def log(self, peer: str, text: str) -> None:
        """Write a line to the log."""


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

    def __init__(self, node: Node, exchange: Exchange) -> None:
        self._node = node
        self._exchange = exchange
        self._buffer = memoryview(bytearray(MAX_MESSAGE))
        self._rest = bytearray()
        self._needed = 0
        self._pending: dict[int, Pending] = {}
        self._held: dict[int, tuple[bytes, asyncio.TimerHandle]] = {}
        self._held_keys = itertools.count()
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
        self._node.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what waits for an answer."""
        self.state = CLOSING
        for pending in self._pending.values():
            pending.future.cancel()
        self._pending.clear()
        for _, timer in self._held.values():
            timer.cancel()
        self._held.clear()
        self._rest.clear()
        self._node.closed(self)

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
            (word,) = _FIRST_WORD.unpack_from(data, at)
            if not _SMALLEST <= word <= _LARGEST or word & 3:
                self._refuse_frame(data[at:], answers)
                break
            stop = at + (word & 0xFFFFFF)
            if stop > end:
                self._needed = stop - at
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
        node = self._node
        node.commit()
        if self._transport is not None:
            self._transport.write(b"".join(answers) if len(answers) > 1 else answers[0])
            if self.state is CLOSING:
                self._transport.close()
        if node.mirror is not None:
            for raw in answers:
                node.mirror.send(raw, self.local, self.remote)

    def _serve(self, raw: bytes, answers: list[bytes]) -> None:
        node = self._node
        if node.mirror is not None:
            node.mirror.send(raw, self.remote, self.local)
        if raw[4:8] not in _CX_REQUESTS or self.state is not OPEN or node.behaviour.active:
            self._serve_unusual(raw, answers)
            return
        self.requests += 1
        answer, summary = self._exchange.answer(raw, node.logging)
        answers.append(answer)
        if summary:
            node.log(self.host, summary)

    def _serve_unusual(self, raw: bytes, answers: list[bytes]) -> None:
        """Serve what is not Cx, or comes before CER, or while the node misbehaves."""
        code = int.from_bytes(raw[5:8], "big")
        if code in BASE_COMMANDS and raw[8:12] == b"\0\0\0\0" and (self.state is OPEN or code == CER):
            self.requests += 1
            answers.append(self._serve_base(raw))
        elif self.state is not OPEN:
            self.close(f"{command_name(code, True)} before CER")
        elif self._node.behaviour.active and code in CX_COMMANDS:
            self.requests += 1
            self._serve_badly(code, raw, answers)
        else:
            self.requests += 1
            answer, summary = self._exchange.answer(raw)
            answers.append(answer)
            self._node.log(self.host, summary)

    def _serve_base(self, raw: bytes) -> bytes:
        reply = answer_base(raw, self._exchange, self.local[0])
        if reply.host:
            self.host, self.realm, self.state = reply.host, reply.realm, OPEN
            self._node.identified(self)
        if reply.summary:
            self._node.log(self.host, reply.summary)
        if reply.close:
            self.close(reply.close)
        return reply.raw

    def _serve_badly(self, code: int, raw: bytes, answers: list[bytes]) -> None:
        """Serve a request while the node misbehaves on purpose."""
        result, delay_s = self._node.behaviour.towards(code)
        if result is None:
            answer, summary = self._exchange.answer(raw)
        else:
            answer, summary = self._exchange.decline(raw, result, "on purpose: this HSS was told to misbehave")
        if delay_s and len(self._held) < MAX_HELD:
            key = next(self._held_keys)
            timer = asyncio.get_running_loop().call_later(delay_s, self._let_go, key)
            self._held[key] = answer, timer
            summary += f", held back {delay_s:g} s"
        else:
            answers.append(answer)
        self._node.log(self.host, summary)

    def _let_go(self, key: int) -> None:
        answer, timer = self._held.pop(key)
        timer.cancel()
        self._send([answer])

    def let_go_all(self) -> None:
        """Send the answers that are held back, at once."""
        for key in tuple(self._held):
            self._let_go(key)

    def _take_answer(self, raw: bytes) -> None:
        if self._node.mirror is not None:
            self._node.mirror.send(raw, self.remote, self.local)
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
        hop, end = self._node.next_ids()
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
        if waiting and now_s - self._started_s > self._node.message_time_s:
            self.close("a message was not finished in time" if self._rest else "no CER in time")
        elif self.state is OPEN and now_s - self._heard_s > self._node.watchdog_s * (1 + self._probing):
            if self._probing:
                self.close("no sign of life after a DWR")
            else:
                self._probing = True
                self._probe()

    def _probe(self) -> None:
        exchange = self._exchange
        hop, end = self._node.next_ids()
        request = cx.dwr(exchange.origin_host, exchange.origin_realm, hop_by_hop_id=hop, end_to_end_id=end)
        self._send_request(request.to_bytes())

    def _send_request(self, raw: bytes) -> None:
        if self._transport is not None:
            self._transport.write(raw)
        if self._node.mirror is not None:
            self._node.mirror.send(raw, self.local, self.remote)

    def close(self, why: str) -> None:
        """Stop serving; the transport goes when the last answer is out."""
        if self.state is CLOSING:
            return
        self.state = CLOSING
        self._node.log(self.host or self.remote[0], f"connection closed: {why}")
        if self._transport is not None:
            asyncio.get_running_loop().call_soon(self._transport.close)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
