"""The yardstick: a Cx HSS on python-diameter 0.9.0, with what that library needs to answer Cx rightly.

It keeps no state and writes no file; it answers UAR, MAR (Milenage), SAR (the same profile) and LIR of known users.
Answers are made in `handle_request`, without a thread a request: that is its fastest way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time

from diameter.message import Avp
from diameter.message import constants as c
from diameter.node import Node
from diameter.node.application import Application
from labkit_users import make_users

from labkit.peers.hss.profile import user_data_xml
from labkit.wire.aka import next_sqn

VENDOR = 10415
REALM = "ims.mnc001.mcc001.3gppnetwork.org"
SERVER_NAME = f"sip:scscf.{REALM}:6060"


class CxNode(Node):
    """Node with the library's two known faults around Cx mended."""

    def _record_answer(self, conn, message):
        with contextlib.suppress(TypeError):  # an answer with Experimental-Result only
            super()._record_answer(conn, message)


class Hss(Application):
    """Answers Cx requests."""

    def __init__(self, users):
        super().__init__(c.APP_3GPP_CX, is_auth_application=True)
        self.users = {user.impi: user for user in users}
        self.by_impu = {impu: user for user in users for impu in user.impus}
        self.milenage = {user.impi: user.milenage() for user in users}
        self.sqn = dict.fromkeys(self.users, 0)
        self.profiles = {user.impi: user_data_xml(user) for user in users}

    def handle_request(self, message):
        code = message.header.command_code
        identity = message.find_avps((601, VENDOR))[0].value
        user = self.by_impu[identity]
        answer = message.to_answer()
        answer.header.is_error = False
        add = answer.append_avp
        add(message.find_avps((263, 0))[0])
        add(
            Avp.new(
                c.AVP_VENDOR_SPECIFIC_APPLICATION_ID,
                value=[Avp.new(c.AVP_VENDOR_ID, value=VENDOR), Avp.new(c.AVP_AUTH_APPLICATION_ID, value=16777216)],
            )
        )
        add(Avp.new(c.AVP_AUTH_SESSION_STATE, value=1))
        add(Avp.new(c.AVP_ORIGIN_HOST, value=f"hss.{REALM}".encode()))
        add(Avp.new(c.AVP_ORIGIN_REALM, value=REALM.encode()))
        if code == 300:
            inner = [Avp.new(c.AVP_VENDOR_ID, value=VENDOR), Avp.new(c.AVP_EXPERIMENTAL_RESULT_CODE, value=2002)]
            add(Avp.new(c.AVP_EXPERIMENTAL_RESULT, value=inner))
            add(Avp.new(602, VENDOR, value=SERVER_NAME))
        else:
            add(Avp.new(c.AVP_RESULT_CODE, value=2001))
        if code == 302:
            add(Avp.new(602, VENDOR, value=SERVER_NAME))
        elif code == 301:
            add(Avp.new(c.AVP_USER_NAME, value=user.impi))
            add(Avp.new(606, VENDOR, value=self.profiles[user.impi]))
        elif code == 303:
            self.sqn[user.impi] = next_sqn(self.sqn[user.impi])
            vector = self.milenage[user.impi].vector(os.urandom(16), self.sqn[user.impi], user.amf)
            add(Avp.new(c.AVP_USER_NAME, value=user.impi))
            add(Avp.new(601, VENDOR, value=identity))
            add(Avp.new(607, VENDOR, value=1))
            item = [
                Avp.new(613, VENDOR, value=1),
                Avp.new(608, VENDOR, value="Digest-AKAv1-MD5"),
                Avp.new(609, VENDOR, value=vector.rand + vector.autn),
                Avp.new(610, VENDOR, value=vector.xres),
                Avp.new(625, VENDOR, value=vector.ck),
                Avp.new(626, VENDOR, value=vector.ik),
            ]
            add(Avp.new(612, VENDOR, value=item))
        return answer

    def receive_request(self, message):
        self.send_answer(self.handle_request(message))


def main() -> None:
    """Serve on the port given, until killed."""
    logging.disable(logging.CRITICAL)
    node = CxNode(f"hss.{REALM}", REALM, ip_addresses=["127.0.0.1"], tcp_port=int(sys.argv[1]), vendor_ids=[VENDOR])
    node.validate_received_request_avps = False
    node.wakeup_interval = 1
    peer = node.add_peer(f"aaa://scscf.{REALM}", REALM)
    node.add_application(Hss(make_users(int(sys.argv[2]))), [peer])
    node.start()
    print("ready", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
