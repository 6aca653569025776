"""A message with its parts explained."""

from __future__ import annotations

import re

import pytest

from labkit.view.explained import Explained, xml_lines
from labkit.view.message import explain
from labkit.view.message_diameter import _DEEPEST
from labkit.wire.diameter import Avp
from tests.ims_bytes import all_messages, one_of_each
from tests.view_messages import recording


def explained(name: str, row: int) -> Explained:
    """Explain one message of a recording."""
    messages = recording(name)
    return explain(messages.raw[row], str(messages.table.at[row, "protocol"]))


def part_values(message: Explained) -> dict[str, str]:
    """Name of each part to its value (the last one of each name)."""
    return {part.name: part.value for part in message.parts}


def test_sip_headers_come_in_order_with_what_they_are() -> None:
    """Every header of a recorded REGISTER is there, as written, and has an explanation with its source."""
    message = explained("01", 0)
    lines = recording("01").raw[0].decode().partition("\r\n\r\n")[0].split("\r\n")[1:]
    assert [f"{part.name}: {part.value}" for part in message.parts] == lines
    assert all(part.about and part.spec.startswith("RFC ") for part in message.parts)
    assert message.title == "SIP request REGISTER"
    assert message.first_line.startswith("REGISTER sip:ims.")


@pytest.mark.parametrize("name", ["01", "04", "05", "09", "11", "13", "14", "15", "16"])
def test_no_header_of_a_real_core_is_left_unexplained(name: str) -> None:
    """What CSCFs, phones and an application server send is in the tables, but for headers made for a test."""
    messages = recording(name)
    for row, protocol in enumerate(messages.table["protocol"]):
        for part in explain(messages.raw[row], str(protocol)).parts:
            assert part.about or part.name == "body" or part.name.startswith(("X-", "P-", "a=")), part


def test_the_answer_to_an_invite_shows_its_sdp() -> None:
    """Lines of the body are parts, one level deeper, and say where media goes and where it does not."""
    messages = recording("05")
    row = next(row for row, method in enumerate(messages.table["method"].fillna("")) if method == "INVITE")
    values = part_values(explain(messages.raw[row], "sip"))
    assert values["body"] == "9 lines of SDP"
    assert values["c="].startswith("IN IP4 ")
    assert values["a=sendrecv"] == ""
    text = str(explain(messages.raw[row], "sip"))
    assert "a=rtpmap:8 PCMA/8000" in text
    assert "Media does not go here" in text


def test_diameter_is_a_tree_of_names_flags_and_values() -> None:
    """The UAA that is misread most often: no Result-Code, and 2001 inside Experimental-Result."""
    message = explained("01", 3)
    assert "Result-Code (268)" not in message.names
    tree = [(part.depth, part.name, part.flags, part.value) for part in message.parts]
    place = tree.index((0, "Experimental-Result (297)", "-M-", ""))
    assert tree[place + 1 : place + 3] == [
        (1, "Vendor-Id (266)", "-M-", "10415 3GPP"),
        (1, "Experimental-Result-Code (298)", "-M-", "2001 DIAMETER_FIRST_REGISTRATION"),
    ]
    assert (0, "Server-Capabilities (603)", "VM-", "") in tree


def test_the_challenge_is_taken_apart() -> None:
    """RAND and AUTN are 16 bytes each."""
    (part,) = [part for part in explained("01", 6).parts if part.name.startswith("SIP-Authenticate ")]
    assert [re.sub(r"[0-9a-f]{32}", "#", line) for line in part.lines] == ["RAND #", "AUTN #"]


def test_the_profile_is_laid_out() -> None:
    """User-Data is XML; its elements stand one a line, indented."""
    text = str(explained("01", 14))
    assert "\n      <PrivateID>001010000000001@ims.mnc001.mcc001.3gppnetwork.org</PrivateID>\n" in text


def test_every_recorded_diameter_message_is_named_whole() -> None:
    """No AVP without a name, no value that does not fit its type, for each command and direction."""
    for raw in one_of_each().values():
        message = explain(raw, "diameter")
        assert message.about
        for part in message.parts:
            assert not part.name.startswith("AVP "), part
            assert "does not fit" not in part.about, part


def test_text_fits_the_page() -> None:
    """At most 100 columns, whatever the values."""
    for raw in all_messages()[::7]:
        message = explain(raw, "diameter")
        assert max(map(len, f"{message}\n{message!r}".splitlines())) <= 100
    for raw, protocol in zip(recording("05").raw, recording("05").table["protocol"], strict=True):
        message = explain(raw, str(protocol))
        assert max(map(len, f"{message}\n{message!r}".splitlines())) <= 100


def test_the_outline_is_the_same_in_every_run() -> None:
    """Two runs of the same registration: other branches, tags, nonces and identifiers, the same outline."""
    for row in range(18):
        one, other = explained("01", row), explained("02", row)
        assert repr(one) == repr(other)
        assert str(one) != str(other)


def test_the_outline_shows_what_matters_and_no_address() -> None:
    """Results and identities yes; addresses, ports and times no."""
    outline = repr(explained("01", 3))
    assert "Experimental-Result-Code (298) [-M-] = 2001 DIAMETER_FIRST_REGISTRATION" in outline
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", "".join(repr(explained("01", row)) for row in range(18)))


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def test_html_of_sip_is_escaped() -> None:
    """In the start line, in names and values of headers, in the body."""
    raw = (
        f"REGISTER sip:{EVIL.replace(' ', '')} SIP/2.0\r\nVia: {EVIL}\r\nX-{EVIL[:0]}A: {EVIL}\r\n"
        f"Content-Type: application/sdp\r\n\r\nv=0\r\na={EVIL}\r\n{EVIL}\r\n"
    ).encode()
    for message in (explain(raw, "sip"), explain(EVIL.encode(), "sip"), explain(EVIL.encode() * 9, "diameter")):
        html = message._repr_html_()
        assert "<script" not in html
        assert "<img" not in html
        assert "&lt;script&gt;" in html or message.title == "Damaged Diameter message"


def test_html_of_diameter_is_escaped() -> None:
    """In text AVPs and in the XML of a profile."""
    raw = recording("01").raw[14]
    evil = raw.replace(b"<PrivateID>001", b"<script>al(1);")
    assert len(evil) == len(raw)
    html = explain(evil, "diameter")._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_control_characters_do_nothing() -> None:
    """A terminal that prints a message is not steered by it."""
    raw = b"OPTIONS sip:x SIP/2.0\r\nSubject: \x1b[2J\x07\x9b\r\nContent-Type: text/plain\r\n\r\n\x1b]0;owned\x07"
    for shown in (str(explain(raw, "sip")), repr(explain(raw, "sip")), explain(raw, "sip")._repr_html_()):
        assert "\x1b" not in shown
        assert "\x07" not in shown


@pytest.mark.parametrize(("name", "row"), [("01", 0), ("01", 3), ("01", 14), ("05", 38)])
def test_a_message_cut_anywhere_is_still_shown(name: str, row: int) -> None:
    """Damaged, with the reason, and never an exception."""
    raw, protocol = recording(name).raw[row], str(recording(name).table.at[row, "protocol"])
    for size in range(len(raw)):
        message = explain(raw[:size], protocol)
        assert str(message)
        assert message._repr_html_()
    assert explain(raw[:30], protocol).title.startswith("Damaged")


def test_groups_without_end_end() -> None:
    """A group in a group in a group, deeper than anything means, is shown up to a depth."""
    avp = Avp(1, b"x", 0, 0x40)
    for _ in range(100):
        avp = Avp(297, avp.to_bytes(), 0, 0x40)
    body = avp.to_bytes()
    header = (20 + len(body)).to_bytes(3, "big")
    raw = b"\x01" + header + b"\x80\x00\x01\x2c" + bytes(12) + body
    assert max(part.depth for part in explain(raw, "diameter").parts) <= _DEEPEST + 1


def test_xml_is_laid_out_and_not_resolved() -> None:
    """Entities stay what they are: nobody can make a reader fetch or grow anything."""
    bomb = '<!DOCTYPE a [<!ENTITY b "xx"><!ENTITY c "&b;&b;">]><a><b>&c;</b><d/></a>'
    lines = xml_lines(bomb)
    assert "&c;" in "".join(lines)
    assert lines[-3:] == ("  <b>&c;</b>", "  <d/>", "</a>")


def test_rtp_is_explained_too() -> None:
    """The header of a packet, built by hand from RFC 3550 section 5.1."""
    raw = bytes.fromhex("8080 0001 000000a0 deadbeef") + bytes(160)
    values = part_values(explain(raw, "rtp"))
    assert values["payload type"] == "0 PCMU"
    assert values["marker"] == "1"
    assert values["SSRC"] == "0xdeadbeef"
    assert explain(raw[:5], "rtp").title == "Damaged RTP packet"
    assert explain(bytes.fromhex("80c80006 00000001"), "rtcp").title == "RTCP SR"
