"""One bit of Milenage's inputs turned: what changes, held against TS 35.208 and the structure of TS 35.206."""

from __future__ import annotations

import pytest

from labkit.errors import LessonError
from labkit.view.bit_turner import INPUTS, milenage_values, turn, turn_a_bit, turned

# TS 35.208 section 4.3, test set 1.
VALUES = {
    "RAND": bytes.fromhex("23553cbe9637a89d218ae64dae47bf35"),
    "K": bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc"),
    "OPc": bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf"),
    "SQN": bytes.fromhex("ff9bb4d0b607"),
    "AMF": bytes.fromhex("b9b9"),
}


def test_values_are_those_of_the_specification() -> None:
    """Test set 1 of TS 35.208 comes out."""
    values = milenage_values(VALUES)
    assert {name: values[name].hex() for name in ("MAC-A", "RES", "CK", "IK", "AK")} == {
        "MAC-A": "4a9ffac354dfafb3",
        "RES": "a54211d5e3ba50bf",
        "CK": "b40ba9a3c58b2a05bbf0d987b21bf8cb",
        "IK": "f769bcd751044604127672711c6d3441",
        "AK": "aa689c648370",
    }
    assert values["AUTN"].hex() == "55f328b43577" + "b9b9" + "4a9ffac354dfafb3"


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("RAND", {"MAC-A", "RES", "CK", "IK", "AK", "AUTN"}),
        ("K", {"MAC-A", "RES", "CK", "IK", "AK", "AUTN"}),
        ("OPc", {"MAC-A", "RES", "CK", "IK", "AK", "AUTN"}),
        ("SQN", {"MAC-A", "AUTN"}),
        ("AMF", {"MAC-A", "AUTN"}),
    ],
)
def test_what_an_input_reaches(name: str, changed: set[str]) -> None:
    """SQN and AMF go into the MAC alone; key and challenge into everything, whichever bit is turned."""
    for bit in range(len(VALUES[name]) * 8):
        table = turned(VALUES, name, bit)
        assert set(table.index[table["bits changed"] > 0]) == changed


def test_bit_0_is_the_leftmost() -> None:
    """As 3GPP numbers bits."""
    assert turn(b"\x00\x00", 0) == b"\x80\x00"
    assert turn(b"\x00\x00", 15) == b"\x00\x01"


@pytest.mark.parametrize(("name", "bit"), [("AMF", 16), ("AMF", -1), ("XRES", 0)])
def test_what_there_is_not_cannot_be_turned(name: str, bit: int) -> None:
    """No such input or bit: a sentence that says which there are."""
    with pytest.raises(LessonError, match=r"There is no input|has no bit"):
        turned(VALUES, name, bit)


def test_widget_follows_its_controls() -> None:
    """The list and the slider choose; a shorter input never leaves the slider on a bit that it has not."""
    widget = turn_a_bit(VALUES)
    for name in INPUTS:
        widget.choose(name, len(VALUES[name]) * 8 - 1)
        assert widget.table.equals(turned(VALUES, name, len(VALUES[name]) * 8 - 1))
    widget.choose("RAND", 127)
    widget.choose("AMF", 3)
    assert widget.table.equals(turned(VALUES, "AMF", 3))
    assert "running notebook" in repr(widget)
