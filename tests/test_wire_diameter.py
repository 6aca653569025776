"""The Diameter codec against recorded bytes, tshark, python-diameter, and every kind of damage."""

from __future__ import annotations

import datetime
import random
import subprocess

import pytest
from ims_bytes import IMS, all_messages, diameter_messages, one_of_each, recordings

from labkit.errors import DiameterError
from labkit.wire.diameter import (
    Avp,
    Message,
    avp_key,
    avp_name,
    command_name,
    message_length,
    parse_avps,
    parse_message,
    result_name,
    scan_avps,
    split_stream,
)
from labkit.wire.diameter_names import AVPS

ONE_OF_EACH = one_of_each()

# A DWR with Origin-Host "a.b" and Origin-Realm "b", laid out by hand from RFC 6733.
DWR = bytes.fromhex(
    "0100002c 80000118 00000000 11223344 5566778800000108 4000000b 612e620000000128 40000009 62000000".replace(" ", "")
)


def test_recordings_are_there():
    """The recordings hold every command of Cx and of a connection."""
    assert set(ONE_OF_EACH) >= {
        *("257R", "257A", "280R", "280A", "300R", "300A", "301R", "301A"),
        *("302R", "302A", "303R", "303A", "304R", "304A"),
    }


def test_every_recorded_message_round_trips():
    """What was parsed is written back byte for byte."""
    messages = all_messages()
    assert len(messages) > 150
    for raw in messages:
        assert parse_message(raw).to_bytes() == raw


def test_every_recorded_value_is_typed():
    """Every recorded AVP is in the dictionary, its value reads, and building it anew gives the same payload."""

    def walk(avp: Avp) -> None:
        assert (avp.code, avp.vendor) in AVPS
        assert Avp.of(avp.code, avp.value, avp.vendor).raw == avp.raw
        for child in avp.children:
            walk(child)

    for raw in ONE_OF_EACH.values():
        for avp in parse_message(raw).avps:
            walk(avp)


def test_hand_made_message():
    """Header and AVPs of a message laid out by hand are read right."""
    message = parse_message(DWR)
    assert message.name == "DWR"
    assert message.request
    assert (message.hop_by_hop_id, message.end_to_end_id) == (0x11223344, 0x55667788)
    assert [(avp.name, avp.value) for avp in message.avps] == [("Origin-Host", "a.b"), ("Origin-Realm", "b")]
    assert message.to_bytes() == DWR


def test_recorded_uaa_fields():
    """Experimental-Result is found as a group, Result-Code is not there."""
    message = parse_message(ONE_OF_EACH["300A"])
    assert message.name == "UAA"
    assert message.find("Result-Code") is None
    group = message.find(297)
    assert group is not None
    assert [(avp.name, avp.value) for avp in group.children] == [
        ("Vendor-Id", 10415),
        ("Experimental-Result-Code", 2001),
    ]
    assert group.find(298).value == 2001


def test_find_all_keeps_the_order():
    """find_all gives every AVP of a code in the order of the wire, find the first."""
    avps = (Avp.of("Public-Identity", "sip:a"), Avp.of("User-Name", "x"), Avp.of("Public-Identity", "sip:b"))
    message = Message(301, 16777216, 0x80, 1, 2, avps)
    assert [avp.value for avp in message.find_all(601, 10415)] == ["sip:a", "sip:b"]
    assert message.find("Public-Identity").value == "sip:a"
    assert message.find(601) is None


def test_answer_mirrors_the_request():
    """An answer keeps command, application and ids, drops R and T, keeps P, and sets E when told."""
    request = Message(300, 16777216, 0x80 | 0x40 | 0x10, 7, 8)
    answer = request.answer(Avp.of("Result-Code", 2001))
    assert (answer.name, answer.flags, answer.hop_by_hop_id, answer.end_to_end_id) == ("UAA", 0x40, 7, 8)
    assert request.answer(error=True).flags == 0x60


@pytest.mark.parametrize("name", sorted(ONE_OF_EACH))
def test_every_truncation_is_an_error(name):
    """A message cut at any byte is refused, and never as a success or a crash."""
    raw = ONE_OF_EACH[name]
    for size in range(len(raw)):
        with pytest.raises(DiameterError):
            parse_message(raw[:size])


@pytest.mark.parametrize("name", sorted(ONE_OF_EACH))
def test_every_cut_inside_the_avps_is_found(name):
    """A message whose header claims the shorter length is read up to a whole AVP, or refused with an offset."""
    raw = ONE_OF_EACH[name]
    ends = {20}
    at = 20
    for avp in parse_message(raw).avps:
        at += len(avp.to_bytes())
        ends.add(at)
    for size in range(20, len(raw), 4):
        cut = raw[:1] + size.to_bytes(3, "big") + raw[4:size]
        if size in ends:
            assert parse_message(cut).to_bytes() == cut
            continue
        with pytest.raises(DiameterError) as caught:
            parse_message(cut)
        assert caught.value.result_code == 5014
        assert 20 <= caught.value.offset < size
        assert parse_avps(caught.value.failed_avp)


def test_byte_by_byte():
    """A stream fed byte by byte gives the same messages as at once, and nothing early."""
    messages = list(ONE_OF_EACH.values())
    stream = b"".join(messages)
    assert split_stream(stream) == (messages, b"")
    got: list[bytes] = []
    rest = b""
    for at in range(len(stream)):
        whole, rest = split_stream(rest + stream[at : at + 1])
        got += whole
        assert b"".join(got) + rest == stream[: at + 1]
    assert got == messages


def test_trailing_bytes():
    """Bytes after a message wait in the stream, and are refused in a single message."""
    whole, rest = split_stream(DWR + DWR[:10])
    assert (whole, rest) == ([DWR], DWR[:10])
    with pytest.raises(DiameterError) as caught:
        parse_message(DWR + b"\0\0\0\0")
    assert caught.value.result_code == 5015


@pytest.mark.parametrize(
    ("start", "result_code"),
    [("02000014", 5011), ("00000014", 5011), ("01000000", 5015), ("01000010", 5015), ("01000015", 5015)],
)
def test_bad_headers(start, result_code):
    """A wrong version and an impossible length are told apart."""
    with pytest.raises(DiameterError) as caught:
        message_length(bytes.fromhex(start))
    assert caught.value.result_code == result_code


def test_length_is_not_known_before_four_bytes():
    """Less than four bytes give no length, but a wrong version shows in the first one."""
    assert message_length(b"") is None
    assert message_length(b"\1\0\0") is None
    with pytest.raises(DiameterError):
        message_length(b"G")


def test_unknown_avps_and_commands_are_kept():
    """AVPs, vendors and commands that nobody knows keep their bytes, and get a name with their numbers."""
    odd = Message(4242, 99, 0x80, 1, 2, (Avp(7777, b"abc"), Avp(5, b"xyzw", 999, 0x80)))
    again = parse_message(odd.to_bytes())
    assert again == odd
    assert again.name == "4242-Request"
    assert [avp.name for avp in again.avps] == ["AVP 7777", "AVP 5 of vendor 999"]
    assert again.avps[0].value == b"abc"
    assert command_name(4242, False) == "4242-Answer"


def test_odd_padding_round_trips():
    """Padding that is not zero, and a last AVP in a group without padding, come back as they were."""
    strange = bytes.fromhex("00000108 4000000b 612e62ff".replace(" ", ""))
    assert b"".join(avp.to_bytes() for avp in parse_avps(strange)) == strange
    unpadded = bytes.fromhex("00000108 4000000b 612e62".replace(" ", ""))
    assert b"".join(avp.to_bytes() for avp in parse_avps(unpadded)) == unpadded


def test_vendor_flag_with_vendor_zero_round_trips():
    """The V flag decides on the header's form, not the vendor's number."""
    raw = bytes.fromhex("00000108 c000000e 00000000 61620000".replace(" ", ""))
    (avp,) = parse_avps(raw)
    assert (avp.vendor, avp.raw, avp.to_bytes()) == (0, b"ab", raw)


@pytest.mark.parametrize(
    ("name", "value", "raw"),
    [
        ("Result-Code", 2001, "000007d1"),
        ("Disconnect-Cause", -1, "ffffffff"),
        ("CC-Total-Octets", 1 << 40, "0000010000000000"),
        ("Host-IP-Address", "127.0.0.1", "00017f000001"),
        ("Host-IP-Address", "::1", "0002" + "00" * 15 + "01"),
        ("Event-Timestamp", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "ed003780"),
        ("Event-Timestamp", datetime.datetime(2036, 2, 7, 6, 28, 16, tzinfo=datetime.UTC), "00000000"),
        ("User-Name", "Zoë", "5a6fc3ab"),
        ("User-Data", b"<x/>", "3c782f3e"),
    ],
)
def test_payloads(name, value, raw):
    """Each type is written and read as RFC 6733 section 4.2 and 4.3 say."""
    avp = Avp.of(name, value)
    assert avp.raw.hex() == raw
    assert avp.value == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Result-Code", "2001"),
        ("Result-Code", -1),
        ("Host-IP-Address", "localhost"),
        ("Experimental-Result", 5),
        ("User-Name", 5),
        ("Event-Timestamp", 5),
        ("No-Such-AVP", 1),
    ],
)
def test_values_that_do_not_fit(name, value):
    """A value of the wrong type, or a name that does not exist, is refused."""
    with pytest.raises(DiameterError):
        Avp.of(name, value)


@pytest.mark.parametrize(
    ("avp", "result_code"),
    [
        (Avp(268, b"\0\0\7", 0, 0x40), 5014),
        (Avp(1, b"\xff\xfe", 0, 0x40), 5004),
        (Avp(257, b"\0\1\x7f", 0, 0x40), 5014),
        (Avp(257, b"", 0, 0x40), 5014),
        (Avp(55, b"\0", 0, 0x40), 5014),
        (Avp(297, b"\0\0\1", 0, 0x40), 5014),
    ],
)
def test_payloads_that_do_not_fit(avp, result_code):
    """A payload of the wrong size or form raises with its Result-Code and a Failed-AVP."""
    with pytest.raises(DiameterError) as caught:
        _ = avp.value
    assert caught.value.result_code == result_code
    assert caught.value.failed_avp


def test_scan_agrees_with_parse():
    """The quick look finds what the full parse finds, in every recorded message."""
    for raw in all_messages():
        found, count, flags = scan_avps(raw)
        avps = parse_message(raw).avps
        assert count == len(avps)
        assert found == {avp.code | avp.vendor << 32: avp.raw for avp in avps}
        assert flags & 0x40
    assert avp_key("Public-Identity") == 601 | 10415 << 32


def test_scan_refuses_what_parse_refuses():
    """Damaged messages are refused by both readers at the same byte."""
    rng = random.Random(6733)
    messages = all_messages()
    for _ in range(3000):
        raw = bytearray(rng.choice(messages))
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(20, len(raw))] = rng.randrange(256)
        errors = []
        for reader in (lambda raw: parse_avps(raw, 20), scan_avps):
            try:
                reader(bytes(raw))
                errors.append(None)
            except DiameterError as error:
                errors.append((error.offset, error.result_code, error.failed_avp))
        assert errors[0] == errors[1]


def test_names():
    """2001 means one thing in Result-Code and another in Experimental-Result of 3GPP."""
    assert result_name(2001) == "DIAMETER_SUCCESS"
    assert result_name(2001, experimental=True) == "DIAMETER_FIRST_REGISTRATION"
    assert result_name(2001, experimental=True, vendor=9) == "2001"
    assert result_name(9999) == "9999"
    assert (command_name(300, True), command_name(303, False)) == ("UAR", "MAA")
    assert avp_name(601, 10415) == "Public-Identity"


@pytest.mark.tshark
@pytest.mark.parametrize("name", recordings())
def test_tshark_sees_the_same(name):
    """tshark reads the same headers, the same AVPs at every depth, and the same values of the fields in use."""
    fields = {
        "diameter.Session-Id": "Session-Id",
        "diameter.Origin-Host": "Origin-Host",
        "diameter.User-Name": "User-Name",
        "diameter.Public-Identity": "Public-Identity",
        "diameter.Server-Name": "Server-Name",
        "diameter.Result-Code": "Result-Code",
        "diameter.Experimental-Result-Code": "Experimental-Result-Code",
        "diameter.Server-Assignment-Type": "Server-Assignment-Type",
        "diameter.Reason-Code": "Reason-Code",
        "diameter.avp.code": "",
        "diameter.cmd.code": "",
        "diameter.flags": "",
        "diameter.applicationId": "",
        "diameter.hopbyhopid": "",
        "diameter.endtoendid": "",
        "diameter.length": "",
    }
    asked = [part for field in fields for part in ("-e", field)]
    run = subprocess.run(
        ["tshark", "-r", str(IMS / name), "-Y", "diameter", "-T", "fields", "-e", "frame.number", *asked],
        capture_output=True,
        check=True,
        text=True,
    )
    rows = {}
    for line in run.stdout.splitlines():
        number, *cells = line.split("\t")
        rows[int(number)] = dict(zip(fields, cells, strict=True))
    ours: dict[int, dict[str, list[str]]] = {}
    for number, raw in diameter_messages(name):
        cells = ours.setdefault(number, {field: [] for field in fields})
        _collect(parse_message(raw), cells, fields)
    assert set(ours) == set(rows)
    for number, cells in ours.items():
        assert {field: ",".join(values) for field, values in cells.items()} == rows[number], number


def _collect(message: Message, cells: dict[str, list[str]], fields: dict[str, str]) -> None:
    cells["diameter.cmd.code"].append(str(message.command_code))
    cells["diameter.flags"].append(f"0x{message.flags:02x}")
    cells["diameter.applicationId"].append(str(message.application_id))
    cells["diameter.hopbyhopid"].append(f"0x{message.hop_by_hop_id:08x}")
    cells["diameter.endtoendid"].append(f"0x{message.end_to_end_id:08x}")
    cells["diameter.length"].append(str(len(message.to_bytes())))

    def walk(avp: Avp) -> None:
        cells["diameter.avp.code"].append(str(avp.code))
        for field, name in fields.items():
            if name == avp.name:
                cells[field].append(str(avp.value))
        for child in avp.children:
            walk(child)

    for avp in message.avps:
        walk(avp)


def test_python_diameter_reads_our_bytes():
    """Another library reads the base AVPs that we write, and writes what we read."""
    other = pytest.importorskip("diameter.message")
    for name in ("257R", "280R", "300R", "303A"):
        raw = ONE_OF_EACH[name]
        ours = parse_message(raw)
        theirs = other.Message.from_bytes(raw)
        assert theirs.header.command_code == ours.command_code
        assert theirs.header.hop_by_hop_identifier == ours.hop_by_hop_id
        for code in (263, 264, 296):
            mine = ours.find(code)
            if mine is not None:
                (avp,) = theirs.find_avps((code, 0))
                assert (avp.value.decode() if isinstance(avp.value, bytes) else avp.value) == mine.value
                assert other.Avp.from_bytes(mine.to_bytes()).payload == mine.raw
