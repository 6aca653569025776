"""The made-up network: its nodes, how a message goes from one to the next, and whom they ask in Diameter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from labkit.practice.cable import Said
from labkit.practice.truth import End, Row
from labkit.practice.words import REALM, Exchange
from labkit.wire import cx
from labkit.wire.diameter import Message

MS = 1_000_000
"""A millisecond in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node on the way of a SIP message."""

    access: End
    """Where phones reach it; where nodes of the core do, unless `inside` says otherwise."""
    inside: End | None = None
    """Where nodes of the core reach it, for one that has two sides."""
    transport: str = "udp"
    """What a phone speaks to its P-CSCF."""
    phone: bool = False
    """Whether it is a phone."""

    @property
    def core(self) -> End:
        """Where the core reaches it."""
        return self.inside or self.access


SIP_PORT = 5060
SBC_CORE = End("192.0.2.5", SIP_PORT)
SBC = Place(End("198.51.100.5", SIP_PORT), SBC_CORE)
SBC_V6 = Place(End("2001:db8:46::5", SIP_PORT), SBC_CORE)
ICSCF = Place(End("192.0.2.10", SIP_PORT))
SCSCFS = (Place(End("192.0.2.20", SIP_PORT)), Place(End("192.0.2.21", SIP_PORT)))
APP_SERVER = Place(End("192.0.2.40", 5080))
HSSES = (End("192.0.2.30", 3868), End("192.0.2.31", 13868))
MEDIA, MEDIA_V6 = "198.51.100.6", "2001:db8:46::6"
_HOSTS = {
    **{SBC_CORE.address: "sbc", ICSCF.core.address: "icscf", APP_SERVER.core.address: "as"},
    **{place.core.address: f"scscf{number}" for number, place in enumerate(SCSCFS, start=1)},
    **{end.address: f"hss{number}" for number, end in enumerate(HSSES, start=1)},
}
RESULTS = {
    **{"first": cx.FIRST_REGISTRATION, "again": cx.SUBSEQUENT_REGISTRATION, "unknown": cx.USER_UNKNOWN},
    **{"roaming": cx.ROAMING_NOT_ALLOWED, "busy": cx.Result(3004), "well": cx.SUCCESS},
}
"""Results of Cx by what they mean here."""


def host_of(end: End) -> str:
    """The Diameter name of a node."""
    return f"{_HOSTS[end.address]}.{REALM}"


def server_name(scscf: Place) -> str:
    """The SIP URI of an S-CSCF."""
    return f"sip:{host_of(scscf.core)}:{SIP_PORT}"


@dataclass(slots=True)
class Core:
    """Carries messages from node to node and notes each."""

    chance: random.Random
    """Where delays and identifiers come from."""
    said: list[Said] = field(default_factory=list)
    """All that was said so far, in no order."""
    _asked: int = 0

    def token(self, size: int = 10) -> str:
        """A word that nobody used before."""
        return f"{self.chance.getrandbits(4 * size):0{size}x}"

    def delay_ns(self, low_ms: float = 0.4, high_ms: float = 2.0) -> int:
        """How long a node thinks."""
        return int(self.chance.uniform(low_ms, high_ms) * MS)

    # ------------------------------------------------------------ SIP

    def hop(self, time_ns: int, here: Place, there: Place, raw: bytes, row: Row) -> None:
        """Let one node give a message to the next."""
        at_access = here.phone or there.phone
        src, dst = (here.access, there.access) if at_access else (here.core, there.core)
        transport = next((place.transport for place in (here, there) if place.phone), "udp")
        self.said.append(Said(time_ns, src, dst, transport, raw, row, core=not at_access))

    def forward(self, time_ns: int, path: Sequence[Place], exchange: Exchange) -> int:
        """Send a request along a path; each node puts its Via on top. Gives the time at which it is there."""
        for here, there in pairwise(path):
            sender = here.access if here.phone or there.phone else here.core
            transport = next((place.transport for place in (here, there) if place.phone), "udp")
            exchange.add_via(_host_port(sender), f"z9hG4bK{self.token()}", transport.upper())
            self.hop(time_ns, here, there, exchange.request(), exchange.row())
            time_ns += self.delay_ns()
        return time_ns

    def respond(
        self, time_ns: int, path: Sequence[Place], exchange: Exchange, status: int, to_tag: str = "", **extra: str
    ) -> int:
        """Send a response back along the path that its request came; gives the time at which it is there."""
        for here, there in pairwise(path[::-1]):
            self.hop(time_ns, here, there, exchange.response(status, to_tag, **extra), exchange.row(status, to_tag))
            exchange.drop_via()
            time_ns += self.delay_ns()
        return time_ns

    def answer_here(self, time_ns: int, here: Place, there: Place, exchange: Exchange, status: int) -> None:
        """Let a node answer the hop before it at once, as with 100 Trying; the request stays as it is."""
        self.hop(time_ns, here, there, exchange.response(status), exchange.row(status))

    # ------------------------------------------------------------ Diameter

    def envelope(self, asker: Place, hss: End) -> cx.Envelope:
        """What a request to an HSS carries beside its own."""
        self._asked += 1
        host = host_of(asker.core)
        return cx.Envelope(
            session_id=f"{host};1773514800;{self._asked}",
            origin_host=host,
            origin_realm=REALM,
            destination_realm=REALM,
            destination_host=host_of(hss),
            hop_by_hop_id=self._asked,
            end_to_end_id=0x69B00000 | self._asked & 0xFFFFF,
        )

    def ask(self, time_ns: int, asker: Place, hss: End, request: Message, answer: Message | None, wait_ns: int) -> int:
        """Ask an HSS; gives the time at which the answer is there."""
        here = End(asker.core.address, 40000 + HSSES.index(hss))
        self.said.append(Said(time_ns, here, hss, "tcp", request.to_bytes(), request, core=True))
        if answer is not None:
            time = time_ns + wait_ns
            self.said.append(Said(time, hss, here, "tcp", answer.to_bytes(), answer, core=True))
        return time_ns + wait_ns + self.delay_ns(0.1, 0.4)


def _host_port(end: End) -> str:
    return f"[{end.address}]:{end.port}" if ":" in end.address else f"{end.address}:{end.port}"
