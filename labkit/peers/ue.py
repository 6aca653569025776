"""A phone (UE): registers in the IMS core, calls, is called, sends and takes messages. For notebooks and scripts alike.

    async with UE(alice, address="127.0.0.101", pcscf=("127.0.0.13", 5060), realm="ims.example") as phone:
        await phone.register()
        call = await phone.call("sip:bob@ims.example")
        await call.bye()

One socket and no thread a phone. All phones of a program share its event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeVar

from labkit.errors import AkaError, CallFailed, SdpError, SipError
from labkit.peers.agent import ALLOW, Agent, answer_options
from labkit.peers.credentials import Credentials, Subscription
from labkit.peers.dialog import SDP_TYPE, Call, refuse_offer
from labkit.peers.dialog_state import contact_uri
from labkit.peers.failure import refused
from labkit.peers.negotiation import usable_stream
from labkit.peers.registration import Registered, Registration
from labkit.peers.transaction import ServerTransaction, Timers
from labkit.peers.transport import Endpoint
from labkit.wire.sdp import parse_sdp
from labkit.wire.sip import SipMessage, parse_address, parse_message, parse_uri

T = TypeVar("T")

ACCESS_NETWORK: Final = "3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000001"
"""P-Access-Network-Info of a phone on LTE (TS 24.229 section 7.2A.4): which radio cell it is in."""
TEXT_TYPES: Final = ("text/plain",)
"""Message bodies that a phone shows."""
MAX_RINGING: Final = 16
"""Calls that may ring here at a time; one more is told 486."""
MAX_KEPT: Final = 256
"""Calls and messages kept until somebody asks for them; the oldest go first."""


class UE:
    """One phone of one subscriber."""

    def __init__(
        self,
        subscriber: Subscription,
        *,
        address: str,
        port: int = 5060,
        pcscf: Endpoint | None = None,
        transport: str = "udp",
        realm: str = "",
        identity: str = "",
        auto_answer: bool = False,
        ring_s: float = 0.0,
        ring_limit_s: float = 180.0,
        rtp: bool = False,
        sqn_ms: int = 0,
        answer_delay_s: float = 0.005,
        timers: Timers | None = None,
        access_network: str = ACCESS_NETWORK,
    ) -> None:
        """Make a phone; it is off until `start`.

        Args:
            subscriber: whose phone it is: impi, impus, and k with opc or a password.
            address: the phone's own address on this host.
            port: its SIP port; 0 takes any free one.
            pcscf: address and port of the P-CSCF; None for a phone that calls others directly.
            transport: "udp" or "tcp".
            realm: home network; by default what follows "@" in the private identity.
            identity: public identity that others see; by default the last sip: one, which has a name in it.
            auto_answer: answer calls by itself, `ring_s` seconds after they began to ring.
            ring_s: how long an auto-answered call rings.
            ring_limit_s: after this a call that nobody answers is told 480.
            rtp: send and take real sound in calls, unless told otherwise call by call.
            sqn_ms: highest sequence number that the SIM has seen; higher than the network's makes it resynchronise.
            answer_delay_s: pause before a challenge is answered, as a real SIM takes one. Kamailio's S-CSCF stores what
                it needs to check the answer just after it has sent the challenge: who is faster is challenged again.
            timers: base values of the SIP timers.
            access_network: P-Access-Network-Info; "" leaves it out.
        """
        self.subscriber = subscriber
        """Whose phone it is."""
        self.auto_answer = auto_answer
        """Whether calls are answered without being asked."""
        self.ring_s = ring_s
        """How long they ring before that."""
        self.rtp = rtp
        """Whether calls have real sound by default."""
        self.realm = realm or subscriber.impi.partition("@")[2]
        """Home network."""
        sip_uris = [uri for uri in subscriber.impus if uri.startswith("sip:")]
        self.registered_identity = sip_uris[0] if sip_uris else f"sip:{subscriber.impi}"
        """Public identity in REGISTER, from which the network derives the others."""
        self.public_identity = identity or (sip_uris[-1] if sip_uris else self.registered_identity)
        """Public identity in calls and messages."""
        self._ring_limit_s = ring_limit_s
        self._contact_user = parse_uri(self.registered_identity).user
        self._credentials = Credentials(subscriber, self.realm, sqn_ms)
        self._agent = Agent(
            address=address,
            port=port,
            transport=transport,
            proxy=pcscf,
            timers=timers or Timers(),
            access_network=access_network,
            serve=self._serve,
        )
        self._registration = Registration(
            self._agent, self._credentials, self.registered_identity, self._contact_user, answer_delay_s
        )
        self._users = {self._contact_user, *(parse_uri(uri).user for uri in subscriber.impus)}
        self._calls: deque[Call] = deque(maxlen=MAX_KEPT)
        self._messages: deque[SipMessage] = deque(maxlen=MAX_KEPT)
        self._arrival = asyncio.Event()

    # ---- switching on and off ---------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Switch the phone on: take its port.

        Raises:
            PortBusy: another program has it.
            StackError: the address is none of this host.
        """
        await self._agent.start()

    async def stop(self) -> None:
        """Switch the phone off without a word to anybody: calls and registration are left as they are."""
        self._agent.stop()
        self._notify()
        await asyncio.sleep(0)

    async def __aenter__(self) -> UE:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = "registered" if self.registered else "not registered"
        return f"<UE {self.public_identity}, {state}>"

    # ---- what it is -------------------------------------------------------------------------------------------------
    @property
    def address(self) -> Endpoint:
        """The phone's own address and port."""
        return self._agent.address, self._agent.port

    @property
    def contact(self) -> str:
        """URI under which the phone can be reached right now."""
        return self._agent.contact(self._contact_user)

    @property
    def registered(self) -> bool:
        """Whether the last REGISTER was accepted (its time may have run out since)."""
        return self._registration.active

    @property
    def registration(self) -> Registered:
        """What the registrar has granted: expires_s, service_route, associated_uris, path."""
        return self._registration.granted

    @property
    def sqn_ms(self) -> int:
        """Highest sequence number that the SIM has accepted."""
        return self._credentials.sqn_ms

    @property
    def calls(self) -> list[Call]:
        """Calls that are ringing or answered."""
        return [call for call in self._agent.calls.values() if call.state != "ended"]

    @property
    def dropped(self) -> int:
        """How many things came that were not even worth an answer."""
        return self._agent.dropped

    @property
    def faults(self) -> int:
        """How often the phone itself failed on what came; 0, or there is a bug, and the log has it."""
        return self._agent.faults

    # ---- registration -----------------------------------------------------------------------------------------------
    async def register(self, expires: int = 600) -> SipMessage:
        """Register in the IMS core and return its 200.

        Args:
            expires: how long, in seconds; the network may grant less, or demand more.
        Raises:
            CallFailed: the network refused, did not answer, or could not prove that it knows the SIM's key.
        """
        return await self._registration.register(expires)

    async def reregister(self, expires: int = 600) -> SipMessage:
        """Renew the registration and return the 200.

        Raises:
            CallFailed: the phone is not registered, or the network refused.
        """
        self._need_registration()
        return await self._registration.register(expires)

    async def deregister(self) -> SipMessage:
        """Take the registration back and return the 200.

        Raises:
            CallFailed: the phone is not registered, or the network refused.
        """
        self._need_registration()
        return await self._registration.register(0)

    async def set_sqn(self, sqn_ms: int) -> None:
        """Set the SIM's sequence number: above the network's one, the next challenge ends in a resynchronisation."""
        self._credentials.sqn_ms = sqn_ms

    def _need_registration(self) -> None:
        if not self.registered:
            raise CallFailed(f"{self.public_identity} is not registered: call register() first.")

    # ---- calls ------------------------------------------------------------------------------------------------------
    async def call(
        self,
        target: str | UE,
        *,
        rtp: bool | None = None,
        sdp: bytes | None = None,
        wait: str = "answered",
        timeout_s: float = 60.0,
    ) -> Call:
        """Call somebody, and return the call once it is answered.

        Args:
            target: a sip: or tel: URI, a name in the home network ("bob"), a number ("+15550002"), or another phone.
            rtp: whether to send and take real sound; by default as the phone was made.
            sdp: session description to offer instead of the phone's own.
            wait: "answered", or return earlier: "calling" as soon as the INVITE is out, "ringing" when it rings there.
            timeout_s: how long to wait for that; then the call is cancelled.
        Raises:
            CallFailed: the call was refused, or got no answer in time; has status, reason, warning and the response.
        """
        call = Call(self._agent, "outgoing", self._uri_of(target), self._contact_user)
        routes = self._routes()
        await call.dial(
            from_uri=self.public_identity,
            routes=routes,
            headers=(f"P-Preferred-Identity: <{self.public_identity}>", f"Allow: {ALLOW}"),
            sdp=sdp,
            rtp=self.rtp if rtp is None else rtp,
            destination=self._first_hop(call.remote, routes),
            credentials=self._credentials,
        )
        try:
            await call.wait_state(wait, timeout_s)
        except (CallFailed, asyncio.CancelledError):
            if call.state in ("calling", "ringing"):
                self._agent.spawn(call.cancel())
            raise
        return call

    async def wait_call(self, timeout_s: float = 10.0) -> Call:
        """Wait for the next call to this phone, and return it while it rings (or after an automatic answer).

        Raises:
            CallFailed: none came in time.
        """
        return await self._take(self._calls.popleft, lambda: bool(self._calls), timeout_s, "call")

    # ---- messages and questions -------------------------------------------------------------------------------------
    async def message(self, target: str | UE, text: str) -> SipMessage:
        """Send a text message (MESSAGE, RFC 3428) and return the final response.

        Raises:
            CallFailed: it was refused, or got no answer.
        """
        identity = f"P-Preferred-Identity: <{self.public_identity}>"
        uri = self._uri_of(target)
        return await self._ask("MESSAGE", uri, (identity,), "text/plain;charset=UTF-8", text.encode())

    async def wait_message(self, timeout_s: float = 10.0) -> SipMessage:
        """Wait for the next text message to this phone, and return the MESSAGE request; its text is in `body`.

        Raises:
            CallFailed: none came in time.
        """
        return await self._take(self._messages.popleft, lambda: bool(self._messages), timeout_s, "message")

    async def options(self, target: str | UE | None = None) -> SipMessage:
        """Ask what somebody, by default the P-CSCF, can do (OPTIONS), and return the final response.

        Raises:
            CallFailed: it was refused, or got no answer.
        """
        headers = (f"Contact: <{self.contact}>", "Accept: application/sdp")
        if target is not None:
            return await self._ask("OPTIONS", self._uri_of(target), headers)
        proxy = self._agent.proxy
        if proxy is None:
            raise CallFailed("This phone has no P-CSCF to ask: name a target.")
        return await self._ask("OPTIONS", f"sip:{_hostport(proxy)}", headers, direct=True)

    async def _ask(
        self,
        method: str,
        uri: str,
        headers: tuple[str, ...],
        content_type: str = "",
        body: bytes = b"",
        direct: bool = False,
    ) -> SipMessage:
        """Send a request outside of any dialog; prove who we are if asked to, once."""
        routes = () if direct else self._routes()
        lines = (*(f"Route: {route}" for route in routes), *headers)
        call_id, tag = secrets.token_hex(10), secrets.token_hex(4)
        where = self._first_hop(uri, routes)
        for cseq in (1, 2):
            branch = self._agent.new_branch()
            raw = self._agent.compose(
                method,
                uri,
                from_=f"<{self.public_identity}>;tag={tag}",
                to=f"<{uri}>",
                call_id=call_id,
                cseq=cseq,
                branch=branch,
                headers=lines,
                content_type=content_type,
                body=body,
            )
            response = await self._agent.request(raw, branch, method, where)
            if response.status < 300:
                return response
            proof = self._proof(response, method, uri) if cseq == 1 else None
            if proof is None:
                break
            lines = (*lines, proof)
        raise refused(parse_message(raw), response)

    def _proof(self, response: SipMessage, method: str, uri: str) -> str | None:
        """The header line that answers a 401 or 407, None when that is not possible."""
        ours, theirs = ("Authorization", "WWW-Authenticate")
        if response.status == 407:
            ours, theirs = ("Proxy-Authorization", "Proxy-Authenticate")
        challenge = response.header(theirs) if response.status in (401, 407) else None
        if challenge is None:
            return None
        try:
            return f"{ours}: {self._credentials.reply(challenge, method, uri).header}"
        except AkaError:
            return None

    # ---- where things go --------------------------------------------------------------------------------------------
    def _routes(self) -> tuple[str, ...]:
        """Route of a request outside of dialogs: the P-CSCF, then the Service-Route (TS 24.229 section 5.1.2A.1.1)."""
        proxy = self._agent.proxy
        if proxy is None or not self.registered:
            return ()
        kind = "" if self._agent.transport_name == "UDP" else ";transport=tcp"
        return (f"<sip:{_hostport(proxy)}{kind};lr>", *self._registration.granted.service_route)

    def _first_hop(self, uri: str, routes: tuple[str, ...]) -> Endpoint:
        return self._agent.proxy or self._agent.next_hop(uri, routes)

    def _uri_of(self, target: str | UE) -> str:
        if isinstance(target, UE):
            return target.public_identity
        text = target.strip()
        if text[:1] == "+" and text[1:].isdigit():
            return f"tel:{text}"
        if ":" not in text and "@" not in text:
            text = f"sip:{text}@{self.realm}"
        elif ":" not in text.partition("@")[0]:
            text = f"sip:{text}"
        try:
            scheme = parse_uri(text).scheme
        except SipError as error:
            raise CallFailed(f"{target!r} cannot be called: {error}") from error
        if scheme not in ("sip", "sips", "tel"):
            raise CallFailed(f"{target!r} cannot be called: it is no sip: or tel: URI, no name and no number.")
        return text

    # ---- what comes in ----------------------------------------------------------------------------------------------
    def _serve(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        user = parse_uri(request.request_uri).user
        if user and user not in self._users:
            transaction.respond(404)
        elif request.method == "INVITE":
            self._serve_invite(transaction)
        elif request.method == "MESSAGE":
            self._serve_message(transaction)
        else:
            answer_options(transaction)

    def _serve_message(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if request.body and request.content_type not in TEXT_TYPES:
            transaction.respond(415, ("Accept", ", ".join(TEXT_TYPES)))
            return
        transaction.respond(200)
        self._messages.append(request)
        self._notify()

    def _serve_invite(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if request.body and request.content_type != SDP_TYPE:
            transaction.respond(415, ("Accept", SDP_TYPE))
            return
        if not contact_uri(request):
            transaction.respond(400, reason="Missing Contact")
            return
        try:
            if request.body:
                usable_stream(parse_sdp(request.body))
        except SdpError as error:
            refuse_offer(transaction, error, self._agent)
            return
        if sum(call.state == "ringing" for call in self._agent.calls.values()) >= MAX_RINGING:
            transaction.respond(486)
            return
        call = Call(self._agent, "incoming", _caller(request), self._contact_user)
        call.rtp = self.rtp
        call.ring(transaction, self._ring_limit_s)
        self._calls.append(call)
        self._notify()
        if self.auto_answer:
            self._agent.spawn(self._answer_later(call))

    async def _answer_later(self, call: Call) -> None:
        if self.ring_s > 0:
            await asyncio.sleep(self.ring_s)
        if call.state == "ringing":
            await call.answer()

    def _notify(self) -> None:
        self._arrival.set()
        self._arrival = asyncio.Event()

    async def _take(self, take: Callable[[], T], ready: Callable[[], bool], timeout_s: float, what: str) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not ready():
            try:
                await asyncio.wait_for(self._arrival.wait(), max(deadline - loop.time(), 0))
            except TimeoutError:
                raise CallFailed(f"No {what} came to {self.public_identity} in {timeout_s:g} s.") from None
        return take()


def _caller(request: SipMessage) -> str:
    """URI of who calls: what the network asserts, else From (RFC 3325)."""
    for value in (*request.all("p-asserted-identity"), request.header("from") or ""):
        try:
            return parse_address(value).uri
        except SipError:
            continue
    return ""


def _hostport(endpoint: Endpoint) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
