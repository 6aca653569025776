"""Filter criteria and requests for holding the evaluator against a real S-CSCF.

Criteria are written as in data/subscribers.toml, each with a name that becomes the user part of its server's URI.
"""

from __future__ import annotations

from typing import Any, Final

Headers = tuple[tuple[str, str], ...]


def spt(group: int | list[int] = 0, **test: Any) -> dict[str, Any]:
    """One condition."""
    return {"group": group} | test


INVITE, MESSAGE = {"method": "INVITE"}, {"method": "MESSAGE"}
PANI = "P-Access-Network-Info"

CRITERIA: Final[dict[str, dict[str, Any]]] = {
    # methods
    "always": {},
    "invite": {"triggers": [spt(**INVITE)]},
    "message": {"triggers": [spt(**MESSAGE)]},
    "not-invite": {"triggers": [spt(**INVITE, negated=True)]},
    "lower-case-method": {"triggers": [spt(method="invite")]},
    "method-prefix": {"triggers": [spt(method="INV")]},
    "method-too-long": {"triggers": [spt(method="INVITES")]},
    "register-only": {"triggers": [spt(method="REGISTER")]},
    # groups
    "or-in-cnf": {"triggers": [spt(0, **INVITE), spt(0, **MESSAGE)]},
    "and-in-cnf": {"triggers": [spt(0, **INVITE), spt(1, session_case=0)]},
    "and-that-is-an-or": {"triggers": [spt(0, **INVITE), spt(0, session_case=0)]},
    "and-in-dnf": {"cnf": False, "triggers": [spt(0, **INVITE), spt(0, session_case=0)]},
    "or-in-dnf": {"cnf": False, "triggers": [spt(0, **INVITE), spt(1, session_case=0)]},
    "cnf-two-by-two": {
        "triggers": [spt(0, **INVITE), spt(0, **MESSAGE), spt(1, header="X-Test"), spt(1, header="Recv-Info")]
    },
    "dnf-two-by-two": {
        "cnf": False,
        "triggers": [spt(0, **INVITE), spt(0, header="Recv-Info"), spt(1, **MESSAGE), spt(1, header="X-Test")],
    },
    "groups-out-of-order": {"triggers": [spt(7, **INVITE), spt(2, session_case=0), spt(7, **MESSAGE)]},
    "in-two-groups-cnf": {"triggers": [spt([0, 1], **INVITE), spt(0, header="X-Test"), spt(1, header="Recv-Info")]},
    "in-two-groups-dnf": {
        "cnf": False,
        "triggers": [spt([0, 1], **MESSAGE), spt(0, header="X-Test"), spt(1, header="Subject")],
    },
    "three-groups": {"triggers": [spt(0, **INVITE), spt(1, header="Recv-Info"), spt(2, session_case=0)]},
    # session cases
    "originating": {"triggers": [spt(session_case=0)]},
    "terminating": {"triggers": [spt(session_case=1)]},
    "terminating-unregistered": {"triggers": [spt(session_case=2)]},
    "away-and-elsewhere": {"triggers": [spt(0, session_case=2), spt(1, request_uri="^nowhere")]},
    "not-terminating": {"triggers": [spt(session_case=1, negated=True)]},
    # request URI
    "uri-of-a-name": {"triggers": [spt(request_uri="nobody@")]},
    "uri-anchored": {"triggers": [spt(request_uri="^sip:nobody@[^@]+$")]},
    "uri-tel": {"triggers": [spt(request_uri="^tel:")]},
    "uri-upper-case": {"triggers": [spt(request_uri="^SIP:NOBODY@")]},
    "uri-digits": {"triggers": [spt(request_uri="[+][[:digit:]]{8,}")]},
    "uri-python-digits": {"triggers": [spt(request_uri="\\+\\d+")]},
    "uri-not": {"triggers": [spt(request_uri="nobody", negated=True)]},
    # headers
    "header-is-there": {"triggers": [spt(header="X-Test")]},
    "header-content": {"triggers": [spt(header="X-Test", header_content="two")]},
    "header-content-anchored": {"triggers": [spt(header="X-Test", header_content="^two$")]},
    "header-content-quoted": {"triggers": [spt(header="Recv-Info", header_content='"g.3gpp.ussd"')]},
    "header-part-of-a-name": {"triggers": [spt(header="Access-Network")]},
    "header-expression": {"triggers": [spt(header="^(X-Test|Recv-Info)$")]},
    "header-compact": {"triggers": [spt(header="Subject", header_content="hello")]},
    "header-absent-without-content": {"triggers": [spt(header="X-Test", negated=True)]},
    "header-absent-with-content": {"triggers": [spt(header="X-Test", header_content=".*", negated=True)]},
    "header-content-negated": {"triggers": [spt(header="X-Test", header_content="two", negated=True)]},
    "access-network": {"triggers": [spt(header=PANI)]},
    "no-access-network": {"triggers": [spt(header=PANI, header_content=".*", negated=True)]},
    "from-the-network": {"triggers": [spt(header="P-Asserted-Identity", header_content="sip:")]},
    "feature-tag": {"triggers": [spt(header="Accept-Contact", header_content="g[.]3gpp[.]icsi-ref")]},
    # SDP
    "sdp-audio": {"triggers": [spt(sdp_line="m", sdp_content="audio")]},
    "sdp-video": {"triggers": [spt(sdp_line="m", sdp_content="video")]},
    "sdp-no-video": {"triggers": [spt(sdp_line="m", sdp_content="video", negated=True)]},
    "sdp-hold": {"triggers": [spt(sdp_line="a", sdp_content="(sendonly|inactive)")]},
    "sdp-over-lines": {"triggers": [spt(sdp_line="m", sdp_content="audio.*sendonly")]},
    "sdp-any-bandwidth": {"triggers": [spt(sdp_line="b")]},
    "call-with-video": {"triggers": [spt(0, **INVITE), spt(1, sdp_line="m", sdp_content="video")]},
    # parts of the profile
    "registered-part": {"profile_part": 0, "triggers": [spt(**INVITE), spt(**MESSAGE)]},
    "unregistered-part": {"profile_part": 1, "triggers": [spt(**INVITE), spt(**MESSAGE)]},
}
"""Criteria by name."""

AUDIO: Final = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
VIDEO: Final = AUDIO + b"b=AS:500\r\na=sendonly\r\nm=video 4002 RTP/AVP 99\r\n"
PARTS: Final = b"--x\r\nContent-Type: application/sdp\r\n\r\n" + AUDIO + b"--x--\r\n"
CELL: Final = (PANI, "3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000001")

REQUESTS: Final[dict[str, tuple[str, str, Headers, bytes]]] = {
    "plain call": ("INVITE", "sip:{who}@{realm}", (), AUDIO),
    "call from a cell": ("INVITE", "sip:{who}@{realm}", (CELL,), AUDIO),
    "video call": ("INVITE", "sip:{who}@{realm}", (CELL, ("X-Test", "two")), VIDEO),
    "USSD": ("INVITE", "sip:{who}@{realm}", (CELL, ("Recv-Info", "g.3gpp.ussd")), AUDIO),
    "call to a number": ("INVITE", "tel:{number}", (("Accept-Contact", '*;+g.3gpp.icsi-ref="x"'),), AUDIO),
    "call without SDP": ("INVITE", "sip:{who}@{realm}", (("X-Test", "one"),), b""),
    "call in parts": ("INVITE", "sip:{who}@{realm}", (("Content-Type", "multipart/mixed;boundary=x"),), PARTS),
    "message": ("MESSAGE", "sip:{who}@{realm}", (CELL,), b"hello"),
    "message with headers": (
        "MESSAGE",
        "sip:{who}@{realm}",
        (("X-Test", "one"), ("X-Test", "two"), ("s", "hello")),
        b"hello",
    ),
    "message to a number": ("MESSAGE", "tel:{number}", (("X-Test", "twofold"),), b"hello"),
    "question": ("OPTIONS", "sip:{who}@{realm}", (CELL,), b""),
}
"""Requests by name: method, request URI, headers, body."""

AGAINST_THE_SPECIFICATION: Final = {
    "method-prefix",
    "header-part-of-a-name",
    "header-content-quoted",
    "header-absent-without-content",
    "sdp-over-lines",
}
"""Criteria on which Kamailio and the specification do not agree for every request."""
