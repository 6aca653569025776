"""reginfo documents: those of a real S-CSCF, the example of RFC 3680, and hostile XML."""

from __future__ import annotations

import pytest
from sip_bytes import recorded_sip

from labkit.errors import XmlError
from labkit.wire.reginfo import RegInfo, advice_for, merge, parse_reginfo
from labkit.wire.safe_xml import parse_xml
from labkit.wire.sip import parse_message

REALM = "ims.mnc001.mcc001.3gppnetwork.org"

# RFC 3680 section 5.3
EXAMPLE = b"""<?xml version="1.0"?>
<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="0" state="full">
  <registration aor="sip:user@example.com" id="as9" state="active">
    <contact id="76" state="active" event="registered" duration-registered="7322" q="0.8">
      <uri>sip:user@pc887.example.com</uri>
    </contact>
    <contact id="77" state="terminated" event="expired" duration-registered="3600" q="0.5">
      <uri>sip:user@university.edu</uri>
    </contact>
  </registration>
</reginfo>
"""


def notified(recording: str) -> list[RegInfo]:
    """The documents of a recording, each once, in order."""
    bodies = [message.body for _, raw in recorded_sip(recording) if (message := parse_message(raw)).method == "NOTIFY"]
    return [parse_reginfo(body) for body in dict.fromkeys(bodies)]


@pytest.mark.parametrize("recording", ["04_rtr_with_reg_event.pcap", "16_rtr_pcscf_reginfo.pcap"])
def test_documents_of_a_real_scscf(recording: str) -> None:
    """Before an RTR all three identities share one active contact, after it they are terminated without contacts."""
    before, after = notified(recording)
    identities = [f"sip:001010000000001@{REALM}", f"sip:+15550000001@{REALM}", "tel:+15550000001"]
    assert [one.aor for one in before.registrations] == identities
    assert {one.state for one in before.registrations} == {"active"}
    contacts = [contact for one in before.registrations for contact in one.contacts]
    assert [(one.uri, one.event, one.state, one.expires_s, one.q) for one in contacts] == [
        ("sip:001010000000001@172.30.0.1:6001", "registered", "active", 3600, "0.000")
    ] * 3
    assert len({one.id for one in contacts}) == 1
    assert contacts[0].params == (("expires", '"3600"'),)
    assert [(one.aor, one.state, one.contacts) for one in after.registrations] == [
        (identity, "terminated", ()) for identity in identities
    ]
    assert (before.version, before.state, after.version) == (2, "full", 3)


def test_example_of_the_rfc() -> None:
    """Every attribute of the example of RFC 3680 section 5.3 is read."""
    document = parse_reginfo(EXAMPLE)
    registration = document.registration("sip:user@example.com")
    assert registration is not None
    assert (registration.id, registration.state, document.version) == ("as9", "active", 0)
    first, second = registration.contacts
    assert (first.id, first.event, first.duration_registered_s, first.q) == ("76", "registered", 7322, "0.8")
    assert (second.uri, second.state, second.event) == ("sip:user@university.edu", "terminated", "expired")
    assert document.contact("sip:user@university.edu") == second
    assert document.contact("sip:nobody@example.com") is None
    assert document.registration("sip:nobody@example.com") is None


def test_every_attribute_of_a_contact() -> None:
    """expires, retry-after, callid, cseq, display-name and unknown parameters are read; other elements are not."""
    raw = EXAMPLE.replace(
        b'<contact id="76" state="active" event="registered"',
        b'<x:y xmlns:x="urn:z"/><contact id="76" state="terminated" event="probation" expires="5" retry-after="30" '
        b'callid="c@h" cseq="7"',
    ).replace(
        b"<uri>sip:user@pc887",
        b'<display-name> Us\xc3\xa9r </display-name><unknown-param name="+g.3gpp.smsip"/><uri>sip:user@pc887',
    )
    contact = parse_reginfo(raw).registrations[0].contacts[0]
    assert (contact.expires_s, contact.retry_after_s, contact.call_id, contact.cseq) == (5, 30, "c@h", 7)
    assert (contact.display_name, contact.params) == ("Usér", (("+g.3gpp.smsip", ""),))
    assert contact.advice.action == "register later"
    assert contact.advice.wait_s == 30


def test_partial_documents_are_merged() -> None:
    """A partial document changes what it names and nothing else; what had ended before is forgotten (section 5.2)."""
    known = parse_reginfo(EXAMPLE)
    news = parse_reginfo(
        b'<reginfo version="1" state="partial"><registration aor="sip:user@example.com" id="as9" state="active">'
        b'<contact id="78" state="active" event="created"><uri>sip:new@h</uri></contact></registration>'
        b'<registration aor="tel:+1" id="as10" state="active"/></reginfo>'
    )
    now = merge(known, news)
    assert [(one.aor, [contact.id for contact in one.contacts]) for one in now.registrations] == [
        ("sip:user@example.com", ["76", "78"]),
        ("tel:+1", []),
    ]
    assert (now.version, now.state) == (1, "full")
    ended = parse_reginfo(
        b'<reginfo version="2" state="partial"><registration aor="tel:+1" id="as10" state="terminated"/></reginfo>'
    )
    assert [one.state for one in merge(now, ended).registrations] == ["active", "terminated"]
    again = parse_reginfo(b'<reginfo version="3" state="partial"/>')
    assert [one.aor for one in merge(merge(now, ended), again).registrations] == ["sip:user@example.com"]
    assert merge(now, known) is known
    assert merge(None, news) is news


@pytest.mark.parametrize(
    ("event", "action", "release"),
    [
        ("registered", "nothing", False),
        ("created", "nothing", False),
        ("refreshed", "nothing", False),
        ("shortened", "re-register now", False),
        ("expired", "register now", False),
        ("deactivated", "register now", False),
        ("probation", "register later", False),
        ("unregistered", "nothing", False),
        ("rejected", "stay away", True),
        ("something of 2040", "nothing", False),
    ],
)
def test_advice(event: str, action: str, release: bool) -> None:
    """Each event of RFC 3680 section 4.7.1 asks for what TS 24.229 section 5.1.1.7 says."""
    advice = advice_for(event, 9)
    assert (advice.action, advice.release_dialogs) == (action, release)
    assert advice.wait_s == (9 if event == "probation" else 0)
    assert advice.why


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<reginfo version="0" state="full">&b;</reginfo>"""
FILE = b"""<!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><reginfo version="0" state="full">&f;</reginfo>"""
OUTSIDE = b"""<!DOCTYPE reginfo SYSTEM "http://127.0.0.1/x.dtd"><reginfo version="0" state="full"/>"""

HOSTILE = {
    "entities that grow": LAUGHS,
    "file of this machine": FILE,
    "declaration elsewhere": OUTSIDE,
    "entity that nobody declared": b'<reginfo version="0" state="full">&x;</reginfo>',
    "too deep": b"<reginfo>" * 65,
    "too long": b"<reginfo>" + b" " * (1 << 20),
    "encoding that is none": b'<?xml version="1.0" encoding="rot26"?><reginfo version="0" state="full"/>',
    "not closed": b'<reginfo version="0" state="full">',
    "two roots": b'<reginfo version="0" state="full"/><reginfo version="0" state="full"/>',
    "nothing": b"",
    "no XML": b"\x00\xff",
    "other document": b'<presence version="0" state="full"/>',
    "no version": b'<reginfo state="full"/>',
    "version that is no number": b'<reginfo version="-1" state="full"/>',
    "state of its own": b'<reginfo version="0" state="half"/>',
    "registration without id": b'<reginfo version="0" state="full"><registration aor="a" state="active"/></reginfo>',
    "contact without uri": EXAMPLE.replace(b"<uri>sip:user@university.edu</uri>", b""),
    "huge number": EXAMPLE.replace(b'"3600"', b'"' + b"9" * 5000 + b'"'),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_documents(name: str) -> None:
    """Whatever is no safe and whole reginfo document is refused with an error of ours."""
    with pytest.raises(XmlError):
        parse_reginfo(HOSTILE[name])


def test_every_truncation_is_refused() -> None:
    """No beginning of a document passes for a document."""
    whole = EXAMPLE.rstrip()
    for length in range(len(whole)):
        with pytest.raises(XmlError):
            parse_reginfo(whole[:length])


def test_safe_xml_keeps_what_is_there() -> None:
    """Text, attributes and order come through; namespaces are taken off; UTF-16 and ISO 8859-1 are read."""
    root = parse_xml(b'<a xmlns="urn:x" b="1"><c>t\xc3\xa4</c><c/></a>')
    assert (root.tag, root.get("b"), [one.tag for one in root], root[0].text) == ("a", "1", ["c", "c"], "tä")
    assert parse_xml("<ä/>".encode("utf-16")).tag == "ä"
    assert parse_xml(b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe4</a>').text == "ä"
