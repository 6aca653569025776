"""Short messages: recorded ones, examples of others, every kind of our own, and damaged ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from labkit.errors import SmsError
from labkit.wire import sms
from tests.sms_bytes import ALICE, BOB, CENTRE, NOON, one_of_each, recorded, text

# Two PDUs that textbooks about SMS use; the first without its service centre address.
TEXTBOOK_DELIVER = bytes.fromhex("040bc87238880900f10000993092516195800ae8329bfd4697d9ec37")
TEXTBOOK_SUBMIT = bytes.fromhex("11000b916407281553f80000aa0ae8329bfd4697d9ec37")


def test_a_textbook_deliver() -> None:
    """From +27838890001, 29 March 1999, "hellohello"."""
    read = sms.parse_tpdu(TEXTBOOK_DELIVER, to_phone=True)
    assert isinstance(read, sms.Deliver)
    assert (read.originator.digits, read.originator.kind, read.originator.plan) == ("27838890001", 4, 8)
    assert read.time_stamp == datetime(1999, 3, 29, 15, 16, 59, tzinfo=timezone(timedelta(hours=2)))
    assert read.user_data.text == "hellohello"
    assert not read.more_messages
    assert read.to_bytes() == TEXTBOOK_DELIVER


def test_a_textbook_submit() -> None:
    """To +46708251358, "hellohello", to be kept for four days."""
    read = sms.parse_tpdu(TEXTBOOK_SUBMIT, to_phone=False)
    assert isinstance(read, sms.Submit)
    assert read.destination.text == "+46708251358"
    assert sms.relative_validity(read.validity[0]) == timedelta(days=4)
    assert read.user_data.text == "hellohello"
    assert read.to_bytes() == TEXTBOOK_SUBMIT


def test_what_kamailio_and_a_phone_sent_each_other() -> None:
    """The recorded bytes: each read, each field of them, and each written again as it was."""
    submit, ack, deliver = (sms.parse_rp(raw) for raw in recorded())
    assert isinstance(submit, sms.RpData)
    assert isinstance(submit.tpdu, sms.Submit)
    assert (submit.to_phone, submit.reference, submit.originator) == (False, 1, None)
    assert submit.destination == sms.Address("31624000000")
    assert (submit.tpdu.reference, submit.tpdu.destination.text) == (2, "+31628870634")
    assert submit.tpdu.user_data.text == "Hello"
    assert ack == sms.RpAck(True, 1, sms.SubmitReport(datetime(2026, 11, 22, 21, 3, 43, tzinfo=UTC)), ack.raw)
    assert isinstance(deliver, sms.RpData)
    assert isinstance(deliver.tpdu, sms.Deliver)
    assert (deliver.reference, deliver.originator, deliver.destination) == (77, sms.Address("31624000000"), None)
    assert deliver.tpdu.originator.text == "+31600000001"
    assert deliver.tpdu.user_data.text == "Hello back: Hello"
    assert [read.to_bytes() for read in (submit, ack, deliver)] == recorded()


@pytest.mark.parametrize("name", one_of_each())
def test_every_kind_comes_back_as_it_was(name: str) -> None:
    """What was written is read as the same values, and every octet has a field. (tshark reads them too: see below.)"""
    made = one_of_each()[name]
    raw = made.to_bytes()
    found = sms.dissect(raw)
    assert found.problem == ""
    assert found.message is not None
    assert found.message.to_bytes() == raw
    assert type(found.message.tpdu) is type(made.tpdu)
    explained = {at for field in found.fields for at in range(field.start, field.start + field.size)}
    assert explained == set(range(len(raw)))
    for field in found.fields:
        assert field.about or field.name == "(rest)"


@pytest.mark.parametrize("name", one_of_each())
def test_a_message_that_ends_early_says_so(name: str) -> None:
    """Cut at every length: an error that says where, or, where only an optional part is cut off, the rest of it."""
    raw = one_of_each()[name].to_bytes()
    for end in range(len(raw)):
        found = sms.dissect(raw[:end])
        if found.problem:
            with pytest.raises(SmsError):
                sms.parse_rp(raw[:end])
        else:
            assert found.message is not None
            assert found.message.to_bytes() == raw[:end]
            assert not isinstance(found.message, sms.RpData)


def test_octets_behind_the_message_are_shown_and_passed_over() -> None:
    """A later version of the specification may put something there."""
    raw = one_of_each()["room again"].to_bytes() + b"\x99\x88"
    found = sms.dissect(raw)
    assert found.message == sms.RpSmma(7, raw)
    assert [(field.name, field.value) for field in found.fields][-1] == ("(rest)", "9988")


@pytest.mark.parametrize(
    ("raw", "words", "field"),
    [
        ("", "needs 1 octet", "RP-MTI"),
        ("01", "needs 1 octet", "RP-Message-Reference"),
        ("0701", "No RP message has the type 7", "RP-MTI"),
        ("010101000000", "has 1 octets; it has none, or 2 to 11", "RP-Originator-Address"),
        ("01010000ff00", "has 255 octets, and the message ends after 1", "RP-User-Data"),
        ("0101000001 02".replace(" ", ""), "TP-MR needs 1 octet", "TP-MR"),
        ("010100000103", "Message type 11 cannot stand in an RP-DATA to a phone", "TP-MTI"),
        ("010100000e 04 15 91 0000 0000 0000 0000 0000 00".replace(" ", ""), "says 21 half octets", "TP-OA"),
        ("0201410100", "TP-PI needs 1 octet", "TP-PI"),
        ("02014201 00".replace(" ", ""), "Element 0x42 is none of RP-ACK", "RP-User-Data"),
    ],
)
def test_what_is_wrong_is_named(raw: str, words: str, field: str) -> None:
    """The error says what, and which field."""
    with pytest.raises(SmsError, match=words) as caught:
        sms.parse_rp(bytes.fromhex(raw))
    assert caught.value.field == field


def test_a_filler_among_the_digits_is_no_number() -> None:
    """1111 ends an odd number and stands nowhere else."""
    with pytest.raises(SmsError, match="filler 1111 in the place of a digit"):
        sms.parse_tpdu(bytes.fromhex("04049121f3000000000000000000 00".replace(" ", "")), to_phone=True)


# ---- addresses ------------------------------------------------------------------------------------------------------
def test_lengths_of_addresses_count_different_things() -> None:
    """TP counts digits, RP octets; TS 23.040 section 9.1.2.5 and TS 24.011 section 8.2.5.1."""
    assert BOB.to_tp().hex() == "0891515500 20".replace(" ", "")
    assert BOB.to_rp().hex() == "0591515500 20".replace(" ", "")
    assert sms.Address.of("+123").to_tp().hex() == "039121f3"
    assert sms.Address.of("*100#").to_tp().hex() == "0581 1a00fb".replace(" ", "")


def test_a_name_as_sender_is_packed_septets() -> None:
    """Its length counts half octets that are in use: 11 for the six septets of "LABKIT"."""
    raw = sms.Address.of("LABKIT").to_tp()
    assert raw[:2].hex() == "0bd0"
    assert sms.unpack(raw[2:], 6) == b"LABKIT"
    with pytest.raises(SmsError, match="12 septets, a name has at most 11"):
        sms.Address.of("TWELVE CHARS")
    with pytest.raises(SmsError, match="21 digits"):
        sms.Address.of("1" * 21)


# ---- coding, time ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dcs", "alphabet", "message_class", "more"),
    [
        (0x00, sms.GSM7, None, ""),
        (0x04, sms.OCTETS, None, ""),
        (0x08, sms.UCS2, None, ""),
        (0x10, sms.GSM7, 0, ""),
        (0x18, sms.UCS2, 0, ""),
        (0x12, sms.GSM7, 2, ""),
        (0x20, sms.GSM7, None, "compressed"),
        (0x48, sms.UCS2, None, ""),
        (0xC8, sms.GSM7, None, "voicemail"),
        (0xD9, sms.GSM7, None, "fax"),
        (0xE0, sms.UCS2, None, "voicemail"),
        (0xF0, sms.GSM7, 0, ""),
        (0xF5, sms.OCTETS, 1, ""),
        (0x8F, sms.GSM7, None, "reserved"),
    ],
)
def test_data_coding_schemes(dcs: int, alphabet: str, message_class: int | None, more: str) -> None:
    """The groups of TS 23.038 section 4."""
    coding = sms.coding_of(dcs)
    assert (coding.alphabet, coding.message_class) == (alphabet, message_class)
    assert more in str(coding)


def test_time_stamps_in_other_zones() -> None:
    """West of Greenwich the sign is bit 3 of the last octet; quarters of an hour count."""
    nepal, newfoundland = timedelta(hours=5, minutes=45), timedelta(hours=-3, minutes=-30)
    for offset, last in ((nepal, 0x32), (newfoundland, 0x49)):
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(offset))
        raw = sms.to_time_stamp(moment)
        assert raw.hex() == f"6210203040 50{last:02x}".replace(" ", "")
        assert sms.from_time_stamp(raw) == moment
    assert sms.from_time_stamp(bytes(7)) is None
    assert sms.from_time_stamp(b"\xff" * 7) is None


@pytest.mark.parametrize(
    ("value", "period"),
    [
        (0, timedelta(minutes=5)),
        (143, timedelta(hours=12)),
        (144, timedelta(hours=12, minutes=30)),
        (167, timedelta(days=1)),
        (168, timedelta(days=2)),
        (196, timedelta(days=30)),
        (197, timedelta(weeks=5)),
        (255, timedelta(weeks=63)),
    ],
)
def test_validity_in_one_octet(value: int, period: timedelta) -> None:
    """The edges of the table in TS 23.040 section 9.2.3.12.1."""
    assert sms.relative_validity(value) == period
    assert sms.to_relative_validity(period) == value


# ---- long texts -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "how", "sizes"),
    [
        ("a" * 160, {}, [160]),
        ("a" * 161, {}, [153, 8]),
        ("a" * 161, {"reference_bits": 16}, [152, 9]),
        ("я" * 70, {}, [140]),
        ("я" * 71, {}, [134, 8]),
        ("я" * 71, {"reference_bits": 16}, [132, 10]),
        ("€" * 80, {}, [160]),
        ("€" * 81, {}, [152, 10]),
        ("a" * 152, {"locking": 1, "single": 1}, [152]),
        ("a" * 160, {"locking": 1, "single": 1}, [146, 14]),
    ],
)
def test_where_texts_are_cut(words: str, how: dict[str, int], sizes: list[int]) -> None:
    """160 septets or 70 characters in one; 153 or 67 in a part with an 8 bit reference, 152 or 66 with 16 bits."""
    parts = sms.user_data(words, reference=7, **how)  # type: ignore[arg-type]
    assert [len(part.content) for part in parts] == sizes
    assert sms.text_of(parts) == words
    assert all(len(part.to_bytes()) <= 141 for part in parts)
    if len(parts) > 1:
        expected = [sms.Part(7, len(parts), n, how.get("reference_bits", 8)) for n in range(1, len(parts) + 1)]
        assert [part.part for part in parts] == expected


def test_an_emoji_is_kept_whole_or_put_together_again() -> None:
    """A careful sender cuts before it; a careless one cuts it in two, and joining the octets first mends that."""
    words = "x" * 66 + "\N{GRINNING FACE}" + "y" * 10
    careful = sms.user_data(words, alphabet=sms.UCS2)
    careless = sms.user_data(words, alphabet=sms.UCS2, careless=True)
    assert [part.text for part in careful] == ["x" * 66, "\N{GRINNING FACE}" + "y" * 10]
    assert careless[0].content[-2:] == b"\xd8\x3d"
    assert careless[0].text[-1] == "\ufffd"
    assert sms.text_of(careful) == sms.text_of(careless) == words


def test_more_than_255_parts_are_too_many() -> None:
    """The number of parts is one octet."""
    with pytest.raises(SmsError, match="needs 256 messages, there can be 255"):
        sms.user_data("a" * (153 * 255 + 1))


def test_an_impossible_part_number_is_a_text_of_its_own() -> None:
    """TS 23.040 section 9.2.3.24.1: the element is passed over."""
    for total, number in ((0, 1), (2, 0), (2, 3)):
        data = sms.UserData(b"a", header=(sms.Element(0, bytes((1, total, number))),))
        assert data.part is None


def test_a_header_longer_than_its_octets_is_damage() -> None:
    """Of the header, of an element in it, and of an element whose length the specification fixes."""
    head = "44 08 91 51550010 00 00 62118221034540"
    for user_data, words in (
        ("03 0a0001", "header is longer than TP-UD"),
        ("07 030003 00000000", "element is longer than the header"),
        ("07 0400020102 0000", "has 2 octets, not"),
    ):
        raw = bytes.fromhex((head + user_data).replace(" ", ""))
        with pytest.raises(SmsError, match=words):
            sms.parse_tpdu(raw, to_phone=True)


def test_words_for_a_ladder() -> None:
    """What stands at an arrow."""
    made = one_of_each()
    names = ("deliver", "command", "ack of phone", "error of phone", "room again")
    assert [sms.label(made[name].to_bytes()) for name in names] == [
        "RP-DATA SMS-DELIVER",
        "RP-DATA SMS-COMMAND",
        "RP-ACK",
        "RP-ERROR 22",
        "RP-SMMA",
    ]
    assert sms.label(made["deliver"].to_bytes()[:9]) == "RP-DATA damaged"
    assert sms.label(b"") == "RP-? damaged"


def test_too_much_for_one_message() -> None:
    """141 octets are one too many."""
    with pytest.raises(SmsError, match="141 octets, one message takes 140: split the text"):
        sms.Deliver(ALICE, sms.UserData(bytes(141), sms.OCTETS), NOON, 4).to_bytes()
    assert CENTRE.text == "+15559000"
    assert text("Hi").to_bytes().hex() == "02c834"
