"""A proxy that remembers nothing: what comes goes on, changed as RFC 3261 sections 16.6, 16.7 and 16.11 want it.

An application server that only looks on is one: it gets a request from the S-CSCF with its own URI on top of Route and
the S-CSCF's, with its mark, below; it takes its own away and sends the request back to where the mark points.

What it needs to know of a transaction stands in the message: the branch that it writes is made from the one that came,
so repeated requests, CANCEL and ACK get the same one, and the neighbours' transactions do the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from labkit.errors import SipError
from labkit.peers.agent import is_address
from labkit.peers.transaction import MAGIC_COOKIE, build_response, with_source
from labkit.peers.transport import Endpoint
from labkit.wire.sip import (
    SipMessage,
    SipUri,
    Via,
    header_key,
    parse_address,
    parse_host_port,
    parse_uri,
    parse_via,
    problems,
)

_DIALOG_MAKERS: Final = ("INVITE", "SUBSCRIBE", "REFER")

Send = Callable[[bytes, Endpoint], None]


class StatelessProxy:
    """Sends requests on, and responses back."""

    def __init__(self, address: str, port: int, send: Send, *, record_route: bool, headers: tuple[str, ...]) -> None:
        self._own = (address, port)
        self._send = send
        self._record_route = record_route
        self._headers = tuple(_pair(line) for line in headers)
        self._hostport = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def is_own(self, uri: str) -> bool:
        """Whether a URI (with or without angle brackets) names this proxy."""
        try:
            read = parse_uri(parse_address(uri).uri)
        except SipError:
            return False
        return (read.host, read.port or 5060) == self._own

    def routes_on(self, request: SipMessage) -> tuple[str, ...]:
        """The Route of a request without this proxy's own entry."""
        routes = request.all("route")
        return routes[1:] if routes and self.is_own(routes[0]) else routes

    def pass_request(self, request: SipMessage, source: Endpoint) -> None:
        """Send a request on to its next Route, or to its Request-URI where there is none.

        A name is taken for the one from which the request came: this proxy asks no DNS, and an S-CSCF wants its
        requests back.

        Raises:
            SipError: it does not pass the checks of RFC 3261 section 16.3, or its Route or Request-URI cannot be read.
        """
        wrong = problems(request)
        if wrong:
            raise SipError(wrong[0], spec="RFC 3261 section 16.3")
        via = parse_via(request.all("via")[0])
        came = with_source(request, via, source)
        hops = int(request.header("max-forwards") or 70)
        if hops <= 0:
            if request.method != "ACK":
                answer = build_response(came, 483, to_tag=_hash(via, request))
                self._send(answer.to_bytes(), source)
            return
        routes = self.routes_on(request)
        target = parse_uri(parse_address(routes[0]).uri if routes else request.request_uri)
        passed = self._passed(came, via, routes, hops - 1)
        self._send(passed.to_bytes(), _endpoint(target, source))

    def _passed(self, request: SipMessage, via: Via, routes: tuple[str, ...], hops: int) -> SipMessage:
        dropped = ("route", "max-forwards")
        kept = [pair for pair in request.headers if header_key(pair[0]) not in dropped]
        own = [("Via", f"SIP/2.0/UDP {self._hostport};branch={MAGIC_COOKIE}{_hash(via, request)}")]
        if self._record_route and request.method in _DIALOG_MAKERS and request.to_tag is None:
            own.append(("Record-Route", f"<sip:{self._hostport};lr>"))
        added = self._headers if request.method not in ("ACK", "CANCEL") else ()
        headers = (
            *own,
            *(("Route", route) for route in routes),
            ("Max-Forwards", str(hops)),
            *_before_length(kept, added),
        )
        return SipMessage(request.method, request.request_uri, 0, "", headers, request.body)

    def pass_response(self, response: SipMessage) -> None:
        """Send a response back along its next Via, if that is an address; one whose top Via is another's is dropped.

        Raises:
            SipError: the next Via cannot be read.
        """
        vias = response.all("via")
        if len(vias) < 2 or self._own != _sent_by(parse_via(vias[0])):
            return
        back = parse_via(vias[1])
        rest = [pair for pair in response.headers if header_key(pair[0]) != "via"]
        headers = (*(("Via", value) for value in vias[1:]), *rest)
        passed = SipMessage("", "", response.status, response.reason, headers, response.body)
        named = back.param("received") or back.host, back.param("rport") or back.port or 5060
        host, port = parse_host_port(f"[{named[0]}]:{named[1]}")
        if is_address(host) and port is not None:
            self._send(passed.to_bytes(), (host, port))


def _sent_by(via: Via) -> Endpoint:
    return via.host, via.port or 5060


def _endpoint(uri: SipUri, source: Endpoint) -> Endpoint:
    """Where a URI points: an address as it stands; a name is the neighbour that has sent the request."""
    return (uri.host if is_address(uri.host) else source[0]), uri.port or 5060


def _hash(via: Via, request: SipMessage) -> str:
    """A branch that is the same for all messages of a transaction, made from the one that came (section 16.11)."""
    branch = via.param("branch") or f"{request.call_id}{request.cseq}{request.from_tag}"
    return hashlib.sha256(f"{branch}|{via.host}|{via.port}".encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _before_length(headers: list[tuple[str, str]], added: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The headers with the added ones in front of Content-Length, which stands last by custom."""
    index = next((number for number, (name, _) in enumerate(headers) if header_key(name) == "content-length"), None)
    index = len(headers) if index is None else index
    return (*headers[:index], *added, *headers[index:])


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()
