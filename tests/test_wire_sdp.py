"""SDP, held against recordings, the examples of RFC 8866, RFC 3264 and RFC 4317, and tshark."""

from __future__ import annotations

import itertools

import pytest
from sip_bytes import all_recorded, crlf

from labkit.errors import SdpError
from labkit.wire.sdp import (
    DIRECTIONS,
    Connection,
    Origin,
    answer_direction,
    audio_description,
    mirrored_direction,
    parse_sdp,
    receives,
    refused,
    sends,
)
from labkit.wire.sip import parse_message

RFC8866_5 = crlf("""v=0
o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1
s=Call to John Smith
i=SDP Offer #1
u=http://www.jdoe.example.com/home.html
e=Jane Doe <jane@jdoe.example.com>
p=+1 617 555-6011
c=IN IP4 198.51.100.1
t=0 0
m=audio 49170 RTP/AVP 0
m=audio 49180 RTP/AVP 0
m=video 51372 RTP/AVP 99
c=IN IP6 2001:db8::2
a=rtpmap:99 h263-1998/90000
""")
"""RFC 8866 section 5."""

RFC4317_24_HOLD = crlf("""v=0
o=alice 2890844526 2890844527 IN IP4 host.atlanta.example.com
s=
c=IN IP4 host.atlanta.example.com
t=0 0
m=audio 49170 RTP/AVP 97
a=rtpmap:97 iLBC/8000
a=sendonly
""")
"""In the manner of RFC 4317 section 3.1, hold."""

RFC3264_10 = crlf("""v=0
o=alice 2890844526 2890844526 IN IP4 host.anywhere.com
s=
c=IN IP4 host.anywhere.com
t=0 0
m=audio 49170 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 51372 RTP/AVP 31
a=rtpmap:31 H261/90000
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
""")
"""RFC 3264 section 10.1, the offer."""


def recorded_sdp() -> list[bytes]:
    """Every session description of the recordings, once."""
    messages = [parse_message(raw) for raw in all_recorded()]
    return list(dict.fromkeys(m.body for m in messages if m.content_type == "application/sdp"))


@pytest.mark.parametrize("raw", [RFC8866_5, RFC4317_24_HOLD, RFC3264_10, RFC3264_10.replace(b"\r\n", b"\n")])
def test_examples_of_the_rfcs_come_back_byte_for_byte(raw: bytes) -> None:
    """Descriptions out of the RFCs are read and written back unchanged, with either line end."""
    assert parse_sdp(raw).to_bytes() == raw
    assert parse_sdp(raw.rstrip(b"\r\n")).to_bytes() == raw.rstrip(b"\r\n")


def test_recorded_descriptions_come_back_byte_for_byte() -> None:
    """Descriptions out of recorded calls are read, written back unchanged, and name a stream and an address."""
    bodies = recorded_sdp()
    assert len(bodies) >= 4
    for raw in bodies:
        description = parse_sdp(raw)
        assert description.to_bytes() == raw
        address, port = description.media_address()
        assert address.count(".") == 3
        assert port == description.media[0].port
        assert description.direction_of() in DIRECTIONS


def test_parts_of_rfc8866() -> None:
    """Origin, connection and streams are what the RFC says; a stream's own c= comes before the session's."""
    description = parse_sdp(RFC8866_5)
    assert description.origin == Origin("jdoe", 3724394400, 3724394405, "IP4", "198.51.100.1")
    assert description.connection == Connection("IP4", "198.51.100.1")
    assert [media.kind for media in description.media] == ["audio", "audio", "video"]
    assert description.media_address(0) == ("198.51.100.1", 49170)
    assert description.media_address(2) == ("2001:db8::2", 51372)
    assert description.media[2].rtpmap == {"99": "h263-1998/90000"}
    assert description.media[2].formats == ("99",)


def test_directions() -> None:
    """A stream's direction is its own, else the session's, else sendrecv; 0.0.0.0 is the old hold (RFC 3264 8.4)."""
    assert parse_sdp(RFC4317_24_HOLD).direction_of() == "sendonly"
    assert parse_sdp(RFC3264_10).direction_of(1) == "sendrecv"
    session_wide = RFC3264_10.replace(b"t=0 0\r\n", b"t=0 0\r\na=inactive\r\n")
    assert parse_sdp(session_wide).direction_of(2) == "inactive"
    old = RFC3264_10.replace(b"c=IN IP4 host.anywhere.com", b"c=IN IP4 0.0.0.0")
    assert parse_sdp(old).direction_of() == "sendonly"


def test_edits_touch_nothing_else() -> None:
    """Direction, address and version are replaced in place, and all other lines stay as they were."""
    description = parse_sdp(RFC3264_10)
    held = description.with_direction("sendonly", 0).next_version()
    assert held.to_bytes() == RFC3264_10.replace(b"2890844526 IN", b"2890844527 IN").replace(
        b"PCMU/8000\r\n", b"PCMU/8000\r\na=sendonly\r\n"
    )
    assert held.direction_of(1) == "sendrecv"
    assert held.with_direction("sendrecv", 0).direction_of(0) == "sendrecv"
    assert description.with_connection("2001:db8::7").connection == Connection("IP6", "2001:db8::7")


def test_direction_of_an_answer_follows_rfc3264() -> None:
    """RFC 3264 section 6.1: the answers that are allowed to each offer, whatever the answerer wants."""
    allowed = {
        "sendrecv": set(DIRECTIONS),
        "sendonly": {"recvonly", "inactive"},
        "recvonly": {"sendonly", "inactive"},
        "inactive": {"inactive"},
    }
    for offered, wanted in itertools.product(DIRECTIONS, DIRECTIONS):
        answer = answer_direction(offered, wanted)
        assert answer in allowed[offered]
        assert not (sends(answer) and not sends(wanted))
        assert not (receives(answer) and not receives(wanted))
    assert answer_direction("sendonly") == "recvonly"
    assert answer_direction("sendrecv", "sendonly") == "sendonly"
    assert mirrored_direction("sendonly") == "recvonly"


@pytest.mark.parametrize("raw", [RFC8866_5, RFC3264_10])
def test_every_truncation_is_read_or_refused_in_words(raw: bytes) -> None:
    """A description that ends too early is either read as far as it goes, or a SdpError with an offset."""
    for size in range(len(raw)):
        offset: int | None = 0
        try:
            assert parse_sdp(raw[:size]).to_bytes() == raw[:size]
        except SdpError as error:
            offset = error.offset
        assert offset is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"v=1\r\n",
        b"o=x\r\nv=0\r\n",
        b"v=0\r\nnonsense\r\n",
        b"v=0\r\nm=audio\r\n",
        b"v=0\r\nm=audio x RTP/AVP 0\r\n",
        b"v=0\r\nm=audio 70000 RTP/AVP 0\r\n",
        b"v=0\r\n\r\ns=-\r\n",
        b"\xff\xfe",
    ],
)
def test_wrong_descriptions_are_refused(raw: bytes) -> None:
    """What is no SDP is a SdpError, never another exception."""
    with pytest.raises(SdpError):
        parse_sdp(raw)


def test_missing_parts_are_said_when_asked_for() -> None:
    """A description without o= or c= is readable; asking for them is a SdpError."""
    bare = parse_sdp(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n")
    for ask in (lambda: bare.origin, lambda: bare.media_address(), lambda: bare.with_direction("both")):
        with pytest.raises(SdpError):
            ask()


def test_our_own_description_is_plain_sdp() -> None:
    """What the phones offer is one audio stream with PCMU, and a refused stream keeps its m= line with port 0."""
    description = audio_description("127.0.0.101", 40000, session_id=7, direction="sendonly")
    assert description.to_bytes() == crlf("""v=0
o=- 7 1 IN IP4 127.0.0.101
s=-
c=IN IP4 127.0.0.101
t=0 0
m=audio 40000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=ptime:20
a=sendonly
""")
    assert parse_sdp(description.to_bytes()) == description
    assert refused(parse_sdp(RFC3264_10).media[1]).lines == ("m=video 0 RTP/AVP 31",)
