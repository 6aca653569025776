"""A network in miniature for tests of short messages: it vouches for phones, and finds them by their number.

It does what the P-CSCF and the CSCFs behind it do to a MESSAGE, as far as phone and centre see: P-Asserted-Identity in
the place of P-Preferred-Identity, and 480 for who is not there. The real ones run in lesson 14.
"""

from __future__ import annotations

import asyncio
from typing import Any

from labkit.peers.transaction import build_response
from labkit.wire import sms
from labkit.wire.sip import SipMessage, parse_message, parse_uri, parse_via

Endpoint = tuple[str, int]


class SmsNetwork(asyncio.DatagramProtocol):
    """Forwards MESSAGEs between phones and a centre."""

    def __init__(self) -> None:
        self.phones: dict[str, Endpoint] = {}
        """Who is there, by number."""
        self.centre: Endpoint = ("127.0.0.1", 0)
        """The centre's address."""
        self.passed: list[SipMessage] = []
        """Requests that were passed on, in order."""
        self.lose = ""
        """Label of RP messages that are lost on the way (answered 200 by nobody)."""
        self._transport: Any = None
        self._branches = 0

    async def open(self) -> Endpoint:
        """Take a port."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    def close(self) -> None:
        """Give the port back."""
        self._transport.close()

    def datagram_received(self, raw: bytes, source: Endpoint) -> None:
        message = parse_message(raw)
        if message.status:
            self._back(message)
        else:
            self._on(message, source)

    def _on(self, request: SipMessage, source: Endpoint) -> None:
        number = parse_uri(request.request_uri).user
        target = self.phones.get(number) if source == self.centre else self.centre
        if target is None:
            self._send(build_response(request, 480, to_tag="gone").to_bytes(), source)
            return
        if self.lose and sms.label(request.body).startswith(self.lose):
            return
        self.passed.append(request)
        self._branches += 1
        host, port = self._transport.get_extra_info("sockname")[:2]
        via = ("Via", f"SIP/2.0/UDP {host}:{port};branch=z9hG4bKnet{self._branches}")
        headers = [
            ("P-Asserted-Identity" if name == "P-Preferred-Identity" else name, value)
            for name, value in request.headers
        ]
        passed = SipMessage(request.method, request.request_uri, 0, "", (via, *headers), request.body)
        self._send(passed.to_bytes(), target)

    def _back(self, response: SipMessage) -> None:
        vias = response.all("via")
        rest = tuple(pair for pair in response.headers if pair[0].lower() != "via")
        headers = (*(("Via", value) for value in vias[1:]), *rest)
        via = parse_via(vias[1])
        passed = SipMessage("", "", response.status, response.reason, headers, response.body)
        self._send(passed.to_bytes(), (via.host, via.port or 5060))

    def _send(self, raw: bytes, target: Endpoint) -> None:
        self._transport.sendto(raw, target)

    @property
    def labels(self) -> list[str]:
        """What was passed on, in few words."""
        return [sms.label(request.body) for request in self.passed]
