"""SDP bodies at the real proxy: what lesson 08 and `lk.try_regex` say of Kamailio is what both generations do."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit.errors import BlockRefused
from labkit.lab.lab import RunningLab, start_lab
from labkit.lab.learner.proxy import LearnersProxy
from labkit.lesson.dialplan import Dialplan, dialplan
from labkit.lesson.regex_trial import try_regex
from labkit.lesson.sdp_bodies import SdpBody, sdp_bodies
from labkit.wire.sip import SipMessage, parse_message

HEAD = """
loadmodule "db_sqlite"
loadmodule "sdpops"
loadmodule "dialplan"
modparam("dialplan", "db_url", "sqlite:///LESSON_FILES/rules.sqlite")
"""
WIDELY = r"o=[^ ]* (\d*) (\d*) IN IP4 (\d*.d*.\d*.\d*)"
EXPRESSIONS = {
    "cut short": ("c=", r"c=IN IP4 (\d*.d*.\d*.\d*)", r"\1"),
    "dots": ("c=", r"c=IN IP4 (\d+\.\d+\.\d+\.\d+)", r"\1"),
    "what stands there": ("c=", r"^c=IN IP[46] ([^ /]+)", r"\1"),
    "classes": ("m=", r"^m=[[:alpha:]]+ ([[:digit:]]+)", r"\1"),
    "first m=": ("m=", r"m=audio (\d*)", r"\1"),
    "audio": ("m=audio", r"m=audio (\d+)", r"\1"),
    "version": ("o=", WIDELY, r"\2"),
    "around": ("o=", r"(\d++) (\d++) IN (?<family>IP[46])", r"<\3:\1>"),
    "anywhere": ("", r"m=audio (\d+)", r"\1"),
    "own": ("", r"(?s)\A(?>.*?\nm=audio)((?!\nm=).)*?\nc=IN IP. ([^/\s]+)", r"\2"),
    "session": ("", r"(?s)\A((?!\nm=).)*?\nc=IN IP. ([^/\s]+).*\nm=audio", r"\2"),
}
"""Name -> the line that it is given (or the whole body), the expression, the replacement."""


@pytest.fixture(scope="module")
def lab(engine_name: str, live_home: Path) -> Iterator[RunningLab]:
    """The proxy alone."""
    running = start_lab(f"sdp-{engine_name}", engine_name, nodes=("proxy",))
    yield running
    running.stop()


@pytest.fixture
def proxy(lab: RunningLab) -> Iterator[LearnersProxy]:
    """The proxy as a learner drives it; plain again afterwards."""
    driven = LearnersProxy(lab)
    yield driven
    driven.files = {}
    driven.restore()


Ask = Callable[[SdpBody], str]


@pytest.fixture
def ask(lab: RunningLab) -> Iterator[Ask]:
    """Send an INVITE with exactly this body, and return what the block then had in $var(said)."""
    address, port = lab.phone_address(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((address, port))
        here.settimeout(60)

        def send(body: SdpBody) -> str:
            token = f"{time.monotonic_ns()}"
            headers = [
                ("Via", f"SIP/2.0/UDP {address}:{port};branch=z9hG4bK{token}"),
                ("From", "<sip:a@example.org>;tag=1"),
                ("To", "<sip:b@example.org>"),
                ("Call-ID", token),
                ("CSeq", "1 INVITE"),
                ("Content-Type", "application/sdp"),
            ]
            invite = SipMessage.request("INVITE", "sip:b@example.org", headers, body.text.encode())
            here.sendto(invite.to_bytes(), lab.sip_address("proxy"))
            while (reply := parse_message(here.recv(65535))).header("call-id") != token:
                pass
            return bytes.fromhex(reply.reason.partition(" ")[2]).decode()

        yield send


def start(proxy: LearnersProxy, block: str, rules: Dialplan | None = None) -> None:
    """Start a block that answers every INVITE with what it has in $var(said)."""
    proxy.files = {"rules.sqlite": rules.sqlite} if rules else {}
    head = HEAD if rules else 'loadmodule "sdpops"\n'
    answer = 'sl_send_reply("480", "Said: $(var(said){s.encode.hexa})");'  # in hex, for it may have line ends
    text = f'if (is_method("ACK")) exit;\n$var(said) = "";\n{block}\n{answer}\nexit;'
    proxy.start(f"{head}request_route {{\n{text}\n}}\n", {})


def test_a_trial_says_what_kamailio_does(proxy: LearnersProxy, ask: Ask) -> None:
    """Eleven expressions over thirty bodies, letter by letter; but sdpops gives nothing of a body without a stream."""
    rows = [(number, pattern, out) for number, (_, pattern, out) in enumerate(EXPRESSIONS.values())]
    block = "$var(body) = $sdp(body);\n"
    for number, (line, _, _) in enumerate(EXPRESSIONS.values()):
        given = f'sdp_get_line_startswith("$avp(x)", "{line}")' if line else "$sdp(body) != $null"
        source = "$avp(x)" if line else "$var(body)"
        block += f'$avp(x) = $null; $var(out) = "-";\nif ({given}) dp_translate("{number}", "{source}/$var(out)");\n'
        block += '$var(said) = $var(said) + "|" + $var(out);\n'
    start(proxy, block, dialplan(*rows))
    real = {name: ask(body).split("|")[1:] for name, body in sdp_bodies().items()}
    assert real.pop("no-media-yet") == ["-"] * len(EXPRESSIONS)
    for number, (line, pattern, out) in enumerate(EXPRESSIONS.values()):
        tried = {one.body: one.found for one in try_regex((pattern, out), line=line).outcomes}
        expected = {name: tried[name] or "-" for name in real}
        assert {name: said[number] for name, said in real.items()} == expected, pattern


def test_posix_expressions_read_no_backslash_d(proxy: LearnersProxy, ask: Ask) -> None:
    """In re.subst a bracket finds the port of every body, and \\d the letter d: nothing is replaced."""
    for pattern in (r"^m=audio ([0-9]+).*", r"^m=audio (\d+).*"):
        start(proxy, f"$var(said) = $(sdp(body){{line.sw,m=audio}}{{re.subst,/{pattern}/\\1/}});")
        tried = try_regex(pattern, line="m=audio", finds="port", engine="posix")
        for one in tried.outcomes:
            if one.given is not None:
                assert ask(sdp_bodies()[one.body]) == (one.found or one.given.strip()), (pattern, one.body)


def test_the_variable_of_newer_versions_is_the_last_streams_address(
    lab: RunningLab, proxy: LearnersProxy, ask: Ask
) -> None:
    """$sdp(c:ip): 5.6 does not start with it; 6.0 gives the address of the last stream, and not of the first."""
    if lab.versions()["proxy"].startswith("5."):
        with pytest.raises(BlockRefused):
            start(proxy, "$var(said) = $sdp(c:ip);")
        return
    start(proxy, "$var(said) = $sdp(c:ip);")
    for name, body in sdp_bodies().items():
        if body.description.media:
            last = body.description.media_address(len(body.description.media) - 1)[0]
            assert ask(body).partition("/")[0] == last, name


def test_pcre_gives_up_and_says_no_match(proxy: LearnersProxy, ask: Ask) -> None:
    """Forty digits would take years; ten million steps later the row does not fit, and the proxy lives."""
    rules = dialplan((500, r"^c=IN IP4 ((\d+\.?)+)$", r"\1"))
    start(proxy, 'sdp_get_line_startswith("$avp(c)", "c=");\n$var(said) = dp_match("500", "$avp(c)");', rules)
    phone = sdp_bodies()["ims-phone"]
    attack = SdpBody("attack", "", phone.text.replace("c=IN IP4 172.30.0.1", "c=IN IP4 " + "1" * 40 + "x"))
    began = time.monotonic()
    assert ask(phone) == "1"
    quick = time.monotonic() - began
    began = time.monotonic()
    assert ask(attack) == "-1"
    assert time.monotonic() - began > 2 * quick
    assert ask(phone) == "1"


def test_lines_may_end_in_lf_alone(proxy: LearnersProxy, ask: Ask) -> None:
    """As RFC 8866 section 9 asks of readers, both ways read them; but sdpops leaves the LF on its line."""
    phone, embedded = sdp_bodies()["ims-phone"], sdp_bodies()["line-feeds-only"]
    start(proxy, 'sdp_get_line_startswith("$avp(m)", "m=");\n$var(said) = $avp(m);')
    assert (ask(phone), ask(embedded)) == ("m=audio 40000 RTP/AVP 8 101", "m=audio 10500 RTP/AVP 18 0\n")
    start(proxy, "$var(said) = $(sdp(body){line.sw,m=});")
    assert (ask(phone), ask(embedded)) == ("m=audio 40000 RTP/AVP 8 101", "m=audio 10500 RTP/AVP 18 0")
