"""Offer and answer between phones, with the examples of RFC 4317."""

from __future__ import annotations

import pytest
from sip_bytes import crlf

from labkit.errors import SdpError
from labkit.peers.negotiation import Negotiation, usable_stream
from labkit.wire.sdp import parse_sdp

OFFER_RFC4317 = crlf("""v=0
o=alice 2890844526 2890844526 IN IP4 host.atlanta.example.com
s=
c=IN IP4 host.atlanta.example.com
t=0 0
m=audio 49170 RTP/AVP 0 8 97
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:97 iLBC/8000
m=video 51372 RTP/AVP 31 32
a=rtpmap:31 H261/90000
a=rtpmap:32 MPV/90000
""")
"""RFC 4317 section 2.1, the offer."""

ANSWER_RFC4317 = crlf("""v=0
o=bob 2808844564 2808844564 IN IP4 host.biloxi.example.com
s=
c=IN IP4 host.biloxi.example.com
t=0 0
m=audio 49174 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 49170 RTP/AVP 32
a=rtpmap:32 MPV/90000
""")
"""RFC 4317 section 2.1, the answer."""


def test_answer_takes_the_audio_and_refuses_the_video() -> None:
    """The answer has as many streams as the offer, in its order; the one that is not wanted has port 0 (RFC 3264 6)."""
    phone = Negotiation("127.0.0.1", 4000)
    answer = parse_sdp(phone.answer(OFFER_RFC4317))
    assert [(media.kind, media.port, media.formats) for media in answer.media] == [
        ("audio", 4000, ("0",)),
        ("video", 0, ("31", "32")),
    ]
    assert phone.direction == "sendrecv"
    assert phone.remote_endpoint == ("host.atlanta.example.com", 49170)


def test_answer_of_the_rfc_is_taken() -> None:
    """An answer with more streams than were offered, from elsewhere, names where sound goes."""
    phone = Negotiation("127.0.0.1", 4000)
    phone.offer()
    phone.take_answer(ANSWER_RFC4317)
    assert (phone.direction, phone.remote_endpoint) == ("sendrecv", ("host.biloxi.example.com", 49174))
    assert not phone.held_by_peer


def test_stream_that_is_not_the_first() -> None:
    """PCMU in the second stream: the first is refused, and a later offer of ours keeps both in their places."""
    phone = Negotiation("127.0.0.1", 4000)
    video_first = OFFER_RFC4317[: OFFER_RFC4317.find(b"m=audio")] + b"m=video 5 RTP/AVP 31\r\nm=audio 7 RTP/AVP 0\r\n"
    answer = parse_sdp(phone.answer(video_first))
    assert [media.port for media in answer.media] == [0, 4000]
    held = parse_sdp(phone.offer("sendonly"))
    assert [media.port for media in held.media] == [0, 4000]
    assert held.direction_of(1) == "sendonly"
    phone.take_answer(video_first + b"a=recvonly\r\n")
    assert phone.direction == "sendonly"


@pytest.mark.parametrize(
    ("remote", "wish", "direction", "held_by_peer"),
    [
        ("sendrecv", "sendrecv", "sendrecv", False),
        ("sendonly", "sendrecv", "recvonly", True),
        ("inactive", "sendrecv", "inactive", True),
        ("recvonly", "sendrecv", "sendonly", False),
        ("sendonly", "sendonly", "inactive", True),
        ("sendrecv", "sendonly", "sendonly", False),
        ("recvonly", "sendonly", "sendonly", False),
    ],
)
def test_wishes_are_masked_by_the_other_side(remote: str, wish: str, direction: str, held_by_peer: bool) -> None:
    """Each side says its own wish and the other's mask decides (RFC 6337 section 5.3), in an answer as in an offer."""
    theirs = OFFER_RFC4317.replace(b"iLBC/8000\r\n", f"iLBC/8000\r\na={remote}\r\n".encode())
    answering = Negotiation("127.0.0.1", 4000)
    answering.wish = wish
    answering.answer(theirs)
    assert (answering.direction, answering.held_by_peer) == (direction, held_by_peer)
    offering = Negotiation("127.0.0.1", 4000)
    offering.wish = wish
    offering.offer()
    offering.take_answer(theirs)
    assert (offering.direction, offering.held_by_peer) == (direction, held_by_peer)


def test_refused_stream_is_silent() -> None:
    """An answer with port 0, or with no stream at all, leaves nothing to send or hear."""
    phone = Negotiation("127.0.0.1", 4000)
    phone.offer()
    phone.take_answer(ANSWER_RFC4317.replace(b"m=audio 49174", b"m=audio 0"))
    assert phone.direction == "inactive"
    phone.take_answer(ANSWER_RFC4317[: ANSWER_RFC4317.find(b"m=audio")])
    assert (phone.direction, phone.remote_endpoint) == ("inactive", None)


def test_hold_by_an_address_of_nowhere() -> None:
    """c=0.0.0.0 without a direction is a hold: the answer is recvonly, and nothing is sent there (RFC 3264 8.4)."""
    phone = Negotiation("127.0.0.1", 4000)
    answer = parse_sdp(phone.answer(OFFER_RFC4317.replace(b"IP4 host.atlanta.example.com\r\nt=", b"IP4 0.0.0.0\r\nt=")))
    assert answer.media[0].direction == "recvonly"
    assert (phone.direction, phone.remote_endpoint, phone.held_by_peer) == ("recvonly", None, True)
    phone.answer(OFFER_RFC4317)
    assert (phone.direction, phone.held_by_peer) == ("sendrecv", False)
    assert phone.remote_endpoint == ("host.atlanta.example.com", 49170)


def test_old_way_to_hold() -> None:
    """Our own offer of that kind says sendrecv, with the address in o= as ever; the next one has it in c= again."""
    phone = Negotiation("127.0.0.1", 4000)
    first = parse_sdp(phone.offer())
    held = parse_sdp(phone.offer("sendonly", nowhere=True))
    assert held.connection is not None
    assert (held.connection.address, held.origin.address) == ("0.0.0.0", "127.0.0.1")
    assert (held.media[0].direction, held.media[0].port) == ("sendrecv", 4000)
    phone.take_answer(ANSWER_RFC4317 + b"a=inactive\r\n")
    phone.take_answer(ANSWER_RFC4317.replace(b"m=video", b"a=recvonly\r\nm=video"))
    assert phone.direction == "sendonly"
    back = parse_sdp(phone.offer("sendrecv"))
    assert back.media_address() == first.media_address()
    assert [one.origin.session_version for one in (first, held, back)] == [1, 2, 3]


def test_nothing_in_common() -> None:
    """An offer without PCMU over RTP names what it had instead; an answer without an offer is refused, too."""
    for offer in (
        OFFER_RFC4317.replace(b"AVP 0 8 97", b"AVP 8 97"),
        OFFER_RFC4317.replace(b"RTP/AVP 0", b"RTP/SAVP 0"),
        OFFER_RFC4317.replace(b"audio 49170", b"audio 0"),
        b"v=0\r\n",
    ):
        with pytest.raises(SdpError) as caught:
            usable_stream(parse_sdp(offer))
        assert caught.value.field == "codec"
    with pytest.raises(SdpError, match="without an offer"):
        Negotiation("127.0.0.1", 4000).take_answer(ANSWER_RFC4317)
