"""The probe: completing a message that somebody typed, and saying what came of it."""

from __future__ import annotations

import pytest

from labkit.errors import LessonError
from labkit.lab.learner.log import LogLine
from labkit.session import values
from labkit.session.probe import Passed, Played, completed
from labkit.wire.sip import SipMessage, parse_message, problems

HOST = "192.0.2.9:5239"


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE", "MESSAGE", "BYE", "SUBSCRIBE"])
def test_a_request_line_alone_becomes_a_whole_request(method: str) -> None:
    """What RFC 3261 section 8.1.1 asks of every request is added; nothing is wrong with what comes of it."""
    message = parse_message(completed(f"{method} sip:bob@example.org", HOST).to_bytes())
    assert problems(message) == []
    assert message.cseq_method == method
    assert message.to_user == "bob"
    assert (message.header("contact") is not None) is (method in ("INVITE", "SUBSCRIBE"))
    assert (message.content_type == "application/sdp") is (method == "INVITE")


def test_what_is_given_stays_as_it_is_and_in_its_order() -> None:
    """Headers that the text has are not added, nor changed; those of one name keep their order; a body its lines."""
    head = "\n  MESSAGE sip:bob@example.org SIP/2.0\n  X-A: 1\n  To: <sip:carol@example.org>\n  X-A: 2, 3\n"
    text = f"{head}\nhello\nworld\n"
    message = completed(text, HOST)
    assert message.lines("X-A") == ("1", "2, 3")
    assert message.lines("To") == ("<sip:carol@example.org>",)
    assert message.body == b"hello\r\nworld"
    assert message.header("content-length") == "12"


def test_the_first_via_is_the_probes_own() -> None:
    """Forged Via entries stand behind it, as if the message had come by others: the answer has to come back."""
    message = completed("OPTIONS sip:x@y\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx", HOST)
    assert [HOST in via for via in message.all("via")] == [True, False]


def test_a_body_of_ones_own_takes_the_place_of_the_offer() -> None:
    """An INVITE with a body gets no second one; Content-Type is as given."""
    message = completed("INVITE sip:x@y\nContent-Type: text/plain\n\nhello", HOST)
    assert (message.body, message.content_type) == (b"hello", "text/plain")


@pytest.mark.parametrize(
    "text", ["", "hello", "OPTIONS", "OPTIONS bob", "OPTIONS sip:x@y HTTP/1.1", "OPTIONS sip:x@y\nX"]
)
def test_what_is_no_message_is_said(text: str) -> None:
    """Without a request line, or with a header that has no colon, nothing is sent."""
    with pytest.raises(LessonError, match=r"request line|no header"):
        completed(text, HOST)


def played() -> Played:
    """One message, its answer, and what came of it."""
    sent = completed("MESSAGE sip:bob@example.org", HOST)
    lines = (
        LogLine("request_route", 2, "NOTICE", "rU=bob"),
        LogLine("", 0, "ERROR", "limit = 3"),
        LogLine("request_route", 3, "NOTICE", "all = 1=2\n3"),
        LogLine("request_route", 4, "NOTICE", "no value here"),
    )
    return Played(sent, (SipMessage.response(200, []),), (Passed("bob", sent),), lines)


def test_values_are_the_lines_that_say_name_and_value() -> None:
    """Only lines of the learner's blocks count; a value may hold an equals sign and a line end."""
    assert played().values == {"rU": "bob", "all": "1=2\n3"}


def test_it_is_shown_without_what_differs_from_run_to_run() -> None:
    """No address, no port, no tag: a stored lesson is compared with it."""
    shown = repr(played())
    assert "192.0.2" not in shown
    assert "5239" not in shown
    assert shown.splitlines()[:3] == ["sent       MESSAGE", "sent on    MESSAGE to bob", "came back  200 OK"]


def test_it_goes_over_the_tape() -> None:
    """What a recording keeps of it comes back the same."""
    one = played()
    assert values.from_json(values.to_json(one)) == played_again(one)


def played_again(one: Played) -> Played:
    """The same with messages that were read: a tape keeps them as bytes."""
    read = [parse_message(message.to_bytes()) for message in (one.sent, one.replies[0], one.sent_on[0].message)]
    return Played(read[0], (read[1],), (Passed("bob", read[2]),), one.log)
