"""Another HSS: python-diameter 0.9.0 with a small Cx application on it, to hold our CSCFs' side of Cx against.

Nothing of labkit's Diameter is in here. It does what the first lessons need: UAR, MAR (AKA with resynchronisation),
SAR and LIR, with the S-CSCF's name kept in memory. `CxNode` mends four things of the library that Cx trips over.

    python tests/independent_hss.py ADDRESS PORT [SUBSCRIBERS.toml [REALM]]

It calls itself hss.REALM, takes icscf, scscf and scscf2 of that realm for its peers, and says "ready" when it listens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading

from diameter.message import Avp, Message
from diameter.message import constants as c
from diameter.message.avp.grouped import VendorSpecificApplicationId
from diameter.message.commands import CapabilitiesExchangeAnswer
from diameter.node import Node
from diameter.node.application import Application

from labkit.errors import AkaError
from labkit.peers.hss.profile import user_data_xml
from labkit.peers.hss.subscribers import load_subscribers
from labkit.wire.aka import next_sqn, open_auts

VENDOR, CX = 10415, 16777216
UAR, SAR, LIR, MAR = 300, 301, 302, 303


class CxNode(Node):
    """The library's node, mended where it stumbles over Cx."""

    def _record_answer(self, conn, message):
        with contextlib.suppress(TypeError):  # an answer with Experimental-Result alone
            super()._record_answer(conn, message)

    def send_message(self, conn, message):
        if isinstance(message, CapabilitiesExchangeAnswer):  # Cx once, and nothing beside it, for Kamailio's cdp
            message.auth_application_id = []
            message.vendor_specific_application_id = [
                VendorSpecificApplicationId(vendor_id=VENDOR, auth_application_id=CX)
            ]
        super().send_message(conn, message)


class Hss(Application):
    """Answers Cx requests; who serves whom is all it remembers."""

    def __init__(self, subscribers, realm, host):
        super().__init__(c.APP_3GPP_CX, is_auth_application=True)
        people = [person for person in subscribers if person.provisioned]
        self.by_impi = {person.impi: person for person in people}
        self.by_impu = {impu: person for person in people for impu in person.impus}
        self.serving = {}
        self.registered = set()
        self.sqn = dict.fromkeys(self.by_impi, 0)
        self.realm, self.host = realm, host

    def receive_request(self, message):
        self.send_answer(self.handle_request(message))

    def handle_request(self, message):
        answer = message.to_answer()
        answer.header.is_error = False
        own = {UAR: self.uar, MAR: self.mar, SAR: self.sar, LIR: self.lir}[message.header.command_code](message)
        application = [Avp.new(c.AVP_VENDOR_ID, value=VENDOR), Avp.new(c.AVP_AUTH_APPLICATION_ID, value=CX)]
        for avp in (
            message.find_avps((263, 0))[0],
            Avp.new(c.AVP_VENDOR_SPECIFIC_APPLICATION_ID, value=application),
            Avp.new(c.AVP_AUTH_SESSION_STATE, value=1),
            Avp.new(c.AVP_ORIGIN_HOST, value=self.host.encode()),
            Avp.new(c.AVP_ORIGIN_REALM, value=self.realm.encode()),
            *own,
        ):
            answer.append_avp(avp)
        return answer

    def uar(self, message):
        person, refusal = self.identify(message)
        if refusal:
            return refusal
        server = self.serving.get(person.impi)
        if number(message, 623) == 1:
            return [success(), server_name(server)] if server else [experimental(5003)]
        if server:
            return [experimental(2002), server_name(server)]
        capabilities = [Avp.new(604, VENDOR, value=0), Avp.new(605, VENDOR, value=1)]
        return [experimental(2001), Avp.new(603, VENDOR, value=capabilities)]

    def mar(self, message):
        impi, impu = text(message, 1, 0), text(message, 601)
        echo = [Avp.new(c.AVP_USER_NAME, value=impi), Avp.new(601, VENDOR, value=impu)]
        person, refusal = self.identify(message)
        if refusal or not person.k:
            return [*(refusal or [experimental(5006)]), *echo]
        wish = {avp.code: avp.value for avp in message.find_avps((612, VENDOR))[0].value}
        milenage = person.milenage()
        if 610 in wish:
            with contextlib.suppress(AkaError):
                self.sqn[impi] = open_auts(milenage, wish[610][:16], wish[610][16:])
        self.sqn[impi] = next_sqn(self.sqn[impi])
        vector = milenage.vector(os.urandom(16), self.sqn[impi], person.amf)
        self.serving.setdefault(impi, text(message, 602))
        item = [
            Avp.new(613, VENDOR, value=1),
            Avp.new(608, VENDOR, value="Digest-AKAv1-MD5"),
            Avp.new(609, VENDOR, value=vector.rand + vector.autn),
            Avp.new(610, VENDOR, value=vector.xres),
            Avp.new(625, VENDOR, value=vector.ck),
            Avp.new(626, VENDOR, value=vector.ik),
        ]
        return [success(), *echo, Avp.new(607, VENDOR, value=1), Avp.new(612, VENDOR, value=item)]

    def sar(self, message):
        person, refusal = self.identify(message)
        if refusal:
            return refusal
        kind = number(message, 614)
        if kind in (1, 2, 3):
            self.serving[person.impi] = text(message, 602)
            self.registered.add(person.impi)
        elif kind in (4, 5, 8, 11):
            self.serving.pop(person.impi, None)
            self.registered.discard(person.impi)
        profile = [Avp.new(606, VENDOR, value=user_data_xml(person))] if kind <= 3 else []
        return [success(), Avp.new(c.AVP_USER_NAME, value=person.impi), *profile]

    def lir(self, message):
        person = self.by_impu.get(text(message, 601))
        if person is None:
            return [experimental(5001)]
        if person.impi not in self.registered:
            return [experimental(5003)]
        return [success(), server_name(self.serving[person.impi])]

    def identify(self, message):
        """Find the subscriber, else the refusal."""
        impi, owner = text(message, 1, 0), self.by_impu.get(text(message, 601))
        person = self.by_impi.get(impi) if impi else owner
        if person is None or owner is None:
            return None, [experimental(5001)]
        return (person, None) if person is owner else (None, [experimental(5002)])


def text(message: Message, code: int, vendor: int = VENDOR) -> str:
    """Read the first AVP of that code; empty when there is none."""
    found = message.find_avps((code, vendor))
    value = found[0].value if found else ""
    return value.decode() if isinstance(value, bytes) else value


def number(message: Message, code: int) -> int:
    """Read a number of 3GPP's; 0 when there is none."""
    found = message.find_avps((code, VENDOR))
    return found[0].value if found else 0


def success() -> Avp:
    """Build Result-Code 2001."""
    return Avp.new(c.AVP_RESULT_CODE, value=2001)


def experimental(code: int) -> Avp:
    """Build Experimental-Result."""
    inner = [Avp.new(c.AVP_VENDOR_ID, value=VENDOR), Avp.new(c.AVP_EXPERIMENTAL_RESULT_CODE, value=code)]
    return Avp.new(c.AVP_EXPERIMENTAL_RESULT, value=inner)


def server_name(uri: str) -> Avp:
    """Build Server-Name."""
    return Avp.new(602, VENDOR, value=uri)


def main() -> None:
    """Serve until killed."""
    address, port, *more = sys.argv[1:]
    subscribers = more[0] if more else None
    realm = more[1] if more[1:] else "ims.mnc001.mcc001.3gppnetwork.org"
    host = f"hss.{realm}"
    logging.disable(logging.CRITICAL)
    node = CxNode(host, realm, ip_addresses=[address], tcp_port=int(port), vendor_ids=[VENDOR])
    node.validate_received_request_avps = False  # its table of MAR and LIR is that of another application
    node.wakeup_interval = 1
    known = [node.add_peer(f"aaa://{peer}.{realm}", realm) for peer in ("icscf", "scscf", "scscf2")]
    node.add_application(Hss(load_subscribers(subscribers, realm), realm, host), known)
    node.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
