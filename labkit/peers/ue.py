"""A phone (UE): registers in the IMS core, calls, is called, sends and takes messages. For notebooks and scripts alike.

    async with UE(alice, address="127.0.0.101", pcscf=("127.0.0.13", 5060), realm="ims.example") as phone:
        await phone.register()
        call = await phone.call("sip:bob@ims.example")
        await call.bye()

One socket and no thread a phone. All phones of a program share its event loop.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

from labkit.errors import CallFailed
from labkit.peers.addressing import dialled_uri
from labkit.peers.admission import ALLOW
from labkit.peers.agent import Agent
from labkit.peers.call import Call
from labkit.peers.call_core import SDP_TYPE
from labkit.peers.caller import Dial
from labkit.peers.credentials import Credentials, Subscription
from labkit.peers.dual_transport import LARGE_BYTES
from labkit.peers.incoming import Incoming
from labkit.peers.keeper import RegistrationKeeper
from labkit.peers.registration import Registered, Registration
from labkit.peers.sms_phone import CENTRE, FEATURE, SmsPhone
from labkit.peers.sms_user import SmsUser
from labkit.peers.standalone import Standalone, hostport
from labkit.peers.subscription import EventSubscription
from labkit.peers.transaction import Timers
from labkit.peers.transport import Endpoint
from labkit.peers.ussd_session import ACCEPT, UssdSession, ussd_call, ussd_part
from labkit.wire.multipart import Part
from labkit.wire.sip import SipMessage, parse_uri
from labkit.wire.sms import CONTENT_TYPE
from labkit.wire.ussd import UssdData, ussd_uri

ACCESS_NETWORK: Final = "3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000001"
"""P-Access-Network-Info of a phone on LTE (TS 24.229 section 7.2A.4): which radio cell it is in."""
TEXT_TYPES: Final = ("text/plain",)
"""Message bodies that a phone takes unless it is told otherwise."""


class UE(SmsUser):
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
        large_bytes: int = LARGE_BYTES,
        access_network: str = ACCESS_NETWORK,
        message_types: tuple[str, ...] = TEXT_TYPES,
        info_packages: tuple[str, ...] = (),
        extensions: tuple[str, ...] = (),
        session_expires_s: int = 1800,
        min_se_s: int = 90,
        keep_registered: bool = False,
        obey_reg_event: bool = False,
        sms: str = "",
        sms_centre: str = CENTRE,
        sms_room: int = 50,
        rtcp_interval_s: float = 5.0,
        mirror: Endpoint | None = None,
        pending_s: float = 0.0,
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
            ring_s: how long an auto-answered call rings; with 0 it is answered at once and no 180 is sent.
            ring_limit_s: after this a call that nobody answers is told 480.
            rtp: send and take real sound in calls, unless told otherwise call by call.
            sqn_ms: highest sequence number that the SIM has seen; higher than the network's makes it resynchronise.
            answer_delay_s: pause before a challenge is answered, as a real SIM takes one. Kamailio's S-CSCF stores what
                it needs to check the answer just after it has sent the challenge: who is faster is challenged again.
            timers: base values of the SIP timers.
            large_bytes: a phone on UDP sends requests longer than this over TCP; 0 sends everything over UDP.
            access_network: P-Access-Network-Info; "" leaves it out.
            message_types: media types of the MESSAGE bodies that the phone takes; others are told 415.
            info_packages: info packages that the phone takes in its calls (Recv-Info); others are told 469.
            extensions: option tags of what the phone uses with others that do: "100rel" (PRACK, RFC 3262), "timer"
                (session timers, RFC 4028).
            session_expires_s: with "timer", after so many seconds without a refresh a call is over.
            min_se_s: with "timer", the shortest such time that the phone agrees to.
            keep_registered: re-register by itself before the registration runs out.
            obey_reg_event: do by itself what a NOTIFY says of its own contact (`labkit.wire.reginfo.advice_for`).
            sms: take and send short messages over IP: "strict" refuses an RP-DATA whose addresses TS 24.011 does not
                allow (RP-ERROR), "silent" drops it without a word, "lenient" shows it; "" does no short messages.
            sms_centre: number of the short message centre, as it stands on the SIM.
            sms_room: how many short messages the memory holds.
            rtcp_interval_s: time between RTCP reports in calls with sound, on average (RFC 3550 section 6.2: not
                under 5 s; less shows more in little time).
            pending_s: how long the phone takes to say 491 to an offer that crosses one of its own: longer than an offer
                is on its way, and both sides hear it; else the faster one may be back in time to take the other's.
            mirror: where copies of all that is sent go (HEP3), in a lab whose packets cannot be sniffed.
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
        self._contact_user = parse_uri(self.registered_identity).user
        self._credentials = Credentials(subscriber, self.realm, sqn_ms)
        self._agent = Agent(
            address=address,
            port=port,
            transport=transport,
            proxy=pcscf,
            timers=timers or Timers(),
            access_network=access_network,
            serve=lambda transaction: self._incoming.serve(transaction),
            body_types=(SDP_TYPE, *message_types, *((CONTENT_TYPE,) if sms else ())),
            info_packages=tuple(info_packages),
            large_bytes=large_bytes,
            extensions=tuple(extensions),
            session_expires_s=session_expires_s,
            min_se_s=min_se_s,
            rtcp_interval_s=rtcp_interval_s,
            mirror=mirror,
            pending_s=pending_s,
        )
        self._registration = Registration(
            self._agent,
            self._credentials,
            self.registered_identity,
            self._contact_user,
            answer_delay_s,
            features=(FEATURE,) if sms else (),
        )
        self._keeper = RegistrationKeeper(self._agent, self._registration, refresh=keep_registered, obey=obey_reg_event)
        self._standalone = Standalone(self._agent, self._credentials, self._registration)
        self._sms = SmsPhone(
            self._agent, self._standalone, tuple(subscriber.impus), self.realm, sms, sms_centre, sms_room
        )
        self._incoming = Incoming(
            self._agent,
            self,
            users={self._contact_user, *(parse_uri(uri).user for uri in subscriber.impus)},
            contact_user=self._contact_user,
            message_types=tuple(message_types),
            ring_limit_s=ring_limit_s,
            sms=self._sms if sms else None,
        )

    @property
    def direct_uri(self) -> str:
        """The number of this phone at its own address: what to call through a proxy that has no registrar."""
        numbers = [uri.removeprefix("tel:") for uri in self.subscriber.impus if uri.startswith("tel:")]
        user = numbers[0] if numbers else self._contact_user
        return f"sip:{user}@{self._agent.address}:{self._agent.port}"

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
        self._keeper.stop()
        self._agent.stop()
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
    def own_actions(self) -> list[str]:
        """What the phone has done by itself (`keep_registered`, `obey_reg_event`), in words and in order."""
        return list(self._keeper.actions)

    @property
    def sqn_ms(self) -> int:
        """Highest sequence number that the SIM has accepted."""
        return self._credentials.sqn_ms

    @property
    def calls(self) -> list[Call]:
        """Calls that are ringing or answered."""
        return [call for call in self._agent.calls.values() if isinstance(call, Call) and call.state != "ended"]

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
        return await self._register(expires)

    async def reregister(self, expires: int = 600) -> SipMessage:
        """Renew the registration and return the 200.

        Raises:
            CallFailed: the phone is not registered, or the network refused.
        """
        self._need_registration()
        return await self._register(expires)

    async def deregister(self) -> SipMessage:
        """Take the registration back and return the 200.

        Raises:
            CallFailed: the phone is not registered, or the network refused.
        """
        self._need_registration()
        return await self._register(0)

    async def _register(self, expires: int) -> SipMessage:
        response = await self._registration.register(expires)
        self._keeper.registered(expires)
        return response

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
        headers: tuple[str, ...] = (),
        wait: str = "answered",
        timeout_s: float = 60.0,
    ) -> Call:
        """Call somebody, and return the call once it is answered.

        Args:
            target: a sip: or tel: URI, a name in the home network ("bob"), a number ("+15550002"), or another phone.
            rtp: whether to send and take real sound; by default as the phone was made.
            sdp: session description to offer instead of the phone's own.
            headers: further header lines of the INVITE, for example "Recv-Info: g.3gpp.ussd".
            wait: "answered", or return earlier: "calling" as soon as the INVITE is out, "ringing" when it rings there.
            timeout_s: how long to wait for that; then the call is cancelled.
        Raises:
            CallFailed: the call was refused, or got no answer in time; has status, reason, warning and the response.
        """
        call = Call(
            self._agent,
            "outgoing",
            self._uri_of(target),
            self._contact_user,
        )
        await self._dial(call, headers, sdp=sdp, rtp=self.rtp if rtp is None else rtp)
        await self._until(call, wait, timeout_s)
        return call

    async def _dial(self, call: Call, headers: tuple[str, ...], **more: Any) -> None:
        routes = self._standalone.routes()
        await call.dial(
            Dial(
                from_uri=self.public_identity,
                routes=routes,
                headers=(f"P-Preferred-Identity: <{self.public_identity}>", f"Allow: {ALLOW}", *headers),
                destination=self._standalone.first_hop(call.remote, routes),
                credentials=self._credentials,
                **more,
            )
        )

    async def _until(self, call: Call, wait: str, timeout_s: float) -> None:
        """Wait until a call has got so far; give it up when it does not."""
        try:
            await call.wait_state(wait, timeout_s)
        except (CallFailed, asyncio.CancelledError):
            if call.state in ("calling", "ringing"):
                self._agent.spawn(call.cancel())
            raise

    async def wait_call(self, timeout_s: float = 10.0) -> Call:
        """Wait for the next call to this phone, and return it while it rings (or after an automatic answer).

        Raises:
            CallFailed: none came in time.
        """
        return await self._incoming.calls.take(timeout_s, f"No call came to {self.public_identity}")

    # ---- USSD -------------------------------------------------------------------------------------------------------
    async def ussd(
        self,
        code: str,
        language: str = "en",
        *,
        enclosed: tuple[Part, ...] | None = None,
        headers: tuple[str, ...] = (),
        timeout_s: float = 10.0,
    ) -> UssdSession:
        """Dial a USSD code (TS 24.390), and return the dialogue once the network's first text is here.

        Args:
            code: for example "*100#".
            language: ISO 639-1 code of the language that the user wants.
            enclosed: what the INVITE carries beside its session description, instead of the code in XML.
            headers: further header lines of the INVITE.
            timeout_s: how long to wait, for the answer and then for the text.
        Raises:
            CallFailed: it was refused, or no text came that can be shown.
        """
        call = ussd_call(self._agent, "outgoing", ussd_uri(code, self.realm), self._contact_user)
        session = UssdSession(self._agent, call, language)
        self._incoming.begin_ussd(session)
        parts = (ussd_part(UssdData(code, language)),) if enclosed is None else enclosed
        try:
            await self._dial(call, (ACCEPT, *headers), enclosed=parts)
            await self._until(call, "answered", timeout_s)
        except CallFailed:
            self._incoming.forget_ussd()  # an INVITE that is given up still lives for a while
            raise
        try:
            await session.wait_text(timeout_s)
        except CallFailed:
            await session.give_up()
            raise
        return session

    async def wait_ussd(self, timeout_s: float = 10.0) -> UssdSession:
        """Wait for the next USSD dialogue that the network begins, and return it; what it says is in `text`.

        Raises:
            CallFailed: none came in time.
        """
        return await self._incoming.dialogues.take(timeout_s, f"No USSD came to {self.public_identity}")

    # ---- watching one's registration --------------------------------------------------------------------------------
    async def subscribe_registration(
        self, expires: int = 600, target: str | UE | None = None, timeout_s: float = 10.0
    ) -> EventSubscription:
        """Subscribe to reg-event (SUBSCRIBE, RFC 3680), and return the subscription once the first NOTIFY is here.

        Args:
            expires: how long, in seconds.
            target: whose registration to watch; by default the phone's own.
            timeout_s: how long to wait for the first NOTIFY.
        Raises:
            CallFailed: it was refused, or no answer or no NOTIFY came.
        """
        identity = self.registered_identity
        uri = identity if target is None else self._uri_of(target)
        subscription = EventSubscription(self._agent, uri, identity, self._contact_user)
        if target is None:
            subscription.on_news = lambda news: self._keeper.told(news, self.contact)
        await subscription.begin(self._standalone, expires, timeout_s)
        return subscription

    # ---- messages and questions -------------------------------------------------------------------------------------
    async def message(
        self,
        target: str | UE,
        text: str | bytes,
        content_type: str = "text/plain;charset=UTF-8",
        headers: tuple[str, ...] = (),
    ) -> SipMessage:
        """Send a message (MESSAGE, RFC 3428) and return the final response.

        Args:
            target: as in `call`.
            text: what to say: text, or bytes of any kind.
            content_type: media type of the bytes.
            headers: further header lines, for example "Request-Disposition: no-fork".
        Raises:
            CallFailed: it was refused, or got no answer.
        """
        uri, identity = (
            self._uri_of(target),
            self.public_identity,
        )
        lines = (f"P-Preferred-Identity: <{identity}>", *headers)
        body = text.encode() if isinstance(text, str) else text
        return (await self._standalone.ask("MESSAGE", uri, identity, lines, content_type, body))[1]

    async def wait_message(self, timeout_s: float = 10.0) -> SipMessage:
        """Wait for the next message to this phone, and return the MESSAGE request; what it says is in `body`.

        Raises:
            CallFailed: none came in time.
        """
        return await self._incoming.messages.take(timeout_s, f"No message came to {self.public_identity}")

    async def options(self, target: str | UE | None = None) -> SipMessage:
        """Ask what somebody, by default the P-CSCF, can do (OPTIONS), and return the final response.

        Raises:
            CallFailed: it was refused, or got no answer.
        """
        headers = (f"Contact: <{self.contact}>", "Accept: application/sdp")
        if target is not None:
            return (
                await self._standalone.ask(
                    "OPTIONS",
                    self._uri_of(target),
                    self.public_identity,
                    headers,
                )
            )[1]
        proxy = self._agent.proxy
        if proxy is None:
            raise CallFailed("This phone has no P-CSCF to ask: name a target.")
        uri = f"sip:{hostport(proxy)}"
        return (await self._standalone.ask("OPTIONS", uri, self.public_identity, headers, direct=True))[1]

    def _uri_of(self, target: str | UE) -> str:
        return target.public_identity if isinstance(target, UE) else dialled_uri(target, self.realm)
