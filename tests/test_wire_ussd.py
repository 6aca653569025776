"""USSD bodies: those of a real gateway and phone, the rules of TS 24.390's schema, and the dialect with attributes."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from sip_bytes import IMS, recorded_sip

from labkit.errors import CallFailed, XmlError
from labkit.wire.multipart import body_of_type
from labkit.wire.sip import parse_message
from labkit.wire.ussd import (
    CONTENT_TYPE,
    ERROR_CODES,
    UssdData,
    code_in,
    dialect_in,
    parse_ussd,
    translate_dialect,
    ussd_uri,
)

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
RECORDING = "11_ussd_kamailio_gateway.pcap"

# As gateways of that product write it (its own test suite has these forms).
DIALECT = b"""<?xml version='1.0' encoding='UTF-8'?>
<ussd-data>
<language value="en"/>
<ussd-string value="Bienvenido. Seleccione una opcion: 1 o 2."/>
</ussd-data>"""
DIALECT_MENU = b"""<?xml version="1.0" encoding="UTF-8"?>
<ussd-data>
<language value="en"></language>
<ussd-string value="Press 1 to know your airtime and 2 to know your SMS balance"></ussd-string>
<anyExt>
<message-type>unstructuredSSRequest_Request</message-type>
</anyExt>
</ussd-data>"""
DIALECT_ERROR = b'<ussd-data><error-code value="1"></error-code></ussd-data>'
# As the tests of a phone's IMS stack have it: another order of elements, a language in capitals, an alerting pattern.
PHONE_STACK = b"""<?xml version="1.0" encoding="UTF-8"?>
<ussd-data>
  <language>EN</language>
  <anyExt>
    <UnstructuredSS-Notify/>
    <alertingPattern>5</alertingPattern>
  </anyExt>
  <ussd-string>Check your plan benefits.</ussd-string>
</ussd-data>
"""


def recorded_bodies() -> list[tuple[str, bytes]]:
    """(method, USSD body) of every request of the recording, each body once, in order."""
    messages = [parse_message(raw) for _, raw in recorded_sip(RECORDING)]
    found = [(message.method, body_of_type(message, CONTENT_TYPE)) for message in messages if message.is_request]
    return list(dict.fromkeys((method, body) for method, body in found if body))


def document(inner: str) -> bytes:
    """A body with this inside."""
    return f'<?xml version="1.0" encoding="UTF-8"?><ussd-data>{inner}</ussd-data>'.encode()


def test_bodies_of_a_real_dialogue() -> None:
    """What a phone and a Kamailio gateway said to each other, text by text: in the INVITE, two INFOs and the BYE."""
    said = [(method, parse_ussd(body)) for method, body in recorded_bodies()]
    assert said == [
        ("INVITE", UssdData("*100#", "en")),
        ("INFO", UssdData("Welcome. 1 balance, 2 number", "en")),
        ("INFO", UssdData("1", "en")),
        ("BYE", UssdData("Balance 42", "en")),
    ]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="there is no tshark here")
def test_tshark_finds_the_same_texts() -> None:
    """Wireshark's XML dissector sees the texts that we read in the recorded messages."""
    command = ["tshark", "-r", str(IMS / RECORDING), "-Y", "sip.Method && xml", "-T", "fields", "-e", "xml.cdata"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seen = list(dict.fromkeys(out.split("\n")))
    ours = [f"{said.language},{said.text}" for _, body in recorded_bodies() for said in [parse_ussd(body)]]
    assert [line for line in seen if line] == ours


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("", UssdData()),
        ("<ussd-string/>", UssdData("")),
        ("<ussd-string> two\n lines </ussd-string>", UssdData(" two\n lines ")),
        ("<language> en </language>", UssdData(language="en")),
        ("<error-code> 2 </error-code>", UssdData(error_code=2)),
        ("<anyExt/>", UssdData()),
        ("<anyExt><UnstructuredSS-Request/></anyExt>", UssdData(operation="request")),
        ("<anyExt><UnstructuredSS-Notify/></anyExt>", UssdData(operation="notify")),
        ("<anyExt><alertingPattern>5</alertingPattern></anyExt>", UssdData(alerting_pattern=5)),
        ("<anyExt><x:more xmlns:x='urn:x'/></anyExt><x:other xmlns:x='urn:x'>1</x:other>", UssdData()),
        (
            "<ussd-string lang='en'>with an attribute of one's own</ussd-string>",
            UssdData("with an attribute of one's own"),
        ),
        ("<ussd-string>&lt;b&gt; &amp; &#x41f;</ussd-string>", UssdData("<b> & \u041f")),
    ],
)
def test_what_the_schema_allows(inner: str, said: UssdData) -> None:
    """Each element at most once, none of them a must, texts as they are; what others add is left out."""
    assert parse_ussd(document(inner)) == said


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Not well-formed XML"),
        (b"*100#", "Not well-formed XML"),
        (b"<ussd><ussd-string>1</ussd-string></ussd>", "its root is <ussd>, not <ussd-data>"),
        (document("<ussd-string>1</ussd-string><ussd-string>2</ussd-string>"), "More than one <ussd-string>"),
        (document("<language>en</language><language>de</language>"), "More than one <language>"),
        (document("<anyExt/><anyExt/>"), "More than one <anyExt>"),
        (document("<ussd-string>1<b/></ussd-string>"), "<ussd-string> holds <b>; it is for text alone"),
        (document("<error-code>busy</error-code>"), "<error-code> is no number: 'busy'"),
        (document("<error-code>-1</error-code>"), "<error-code> is no number"),
        (document("<error-code/>"), "<error-code> is no number: ''"),
        (document("<anyExt><alertingPattern/></anyExt>"), "<alertingPattern> is no number"),
        (
            document("<anyExt><UnstructuredSS-Request/><UnstructuredSS-Notify/></anyExt>"),
            "<anyExt> asks for an answer and for none",
        ),
        (
            document("<UnstructuredSS-Notify/>"),
            "<UnstructuredSS-Notify> stands in <ussd-data>; its place is in <anyExt>",
        ),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><ussd-data/>', "document type declaration"),
    ],
)
def test_what_the_schema_does_not_allow(raw: bytes, why: str) -> None:
    """Everything else is refused, with the reason in words."""
    with pytest.raises(XmlError) as caught:
        parse_ussd(raw)
    assert why in str(caught.value)


def test_elements_in_another_order() -> None:
    """Networks differ in the order of elements; a phone's own test suite has <anyExt> before the text."""
    assert parse_ussd(PHONE_STACK) == UssdData(
        "Check your plan benefits.", "EN", operation="notify", alerting_pattern=5
    )


def test_the_dialect_is_refused_and_explained() -> None:
    """Texts in attributes are refused; every such thing is named, and the standard form is made of it."""
    with pytest.raises(XmlError, match=r"<language> has its text in an attribute, value='en'; the text belongs into"):
        parse_ussd(DIALECT)
    assert [line.split(",")[0] for line in dialect_in(DIALECT_MENU)] == [
        "<language> has its text in an attribute",
        "<ussd-string> has its text in an attribute",
        "<message-type> says 'unstructuredSSRequest_Request'; <anyExt> has an empty element for that",
    ]
    assert translate_dialect(DIALECT) == UssdData("Bienvenido. Seleccione una opcion: 1 o 2.", "en")
    menu = translate_dialect(DIALECT_MENU)
    assert (menu.language, menu.operation) == ("en", "request")
    assert parse_ussd(menu.to_bytes()) == menu
    assert translate_dialect(DIALECT_ERROR) == UssdData(error_code=1)
    with pytest.raises(XmlError, match="error-code is no number"):
        translate_dialect(DIALECT_ERROR.replace(b'"1"', b'"x"'))


def test_the_standard_form_is_no_dialect() -> None:
    """Nothing is found in recorded bodies, and translating them changes nothing."""
    for _, body in recorded_bodies():
        assert dialect_in(body) == ()
        assert translate_dialect(body) == parse_ussd(body)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*100#",
        "1 < 2 & 3 > 2",
        "]]>",
        "two\nlines\ttab",
        "a\rb",
        "Баланс 12,50",
        "رصيدك",
        "余额",
        "\U0001f4b6",
        " \n ",
    ],
)
def test_any_text_survives(text: str) -> None:
    """What is written is read again as it was, in any script; expat, which reads it, is not our code."""
    said = UssdData(text, "ru", 3, "notify", 1)
    assert parse_ussd(said.to_bytes()) == said


@pytest.mark.parametrize("text", ["\x00", "bell\x07", "\ufffe", "\ud800"])
def test_what_xml_cannot_carry(text: str) -> None:
    """A control character has no form in XML 1.0, so it is refused before it is sent."""
    with pytest.raises(XmlError, match=r"No XML document can hold the character U\+"):
        UssdData(text).to_bytes()


def test_errors_in_words() -> None:
    """The four codes of the specification; a number that it does not list means the first of them."""
    assert [UssdData(error_code=code).error for code in (1, 2, 3, 4)] == list(ERROR_CODES.values())
    assert UssdData(error_code=99).error == "error - unspecified"
    assert UssdData().error == ""


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("sip:*135%23;phone-context=home1.net@home1.net;user=dialstring", "*135#"),  # TS 24.390 annex A.1
        (f"sip:*100%23@{REALM};user=dialstring", "*100#"),  # the recording
        ("sip:%2A100*2%23;phone-context=x@x;user=dialstring", "*100*2#"),
        (f"sip:bob@{REALM}", ""),
        ("sip:100;phone-context=x@x;user=dialstring", ""),
        ("tel:*100%23;phone-context=x", "*100#"),
        ("nonsense", ""),
    ],
)
def test_codes_in_uris(uri: str, code: str) -> None:
    """The code is found in dial strings as the specification's example and the recording write them, nowhere else."""
    assert code_in(uri) == code


def test_a_code_as_a_uri() -> None:
    """A code becomes the dial string of annex A.1; what is no code is refused."""
    assert ussd_uri("*135#", "home1.net") == "sip:*135%23;phone-context=home1.net@home1.net;user=dialstring"
    for wrong in ("", "bob", "*100#\r\nRoute: x", "*" * 65):
        with pytest.raises(CallFailed, match="is no USSD code"):
            ussd_uri(wrong, REALM)


def test_damaged_bodies() -> None:
    """A body cut off anywhere, or with any byte turned, is read or refused as XML; nothing else comes out."""
    for raw in (PHONE_STACK, DIALECT_MENU, *(body for _, body in recorded_bodies())):
        damaged = [raw[:length] for length in range(len(raw))]
        damaged += [raw[:at] + bytes([raw[at] ^ 0x15]) + raw[at + 1 :] for at in range(len(raw))]
        for bad in damaged:
            for read in (parse_ussd, translate_dialect, dialect_in):
                with contextlib.suppress(XmlError):
                    read(bad)


def test_recordings_are_here() -> None:
    """The recordings that this file reads are part of the project."""
    assert Path(IMS / RECORDING).stat().st_size > 1000
