"""The user agent under a phone: its port, its requests, and what it answers by itself (RFC 3261 section 8)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from labkit.errors import CallFailed, SipError, StackError
from labkit.peers.admission import ALLOW, EVENTS, is_acceptable, phrase
from labkit.peers.dialog_state import Dialog, DialogId, dialog_id
from labkit.peers.dual_transport import DualTransport, over_tcp
from labkit.peers.mirror import Mirror
from labkit.peers.mirrored_transport import MirroredTransport
from labkit.peers.transaction import MAGIC_COOKIE, ServerTransaction, Timers, Transactions, build_response
from labkit.peers.transport import Deliver, Endpoint, Failed, TcpLink, TcpTransport, Transport, UdpTransport
from labkit.wire.hep import PROTOCOL_RTP
from labkit.wire.sip import (
    SipMessage,
    parse_address,
    parse_message,
    parse_uri,
    parse_via,
    salvage,
    split_list,
)

_log = logging.getLogger(__name__)

MIRROR_ID = 5004
"""Tells phones' copies of sound from copies of others."""


class DialogUsage(Protocol):
    """What lives in a dialog: a call or a subscription."""

    def receive(self, server: ServerTransaction) -> None:
        """Take a request within the dialog."""

    def switch_off(self) -> None:
        """End without a word."""


class InviteUsage(DialogUsage, Protocol):
    """What an INVITE has made."""

    def receive_ack(self, request: SipMessage) -> None:
        """Take the ACK to a 2xx."""


Gate = Callable[[bytes, Endpoint, TcpLink | None], bool]
"""Sees every message before anybody else; True when nothing more is to be done with it."""


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
        body_types: tuple[str, ...] = ("application/sdp", "text/plain"),
        info_packages: tuple[str, ...] = (),
        allow: str = ALLOW,
        gate: Gate | None = None,
        large_bytes: int = 0,
        extensions: tuple[str, ...] = (),
        session_expires_s: int = 1800,
        min_se_s: int = 90,
        rtcp_interval_s: float = 5.0,
        mirror: Endpoint | None = None,
        pending_s: float = 0.0,
    ) -> None:
        self.address = address
        self.port = port
        self.proxy = proxy
        """Where requests go first, the P-CSCF; None for a phone that calls others directly."""
        self.timers = timers
        self.access_network = access_network
        self.calls: dict[DialogId, InviteUsage] = {}
        """Calls that have a dialog."""
        self.subscriptions: dict[tuple[str, str], DialogUsage] = {}
        """Subscriptions by Call-ID and our tag: the first NOTIFY brings the other tag."""
        self.body_types = body_types
        """Media types of bodies that the phone takes, for Accept."""
        self.info_packages = info_packages
        """Info packages that the phone takes in calls, for Recv-Info (RFC 6086)."""
        self.extensions = extensions
        """Option tags of the extensions in use: "100rel", "timer"."""
        self.session_expires_s, self.min_se_s = session_expires_s, min_se_s
        """Session interval to ask for, and the shortest one to agree to (RFC 4028)."""
        self.rtcp_interval_s = rtcp_interval_s
        """Time between RTCP reports in calls with sound, on average."""
        self.pending_s = pending_s
        """How long it takes to say 491 to an offer that crosses one of our own."""
        self.media_mirror = (
            Mirror(mirror, transport="udp", protocol=PROTOCOL_RTP, capture_id=MIRROR_ID) if mirror else None
        )
        """Gets a copy of all sound that is sent, where packets cannot be sniffed."""
        self.allow = allow
        """Methods that are served, for Allow."""
        self.dropped = 0
        """Datagrams and messages that could not even be answered."""
        self.faults = 0
        """Messages that made the phone itself fail; always 0, or there is a bug (it is in the log)."""
        own = _make_transport(transport, self._deliver, self._failed, large_bytes)
        self._transport = MirroredTransport(own, mirror) if mirror else own
        self._large_bytes = large_bytes if isinstance(own, DualTransport) else 0
        self._serve = serve
        self._gate = gate
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
        for subscription in list(self.subscriptions.values()):
            subscription.switch_off()
        for task in list(self._tasks):
            task.cancel()
        if self._transactions is not None:
            self._transactions.close()
            self._transactions = None
            self._transport.close()
        if self.media_mirror is not None:
            self.media_mirror.close()

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
        lines = [*headers]
        if self.access_network and method not in ("ACK", "CANCEL"):
            lines.append(f"P-Access-Network-Info: {self.access_network}")
        if body:
            lines.append(f"Content-Type: {content_type}")
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        text = (
            f"{method} {uri} SIP/2.0\r\n{self._via}{branch};rport\r\nMax-Forwards: 70\r\nFrom: {from_}\r\nTo: {to}\r\n"
            f"Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
        )
        raw = (text + "\r\n".join(lines)).encode("utf-8", "surrogateescape") + body
        return over_tcp(raw) if 0 < self._large_bytes < len(raw) else raw

    def compose_in(
        self, dialog: Dialog, method: str, headers: Iterable[str] = (), content_type: str = "", body: bytes = b""
    ) -> tuple[bytes, str, Endpoint]:
        """Write a request within a dialog, with the CSeq that the dialog has now: (bytes, branch, where it goes)."""
        uri, routes = dialog.request_line
        branch = self.new_branch()
        raw = self.compose(
            method,
            uri,
            from_=dialog.local,
            to=dialog.remote,
            call_id=dialog.call_id,
            cseq=dialog.local_cseq,
            branch=branch,
            headers=(*(f"Route: {route}" for route in routes), *headers),
            content_type=content_type,
            body=body,
        )
        if self._large_bytes and _asks_for_tcp(routes[0] if routes else uri):
            raw = over_tcp(raw)
        return raw, branch, self.next_hop(uri, routes)

    async def request(self, raw: bytes, branch: str, method: str, destination: Endpoint) -> SipMessage:
        """Send a request and wait for its final response, whatever it is.

        Raises:
            CallFailed: none came.
        """
        transaction = self.transactions.send(raw, branch, method, destination)
        try:
            return await transaction.answer
        except asyncio.CancelledError:
            transaction.fail("before its sender stopped waiting")  # and nothing is sent again
            raise

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
    def _failed(self, destination: Endpoint, why: str, unsent: list[bytes]) -> None:
        if self._transactions is not None:
            self._transactions.failed(destination, why)

    def _deliver(self, raw: bytes, source: Endpoint, link: TcpLink | None) -> None:
        if self._transactions is None:
            return
        try:
            if self._gate is not None and self._gate(raw, source, link):
                return
            message = parse_message(raw)
            if message.status:
                self._transactions.receive_response(message)
            else:
                self._transactions.receive_request(message, source, link)
        except SipError as error:
            self._answer_broken(raw, source, link, str(error))
        except CallFailed:
            self.dropped += 1  # it names a place where no answer can be sent to
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
        answer = build_response(request, 400, (), phrase(why), b"", secrets.token_hex(4))
        port = source[1] if via.param("rport") is not None else via.port or 5060
        self._transport.send(answer.to_bytes(), (source[0], port), link)

    def _on_ack(self, request: SipMessage) -> None:
        call = self.calls.get(dialog_id(request))
        if call is not None:
            call.receive_ack(request)

    def _on_request(self, transaction: ServerTransaction) -> None:
        """Check a request in the order of RFC 3261 section 8.2, then serve it or hand it to its call."""
        request = transaction.request
        if not is_acceptable(transaction, self):
            return
        if request.method == "NOTIFY":
            self._receive_notify(transaction)
        elif request.to_tag is not None:
            call = self.calls.get(dialog_id(request))
            if call is None:
                transaction.respond(481)
            else:
                call.receive(transaction)
        elif request.method in ("BYE", "UPDATE", "INFO", "PRACK"):
            transaction.respond(481)
        else:
            self._serve(transaction)

    def _receive_notify(self, transaction: ServerTransaction) -> None:
        """A NOTIFY of no subscription is 481, one of an event that nobody knows here 489 (RFC 6665 section 4.1.3)."""
        request = transaction.request
        event = (request.header("event") or "").partition(";")[0].strip()
        subscription = self.subscriptions.get((request.call_id or "", request.to_tag or ""))
        if event not in EVENTS:
            transaction.respond(489, ("Allow-Events", ", ".join(EVENTS)))
        elif subscription is None:
            transaction.respond(481)
        else:
            subscription.receive(transaction)


def _make_transport(name: str, deliver: Deliver, failed: Failed, large_bytes: int) -> Transport:
    """Make a transport; "udp" with a limit for large requests is both UDP and TCP.

    Raises:
        StackError: it is neither "udp" nor "tcp".
    """
    kind = name.lower()
    if kind not in ("udp", "tcp"):
        raise StackError(f'A phone speaks "udp" or "tcp", not {name!r}.')
    if kind == "tcp":
        return TcpTransport(deliver, failed)
    return DualTransport(deliver, failed) if large_bytes else UdpTransport(deliver, failed)


def _asks_for_tcp(hop: str) -> bool:
    """Whether a URI or Route names TCP."""
    try:
        return (parse_uri(parse_address(hop).uri).param("transport") or "").lower() == "tcp"
    except SipError:
        return False


def is_address(host: str) -> bool:
    """Whether a host is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
