"""The file of test subscribers: what it means, and what is said about a wrong one."""

from __future__ import annotations

import pytest

from labkit.errors import TopologyError
from labkit.peers.hss.subscribers import load_subscribers, subscriber_fields, subscriber_from_fields

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
AKA = 'k = "00112233445566778899aabbccddeeff"\nopc = "00112233445566778899aabbccddeeff"\n'


def _write(tmp_path, text):
    path = tmp_path / "subscribers.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_lab_has_its_people():
    """alice, bob and carol use AKA, dave digest, erin may not roam, frank has a service; others are for load."""
    people = {subscriber.name: subscriber for subscriber in load_subscribers()}
    assert list(people)[:7] == ["alice", "bob", "carol", "dave", "erin", "frank", "grace"]
    alice = people["alice"]
    assert alice.impi == f"001010000000001@{REALM}"
    assert alice.impus[0] == f"sip:001010000000001@{REALM}"
    assert {f"sip:alice@{REALM}", "tel:+15550001", f"sip:+15550001@{REALM}"} < set(alice.impus)
    assert people["dave"].auth == "digest"
    assert people["erin"].visited_networks == ()
    assert people["frank"].unregistered_service
    assert not alice.unregistered_service
    assert people["grace"].barred
    assert not people["mallory"].provisioned
    assert len([name for name in people if name.startswith("load")]) >= 8
    assert people["load102"].k != people["load101"].k


def test_realm_can_be_given():
    """Another realm completes the identities; a telephone number has none."""
    alice = load_subscribers(realm="home.example")[0]
    assert alice.impi == "001010000000001@home.example"
    assert {"sip:alice@home.example", "tel:+15550001"} < set(alice.impus)
    frank = next(person for person in load_subscribers(realm="home.example") if person.name == "frank")
    assert frank.ifcs[0].server == "sip:voicemail.home.example:5070"


def test_op_becomes_opc(tmp_path):
    """A subscriber may have OP instead of OPc (carol: TS 35.208 test set 3)."""
    carol = next(person for person in load_subscribers() if person.name == "carol")
    assert carol.opc.hex() == "1006020f0a478bf6b699f15c062e42b3"


def test_fields_round_trip():
    """What the admin door shows of a subscriber builds the same subscriber again."""
    for subscriber in load_subscribers():
        assert subscriber_from_fields(subscriber_fields(subscriber), REALM, "test") == subscriber


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[subscriber", "is no TOML"),
        ('[[subscriber]]\nimpi = "a"\nimpus = ["sip:a"]\n' + AKA, "'name'"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\n' + AKA, "'impus'"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = []\n' + AKA, "impus is empty"),
        ('[[subscriber]]\nname = "a"\nimpus = ["sip:a"]\n' + AKA, "'impi'"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\n', "'k'"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\nk = "00"\nopc = "00"', "k has 1 bytes"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\nk = "xyz"', "non-hexadecimal"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\nauth = "magic"\n', "use aka or digest"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\nauth = "digest"\n', "'password'"),
        ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\ncolour = 1\n' + AKA, "unknown keys colour"),
        (
            '[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\n'
            + AKA
            + '[[subscriber.ifc]]\nserver = "sip:x@y"',
            "'priority'",
        ),
        (
            ('[[subscriber]]\nname = "a"\nimpi = "a"\nimpus = ["sip:a"]\n' + AKA) * 2,
            "belongs to a and to a",
        ),
    ],
)
def test_wrong_files(tmp_path, text, sentence):
    """A wrong entry is named with the file, the subscriber and what is wrong."""
    path = _write(tmp_path, 'realm = "x"\n' + text)
    with pytest.raises(TopologyError) as caught:
        load_subscribers(path)
    assert sentence in str(caught.value)
    assert "subscribers.toml" in str(caught.value)


def test_no_file(tmp_path):
    """A file that is not there is named, with a cure."""
    with pytest.raises(TopologyError, match="--subscribers"):
        load_subscribers(tmp_path / "none.toml")
