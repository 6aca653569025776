"""Expressions tried against SDP bodies: right, wrong and missed answers, and a bound for those that never end."""

from __future__ import annotations

import time

import pytest

from labkit.errors import LessonError
from labkit.lesson.regex_trial import LONGEST_RESULT, Trial, try_regex
from labkit.lesson.sdp_bodies import sdp_bodies

MEDIA = (r"(?s)\A(?>.*?\nm=audio)((?!\nm=).)*?\nc=IN IP. ([^/\s]+)", r"\2")
SESSION = (r"(?s)\A((?!\nm=).)*?\nc=IN IP. ([^/\s]+).*\nm=audio", r"\2")
ENDLESS = r"^c=IN IP4 ((\d+\.?)+)$"
ATTACK = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 " + "1" * 60 + "x\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def verdicts(trial: Trial) -> dict[str, str]:
    """Verdict by body, of those that are not right."""
    return {outcome.body: outcome.verdict for outcome in trial.outcomes if outcome.verdict != "right"}


def found(trial: Trial, body: str) -> str | None:
    """What was found in one body."""
    return next(outcome.found for outcome in trial.outcomes if outcome.body == body)


def test_the_missing_backslash_cuts_every_address_short() -> None:
    """The last number is gone in every IPv4 address, and what is left still looks like something."""
    trial = try_regex(r"c=IN IP4 (\d*.d*.\d*.\d*)", line="c=")
    assert trial.right == 0
    assert found(trial, "ice") == "192.0.2"
    assert found(trial, "video-call") == "10.10.10"
    assert verdicts(trial)["ipv6-phone"] == "missed"


def test_a_right_expression_on_the_wrong_line_is_wrong() -> None:
    """The first c= line is not always that of the audio stream."""
    trial = try_regex(r"^c=IN IP[46] ([^/\s]+)", line="c=")
    assert verdicts(trial) == dict.fromkeys(("media-server", "media-level-only", "fax", "no-media-yet"), "wrong")
    assert str(trial) == "address: 26 of 30 right, 4 wrong"


def test_a_line_end_that_kamailio_leaves_is_found() -> None:
    """Of CR LF nothing is left, but an LF alone stays on the line, and "anything but a blank" takes it."""
    trial = try_regex(r"^c=IN IP[46] ([^ /]+)", line="c=")
    assert verdicts(trial)["line-feeds-only"] == "wrong"
    assert found(trial, "line-feeds-only") == "10.1.22.133\n"
    assert r"10.1.22.133\n" in repr(trial)
    assert found(trial, "ims-phone") == "172.30.0.1"


def test_two_rows_in_order_find_every_address() -> None:
    """The stream's own c= line, else the session's, and nothing where there is no audio."""
    assert verdicts(try_regex(MEDIA, SESSION)) == {}
    assert verdicts(try_regex(SESSION, MEDIA)) == {"media-server": "wrong"}


def test_first_audio_line_gives_every_port() -> None:
    """The first m= line does not, where it is video's."""
    assert verdicts(try_regex(r"m=audio (\d+)", line="m=audio", finds="port")) == {}
    missed = verdicts(try_regex(r"m=audio (\d+)", line="m=", finds="port"))
    assert missed == dict.fromkeys(("port-pairs", "media-level-only", "sdes", "chat"), "missed")


def test_no_expression_adds_one() -> None:
    """The RTCP port is mostly not written down; where it is, it is found, and where RTCP is not wanted, nothing is."""
    trial = try_regex(r"^a=rtcp:(\d+)", line="a=rtcp:", finds="rtcp_port")
    assert found(trial, "rtcp-port") == "53020"
    assert verdicts(trial)["freeswitch-answer"] == "missed"
    assert {outcome.body for outcome in trial.outcomes if outcome.expected is None} == {
        "freeswitch-audio-refused", "ims-ussd", "fax", "no-media-yet",
    }  # fmt: skip


def test_posix_knows_no_digits() -> None:
    """In =~ and re.subst \\d is the letter d; a bracket is what both engines read."""
    assert try_regex(r"c=IN IP4 (\d+)", line="c=", engine="posix").right < 5
    both = [try_regex(r"^m=audio ([0-9]+)", line="m=audio", finds="port", engine=name) for name in ("pcre", "posix")]
    assert [trial.right for trial in both] == [30, 30]


def test_an_endless_search_is_ended() -> None:
    """It harms no body of the thirty, and one that was made for it takes no longer than the limit."""
    assert "out of time" not in verdicts(try_regex(ENDLESS, line="c=")).values()
    began = time.monotonic()
    trial = try_regex(ENDLESS, line="c=", bodies={"attack": ATTACK, "after it": sdp_bodies()["ims-phone"].text})
    assert verdicts(trial) == {"attack": "out of time"}
    assert time.monotonic() - began < 15  # two processes and one limit; by itself it would take years
    assert found(trial, "after it") == "172.30.0.1"


def test_many_endless_searches_are_not_all_awaited() -> None:
    """After the third the rest is left alone, and the trial says so."""
    trial = try_regex(ENDLESS, line="c=", bodies={f"attack {n}": ATTACK for n in range(6)}, limit_s=0.5)
    assert [outcome.verdict for outcome in trial.outcomes] == ["out of time"] * 3 + ["not tried"] * 3


def test_a_result_longer_than_kamailio_has_room_for_is_none() -> None:
    """The dialplan module gives out 126 letters; longer results fail there, too."""
    long = {"long": sdp_bodies()["ims-phone"].text.replace("s=-", "s=" + "x" * 300)}
    assert found(try_regex(f"^s=(x{{{LONGEST_RESULT}}})", line="s=", bodies=long), "long") == "x" * LONGEST_RESULT
    assert found(try_regex(f"^s=(x{{{LONGEST_RESULT + 1}}})", line="s=", bodies=long), "long") is None


@pytest.mark.parametrize(
    ("rows", "options", "part"),
    [
        ((), {}, "no expression"),
        (("(",), {}, "is none"),
        (("[",), {}, "no expression for pcre"),
        ((r"a\K",), {}, "cannot be tried here"),
        (("a",), {"finds": "codec"}, "there are address, port"),
        (("a",), {"engine": "perl"}, "'pcre' or 'posix'"),
        ((("(a)", r"\2"),), {}, "asks for group 2"),
        (("a",), {"bodies": {"mine": "hello"}}, "is no SDP"),
    ],
)
def test_what_cannot_be_tried_says_why(rows: tuple[str, ...], options: dict[str, object], part: str) -> None:
    """One sentence, no traceback of another process."""
    with pytest.raises(LessonError) as refused:
        try_regex(*rows, **options)  # type: ignore[arg-type]
    assert part in str(refused.value)


def test_it_shows_what_is_not_right() -> None:
    """As text and as HTML; what is right is not listed."""
    trial = try_regex(r"m=audio (\d+)", finds="port")
    assert repr(trial).splitlines()[0] == "port: 29 of 30 right, 1 wrong"
    assert "talkative" in repr(trial)
    assert "ims-phone" not in trial._repr_html_()
    assert list(trial.table.columns) == ["given", "expected", "found", "verdict"]
    assert repr(try_regex(MEDIA, SESSION)) == "address: 30 of 30 right"
