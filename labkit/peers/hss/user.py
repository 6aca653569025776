"""One subscriber at run time: what is provisioned, what has happened, and the AVPs that were made beforehand.

Three facts make up the state of a subscriber (TS 29.228 section 6, TS 23.228 section 5.2.1):

* `state`: not registered, registered, or unregistered (no phone, but an S-CSCF serves the user all the same);
* the S-CSCF: its SIP name, and its Diameter name, which RTR and PPR are sent to;
* `pending`: an S-CSCF has asked for a challenge (MAR), and nobody knows yet whether the phone will pass it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from labkit.peers.hss.profile import user_data_xml
from labkit.peers.hss.subscribers import Subscriber
from labkit.wire.aka import Milenage, digest_ha1
from labkit.wire.cx import capabilities_avp
from labkit.wire.diameter import Avp

NOT_REGISTERED: Final = "not_registered"
REGISTERED: Final = "registered"
UNREGISTERED: Final = "unregistered"


class Scscf(NamedTuple):
    """One S-CSCF, by both of its names."""

    name: bytes = b""
    """SIP URI, from Server-Name; empty when there is none."""
    host: bytes = b""
    """Diameter name, from Origin-Host."""
    realm: bytes = b""
    """From Origin-Realm."""


NOBODY: Final = Scscf()


class User:
    """One subscriber at run time: what is provisioned, what has happened, and answers' parts made beforehand."""

    __slots__ = (
        "allowed_networks",
        "capabilities_avp",
        "ha1",
        "home_realm",
        "impu_avps",
        "milenage",
        "pending",
        "previous",
        "profile",
        "registrable",
        "row_id",
        "scscf",
        "server_name_avp",
        "sqn",
        "sqn_kept",
        "state",
        "subscriber",
        "user_data_avp",
        "user_name_avp",
    )

    def __init__(self, subscriber: Subscriber) -> None:
        self.sqn = subscriber.sqn
        self.sqn_kept = -1
        self.row_id = 0
        self.state = NOT_REGISTERED
        self.pending = False
        self.scscf = NOBODY
        self.previous = NOBODY
        self.server_name_avp = b""
        self.provision(subscriber)

    def provision(self, subscriber: Subscriber) -> None:
        """Take over what is provisioned, and make the AVPs that depend on nothing else."""
        self.subscriber = subscriber
        self.milenage: Milenage | None = None
        self.use_secret(subscriber.k, subscriber.opc)
        self.home_realm = subscriber.impi.rpartition("@")[2]
        self.ha1 = ""
        if subscriber.password:
            self.ha1 = digest_ha1(subscriber.impi, self.home_realm, subscriber.password)
        networks = subscriber.visited_networks
        self.allowed_networks = None if networks is None else frozenset(name.encode() for name in networks)
        # One barred identity beside a free one does not stop a registration (TS 29.228 section 6.1.1.1).
        self.registrable = not subscriber.barred and any(
            impu not in subscriber.barred_impus for impu in subscriber.impus
        )
        self.user_name_avp = Avp.of("User-Name", subscriber.impi).to_bytes()
        self.impu_avps = {impu.encode(): Avp.of("Public-Identity", impu).to_bytes() for impu in subscriber.impus}
        self.profile = user_data_xml(subscriber)
        self.user_data_avp = Avp.of("User-Data", self.profile).to_bytes()
        self.capabilities_avp = capabilities_avp(
            subscriber.mandatory_capabilities, subscriber.optional_capabilities, subscriber.server_names
        ).to_bytes()

    def use_secret(self, k: bytes, opc: bytes) -> None:
        """Make vectors of these, 16 bytes each; a user without a SIM has none."""
        if self.subscriber.auth == "aka":
            self.milenage = Milenage(k, opc)

    def assign(self, scscf: Scscf) -> None:
        """Set the S-CSCF, and the AVP that names it."""
        if scscf.name != self.scscf.name:
            self.server_name_avp = _server_name_avp(scscf.name)
        self.scscf = scscf

    def clear(self) -> None:
        """Forget the registration and the S-CSCF; SQN is kept."""
        self.state = NOT_REGISTERED
        self.pending = False
        self.previous = NOBODY
        self.assign(NOBODY)


@lru_cache(64)  # there are few S-CSCFs, and each registration names one
def _server_name_avp(name: bytes) -> bytes:
    return Avp.of("Server-Name", name).to_bytes() if name else b""
