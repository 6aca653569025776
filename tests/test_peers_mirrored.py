"""Phones that tell a collector what they send: what goes from one to the other is seen without any sniffing."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from in_loop import in_loop
from ue_parts import owner, uri

from labkit.peers.ue import UE
from labkit.wire.hep import HepPacket, parse_packet
from labkit.wire.sip import parse_address, parse_message, parse_uri


def received(collector: socket.socket) -> list[HepPacket]:
    """The copies that have come."""
    copies = []
    while True:
        try:
            copies.append(parse_packet(collector.recv(65535)))
        except BlockingIOError:
            return copies


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@in_loop
async def test_every_message_is_copied_once_with_its_true_ends(transport: str) -> None:
    """A call from phone to phone: each message from the port of the one who sent it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.setblocking(False)
        told: dict[str, Any] = {"address": "127.0.0.1", "port": 0, "transport": transport}
        told["mirror"] = collector.getsockname()
        async with UE(owner("alice"), **told) as alice, UE(owner("bob"), **told, auto_answer=True) as bob:
            call = await alice.call(uri(bob))
            await call.bye()
            ports = {
                int(parse_uri(parse_address(phone.contact).uri).port or 0): name
                for name, phone in (("alice", alice), ("bob", bob))
            }
        copies = received(collector)
    messages = [(ports[copy.src_port], parse_message(copy.payload)) for copy in copies]
    seen = [(who, message.method or str(message.status)) for who, message in messages]
    wanted = [("alice", "INVITE"), ("bob", "200"), ("alice", "ACK"), ("alice", "BYE"), ("bob", "200")]
    assert [one for one in seen if one[1] not in ("100", "180")] == wanted
    assert {copy.transport for copy in copies} == {transport}
