"""Every short message of ours, and the recorded ones, as tshark reads them: an independent decoder, field by field."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labkit.wire import pcap, sms
from labkit.wire.sms import RpAck, RpData, RpError
from tests.capture_bench import frames
from tests.sms_bytes import in_sip, one_of_each, recorded

pytestmark = pytest.mark.tshark

RP_TYPE = "gsm_a.rp.msg_type"
FIELDS = (
    RP_TYPE,
    "gsm_a.rp.rp_message_reference",
    "gsm_a.rp.cause",
    "gsm_sms.tp-mti",
    "gsm_sms.tp-mr",
    "gsm_sms.tp-oa",
    "gsm_sms.tp-da",
    "gsm_sms.tp-ra",
    "gsm_sms.tp-dcs",
    "gsm_sms.tp-mms",
    "gsm_sms.tp-fcs",
    "gsm_sms.udh.mm.msg_id",
    "gsm_sms.udh.mm.msg_parts",
    "gsm_sms.udh.mm.msg_part",
    "gsm_sms.scts.hour",
    "gsm_sms.scts.seconds",
    "gsm_sms.sms_text",
    "_ws.malformed",
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, dict[str, list[str]]]:
    """What tshark says of each RP message: field to its values."""
    bodies = [*recorded(), *(made.to_bytes() for made in one_of_each().values())]
    path = Path(tmp_path_factory.mktemp("sms")) / "sms.pcapng"
    path.write_bytes(frames(*(_packet(number, body) for number, body in enumerate(bodies))))
    asked = [part for field in FIELDS for part in ("-e", field)]
    # Without reassembly each part of a long text is shown by itself.
    command = ["tshark", "-n", "-r", path, "-o", "gsm_sms.reassemble:FALSE", "-T", "fields", "-E", "separator=|"]
    done = subprocess.run(
        [*command, "-E", "aggregator=\x1f", *asked], capture_output=True, check=True, timeout=60, encoding="utf-8"
    )
    lines = done.stdout.rstrip("\n").split("\n")
    assert len(lines) == len(bodies)
    return dict(zip(bodies, map(_cells, lines), strict=True))


def _packet(number: int, body: bytes) -> bytes:
    return pcap.udp_frame("192.0.2.1", 5060, "192.0.2.2", 5060, in_sip(body, number=number).to_bytes())


def _cells(line: str) -> dict[str, list[str]]:
    return {field: cell.split("\x1f") if cell else [] for field, cell in zip(FIELDS, line.split("|"), strict=True)}


def names(body: bytes) -> dict[str, str]:
    """Our own reading: field to value in words (of several of one name the first)."""
    found: dict[str, str] = {}
    for field in sms.dissect(body).fields:
        found.setdefault(field.name, field.value)
    return found


def test_tshark_finds_nothing_malformed(seen: dict[bytes, dict[str, list[str]]]) -> None:
    """Every message is dissected to its end, the recorded ones as well."""
    assert len(seen) >= 25
    for body, cells in seen.items():
        assert cells["_ws.malformed"] == [], body.hex()
        assert [int(cells[RP_TYPE][0], 16)] == [body[0] & 7]


def test_the_relay_layer_is_read_alike(seen: dict[bytes, dict[str, list[str]]]) -> None:
    """Type, reference and cause."""
    for body, cells in seen.items():
        message = sms.parse_rp(body)
        assert [int(value, 16) for value in cells["gsm_a.rp.rp_message_reference"]] == [message.reference]
        causes = [message.cause] if isinstance(message, RpError) else []
        assert [int(value) for value in cells["gsm_a.rp.cause"]] == causes


@pytest.mark.parametrize(
    ("field", "ours"),
    [("gsm_sms.tp-oa", "TP-OA"), ("gsm_sms.tp-da", "TP-DA"), ("gsm_sms.tp-ra", "TP-RA"), ("gsm_sms.tp-mr", "TP-MR")],
)
def test_addresses_and_references_are_read_alike(
    field: str, ours: str, seen: dict[bytes, dict[str, list[str]]]
) -> None:
    """Numbers, names and short codes; tshark shows international numbers without the plus."""
    compared = 0
    for body, cells in seen.items():
        value = names(body).get(ours)
        if ours == "TP-DA" and "COMMAND" in names(body).get("TP-MTI", ""):
            continue  # tshark does not give it a field there
        assert cells[field] == ([] if value is None else [value.lstrip("+")]), body.hex()
        compared += value is not None
    assert compared


def test_flags_and_coding_are_read_alike(seen: dict[bytes, dict[str, list[str]]]) -> None:
    """Message type, TP-UDHI, TP-MMS, TP-DCS, TP-FCS, and the time down to the second."""
    for body, cells in seen.items():
        ours = names(body)
        assert cells["gsm_sms.tp-mti"] == ([str(int(ours["TP-MTI"][:2], 2))] if "TP-MTI" in ours else [])
        assert cells["gsm_sms.tp-mms"] == ([ours["TP-MMS"]] if "TP-MMS" in ours else [])
        failures = [int(value, 16) for value in cells["gsm_sms.tp-fcs"]]
        assert failures == ([int(ours["TP-FCS"].split()[0])] if "TP-FCS" in ours else [])
        if cells["gsm_sms.tp-dcs"]:
            assert int(cells["gsm_sms.tp-dcs"][0]) == int(ours["TP-DCS"], 16)
        if "TP-SCTS" in ours:
            shown = f"{int(cells['gsm_sms.scts.hour'][0]):02}", f"{int(cells['gsm_sms.scts.seconds'][0]):02}"
            assert (ours["TP-SCTS"][11:13], ours["TP-SCTS"][17:19]) == shown


def test_texts_and_parts_are_read_alike(seen: dict[bytes, dict[str, list[str]]]) -> None:
    """In 7 bit and UCS-2, with header and without; tshark knows no national tables."""
    compared = 0
    for body, cells in seen.items():
        message = sms.parse_rp(body)
        data = getattr(message.tpdu, "user_data", None) if isinstance(message, RpData | RpAck | RpError) else None
        if data is None or data.alphabet == sms.OCTETS or data.languages != (0, 0):
            continue
        if cells["gsm_sms.sms_text"]:  # it gives the text of a status report no field
            assert cells["gsm_sms.sms_text"] == [data.text]
            compared += 1
        part = data.part
        shown = [cells[f"gsm_sms.udh.mm.msg_{name}"] for name in ("id", "parts", "part")]
        assert shown == ([[str(part.reference)], [str(part.total)], [str(part.number)]] if part else [[], [], []])
    assert compared >= 12
