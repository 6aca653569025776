"""Credit control (RFC 8506) in the dictionary, held against tshark's, and against messages of CGrateS."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from labkit.capture.table import read_capture
from labkit.view.diameter_words import ENUMS
from labkit.wire.diameter import parse_message
from labkit.wire.diameter_names import AVPS

RECORDING = Path(__file__).parent / "data" / "rpc" / "credit_control.pcap"


def tsharks_dictionary() -> ElementTree.Element:
    """The application 4 of tshark."""
    done = subprocess.run(["tshark", "-G", "folders"], capture_output=True, check=True, text=True, timeout=60)
    folders = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    return ElementTree.parse(Path(folders["Global configuration"].strip()) / "diameter" / "chargecontrol.xml").getroot()


@pytest.mark.tshark
def test_every_avp_of_credit_control_is_what_tshark_calls_it() -> None:
    """Codes 411 to 461: name, type and the values of enumerations (RFC 8506 section 8)."""
    checked = 0
    for avp in tsharks_dictionary().iter("avp"):
        code = int(avp.get("code", "0"))
        if not 411 <= code <= 461 or avp.get("vendor-id") not in (None, "None"):
            continue
        entry = AVPS[code, 0]
        kind = avp.find("type")
        expected = (
            "Grouped" if avp.find("grouped") is not None else str(kind.get("type-name") if kind is not None else "")
        )
        assert entry.name == avp.get("name")
        assert entry.kind == expected or {entry.kind, expected} == {"Time", "Unsigned32"}, entry
        values = {int(one.get("code", "0")): one.get("name", "") for one in avp.findall("enum")}
        if entry.name in ENUMS and values:
            assert {number: _letters(name) for number, name in ENUMS[entry.name].items()} == {
                number: _letters(name) for number, name in values.items()
            }
        checked += 1
    assert checked >= 45


def _letters(name: str) -> str:
    return "".join(letter for letter in name.upper() if letter.isalnum())


def test_messages_of_the_engine_come_back_byte_for_byte() -> None:
    """Every CCR and CCA of the recording is parsed, named and written again as it was."""
    raws = [raw for raw in read_capture(RECORDING).raw if parse_message(raw).command_code == 272]
    assert len(raws) == 22
    for raw in raws:
        assert parse_message(raw).to_bytes() == raw
    assert number(raws[0], "CC-Request-Type") == 1
    assert number(raws[0], "Requested-Service-Unit", "CC-Time") == 60
    assert number(raws[3], "Granted-Service-Unit", "CC-Time") == 30


def number(raw: bytes, name: str, inner: str = "") -> object:
    """The value of an AVP, or of one inside of it."""
    found = parse_message(raw).find(name)
    assert found is not None
    return next(child.value for child in found.children if child.name == inner) if inner else found.value
