"""A phone that sends exactly what a test tells it: requests that a well-behaved phone never sends.

Blocking sockets, no retransmission, one message after another.
"""

from __future__ import annotations

import base64
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence

from labkit.peers.hss.subscribers import Subscriber
from labkit.wire.aka import AuthParams, build_auts, digest_response, parse_auth, split_nonce
from labkit.wire.sip import SipMessage, parse_message, split_stream

Headers = Sequence[tuple[str, str]]
SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


class PlainPhone:
    """One SIP endpoint at an address; also plays an application server."""

    def __init__(
        self, subscriber: Subscriber, local: tuple[str, int], proxy: tuple[str, int], transport: str = "udp"
    ) -> None:
        self.subscriber = subscriber
        self.address, self.port = local
        self.proxy = proxy
        self.transport = transport
        self.realm = subscriber.impi.partition("@")[2]
        self.identity = [uri for uri in subscriber.impus if uri.startswith("sip:")][-1]
        self.contact = f"<sip:{subscriber.name}@{self.address}:{self.port}" + (
            ";transport=tcp>" if transport == "tcp" else ">"
        )
        self.challenge: SipMessage | None = None
        """The last 401."""
        self._call_id = secrets.token_hex(8)
        self._tag = secrets.token_hex(4)
        self._cseq = 0
        self._buffer = b""
        self._waiting: list[SipMessage] = []
        if transport == "tcp":
            self._socket = socket.create_connection(proxy, source_address=(self.address, 0))
        else:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(local)

    def __enter__(self) -> PlainPhone:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    # ---- messages out and in ----------------------------------------------------------------------------------------
    def send(self, message: SipMessage, to: tuple[str, int] | None = None) -> None:
        """Send one message, to the proxy unless told otherwise."""
        if self.transport == "tcp":
            self._socket.sendall(message.to_bytes())
        else:
            self._socket.sendto(message.to_bytes(), to or self.proxy)

    def wait(self, wanted: Callable[[SipMessage], bool], timeout_s: float = 10.0) -> SipMessage:
        """Return the next message that is wanted; others are thrown away."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            if not self._waiting:
                self._socket.settimeout(left)
                self._receive()
                continue
            message = self._waiting.pop(0)
            if wanted(message):
                return message
        raise AssertionError("the message that the test waits for has not come")

    def _receive(self) -> None:
        try:
            raw = self._socket.recv(65535)
        except TimeoutError:
            return
        whole = [raw]
        if self.transport == "tcp":
            whole, self._buffer = split_stream(self._buffer + raw)
        self._waiting += [parse_message(one) for one in whole if one.strip()]

    def wait_request(self, method: str, timeout_s: float = 10.0) -> SipMessage:
        """Return the next request of a method."""
        return self.wait(lambda message: message.is_request and message.method == method, timeout_s)

    def wait_final(self, request: SipMessage, timeout_s: float = 20.0) -> SipMessage:
        """Return the final response to a request."""
        return self.wait(
            lambda message: not message.is_request and message.branch == request.branch and message.status >= 200,
            timeout_s,
        )

    def ask(self, request: SipMessage) -> SipMessage:
        """Send a request and return its final response."""
        self.send(request)
        response = self.wait_final(request)
        if request.method == "INVITE" and response.status >= 300:
            self.acknowledge_failure(request, response)
        return response

    def acknowledge_failure(self, invite: SipMessage, response: SipMessage) -> None:
        """Send the ACK that belongs to the INVITE's own transaction (RFC 3261 section 17.1.1.3)."""
        kept = [header for header in invite.headers if header[0] in ("Via", "Max-Forwards", "From", "Call-ID", "Route")]
        last = [("To", response.header("To") or ""), ("CSeq", f"{invite.cseq} ACK")]
        self.send(SipMessage.request("ACK", invite.request_uri, [*kept, *last]))

    def respond(self, request: SipMessage, status: int, body: bytes = b"") -> None:
        """Answer a request; the To tag is always the same."""
        headers = [(name, value) for name, value in request.headers if name in ("Via", "Record-Route", "From")]
        to = request.header("To") or ""
        headers.append(("To", to if "tag=" in to or status == 100 else f"{to};tag=plain"))
        headers += [("Call-ID", request.call_id or ""), ("CSeq", request.header("CSeq") or "")]
        if request.method in ("INVITE", "UPDATE"):
            headers.append(("Contact", self.contact))
        if body:
            headers.append(("Content-Type", "application/sdp"))
        self.send(SipMessage.response(status, headers, body))

    def request(self, method: str, uri: str, headers: Headers = (), body: bytes = b"", **about: str) -> SipMessage:
        """Make a request outside a dialog, with a Call-ID of its own.

        Args:
            about: `from_uri` and `to_uri` instead of the phone's identity and the request URI; `call_id`.
        """
        self._cseq += 1
        sender, receiver = about.get("from_uri", self.identity), about.get("to_uri", uri)
        contact = () if method == "MESSAGE" else (("Contact", self.contact),)
        media = (("Content-Type", "application/sdp" if method == "INVITE" else "text/plain"),) if body else ()
        return SipMessage.request(
            method,
            uri,
            [
                ("Via", self._via()),
                ("Max-Forwards", "70"),
                ("From", f"<{sender}>;tag={self._tag}"),
                ("To", f"<{receiver}>"),
                ("Call-ID", about.get("call_id", secrets.token_hex(8))),
                ("CSeq", f"{self._cseq} {method}"),
                *contact,
                *media,
                *headers,
            ],
            body,
        )

    def _via(self) -> str:
        return f"SIP/2.0/{self.transport.upper()} {self.address}:{self.port};branch=z9hG4bK{secrets.token_hex(8)};rport"

    def in_dialog(
        self, method: str, response: SipMessage, cseq: int | None = None, headers: Headers = ()
    ) -> SipMessage:
        """Make a request of the caller inside the dialog that a 2xx has made (RFC 3261 section 12.2.1.1)."""
        target = re.search(r"<([^>]*)>", response.header("Contact") or "")
        assert target is not None
        if cseq is None:
            self._cseq += 1
            cseq = self._cseq
        routes = [("Route", value) for value in reversed(response.all("Record-Route"))]
        names = [(name, response.header(name) or "") for name in ("From", "To", "Call-ID")]
        own = [("Via", self._via()), ("Max-Forwards", "70"), *routes, *names, ("CSeq", f"{cseq} {method}")]
        contact = [("Contact", self.contact)] if method in ("INVITE", "UPDATE", "SUBSCRIBE") else []
        return SipMessage.request(method, target[1], [*own, *contact, *headers])

    def cancel(self, invite: SipMessage) -> SipMessage:
        """Make the CANCEL of an INVITE (RFC 3261 section 9.1)."""
        kept = [h for h in invite.headers if h[0] in ("Via", "Max-Forwards", "From", "To", "Call-ID", "Route")]
        return SipMessage.request("CANCEL", invite.request_uri, [*kept, ("CSeq", f"{invite.cseq} CANCEL")])

    # ---- registration -----------------------------------------------------------------------------------------------
    def register(
        self,
        expires: int = 600,
        *,
        wrong: bool = False,
        sqn_ms: int | None = None,
        headers: Headers = (),
        to_uri: str = "",
    ) -> SipMessage:
        """Register and return the last response.

        Args:
            wrong: answer the challenge with a wrong secret.
            sqn_ms: answer the first challenge with AUTS, as a SIM that has seen this number.
        """
        uri, identity = f"sip:{self.realm}", to_uri or self.subscriber.impus[0]
        proof = f'Digest username="{self.subscriber.impi}",realm="{self.realm}",nonce="",uri="{uri}",response=""'
        for attempt in range(3):
            fixed = [("Expires", str(expires)), ("Authorization", proof), ("Supported", "path"), *headers]
            request = self.request("REGISTER", uri, fixed, from_uri=identity, to_uri=identity, call_id=self._call_id)
            response = self.ask(request)
            if response.status != 401:
                break
            self.challenge = response
            proof = self._proof(response, uri, wrong, sqn_ms if attempt == 0 else None)
        return response

    def _proof(self, challenge: SipMessage, uri: str, wrong: bool, sqn_ms: int | None) -> str:
        asked = parse_auth(challenge.header("WWW-Authenticate") or "")
        nonce, algorithm = asked.get("nonce") or "", asked.get("algorithm") or "MD5"
        secret: str | bytes = self.subscriber.password
        extra = {}
        if algorithm == "AKAv1-MD5":
            milenage, (rand, _) = self.subscriber.milenage(), split_nonce(nonce)
            secret = milenage.f2345(rand)[0]
            if sqn_ms is not None:
                extra["auts"] = base64.b64encode(build_auts(milenage, rand, sqn_ms)).decode()
                secret = b""
        if wrong:
            secret = b"wrong"
        said = {"username": self.subscriber.impi, "realm": self.realm, "nonce": nonce, "uri": uri}
        counted = {"qop": "auth", "nc": "00000001", "cnonce": secrets.token_hex(4)}
        answer = digest_response(**said, **counted, password=secret, method="REGISTER", algorithm=algorithm)
        return str(AuthParams.credentials(**said, response=answer, algorithm=algorithm, **counted, **extra))
