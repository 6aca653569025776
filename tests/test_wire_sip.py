"""SIP messages, held against recordings, RFC 4475's torture messages, RFC 3261's examples, and tshark."""

from __future__ import annotations

import json
import subprocess

import pytest
from sip_bytes import IMS, all_recorded, crlf, recorded_sip, recordings
from sip_torture import EVERYTHING, INVALID, OTHER, TOLERATED, UNREADABLE, VALID

from labkit.errors import SipError
from labkit.wire.sip import (
    Address,
    SipMessage,
    header_key,
    looks_like_sip,
    message_end,
    parse_address,
    parse_host_port,
    parse_message,
    parse_params,
    parse_uri,
    parse_via,
    problems,
    salvage,
    split_list,
    split_stream,
)

pytestmark = pytest.mark.usefixtures("loops")

REGISTER_RFC3665 = crlf("""REGISTER sips:ss2.biloxi.example.com SIP/2.0
Via: SIP/2.0/TLS client.biloxi.example.com:5061;branch=z9hG4bKnashds7
Max-Forwards: 70
From: Bob <sips:bob@biloxi.example.com>;tag=a73kszlfl
To: Bob <sips:bob@biloxi.example.com>
Call-ID: 1j9FpLxk3uxtm8tn@biloxi.example.com
CSeq: 1 REGISTER
Contact: <sips:bob@client.biloxi.example.com>
Content-Length: 0

""")
"""RFC 3665 section 2.1, message F1."""


RINGING_RFC3261 = crlf("""SIP/2.0 180 Ringing
Via: SIP/2.0/UDP server10.biloxi.com;branch=z9hG4bK4b43c2ff8.1
 ;received=192.0.2.3
Via: SIP/2.0/UDP bigbox3.site3.atlanta.com;branch=z9hG4bK77ef4c2312983.1
 ;received=192.0.2.2
Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKnashds8
 ;received=192.0.2.1
To: Bob <sip:bob@biloxi.com>;tag=a6c85cf
From: Alice <sip:alice@atlanta.com>;tag=1928301774
Call-ID: a84b4c76e66710
Contact: <sip:bob@192.0.2.4>
CSeq: 314159 INVITE
Content-Length: 0

""")
"""RFC 3261 section 24.2, message F6."""


# ---- recordings -----------------------------------------------------------------------------------------------------
def test_recorded_messages_come_back_byte_for_byte() -> None:
    """Every SIP message that a real IMS core sent is read, found fine, and written back unchanged."""
    messages = all_recorded()
    assert len(messages) > 300
    for raw in messages:
        message = parse_message(raw)
        assert message.to_bytes() == raw
        assert looks_like_sip(raw)
        assert problems(message) == []


def test_recorded_messages_can_be_written_anew() -> None:
    """What was read suffices to write the message again: these cores write headers the plain way."""
    for raw in all_recorded():
        read = parse_message(raw)
        anew = SipMessage(read.method, read.request_uri, read.status, read.reason, read.headers, read.body)
        assert anew.to_bytes() == raw


def test_every_truncation_is_refused_in_words() -> None:
    """A message that ends anywhere too early gives a SipError with an offset inside of it, and nothing else."""
    for raw in (*all_recorded()[:40], *VALID.values()):
        for size in range(len(raw)):
            message, error = _read(raw[:size])
            salvage(raw[:size])
            looks_like_sip(raw[:size])
            if error is not None:
                assert error.offset is not None
                assert 0 <= error.offset <= size
            elif message is not None:
                # only a message without Content-Length may end early unnoticed, and dblreq, which is two
                assert message.header("content-length") is None or len(message.to_bytes()) <= size


def _read(raw: bytes) -> tuple[SipMessage | None, SipError | None]:
    try:
        return parse_message(raw), None
    except SipError as error:
        return None, error


@pytest.mark.parametrize("name", recordings())
def test_stream_is_cut_wherever_the_segments_end(name: str) -> None:
    """The messages of a recording, put behind each other and fed byte by byte, come out as they were."""
    messages = [raw for _, raw in recorded_sip(name)][:6]
    buffer, found = b"", []
    for byte in b"\r\n\r\n".join(messages):
        complete, buffer = split_stream(buffer + bytes([byte]))
        found += complete
    assert found == messages
    assert buffer == b""


@pytest.mark.tshark
@pytest.mark.parametrize("name", recordings())
def test_tshark_sees_the_same(name: str) -> None:
    """tshark reads the same start line, Call-ID, CSeq, tags, users, branch and length out of every recorded message."""
    fields = [
        "sip.Method",
        "sip.r-uri",
        "sip.Status-Code",
        "sip.Call-ID",
        "sip.CSeq.seq",
        "sip.CSeq.method",
        "sip.from.tag",
        "sip.to.tag",
        "sip.from.user",
        "sip.to.user",
        "sip.Via.branch",
        "sip.Content-Length",
        "sip.contact.uri",
    ]
    command = ["tshark", "-r", str(IMS / name), "-Y", "sip", "-T", "json", "-J", "sip"]
    for port in (5060, 4060, 6060, 5070):
        command += ["-d", f"udp.port=={port},sip"]
    for field in ("frame.number", *fields):
        command += ["-e", field]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    seen = {
        int(one["_source"]["layers"]["frame.number"][0]): one["_source"]["layers"] for one in json.loads(run.stdout)
    }
    assert set(seen) == {number for number, _ in recorded_sip(name)}
    for number, raw in recorded_sip(name):
        message, theirs = parse_message(raw), seen[number]
        contacts = [parse_address(value).uri for value in message.all("contact") if value != "*"]
        ours = {
            "sip.Method": message.method or None,
            "sip.r-uri": message.request_uri or None,
            "sip.Status-Code": str(message.status) if message.status else None,
            "sip.Call-ID": message.call_id,
            "sip.CSeq.seq": str(message.cseq),
            "sip.CSeq.method": message.cseq_method,
            "sip.from.tag": message.from_tag,
            "sip.to.tag": message.to_tag,
            "sip.from.user": message.from_user,
            "sip.to.user": message.to_user,
            "sip.Via.branch": message.branch,
            "sip.Content-Length": message.header("content-length"),
            "sip.contact.uri": contacts[0] if contacts else None,
        }
        expected = {field: theirs.get(field, [None])[0] for field in fields}
        for field in ("sip.from.user", "sip.to.user"):
            if expected[field] is None:
                # tshark 4.0 names no user of a tel: URI, nor one before a host of a single letter
                expected[field] = ours[field]
        assert ours == expected, (name, number)


# ---- RFC 4475 -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in VALID if name != "dblreq"])
def test_torture_valid(name: str) -> None:
    """Messages that RFC 4475 section 3.1.1 calls valid are read, found fine, and come back byte for byte."""
    message = parse_message(VALID[name])
    assert problems(message) == []
    assert message.to_bytes() == VALID[name]
    assert split_stream(VALID[name]) == ([VALID[name]], b"")


def test_torture_wsinv() -> None:
    """Folded, spaced and compact headers are read as what they mean (RFC 4475 section 3.1.1.1)."""
    message = parse_message(VALID["wsinv"])
    assert (message.cseq, message.cseq_method) == (9, "INVITE")
    assert (message.from_user, message.from_tag, message.to_tag) == ("jdrosen", "98asjd8", "1918181833n")
    assert parse_address(message.header("from") or "").display == 'J Rosenberg \\"'
    vias = [parse_via(value) for value in message.all("via")]
    assert [via.host for via in vias] == ["192.0.2.2", "spindle.example.com", "192.168.255.111"]
    assert [via.param("branch") for via in vias] == ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
    assert message.header("subject") == ""
    assert message.header("NewFangledHeader") == "newfangled value continued newfangled value"
    contact = parse_address(message.all("contact")[0])
    assert contact == Address(
        'Quoted string ""', "sip:jdrosen@example.com", (("newparam", "newvalue"), ("secondparam", None), ("q", "0.33"))
    )
    assert len(message.body) == 150


def test_torture_characters() -> None:
    """Method, user and tag may hold every character of the grammar (section 3.1.1.2)."""
    message = parse_message(VALID["intmeth"])
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~" == message.cseq_method
    assert parse_uri(message.request_uri).host == "example.com"
    assert parse_uri(message.request_uri).user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.to_user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.from_tag == "_token~1'+`*%!-."
    assert parse_address(message.header("from") or "").param("fromparam''~+*_!.-%") == "работающий"


def test_torture_escapes_are_not_header_names() -> None:
    """An escaped header or method name is another name (section 3.1.1.5)."""
    message = parse_message(VALID["esc02"])
    assert message.method == "RE%47IST%45R"
    assert len(message.all("contact")) == 2


def test_torture_two_requests_in_one_datagram() -> None:
    """What follows the body of a datagram's first message is not part of it (section 3.1.1.8)."""
    message = parse_message(VALID["dblreq"])
    assert message.method == "REGISTER"
    assert message.to_bytes() == VALID["dblreq"].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def test_torture_semicolon_in_user() -> None:
    """A semicolon before the @ belongs to the user (section 3.1.1.9)."""
    uri = parse_uri(parse_message(VALID["semiuri"]).request_uri)
    assert (uri.user, uri.host, uri.params) == ("user;par=u%40example.net", "example.com", ())


def test_torture_transports() -> None:
    """Every transport is taken in Via (section 3.1.1.10)."""
    vias = [parse_via(value) for value in parse_message(VALID["transports"]).all("via")]
    assert [via.transport for via in vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_torture_reason_phrases() -> None:
    """A reason phrase may be any UTF-8, or nothing (sections 3.1.1.12 and 3.1.1.13)."""
    assert parse_message(VALID["unreason"]).reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert parse_message(VALID["noreason"]).reason == ""


@pytest.mark.parametrize("name", list(INVALID))
def test_torture_invalid(name: str) -> None:
    """A broken message is either refused as unreadable, or its problem is named, or nothing that matters is broken."""
    if name in UNREADABLE:
        with pytest.raises(SipError) as caught:
            parse_message(INVALID[name])
        assert caught.value.offset is not None
        return
    found = problems(parse_message(INVALID[name]))
    assert bool(found) == (name not in TOLERATED), found


@pytest.mark.parametrize("name", list(OTHER))
def test_torture_well_formed(name: str) -> None:
    """Messages that are to be refused for what they mean are readable and fine in form."""
    message = parse_message(OTHER[name])
    assert problems(message) == []
    assert message.to_bytes() == OTHER[name]


def test_broken_requests_can_still_be_answered() -> None:
    """Of a request that cannot be read enough is saved to answer it."""
    for name in ("clerr", "ncl", "lwsruri", "lwsstart", "trws", "mcl01"):
        saved = salvage(INVALID[name])
        assert saved is not None, name
        assert saved.call_id is not None
        assert saved.call_id.startswith(name)
        assert saved.branch or name in ("lwsruri", "lwsstart")
    assert salvage(b"\x80\x00\x01garbage") is None


# ---- RFC 3261 and friends -------------------------------------------------------------------------------------------
def test_register_of_rfc3665() -> None:
    """A plain REGISTER is read into the values that the RFC's text names."""
    message = parse_message(REGISTER_RFC3665)
    assert message.is_request
    assert (message.method, message.request_uri) == ("REGISTER", "sips:ss2.biloxi.example.com")
    assert (message.call_id, message.cseq) == ("1j9FpLxk3uxtm8tn@biloxi.example.com", 1)
    assert (message.from_user, message.from_tag, message.to_user, message.to_tag) == ("bob", "a73kszlfl", "bob", None)
    assert message.branch == "z9hG4bKnashds7"
    assert repr(message) == "<SIP REGISTER sips:ss2.biloxi.example.com>"


def test_ringing_of_rfc3261() -> None:
    """A 180 that passed three hops, with folded Via lines: the top Via comes first, each with where it was received."""
    message = parse_message(RINGING_RFC3261)
    assert (message.status, message.reason, message.is_request) == (180, "Ringing", False)
    vias = [parse_via(value) for value in message.all("via")]
    assert [via.host for via in vias] == ["server10.biloxi.com", "bigbox3.site3.atlanta.com", "pc33.atlanta.com"]
    assert [via.param("received") for via in vias] == ["192.0.2.3", "192.0.2.2", "192.0.2.1"]
    assert message.branch == "z9hG4bK4b43c2ff8.1"
    assert (message.from_user, message.from_tag, message.to_user, message.to_tag) == (
        "alice",
        "1928301774",
        "bob",
        "a6c85cf",
    )
    assert (message.cseq, message.cseq_method) == (314159, "INVITE")
    assert message.to_bytes() == RINGING_RFC3261
    assert repr(message) == "<SIP 180 Ringing (answer to INVITE)>"


def test_compact_and_long_names_are_one() -> None:
    """RFC 3261 section 7.3.3: a compact name stands for its long one, in any letter case."""
    assert [header_key(name) for name in ("v", "V", "VIA", "vIa", "Via")] == ["via"] * 5
    message = parse_message(b"OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bKx\r\nI: 1\r\nl: 0\r\n\r\n")
    assert message.header("Via") == "SIP/2.0/UDP h;branch=z9hG4bKx"
    assert message.call_id == "1"
    assert message.headers[0][0] == "v"


def test_lists_are_split_where_the_grammar_has_lists() -> None:
    """RFC 3261 section 7.3.1: one Route line with three values equals three lines; a Date keeps its comma."""
    one = b'INVITE sip:b@c SIP/2.0\r\nRoute: <sip:a,b@x;lr>, "q, r" <sip:y>,<sip:z>\r\nDate: Sat, 13 Nov 2010\r\n\r\n'
    message = parse_message(one)
    assert message.all("route") == ("<sip:a,b@x;lr>", '"q, r" <sip:y>', "<sip:z>")
    assert message.all("date") == ("Sat, 13 Nov 2010",)
    assert split_list('"a \\", b", c,, d,') == ('"a \\", b"', "c", "d")


def test_both_ways_of_reading_headers_agree() -> None:
    """One header that is not usual has all headers read line by line; the other headers come out the same."""
    for raw in all_recorded():
        usual = parse_message(raw)
        start, _, rest = raw.partition(b"\r\n")
        for odd, read in (
            (b"X-Odd :  a \t", ("X-Odd", "a")),
            (b"X-Odd:", ("X-Odd", "")),
            (b"X-Odd: a\r\n b", ("X-Odd", "a b")),
        ):
            message = parse_message(b"\r\n".join((start, odd, rest)))
            assert message.headers == (read, *usual.headers)
            assert (message.start_line, message.body) == (usual.start_line, usual.body)


def test_lines_of_blanks_cost_no_more_than_their_length() -> None:
    """Long runs of blanks in a header's value, at its start, in its middle or at its end, are read in one go."""
    blanks = b" " * 50_000
    for value, read in ((blanks, ""), (blanks + b"a", "a"), (b"a" + blanks, "a"), (b"a" + blanks + b"b", None)):
        message = parse_message(b"OPTIONS sip:a SIP/2.0\r\nX: %b\r\n\r\n" % value)
        assert message.header("x") == (value.decode() if read is None else read)


@pytest.mark.parametrize("name", ["Content-length", "CONTENT-LENGTH", "L", "l"])
def test_length_in_any_spelling(name: str) -> None:
    """Content-Length counts in whatever letters it is written, and two must agree."""
    raw = b"OPTIONS sip:a SIP/2.0\r\nX: y\r\n%b: 2\r\n\r\nabcd" % name.encode()
    assert parse_message(raw).body == b"ab"
    with pytest.raises(SipError, match="contradict"):
        parse_message(raw.replace(b"X: y", b"Content-Length: 3"))


@pytest.mark.parametrize("end", ["\r\n\r\n", "\n\n", "\n\r\n"])
@pytest.mark.parametrize("body", [b"", b"\r\n\r\n", b"a\n\nb\r\n\r\n", b"a: b\r\n\r\n"])
def test_the_first_empty_line_ends_the_headers(end: str, body: bytes) -> None:
    """However its line ends, and whatever the body looks like or ends with."""
    head = f"OPTIONS sip:a@b SIP/2.0\r\nCSeq: 1 OPTIONS\r\nl: {len(body)}{end}".encode()
    message = parse_message(head + body + b"\r\n\r\n")
    assert message.headers == (("CSeq", "1 OPTIONS"), ("l", str(len(body))))
    assert message.body == body
    assert message.to_bytes() == head + body


def test_a_stray_cr_around_a_value_is_a_blank() -> None:
    """It is kept inside a value; and a Content-Length, which decides where a message ends, has none."""
    message = parse_message(b"OPTIONS sip:a@b SIP/2.0\r\nSubject: \ra\rb\r\r\nX: c\r\r\nl: 0\r\n\r\n")
    assert message.headers == (("Subject", "a\rb"), ("X", "c"), ("l", "0"))
    with pytest.raises(SipError, match="no number"):
        parse_message(b"OPTIONS sip:a@b SIP/2.0\r\nl: 0\r\r\n\r\n")


def test_lf_only_messages_are_read() -> None:
    """Lines that end in a bare LF are taken, and the bytes stay as they were."""
    raw = REGISTER_RFC3665.replace(b"\r\n", b"\n")
    message = parse_message(raw)
    assert message.call_id == "1j9FpLxk3uxtm8tn@biloxi.example.com"
    assert message.to_bytes() == raw
    mixed = b"OPTIONS sip:a SIP/2.0\nCall-ID: 1\n\r\nbody\r\n\r\nmore"
    assert parse_message(mixed).body == b"body\r\n\r\nmore"


def test_what_stands_around_a_message_is_not_part_of_it() -> None:
    """Empty lines before the start line and bytes after the body are dropped (RFC 3261 sections 7.5 and 18.3)."""
    message = parse_message(b"\r\n\r\n" + REGISTER_RFC3665 + b"tail")
    assert message.to_bytes() == REGISTER_RFC3665


def test_changing_a_message_forgets_the_old_bytes() -> None:
    """A message made from another one's parts writes its own parts, not the bytes of the other one."""
    from dataclasses import replace

    read = parse_message(REGISTER_RFC3665)
    changed = replace(read, request_uri="sip:elsewhere")
    assert changed.to_bytes().startswith(b"REGISTER sip:elsewhere SIP/2.0\r\nVia: ")


@pytest.mark.parametrize(
    ("text", "user", "host", "port", "params"),
    [
        ("sip:alice@atlanta.com", "alice", "atlanta.com", None, ()),
        ("sip:alice:secretword@atlanta.com;transport=tcp", "alice", "atlanta.com", None, (("transport", "tcp"),)),
        ("sips:alice@atlanta.com?subject=project%20x&priority=urgent", "alice", "atlanta.com", None, ()),
        (
            "sip:+1-212-555-1212:1234@gateway.com;user=phone",
            "+1-212-555-1212",
            "gateway.com",
            None,
            (("user", "phone"),),
        ),
        ("sip:1212@gateway.com:5080", "1212", "gateway.com", 5080, ()),
        ("sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com", "", "atlanta.com", None, (("method", "REGISTER"),)),
        ("sip:alice;day=tuesday@atlanta.com", "alice;day=tuesday", "atlanta.com", None, ()),
        ("sip:j@[2001:db8::9:1]:5070;lr", "j", "2001:db8::9:1", 5070, (("lr", None),)),
        ("tel:+15550002;phone-context=x", "+15550002", "", None, (("phone-context", "x"),)),
    ],
)
def test_uris_of_rfc3261(text: str, user: str, host: str, port: int | None, params: tuple[object, ...]) -> None:
    """The URIs of RFC 3261 section 19.1.3, RFC 5118 and RFC 3966 are read into their parts."""
    uri = parse_uri(text)
    assert (uri.user, uri.host, uri.port, uri.params, uri.text) == (user, host, port, params, text)


@pytest.mark.parametrize("text", ["", "alice", "sip:", "sip:alice@", "sip:a@b:0", "sip:a@b:99999", "sip:a@b:5x"])
def test_wrong_uris_are_refused(text: str) -> None:
    """A URI without scheme, host or with an impossible port is a SipError."""
    with pytest.raises(SipError):
        parse_uri(text)


def test_addresses_of_rfc3261() -> None:
    """name-addr and addr-spec of section 20.10: parameters behind an addr-spec belong to the header."""
    assert parse_address('"Mr. Watson" <sip:w@w.com>;q=0.7; expires=3600') == Address(
        "Mr. Watson", "sip:w@w.com", (("q", "0.7"), ("expires", "3600"))
    )
    assert parse_address("sip:w@w.com;tag=1") == Address("", "sip:w@w.com", (("tag", "1"),))
    assert parse_address("Bob <sip:b@c;tag=in>;tag=out").param("tag") == "out"
    for wrong in ("", '"a <sip:b@c>', "<sip:b@c", ";tag=1", '"'):
        with pytest.raises(SipError):
            parse_address(wrong)


def test_params_and_hosts() -> None:
    """Quoted parameter values may hold semicolons and escapes; hosts may be IPv6 addresses in brackets."""
    assert parse_params('a="x;\\"y" ; b;c = d') == (("a", 'x;"y'), ("b", None), ("c", "d"))
    assert parse_host_port("[::1]:5060") == ("::1", 5060)
    assert parse_host_port("h") == ("h", None)
    via = parse_via("SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bKa;rport")
    assert (via.host, via.port, via.param("rport"), via.param("received")) == ("2001:db8::1", 5060, "", None)


def test_streams_that_cannot_be_cut_are_given_up() -> None:
    """Garbage, a wrong Content-Length, or headers without an end close a TCP connection instead of filling memory."""
    for wrong in (b"GET / HTTP/1.1\r\n", b"OPTIONS sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n"):
        with pytest.raises(SipError):
            split_stream(wrong)
    with pytest.raises(SipError):
        split_stream(b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * 70000)
    with pytest.raises(SipError):
        split_stream(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 99999999\r\n\r\n")
    assert message_end(b"OPTIONS sip:a SIP/2.0\r\nl: 7\r\n\r\n") == 38


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"SIP/2.0 200 OK\r\n", True),
        (b"\r\n\r\nINVITE sip:a@b SIP/2.0\r\n", True),
        (b"MESSAGE tel:+1 SIP/2.0\n", True),
        (b"GET / HTTP/1.1\r\n", False),
        (b"", False),
        (b"\r\n\r\n", False),
        (b"\x80\x00\x12\x34", False),
        (b"\x01\x00\x00\x14", False),
    ],
)
def test_sip_is_told_from_other_things(raw: bytes, expected: bool) -> None:
    """The quick look says yes to SIP, and no to HTTP, RTP, Diameter and keep-alives."""
    assert looks_like_sip(raw) is expected


def test_every_torture_message_looks_like_sip() -> None:
    """The quick look lets no SIP message of RFC 4475 pass as something else, but for wrong versions and start lines."""
    odd = {"trws", "badvers", "bigcode", "intmeth"}
    for name, raw in EVERYTHING.items():
        assert looks_like_sip(raw) or name in odd, name
