"""The words of the made-up network: SIP requests and responses as bytes, and the row that each must give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from labkit.practice.truth import Row

REALM = "ims.north.example"
REASONS = {
    **{100: "Trying", 180: "Ringing", 200: "OK", 401: "Unauthorized", 403: "Forbidden", 480: "Temporarily Unavailable"},
    **{486: "Busy Here", 503: "Service Unavailable", 504: "Server Time-out"},
}
_ALLOW = "Allow: INVITE, ACK, CANCEL, BYE, UPDATE, PRACK, MESSAGE, REFER, NOTIFY, INFO, OPTIONS\r\n"
_CELL = "P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=26242{:04X}0F00{:03X}\r\n"
_ALIKE = (
    'Accept-Contact: *;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"\r\n'
    "User-Agent: Northphone/12.4 (VoLTE; release 16; build 20260214)\r\n"
    "Accept: application/sdp, application/3gpp-ims+xml\r\n"
    + "".join(
        f"Security-Client: ipsec-3gpp; alg={alg}; ealg={ealg}; spi-c=3741029; spi-s=3741030; "
        "port-c=5063; port-s=5064\r\n"
        for alg in ("hmac-md5-96", "hmac-sha-1-96")
        for ealg in ("null", "aes-cbc")
    )
)
"""What all phones of one maker say alike; with it, what goes through the core is too long for one packet."""


@dataclass(slots=True)
class Exchange:
    """What a request and its responses have in common."""

    method: str
    """For example "REGISTER"."""
    uri: str
    """Request URI."""
    call_id: str
    """Call-ID."""
    cseq: int
    """Number in CSeq."""
    caller: str
    """User part of From."""
    called: str
    """User part of To."""
    from_tag: str
    """Tag of From."""
    to_tag: str = ""
    """Tag of To; empty in a request outside of a dialog."""
    headers: str = ""
    """Further header lines of the request, each with its line end."""
    body: str = ""
    """SDP, or nothing."""
    branches: list[str] = field(default_factory=list)
    """Of the Via headers, top first."""
    vias: list[str] = field(default_factory=list)
    """Via header lines, top first."""

    def add_via(self, sender: str, branch: str, transport: str = "UDP") -> None:
        """Let a node send the request: its Via goes on top."""
        self.branches.insert(0, branch)
        self.vias.insert(0, f"Via: SIP/2.0/{transport} {sender};branch={branch}\r\n")

    def drop_via(self) -> None:
        """Let a node hand a response back: its own Via goes."""
        del self.branches[0], self.vias[0]

    def request(self) -> bytes:
        """Write the request."""
        head = f"{self.method} {self.uri} SIP/2.0\r\n{''.join(self.vias)}Max-Forwards: {70 - len(self.vias)}\r\n"
        return self._finished(head, self.to_tag, self.headers, self.body)

    def response(self, status: int, to_tag: str = "", headers: str = "", body: str = "") -> bytes:
        """Write a response."""
        head = f"SIP/2.0 {status} {REASONS[status]}\r\n{''.join(self.vias)}"
        return self._finished(head, to_tag or self.to_tag, headers, body)

    def row(self, status: int | None = None, to_tag: str = "") -> Row:
        """Tell what a decoder must read out of the request, or of a response."""
        row: Row = {"protocol": "sip", "call_id": self.call_id, "cseq": self.cseq, "cseq_method": self.method}
        row |= {"from_user": self.caller, "to_user": self.called, "from_tag": self.from_tag}
        row["branch"] = self.branches[0]
        if tag := to_tag or self.to_tag:
            row["to_tag"] = tag
        return row | ({"method": self.method} if status is None else {"status": status, "reason": REASONS[status]})

    def _finished(self, head: str, to_tag: str, headers: str, body: str) -> bytes:
        tag = f";tag={to_tag}" if to_tag else ""
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{head}From: <sip:{self.caller}@{REALM}>;tag={self.from_tag}\r\n"
            f"To: <sip:{self.called}@{REALM}>{tag}\r\nCall-ID: {self.call_id}\r\nCSeq: {self.cseq} {self.method}\r\n"
            f"{headers}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


def phone_headers(contact: str, cell: int) -> str:
    """Header lines that a phone puts into what it sends."""
    features = '+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel";+g.3gpp.smsip'
    lines = f"Contact: <sip:{contact}>;{features}\r\n{_ALLOW}Supported: path, timer\r\n"
    return lines + _CELL.format(cell, cell % 4096) + _ALIKE


def authorization(private: str, nonce: str = "", response: str = "") -> str:
    """The credentials of a REGISTER: empty at first, then an answer to the challenge."""
    proof = f', algorithm=AKAv1-MD5, qop=auth, nc=00000001, cnonce="{response[:8]}"' if nonce else ""
    return (
        f'Authorization: Digest username="{private}", realm="{REALM}", uri="sip:{REALM}", nonce="{nonce}", '
        f'response="{response}"{proof}\r\n'
    )


def challenge(nonce: str) -> str:
    """The 401's question."""
    return f'WWW-Authenticate: Digest realm="{REALM}", nonce="{nonce}", algorithm=AKAv1-MD5, qop="auth"\r\n'


def audio(address: str, port: int, version: int, direction: str = "sendrecv") -> str:
    """SDP with one audio stream."""
    family = "IP6" if ":" in address else "IP4"
    return (
        f"v=0\r\no=- {port} {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        f"a=ptime:20\r\na={direction}\r\n"
    )


def routes(name: str, nodes: Sequence[str]) -> str:
    """Record-Route or Route header lines."""
    return "".join(f"{name}: <sip:{node};lr>\r\n" for node in nodes)
