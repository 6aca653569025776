"""The user agent under a phone: its port, its requests, and what it answers by itself (RFC 3261 section 8)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from labkit.errors import CallFailed, SipError
from labkit.peers.dialog_state import DialogId, dialog_id
from labkit.peers.transaction import MAGIC_COOKIE, ServerTransaction, Timers, Transactions, build_response
from labkit.peers.transport import Endpoint, TcpLink, Transport, make_transport
from labkit.wire.sip import (
    VERSION,
    SipMessage,
    parse_address,
    parse_message,
    parse_uri,
    parse_via,
    problems,
    salvage,
    split_list,
)

if TYPE_CHECKING:
    from labkit.peers.dialog import Call

ALLOW: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, UPDATE"
"""Methods that a phone serves; it says so in Allow."""
SUPPORTED: Final = ("path",)
"""Extensions that a phone understands when somebody requires them."""
_OTHER_METHODS = frozenset({"REGISTER", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REFER", "PRACK", "INFO"})

_log = logging.getLogger(__name__)


class Agent:
    """One SIP port with its transactions and calls."""

    def __init__(
        self,
        *,
        address: str,
        port: int,
        transport: str,
        proxy: Endpoint | None,
        timers: Timers,
        access_network: str,
        serve: Callable[[ServerTransaction], None],
    ) -> None:
        self.address = address
        self.port = port
        self.proxy = proxy
        """Where requests go first, the P-CSCF; None for a phone that calls others directly."""
        self.timers = timers
        self.access_network = access_network
        self.calls: dict[DialogId, Call] = {}
        """Calls that have a dialog."""
        self.dropped = 0
        """Datagrams and messages that could not even be answered."""
        self.faults = 0
        """Messages that made the phone itself fail; always 0, or there is a bug (it is in the log)."""
        self._transport: Transport = make_transport(transport, self._deliver, self._failed)
        self._serve = serve
        self._media_port = 39998
        self._branch_stem = MAGIC_COOKIE + secrets.token_hex(6)
        self._branches = 0
        self._via = ""
        self._transactions: Transactions | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- life -------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Take the port and begin to listen."""
        if self._transactions is None:
            self.port = await self._transport.open(self.address, self.port)
            self._via = f"Via: SIP/2.0/{self._transport.name} {self.hostport};branch="
            loop = asyncio.get_running_loop()
            self._transactions = Transactions(loop, self._transport, self.timers, self._on_request, self._on_ack)

    def stop(self) -> None:
        """Give the port back and stop every clock."""
        for call in list(self.calls.values()):
            call.switch_off()
        for task in list(self._tasks):
            task.cancel()
        if self._transactions is not None:
            self._transactions.close()
            self._transactions = None
            self._transport.close()

    @property
    def transactions(self) -> Transactions:
        """The transaction layer.

        Raises:
            CallFailed: the phone is off.
        """
        if self._transactions is None:
            raise CallFailed("The phone is off: use `async with UE(...)`, or `await ue.start()` first.")
        return self._transactions

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which the phone lives."""
        return self.transactions.loop

    @property
    def hostport(self) -> str:
        """Address and port as they stand in Via and Contact."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def transport_name(self) -> str:
        """ "UDP" or "TCP"."""
        return self._transport.name

    def new_branch(self) -> str:
        """A branch that no other transaction of any phone has."""
        self._branches += 1
        return f"{self._branch_stem}{self._branches:x}"

    def next_media_port(self) -> int:
        """A port to name in the SDP of a call without real sound; nothing listens there."""
        self._media_port = self._media_port + 2 if self._media_port < 59998 else 40000
        return self._media_port

    def contact(self, user: str) -> str:
        """The phone's own URI: where it can be reached right now."""
        kind = "" if self._transport.name == "UDP" else f";transport={self._transport.name.lower()}"
        return f"sip:{user}@{self.hostport}{kind}"

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work beside the caller; it ends with the phone."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, CallFailed):
            self.faults += 1
            _log.error("a phone's own work failed", exc_info=error)

    # ---- requests of ours -------------------------------------------------------------------------------------------
    def compose(
        self,
        method: str,
        uri: str,
        *,
        from_: str,
        to: str,
        call_id: str,
        cseq: int,
        branch: str,
        headers: Iterable[str] = (),
        content_type: str = "",
        body: bytes = b"",
    ) -> bytes:
        """Write a request (RFC 3261 section 8.1.1); `headers` are whole header lines."""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"{self._via}{branch};rport",
            "Max-Forwards: 70",
            f"From: {from_}",
            f"To: {to}",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq} {method}",
            *headers,
        ]
        if self.access_network and method not in ("ACK", "CANCEL"):
            lines.append(f"P-Access-Network-Info: {self.access_network}")
        if body:
            lines.append(f"Content-Type: {content_type}")
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body

    async def request(self, raw: bytes, branch: str, method: str, destination: Endpoint) -> SipMessage:
        """Send a request and wait for its final response, whatever it is.

        Raises:
            CallFailed: none came.
        """
        return await self.transactions.send(raw, branch, method, destination).answer

    def send(self, raw: bytes, destination: Endpoint) -> None:
        """Send a message that belongs to no transaction: an ACK to a 2xx."""
        if self._transactions is not None:
            self._transport.send(raw, destination)

    def next_hop(self, uri: str, routes: Iterable[str]) -> Endpoint:
        """Where a request goes: to its first Route or its Request-URI if that is an address, else to the P-CSCF.

        A first Route without ;lr follows a strict router that stands in the Request-URI (RFC 3261 section 8.1.2).

        Raises:
            CallFailed: neither is an address, and there is no P-CSCF to ask.
        """
        first = next(iter(routes), None)
        try:
            target = parse_uri(uri)
            if first is not None and (route := parse_uri(parse_address(first).uri)).param("lr") is not None:
                target = route
        except SipError as error:
            raise CallFailed(f"Nowhere to send to: {error}") from error
        if is_address(target.host):
            return target.host, target.port or 5060
        if self.proxy is None:
            raise CallFailed(
                f"The phone does not look up names and has no P-CSCF that would: {target.text}. "
                "Give UE(pcscf=(address, port)), or call sip:user@address:port."
            )
        return self.proxy

    # ---- what comes in ----------------------------------------------------------------------------------------------
    def _failed(self, destination: Endpoint, why: str) -> None:
        if self._transactions is not None:
            self._transactions.failed(destination, why)

    def _deliver(self, raw: bytes, source: Endpoint, link: TcpLink | None) -> None:
        if self._transactions is None:
            return
        try:
            message = parse_message(raw)
            if message.status:
                self._transactions.receive_response(message)
            else:
                self._transactions.receive_request(message, source, link)
        except SipError as error:
            self._answer_broken(raw, source, link, str(error))
        except Exception:
            self.faults += 1
            _log.exception("a phone failed on a message of %d bytes from %s", len(raw), source)

    def _answer_broken(self, raw: bytes, source: Endpoint, link: TcpLink | None, why: str) -> None:
        """Say 400 to a request that cannot be read but can be answered; drop everything else."""
        self.dropped += 1
        request = salvage(raw)
        if request is None or request.status or request.method == "ACK":
            return
        if any(request.header(name) is None for name in ("Via", "From", "To", "Call-ID", "CSeq")):
            return
        try:
            via = parse_via((split_list(request.header("via") or "") or ("",))[0])
        except SipError:
            return
        answer = build_response(request, 400, (), _phrase(why), b"", secrets.token_hex(4))
        port = source[1] if via.param("rport") is not None else via.port or 5060
        self._transport.send(answer.to_bytes(), (source[0], port), link)

    def _on_ack(self, request: SipMessage) -> None:
        call = self.calls.get(dialog_id(request))
        if call is not None:
            call.receive_ack(request)

    def _on_request(self, transaction: ServerTransaction) -> None:
        """Check a request in the order of RFC 3261 section 8.2, then serve it or hand it to its call."""
        request = transaction.request
        if not self._acceptable(transaction):
            return
        if request.to_tag is not None:
            call = self.calls.get(dialog_id(request))
            if call is None:
                transaction.respond(481)
            else:
                call.receive(transaction)
        elif request.method in ("BYE", "UPDATE"):
            transaction.respond(481)
        else:
            self._serve(transaction)

    def _acceptable(self, transaction: ServerTransaction) -> bool:
        request = transaction.request
        wrong = problems(request)
        required = tuple(tag for tag in request.all("require") if tag.lower() not in SUPPORTED)
        encoding = request.all("content-encoding")
        if request.version.upper() != VERSION:
            transaction.respond(505)
        elif wrong:
            transaction.respond(400, reason=_phrase(wrong[0]))
        elif request.method not in ALLOW.split(", "):
            transaction.respond(405 if request.method in _OTHER_METHODS else 501, ("Allow", ALLOW))
        elif not _is_readable_uri(request.request_uri):
            transaction.respond(400, reason="Unreadable Request-URI")
        elif parse_uri(request.request_uri).scheme not in ("sip", "sips", "tel"):
            transaction.respond(416)
        elif required:
            transaction.respond(420, ("Unsupported", ", ".join(required)))
        elif request.body and encoding and any(one.lower() != "identity" for one in encoding):
            transaction.respond(415, ("Accept-Encoding", "identity"))
        else:
            return True
        return False


def answer_options(transaction: ServerTransaction) -> None:
    """Tell what the phone can do (RFC 3261 section 11.2)."""
    transaction.respond(
        200, ("Allow", ALLOW), ("Accept", "application/sdp, text/plain"), ("Supported", ", ".join(SUPPORTED))
    )


def is_address(host: str) -> bool:
    """Whether a host is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_readable_uri(uri: str) -> bool:
    try:
        parse_uri(uri)
    except SipError:
        return False
    return True


def _phrase(text: str) -> str:
    """A reason phrase of one line."""
    return "".join(character if character.isprintable() else "?" for character in text)[:120]
