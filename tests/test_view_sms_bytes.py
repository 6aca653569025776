"""A short message beside its hex, and short messages in ladders and tables."""

from __future__ import annotations

import re

import pytest

from labkit.capture.canon import canon
from labkit.capture.sms_words import carries_sms, reply_to, sms_words
from labkit.errors import LessonError
from labkit.view.message import explain
from labkit.view.sms_bytes import SmsBytes
from labkit.wire import sms
from tests.sms_bytes import ALICE, NOON, in_sip, one_of_each, recorded
from tests.view_messages import recording


@pytest.mark.parametrize("name", one_of_each())
def test_every_octet_of_every_kind_has_its_field(name: str) -> None:
    """In the page each octet carries the names of its fields, in the text each field its octets."""
    raw = one_of_each()[name].to_bytes()
    view = SmsBytes(raw)
    octets = re.findall(r'<span class="(k[^"]*)" title="([^"]+)"[^>]*>([0-9a-f]{2})</span>', view._repr_html_())
    assert bytes.fromhex("".join(octet for _, _, octet in octets)) == raw
    for field in view.fields:
        assert field.name in repr(view)
        assert any(field.name in title for _, title, _ in octets)
    assert f"k{len(view.fields) - 1}:hover" in view._repr_html_()


def test_the_text_of_a_recorded_submit() -> None:
    """Flags stand in their places within the octet, which is shown once."""
    lines = repr(SmsBytes(recorded()[0])).split("\n")
    assert lines[0] == "RP-DATA SMS-SUBMIT, 30 octets"
    assert " 12  01                       0.......  TP-RP = 0  # no reply path" in lines
    assert "                              ......01  TP-MTI = 01 SMS-SUBMIT  # what it is" in lines
    assert lines[-1] == " 25  c8 32 9b fd 06                     TP-UD = Hello  # the text"


def test_what_came_over_the_network_is_disarmed() -> None:
    """A sender that is markup, and a text that is."""
    deliver = sms.deliver_of(sms.Address.of("<b>x"), sms.user_data("<script>alert(1)</script>")[0], NOON)
    page = SmsBytes(sms.RpData(True, 1, ALICE, None, deliver).to_bytes())._repr_html_()
    assert "<script" not in page
    assert "<b>x" not in page
    assert "&lt;script&gt;" in page


def test_a_damaged_message_is_shown_as_far_as_it_goes() -> None:
    """With the reason; asking for its values says it, too."""
    view = SmsBytes(recorded()[0][:20])
    assert "DAMAGED: RP-User-Data has 18 octets, and the message ends after 8 at byte 12" in repr(view)
    assert "Damaged:" in view._repr_html_()
    assert view.text == ""
    with pytest.raises(LessonError, match="is damaged: RP-User-Data has 18 octets"):
        _ = view.tpdu


def test_fields_by_name() -> None:
    """The value in words; one that is not there names those that are."""
    view = SmsBytes(recorded()[2])
    assert (view["TP-OA"], view.text) == ("+31600000001", "Hello back: Hello")
    assert view.table.set_index("field").at["TP-MMS", "bits"] == ".....1.."
    with pytest.raises(LessonError, match="has no 'TP-DA'; it has RP-MTI, "):
        view["TP-DA"]
    with pytest.raises(LessonError, match="RP-SMMA carries no TPDU"):
        _ = SmsBytes(b"\x06\x01").tpdu


def test_a_message_explained_shows_what_it_carries() -> None:
    """Fields that differ from run to run are named in the outline without a value."""
    outline = repr(explain(in_sip(recorded()[2]).to_bytes(), "sip"))
    assert "body = RP-DATA SMS-DELIVER, 46 octets" in outline
    assert "TP-OA = +31600000001  # who wrote it: shown as the sender" in outline
    assert "TP-SCTS  # when the centre got the message" in outline
    damaged = str(explain(in_sip(b"\x07").to_bytes(), "sip"))
    assert "No RP message has the type 7" in damaged


def test_the_story_says_what_a_message_carries_and_answers() -> None:
    """In the recording Kamailio answers a SUBMIT, and sends a DELIVER of its own."""
    messages = canon(recording("20")).message
    assert [message for message in messages if message.startswith("MESSAGE")] == [
        "MESSAGE RP-DATA SMS-SUBMIT",
        "MESSAGE RP-ACK",
        "MESSAGE RP-DATA SMS-DELIVER",
    ]
    raw = recording("20").raw
    answers = [reply_to(one) for one in raw if b"In-Reply-To" in one]
    assert answers == [in_call for in_call in answers if any(in_call.encode() in one for one in raw[:1])]


def test_other_messages_carry_none() -> None:
    """A text message that speaks of the media type is no short message."""
    plain = b"MESSAGE sip:a SIP/2.0\r\nContent-Type: text/plain\r\n\r\napplication/vnd.3gpp.sms"
    compact = b"MESSAGE sip:a SIP/2.0\r\nc: Application/VND.3gpp.SMS\r\n\r\n\x06\x01"
    assert (carries_sms(plain), sms_words(plain)) == (False, "")
    assert sms_words(compact) == "RP-SMMA"
    assert sms_words(compact[:-2]) == ""
