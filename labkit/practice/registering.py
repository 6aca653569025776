"""How phones of the made-up network register, and the ways in which that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labkit.practice.core import HSSES, ICSCF, MS, RESULTS, SBC, SBC_V6, SCSCFS, SIP_PORT, Core, Place, server_name
from labkit.practice.truth import End
from labkit.practice.words import REALM, Exchange, authorization, challenge, phone_headers, routes
from labkit.wire import cx
from labkit.wire.diameter import Message

HOME, VISITED = REALM, "visited.south.example"
"""Networks from which phones come; with the second there is no agreement."""
PATIENCE_MS = 2000
"""So long an S-CSCF waits for the HSS."""
REFUSED_AT_ONCE = {"unknown": 403, "roaming": 403, "busy": 503}
"""Failures that the first UAA decides, and what the I-CSCF makes of them."""
_TIMER_MS = (500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000)
"""After so long each a phone sends a request again over UDP (RFC 3261 section 17.1.2.2)."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A subscriber with a phone."""

    number: int
    """Its place among all subscribers."""
    place: Place
    """Where it is on the network."""
    visited: str = HOME
    """The network that it is in."""

    @property
    def user(self) -> str:
        """User part of its public identity."""
        return f"+49155501{self.number:05d}"

    @property
    def private(self) -> str:
        """Its private identity."""
        return f"26242{self.number:010d}@{REALM}"

    @property
    def public(self) -> str:
        """Its public identity."""
        return f"sip:{self.user}@{REALM}"

    @property
    def contact(self) -> str:
        """Where it wants to be called."""
        address = self.place.access.address
        host = f"[{address}]" if ":" in address else address
        return f"{self.user}@{host}:{self.place.access.port}"

    @property
    def sbc(self) -> Place:
        """The P-CSCF that it speaks to, over its own kind of IP."""
        return SBC_V6 if ":" in self.place.access.address else SBC

    @property
    def scscf(self) -> Place:
        """The S-CSCF that serves it."""
        return SCSCFS[self.number % 2]

    @property
    def hss(self) -> End:
        """The HSS that knows it."""
        return HSSES[self.number // 2 % 2]


def phone_at(core: Core, number: int, visited: str = HOME) -> Phone:
    """Give a subscriber a phone: a quarter speaks IPv6, a tenth TCP."""
    kind = number % 20
    if kind < 5:
        end = End(f"2001:db8:46:{(number >> 8) + 1:x}::{(number & 255) + 16:x}", SIP_PORT)
    else:
        end = End(f"100.64.{number >> 8}.{number & 255}", core.chance.choice((SIP_PORT, 5062, 40000 + number % 9000)))
    transport = "tcp" if kind in (4, 13) else "udp"
    if transport == "tcp":
        end = End(end.address, 49152 + number % 9000)
    return Phone(number, Place(end, transport=transport, phone=True), visited)


def register(core: Core, time_ns: int, phone: Phone, fate: str = "", slow_ms: float = 0.0) -> int:
    """Let a phone register.

    Args:
        core: notes what is said.
        time_ns: when the phone begins.
        phone: which.
        fate: empty for success; "unknown", "roaming" or "busy" as the HSS says at once; "wrong_key"; "deaf" for a
            phone that nobody hears.
        slow_ms: so much longer the HSS takes for its last answer; beyond PATIENCE_MS the S-CSCF gives up.
    Returns:
        When it is over.
    """
    call_id, tag = core.token(16), core.token(6)
    contact = phone_headers(phone.contact, phone.number)
    nonce = core.token(32)
    first = _exchange(phone, call_id, tag, 1, contact + authorization(phone.private))
    if fate == "deaf":
        return _unheard(core, time_ns, phone, first)
    time_ns = _to_icscf(core, time_ns, phone, first)
    if fate in REFUSED_AT_ONCE:
        time_ns = _authorize(core, time_ns, phone, fate)
        return core.respond(time_ns, _path(phone)[:3], first, REFUSED_AT_ONCE[fate], core.token(8))
    time_ns = _authorize(core, time_ns, phone, "first")
    time_ns = core.forward(time_ns, _path(phone)[2:], first)
    time_ns = _vectors(core, time_ns, phone)
    time_ns = core.respond(time_ns, _path(phone), first, 401, core.token(8), headers=challenge(nonce))
    time_ns += core.delay_ns(20, 60)  # the SIM works the answer out
    credentials = authorization(phone.private, nonce, core.token(32))
    second = _exchange(phone, call_id, tag, 2, contact + credentials)
    time_ns = _to_icscf(core, time_ns, phone, second)
    time_ns = _authorize(core, time_ns, phone, "again")
    time_ns = core.forward(time_ns, _path(phone)[2:], second)
    time_ns, status = _assigned(core, time_ns, phone, fate == "wrong_key", slow_ms)
    headers = _granted(phone) if status == 200 else ""
    return core.respond(time_ns, _path(phone), second, status, core.token(8), headers=headers)


def _path(phone: Phone) -> list[Place]:
    return [phone.place, phone.sbc, ICSCF, phone.scscf]


def _exchange(phone: Phone, call_id: str, tag: str, cseq: int, headers: str) -> Exchange:
    headers += "Expires: 3600\r\n"
    return Exchange("REGISTER", f"sip:{REALM}", call_id, cseq, phone.user, phone.user, tag, headers=headers)


def _to_icscf(core: Core, time_ns: int, phone: Phone, exchange: Exchange) -> int:
    time_ns = core.forward(time_ns, _path(phone)[:2], exchange)
    exchange.headers += f"P-Visited-Network-ID: {phone.visited}\r\nPath: <sip:term@sbc.{REALM};lr>\r\n"
    exchange.headers += f"P-Charging-Vector: icid-value={core.token(16)};icid-generated-at=192.0.2.5\r\n"
    return core.forward(time_ns, _path(phone)[1:3], exchange)


def _unheard(core: Core, time_ns: int, phone: Phone, exchange: Exchange) -> int:
    """The phone's request is seen again and again, and no answer to it."""
    core.forward(time_ns, _path(phone)[:2], exchange)
    sent = core.said[-1]
    for wait_ms in _TIMER_MS:
        time_ns += wait_ms * MS
        core.said.append(replace(sent, time_ns=time_ns))
    return time_ns


def _authorize(core: Core, time_ns: int, phone: Phone, meaning: str) -> int:
    request = cx.uar(
        core.envelope(ICSCF, phone.hss),
        user_name=phone.private,
        public_identity=phone.public,
        visited_network=phone.visited,
        user_authorization_type=cx.UserAuthorizationType.REGISTRATION,
    )
    name = server_name(phone.scscf) if meaning == "again" else ""
    capabilities = cx.capabilities_avp((0, 1), ()) if meaning == "first" else None
    result = RESULTS[meaning]
    answer = cx.uaa(request, _host(request), REALM, result, server_name=name, capabilities=capabilities)
    return core.ask(time_ns, ICSCF, phone.hss, request, answer, core.delay_ns(1.5, 4))


def _vectors(core: Core, time_ns: int, phone: Phone) -> int:
    request = cx.mar(
        core.envelope(phone.scscf, phone.hss),
        user_name=phone.private,
        public_identity=phone.public,
        server_name=server_name(phone.scscf),
    )
    item = cx.digest_item(REALM, core.token(32))
    answer = cx.maa(request, _host(request), REALM, cx.SUCCESS, [item])
    return core.ask(time_ns, phone.scscf, phone.hss, request, answer, core.delay_ns(4, 12))


def _assigned(core: Core, time_ns: int, phone: Phone, refused: bool, slow_ms: float) -> tuple[int, int]:
    """Tell the HSS the outcome; gives the time and the status that the phone gets."""
    kind = cx.ServerAssignmentType
    request = cx.sar(
        core.envelope(phone.scscf, phone.hss),
        server_name=server_name(phone.scscf),
        server_assignment_type=kind.AUTHENTICATION_FAILURE if refused else kind.REGISTRATION,
        user_name=phone.private,
        public_identities=[phone.public],
    )
    profile = b"" if refused else _profile(phone)
    answer = cx.saa(request, _host(request), REALM, cx.SUCCESS, user_name=phone.private, user_data=profile)
    wait_ns = core.delay_ns(8, 25) + int(slow_ms * MS)
    there = core.ask(time_ns, phone.scscf, phone.hss, request, answer, wait_ns)
    if wait_ns > PATIENCE_MS * MS:
        return time_ns + PATIENCE_MS * MS, 504
    return there, 403 if refused else 200


def _host(request: Message) -> str:
    found = request.find("Destination-Host")
    return str(found.value) if found else ""


def _granted(phone: Phone) -> str:
    service_route = routes("Service-Route", [f"orig@{phone.scscf.core.address}:{SIP_PORT}"])
    return f"Contact: <sip:{phone.contact}>;expires=3600\r\nP-Associated-URI: <{phone.public}>\r\n{service_route}"


def _profile(phone: Phone) -> bytes:
    """A profile with four services, so that it takes several TCP segments as real ones do."""
    criteria = "".join(
        f"<InitialFilterCriteria><Priority>{priority}</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>"
        f"<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>{method}</Method></SPT></TriggerPoint>"
        f"<ApplicationServer><ServerName>sip:as.{REALM}:5080</ServerName><DefaultHandling>0</DefaultHandling>"
        "</ApplicationServer></InitialFilterCriteria>"
        for priority, method in ((10, "INVITE"), (20, "MESSAGE"), (30, "SUBSCRIBE"), (40, "REGISTER"))
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><IMSSubscription>'
        f"<PrivateID>{phone.private}</PrivateID><ServiceProfile><PublicIdentity><Identity>{phone.public}</Identity>"
        f"</PublicIdentity>{criteria}</ServiceProfile></IMSSubscription>"
    ).encode()
