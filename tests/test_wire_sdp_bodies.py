"""The thirty SDP bodies of data/sdp: what is written there of each, our reader, and tshark say the same."""

from __future__ import annotations

import socket
import struct
import subprocess
import tomllib
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from labkit.capture.table import read_capture
from labkit.lesson.sdp_bodies import SdpBody, sdp_bodies
from labkit.wire.sdp import parse_sdp
from labkit.wire.sip import parse_message

ROOT = Path(__file__).resolve().parents[1]
ENTRIES: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "data/sdp/bodies.toml").read_text(encoding="utf-8"))
RECORDED = ROOT / "tests/data/sdp_bodies.pcap"

each_body = pytest.mark.parametrize("body", sdp_bodies().values(), ids=lambda body: body.name)


def streams_by_us(body: SdpBody) -> list[list[Any]]:
    """The streams as bodies.toml writes them, worked out by labkit.wire.sdp."""
    sdp = body.description
    return [
        [media.kind, *sdp.media_address(i), sdp.direction_of(i), *(sdp.rtcp_address(i) or ())]
        for i, media in enumerate(sdp.media)
    ]


def test_there_are_thirty_from_recordings_and_specifications() -> None:
    """Each says where it comes from, once."""
    assert len(ENTRIES) == 30
    assert all(("recorded" in entry) != ("after" in entry) for entry in ENTRIES.values())
    assert sum("recorded" in entry for entry in ENTRIES.values()) == 8


@each_body
def test_our_reader_says_what_is_written_of_it(body: SdpBody) -> None:
    """Address, port, direction and RTCP of every stream; and the bytes come out as they went in."""
    assert streams_by_us(body) == ENTRIES[body.name]["streams"]
    raw = body.text.encode()
    assert parse_sdp(raw).to_bytes() == raw


def test_recorded_bodies_are_what_was_on_the_wire() -> None:
    """Byte for byte, but for the keys of one that were left out."""
    seen = read_capture(RECORDED)
    wire = [parse_message(raw).body.decode() for raw in seen.raw]
    for name, entry in ENTRIES.items():
        if "recorded" in entry and name != "freeswitch-two-audio":
            assert any(sdp_bodies()[name].text in body for body in wire), name
    kept = set(sdp_bodies()["freeswitch-two-audio"].text.splitlines())
    assert any(kept < set(body.splitlines()) for body in wire)


@pytest.fixture(scope="module")
def by_tshark(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, str, int]]]:
    """(kind, address, port) of every stream of every body, in tshark's view."""
    if which("tshark") is None:
        pytest.skip("tshark is not here")
    pcap = tmp_path_factory.mktemp("sdp") / "bodies.pcap"
    pcap.write_bytes(_pcap([_invite(body) for body in sdp_bodies().values()]))
    fields = ("sdp.media.media", "sdp.media.port", "sdp.connection_info.address", "sdp.connection_info", "sdp.media")
    wanted = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-r", str(pcap), "-T", "fields", "-E", "aggregator=|", "-E", "separator=/t", *wanted]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(sdp_bodies())
    return {
        body.name: _streams(line.split("\t"), body) for body, line in zip(sdp_bodies().values(), lines, strict=True)
    }


def _streams(fields: list[str], body: SdpBody) -> list[tuple[str, str, int]]:
    """Put tshark's flat lists together: which of its c= lines is whose follows from the order of lines alone."""
    kinds, ports, addresses = ([value for value in field.split("|") if value] for field in fields[:3])
    order = [line[0] for line in body.text.splitlines() if line[0] in "cm"]
    session, found, own = "", [], iter(addresses)
    for letter in order:
        if letter == "m":
            number = len(found)
            found.append([kinds[number], session, int(ports[number])])
        elif found:
            found[-1][1] = next(own)
        else:
            session = next(own)
    return [(kind, address.partition("/")[0], port) for kind, address, port in found]


@each_body
@pytest.mark.tshark
def test_tshark_says_the_same(body: SdpBody, by_tshark: dict[str, list[tuple[str, str, int]]]) -> None:
    """Kind, address and port of every stream."""
    assert by_tshark[body.name] == [tuple(stream[:3]) for stream in ENTRIES[body.name]["streams"]]


def _invite(body: SdpBody) -> bytes:
    content = body.text.encode()
    head = (
        "INVITE sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n"
        f"To: <sip:b@x>\r\nCall-ID: {body.name}\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _pcap(payloads: list[bytes]) -> bytes:
    """A capture of raw IPv4 packets (link type 101), a SIP message each."""
    source, target = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
    packets = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    for number, payload in enumerate(payloads):
        udp = struct.pack("!HHHH", 5060, 5060, 8 + len(payload), 0) + payload
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0, source, target)
        packets += [struct.pack("<IIII", number, 0, len(ip + udp), len(ip + udp)), ip, udp]
    return b"".join(packets)
