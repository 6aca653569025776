"""Our table against tshark's view of the same recordings: every SIP and Diameter message, field by field."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest

from labkit.capture.table import read_capture

pytestmark = pytest.mark.tshark

RECORDINGS = sorted((Path(__file__).parent / "data" / "ims").glob("*.pcap"))
SIP_PORTS = (4060, 5060, 6060, 5070, 5080)

SIP_FIELDS = {
    "method": "sip.Method",
    "status": "sip.Status-Code",
    "call_id": "sip.Call-ID",
    "cseq": "sip.CSeq.seq",
    "cseq_method": "sip.CSeq.method",
    "from_user": "sip.from.user",
    "to_user": "sip.to.user",
    "from_tag": "sip.from.tag",
    "to_tag": "sip.to.tag",
    "branch": "sip.Via.branch",
}
DIAMETER_FIELDS = {
    "command_code": "diameter.cmd.code",
    "flags": "diameter.flags",
    "application_id": "diameter.applicationId",
    "hop_by_hop_id": "diameter.hopbyhopid",
    "end_to_end_id": "diameter.endtoendid",
    "session_id": "diameter.Session-Id",
    "result_code": "diameter.Result-Code",
    "experimental_result_code": "diameter.Experimental-Result-Code",
    "user_name": "diameter.User-Name",
    "public_identity": "diameter.Public-Identity",
    "visited_network": "diameter.Visited-Network-Identifier",
    "server_name": "diameter.Server-Name",
    "user_authorization_type": "diameter.User-Authorization-Type",
    "server_assignment_type": "diameter.Server-Assignment-Type",
    "origin_host": "diameter.Origin-Host",
}
INTEGERS = {
    "status",
    "cseq",
    "command_code",
    "flags",
    "application_id",
    "hop_by_hop_id",
    "end_to_end_id",
    "result_code",
    "experimental_result_code",
    "user_authorization_type",
    "server_assignment_type",
}


def tshark_messages(path: Path) -> list[dict[str, object]]:
    """What tshark sees: one dict a message with the names of our columns."""
    decode_as = [part for port in SIP_PORTS for part in ("-d", f"udp.port=={port},sip")]
    done = subprocess.run(
        ["tshark", "-n", "-r", path, *decode_as, "-T", "pdml"], capture_output=True, check=True, timeout=60
    )
    found = []
    for packet in ElementTree.fromstring(done.stdout).iter("packet"):
        protos = {proto.get("name"): proto for proto in packet.findall("proto")}
        for proto in packet.findall("proto"):
            if proto.get("name") in ("sip", "diameter"):
                found.append(_message(proto, protos))
    return found


def _message(proto: ElementTree.Element, layers: dict[str | None, ElementTree.Element]) -> dict[str, object]:
    sip = proto.get("name") == "sip"
    transport = "tcp" if "tcp" in layers else "udp"
    message: dict[str, object] = {
        "frame": int(_first(layers["frame"], "frame.number") or 0),
        "src": _first(layers["ip"], "ip.src"),
        "dst": _first(layers["ip"], "ip.dst"),
        "src_port": int(_first(layers[transport], f"{transport}.srcport") or 0),
        "dst_port": int(_first(layers[transport], f"{transport}.dstport") or 0),
        "transport": transport,
        "protocol": "sip" if sip else "diameter",
    }
    for column, field in (SIP_FIELDS if sip else DIAMETER_FIELDS).items():
        value = _first(proto, field)
        message[column] = int(value, 0) if value is not None and column in INTEGERS else value
    visited = message.get("visited_network")
    if isinstance(visited, str):  # an OctetString: tshark shows bytes
        message["visited_network"] = bytes.fromhex(visited.replace(":", "")).decode()
    status_line = _first(proto, "sip.Status-Line")
    message["reason"] = status_line.split(" ", 2)[2] if status_line else None
    return message


def _first(element: ElementTree.Element, name: str) -> str | None:
    for field in element.iter("field"):
        if field.get("name") == name:
            return field.get("show")
    return None


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_every_field_of_every_message_is_what_tshark_says(path: Path) -> None:
    """Each message of a recording has tshark's frame number and tshark's value in each field."""
    assert_same_as_tshark(path)


def assert_same_as_tshark(path: Path) -> None:
    """Hold every field of every message of a capture against tshark."""
    expected = tshark_messages(path)
    messages = read_capture(path)
    assert len(expected) == len(messages)
    for row, raw, message in zip(messages.table.to_dict("records"), messages.raw, expected, strict=True):
        actual = {name: None if pd.isna(row[name]) else row[name] for name in message}
        for column in known_differences(raw):
            assert message.pop(column) is None
            assert actual.pop(column) is not None
        assert actual == message, f"frame {message['frame']}"


def known_differences(raw: bytes) -> list[str]:
    """Columns that tshark 4.0 leaves empty where we give a value.

    - tel: URIs have no user part in the grammar, so tshark shows none; the table shows the number, because that is the
      user who is meant (RFC 3261 section 19.1.6 puts it there in the SIP form of the same URI).
    - "sip:a@x": a user of one character before a host of one character is legal (RFC 3261 section 25.1, 1*user);
      tshark takes all of it for the host.
    """
    lines = raw.lower().split(b"\r\n")
    return [
        f"{side}_user"
        for side in ("from", "to")
        for line in lines
        if line.startswith(side.encode() + b":") and (b"<tel:" in line or b"<sip:a@x>" in line)
    ]
