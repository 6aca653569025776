"""An application server (AS) at the S-CSCF: records every request that reaches it, and does with it as it is told.

An initial filter criterion in a subscriber's profile names it by `app.uri`; the S-CSCF then sends it what matches
(TS 24.229 section 5.4.3.2, reference point ISC; section 5.7 for the server's own part). Modes:

    proxy      sends the request back to the S-CSCF, along the Route that it came with, with the S-CSCF's mark (the
               original dialog identifier) untouched, so that the S-CSCF knows where it had stopped
    answer     is the end of the way: answers each method with the status that it was given for it, an INVITE with 200
               by a call with SDP, as a voicemail does
    refuse     says 5xx to everything
    silent     says nothing, as a server that has died

A request that is meant for the server itself, as the third-party REGISTER is, is answered by it in "proxy" mode too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from labkit.errors import SipError, StackError
from labkit.peers.admission import answer_options
from labkit.peers.agent import Agent
from labkit.peers.application_role import ApplicationRole
from labkit.peers.call import Call
from labkit.peers.callee import is_usable_invite
from labkit.peers.dialog_state import dialog_id
from labkit.peers.mailbox import Mailbox
from labkit.peers.stateless_proxy import StatelessProxy
from labkit.peers.transaction import ServerTransaction, Timers, server_key
from labkit.peers.transport import Endpoint, TcpLink
from labkit.wire.sip import SipMessage, parse_address, parse_message, parse_uri, parse_via

MODES: Final = ("proxy", "answer", "refuse", "silent")
"""What an application server may do."""
METHODS: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, REGISTER, SUBSCRIBE, PUBLISH, INFO, UPDATE, NOTIFY"
"""Methods that it answers."""
MAX_KEPT: Final = 1024
"""Requests that are kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """A request that reached an application server."""

    method: str
    """Method."""
    request_uri: str
    """Request-URI."""
    served_user: str
    """For whom: the URI in P-Served-User (RFC 5502); empty where the S-CSCF did not say."""
    session_case: str
    """As what: "orig" or "term", from P-Served-User."""
    registration_state: str
    """"reg" or "unreg", from P-Served-User."""
    done: str
    """What the server did: "proxied", "answered", "refused", "ignored"."""
    in_dialog: bool
    """Whether it belongs to a dialog, so that no filter criterion has brought it here."""
    asserted_identity: str = field(repr=False, default="")
    """Who the network says has sent it (P-Asserted-Identity)."""
    from_uri: str = field(repr=False, default="")
    """URI in From; for a third-party REGISTER the S-CSCF."""
    to_uri: str = field(repr=False, default="")
    """URI in To; for a third-party REGISTER the user."""
    expires_s: int | None = field(repr=False, default=None)
    """Expires in seconds; None without."""
    routes: tuple[str, ...] = field(repr=False, default=())
    """Route as it came: the server itself, then the S-CSCF with its mark."""
    raw: bytes = field(repr=False, default=b"")
    """The whole request."""

    @property
    def message(self) -> SipMessage:
        """The whole request, read."""
        return parse_message(self.raw)

    @property
    def addressed_as(self) -> str:
        """User part of the server's URI in this request: which of its names the filter criterion had."""
        try:
            return parse_uri(parse_address(self.routes[0]).uri if self.routes else self.request_uri).user
        except SipError:
            return ""

    @property
    def mark(self) -> dict[str, str]:
        """Parameters of the S-CSCF's mark, the Route entry below the server's own (TS 24.229 section 5.4.3.4).

        It is the S-CSCF's own matter what it writes there. Kamailio's: s, how many criteria are done
        with; h, DefaultHandling; d, direction (0 originating); a, the served user, in hex on the wire.
        """
        marks = [route for route in self.routes if "iscmark@" in route]
        if not marks:
            return {}
        try:
            params = parse_uri(parse_address(marks[0]).uri).params
            found = {name: value or "" for name, value in params if name != "lr"}
            return found | {"a": bytes.fromhex(found.get("a", "")).decode("ascii", "replace")}
        except (SipError, ValueError):
            return {}


class AppServer(ApplicationRole):
    """One application server on one UDP port."""

    def __init__(
        self,
        name: str,
        *,
        address: str,
        port: int,
        mode: str = "proxy",
        answers: Mapping[str, int] | None = None,
        refuse_with: int = 503,
        record_route: bool = True,
        headers: tuple[str, ...] = (),
        timers: Timers | None = None,
        mirror: Endpoint | None = None,
    ) -> None:
        """Make a server; it is off until `start`.

        Args:
            name: user part of its URI.
            address: its own address on this host.
            port: its UDP port; 0 takes any free one.
            mode: "proxy", "answer", "refuse" or "silent".
            answers: in mode "answer" the status for each method; 200 for those that it does not name.
            refuse_with: status in mode "refuse".
            record_route: whether, as a proxy, to stay in the path of the dialogs that it lets through.
            headers: header lines that it adds to what it sends on, for example "Subject: seen".
            timers: base values of the SIP timers.
            mirror: where copies of all that is sent go (HEP3), in a lab whose packets cannot be sniffed.
        Raises:
            StackError: there is no such mode.
        """
        self.name = name
        """User part of its URI."""
        self._behaviour = _Behaviour(mode, dict(answers or {}), refuse_with)
        self._record_route, self._headers = record_route, tuple(headers)
        self._requests: deque[ServedRequest] = deque(maxlen=MAX_KEPT)
        self._untaken: Mailbox[ServedRequest] = Mailbox(MAX_KEPT)
        self._seen: dict[tuple[str, str], None] = {}
        self._proxy: StatelessProxy | None = None
        self._agent = Agent(
            address=address,
            port=port,
            transport="udp",
            proxy=None,
            timers=timers or Timers(),
            access_network="",
            serve=self._serve,
            allow=METHODS,
            gate=self._gate,
            mirror=mirror,
        )

    def __repr__(self) -> str:
        return f"<application server {self.name}, {self._behaviour.mode}>"

    # ---- switching on and off ---------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Take the port and begin to listen; raises as ApplicationRole.start does."""
        await super().start()
        self._proxy = StatelessProxy(
            self._agent.address,
            self._agent.port,
            self._agent.send,
            record_route=self._record_route,
            headers=self._headers,
        )

    # ---- what a lesson asks -----------------------------------------------------------------------------------------
    def uri_for(self, user: str) -> str:
        """The same with another user part, so that several criteria can tell one server which of them it was."""
        return f"sip:{user}@{self._agent.hostport}"

    @property
    def mode(self) -> str:
        """One of "proxy", "answer", "refuse", "silent"."""
        return self._behaviour.mode

    @property
    def requests(self) -> list[ServedRequest]:
        """Every request that has come, in order, each once however often it was repeated."""
        return list(self._requests)

    @property
    def faults(self) -> int:
        """How often the server itself failed on what came; 0, or there is a bug, and the log has it."""
        return self._agent.faults

    async def behave(self, mode: str, answers: Mapping[str, int] | None = None, refuse_with: int = 503) -> None:
        """Do something else from now on with requests that begin something.

        Args:
            mode, answers, refuse_with: as when it was made.
        Raises:
            StackError: there is no such mode.
        """
        self._behaviour = _Behaviour(mode, dict(answers or {}), refuse_with)

    async def wait_request(self, method: str = "", timeout_s: float = 10.0) -> ServedRequest:
        """Wait for the next request that this has not returned before.

        Args:
            method: only one of this method, whatever comes before.
            timeout_s: how long to wait.
        Raises:
            CallFailed: none came in time.
        """
        return await self._untaken.take(
            timeout_s,
            f"No {method or 'request'} reached the application server {self.name}",
            lambda request: not method or request.method == method,
        )

    async def clear(self) -> None:
        """Forget what has come so far."""
        self._requests.clear()
        self._untaken.clear()

    # ---- what comes in ----------------------------------------------------------------------------------------------
    def _gate(self, raw: bytes, source: Endpoint, link: TcpLink | None) -> bool:
        """See every message first; say whether it needs nothing more."""
        message = parse_message(raw)
        if message.status:
            return self._gate_response(message)
        done = self._decide(message)
        self._record(message, done)
        if done == "proxied":
            assert self._proxy is not None
            self._proxy.pass_request(message, source)
        return done in ("proxied", "ignored")

    def _gate_response(self, response: SipMessage) -> bool:
        if (response.branch or "") in self._agent.transactions.clients:
            return False
        if self._proxy is not None and self.mode != "silent":
            self._proxy.pass_response(response)
        return True

    def _decide(self, request: SipMessage) -> str:
        """What to do with a request: what belongs to a call or transaction of our own is answered by it."""
        assert self._proxy is not None
        mode = self._behaviour.mode
        if mode == "silent":
            return "ignored"
        if self._is_ours(request):
            return "answered"
        for_us = not self._proxy.routes_on(request) and self._proxy.is_own(request.request_uri)
        if request.to_tag is not None:
            return "answered" if for_us else "proxied"
        if mode == "refuse":
            return "refused"
        return "answered" if for_us or mode == "answer" else "proxied"

    def _is_ours(self, request: SipMessage) -> bool:
        """Whether a request belongs to a call that ends here, or repeats, acknowledges or cancels what we answer."""
        if request.to_tag is not None and dialog_id(request) in self._agent.calls:
            return True
        vias = request.all("via")
        via = parse_via(vias[0] if vias else "")
        key = server_key(request, via, "INVITE" if request.method == "CANCEL" else None)
        return key in self._agent.transactions.servers

    def _record(self, request: SipMessage, done: str) -> None:
        key = (request.branch or "", request.method)
        if key in self._seen:
            return
        self._seen[key] = None
        if len(self._seen) > MAX_KEPT:
            del self._seen[next(iter(self._seen))]
        served = _served_request(request, done)
        self._requests.append(served)
        self._untaken.put(served)

    # ---- answering --------------------------------------------------------------------------------------------------
    def _serve(self, server: ServerTransaction) -> None:
        """Answer a request that begins something."""
        request = server.request
        if self._behaviour.mode == "refuse":
            server.respond(self._behaviour.refuse_with)
            return
        status = self._behaviour.answers.get(request.method, 200)
        if status == 200 and request.method == "INVITE":
            self._answer_call(server)
        elif status == 200 and request.method == "OPTIONS":
            answer_options(server, self._agent)
        elif status == 200 and request.method in ("REGISTER", "SUBSCRIBE", "PUBLISH"):
            server.respond(200, ("Expires", request.header("expires") or "3600"))
        else:
            server.respond(status)

    def _answer_call(self, server: ServerTransaction) -> None:
        caller = _uri(server.request.header("from"))
        if is_usable_invite(server, self._agent):
            call = Call(self._agent, "incoming", caller, self.name)
            call.take(server, ring=False)
            self._agent.spawn(call.answer())


@dataclass(frozen=True, slots=True)
class _Behaviour:
    mode: str
    answers: dict[str, int]
    refuse_with: int

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise StackError(f"An application server has no mode {self.mode!r}: use one of {', '.join(MODES)}.")
        wrong = [status for status in (*self.answers.values(), self.refuse_with) if not 200 <= status <= 699]
        if wrong:
            raise StackError(f"An application server answers with a final status, 200 to 699, not {wrong[0]}.")


def _served_request(request: SipMessage, done: str) -> ServedRequest:
    served = _read(request.header("p-served-user"))
    expires = request.header("expires") or ""
    return ServedRequest(
        method=request.method,
        request_uri=request.request_uri,
        served_user=served.get("uri", ""),
        session_case=served.get("sescase", ""),
        registration_state=served.get("regstate", ""),
        done=done,
        in_dialog=request.to_tag is not None,
        asserted_identity=_uri(request.header("p-asserted-identity")),
        from_uri=_uri(request.header("from")),
        to_uri=_uri(request.header("to")),
        expires_s=int(expires) if expires.isascii() and expires.isdigit() and len(expires) < 11 else None,
        routes=request.all("route"),
        raw=request.to_bytes(),
    )


def _read(value: str | None) -> dict[str, str]:
    """URI and parameters of a header like P-Served-User; empty where there is none that can be read."""
    if value is None:
        return {}
    try:
        address = parse_address(value)
    except SipError:
        return {}
    return {"uri": address.uri, **{name.lower(): text or "" for name, text in address.params}}


def _uri(value: str | None) -> str:
    return _read(value).get("uri", "")
