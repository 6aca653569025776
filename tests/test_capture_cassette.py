"""Cassettes: what is saved is loaded, damage is told, Wireshark shows names and comments."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from capture_bench import IMS, NAMES

from labkit.capture.canon import canon
from labkit.capture.cassette import Cassette
from labkit.capture.table import read_capture
from labkit.errors import ReplayError

PACKETS = (IMS / "05_call_with_hold.pcap").read_bytes()
CALLS: list[dict[str, Any]] = [{"call": "alice.register", "args": {"expires": 600}, "result": {"status": 200}}]


@pytest.fixture
def cassette(tmp_path: Path) -> Cassette:
    """A cassette with one span."""
    cassette = Cassette(tmp_path / "01", "01")
    cassette.save(
        "call",
        PACKETS,
        engine="docker",
        versions={"pcscf": "6.0.1"},
        names=NAMES,
        capture="wire",
        calls=CALLS,
    )
    return cassette


def test_what_is_saved_is_loaded(cassette: Cassette) -> None:
    """Calls, names and versions come back; the packets decode to the same messages and the same story."""
    packets, about = cassette.load("call")
    assert cassette.holds("call")
    assert cassette.names() == ["call"]
    assert about["calls"] == CALLS
    assert about["names"] == NAMES
    assert (about["labkit"], about["lesson"], about["name"], about["capture"]) == (1, "01", "call", "wire")
    assert about["recorded"].endswith("+00:00")
    before, after = read_capture(PACKETS, NAMES), read_capture(packets, about["names"])
    assert after.raw == before.raw
    assert after.table.equals(before.table)
    assert canon(after).equals(canon(before))


def test_a_span_without_packets(cassette: Cassette) -> None:
    """Calls outside of captures have a JSON file only."""
    cassette.save("lesson", b"", engine="local", versions={}, names={}, capture="none", calls=[])
    assert cassette.about("lesson")["capture"] == "none"
    assert cassette.names() == ["call", "lesson"]
    with pytest.raises(ReplayError, match=r"record it anew with \./lab record 01"):
        cassette.load("lesson")


def test_saving_again_replaces(cassette: Cassette) -> None:
    """No file of an older recording stays behind."""
    cassette.save("call", b"", engine="local", versions={}, names={}, capture="none", calls=[])
    assert sorted(path.name for path in cassette.folder.iterdir()) == ["call.json"]


def test_what_is_not_recorded_names_the_command(cassette: Cassette) -> None:
    """One sentence with the command that records it."""
    assert not cassette.holds("other")
    with pytest.raises(ReplayError, match=r"no recording named 'other'.*\./lab record 01"):
        cassette.about("other")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "{}", '{"labkit": 1}', json.dumps({"labkit": 2, **dict.fromkeys("abc")})]
)
def test_damage_is_told(cassette: Cassette, text: str) -> None:
    """A damaged or foreign JSON file is refused by name."""
    (cassette.folder / "call.json").write_text(text)
    with pytest.raises(ReplayError, match=r"call\.json"):
        cassette.about("call")


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".hidden", "a" * 100, "with space"])
def test_names_that_cannot_be_files_are_refused(cassette: Cassette, name: str) -> None:
    """A recording never leaves its folder."""
    with pytest.raises(ReplayError, match="cannot name a recording"):
        cassette.holds(name)


@pytest.mark.tshark
def test_wireshark_shows_names_and_comments(cassette: Cassette) -> None:
    """Node names stand for addresses, message numbers and labels in the comments."""
    fields = [part for name in ("frame.number", "ip.src_host", "ip.dst_host", "frame.comment") for part in ("-e", name)]
    command = ["tshark", "-r", str(cassette.folder / "call.pcapng"), "-N", "n", "-T", "fields", *fields]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == 104
    assert lines[2] == ["3", "icscf", "hss", "3: icscf -> hss UAR"]
    assert lines[3] == ["4", "hss", "icscf", "4: hss -> icscf UAA DIAMETER_FIRST_REGISTRATION"]
    assert lines[4][3] == ""
