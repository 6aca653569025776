"""Bodies of several parts: the recorded one, RFC 2046's example, and broken ones."""

from __future__ import annotations

import contextlib

import pytest
from sip_bytes import all_recorded, crlf, recorded_sip

from labkit.errors import SipError
from labkit.wire.multipart import Part, body_of_type, join_parts, parts_of, split_parts
from labkit.wire.sip import SipMessage, parse_message

# RFC 2046 section 5.1.1
EXAMPLE = crlf("""This is the preamble.  It is to be ignored, though it
is a handy place for composition agents to include an
explanatory note to non-MIME conformant readers.

--simple boundary

This is implicitly typed plain US-ASCII text.
It does NOT end with a linebreak.
--simple boundary
Content-type: text/plain; charset=us-ascii

This is explicitly typed plain US-ASCII text.
It DOES end with a linebreak.

--simple boundary--

This is the epilogue.  It is also to be ignored.
""")


def test_the_recorded_invite() -> None:
    """An INVITE of a USSD dialogue, recorded at every hop, has a session description and a USSD body."""
    invites = [parse_message(raw) for _, raw in recorded_sip("11_ussd_kamailio_gateway.pcap") if raw[:6] == b"INVITE"]
    assert len(invites) == 3
    for invite in invites:
        sdp, ussd = parts_of(invite)
        assert (sdp.media_type, ussd.media_type) == ("application/sdp", "application/vnd.3gpp.ussd+xml")
        assert sdp.body.startswith(b"v=0\r\n")
        assert ussd.body.endswith(b"<ussd-string>*100#</ussd-string></ussd-data>")
        assert body_of_type(invite, "application/sdp") == sdp.body
        assert body_of_type(invite, "text/plain") == b""


def test_example_of_the_rfc() -> None:
    """Preamble and epilogue are left out, a part without a type is plain text, the last line end is the boundary's."""
    first, second = split_parts('multipart/mixed; boundary="simple boundary"', EXAMPLE)
    assert first == Part(
        "text/plain", crlf("This is implicitly typed plain US-ASCII text.\nIt does NOT end with a linebreak.")
    )
    assert second.content_type == "text/plain; charset=us-ascii"
    assert second.body.endswith(b"It DOES end with a linebreak.\r\n")


def test_other_messages() -> None:
    """A body of one kind is one part with its type and disposition; no body is no part."""
    for raw in all_recorded():
        message = parse_message(raw)
        if message.content_type != "multipart/mixed":
            parts = parts_of(message)
            assert [part.body for part in parts] == ([message.body] if message.body else [])
            assert all(part.media_type == message.content_type for part in parts)


def test_written_parts_are_read_again() -> None:
    """Parts keep their bytes, even with line ends and dashes in them; Content-Disposition comes along."""
    parts = (
        Part("application/sdp", b"v=0\r\n"),
        Part("x/y;a=b", b"\r\n--not it\r\n", "render;handling=optional"),
        Part("a/b", b""),
    )
    content_type, body = join_parts(parts, "frontier")
    message = SipMessage.request("INVITE", "sip:x@y", [("Content-Type", content_type)], body)
    assert parts_of(parse_message(message.to_bytes())) == parts
    assert (
        split_parts("multipart/mixed;boundary=frontier", body.replace(b"\r\n--frontier", b"\n--frontier"))[2]
        == parts[2]
    )
    with pytest.raises(SipError, match="occurs in a part"):
        join_parts([Part("a/b", b"the frontier")], "frontier")


@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        ("multipart/mixed", EXAMPLE, "without a boundary"),
        ("multipart/mixed;boundary=other", EXAMPLE, "without a closing boundary"),
        ('multipart/mixed;boundary="simple boundary"', EXAMPLE[:-90], "without a closing boundary"),
        ("multipart/mixed;boundary=b", b"--b\r\nContent-Type: a/b\r\n--b--", "without an empty line"),
        ("multipart/mixed;boundary=b", b"--b\r\n\r\nx\r\n" * 40 + b"--b--", "more than 32 parts"),
        ("multipart/mixed;boundary=b", b"", "without a closing boundary"),
    ],
)
def test_broken_ones(content_type: str, body: bytes, why: str) -> None:
    """What is not a multipart body is refused with the reason."""
    with pytest.raises(SipError, match=why):
        split_parts(content_type, body)


def test_damaged_ones() -> None:
    """Cut off anywhere, a body is read in part or refused; nothing else comes out."""
    for length in range(len(EXAMPLE)):
        with contextlib.suppress(SipError):
            split_parts('multipart/mixed; boundary="simple boundary"', EXAMPLE[:length])
