"""Derived figures against tshark's statistics of the same files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from capture_bench import IMS

from labkit.capture.derived import diameter_pairs, rtp_streams, transactions
from labkit.capture.table import read_capture

pytestmark = pytest.mark.tshark

FREESWITCH = sorted((Path(__file__).parent / "data" / "freeswitch").glob("*.pcap"))
RECORDINGS = sorted(IMS.glob("*.pcap"))


def statistics(path: Path, tap: str) -> str:
    """What `tshark -q -z TAP` prints."""
    ports = [part for port in (4060, 6060, 5070, 5080) for part in ("-d", f"udp.port=={port},sip")]
    command = ["tshark", "-n", "-r", path, *ports, "-q", "-z", tap]
    return subprocess.run(command, capture_output=True, check=True, timeout=60, text=True).stdout


def test_rtp_streams_are_those_of_tshark() -> None:
    """Packets, loss, mean and greatest jitter and the longest gap of each stream, to the three digits of tshark."""
    path = FREESWITCH[-1]
    messages = read_capture(path)
    found = rtp_streams(messages.table, messages.raw).sort_values(["src_port", "dst_port"])
    expected = []
    for line in statistics(path, "rtp,streams").splitlines():
        words = line.split()
        if len(words) > 10 and words[6].startswith("0x"):
            expected.append((int(words[3]), int(words[5]), int(words[6], 16), *map(float, (words[8], words[9]))))
            expected[-1] = (*expected[-1], *map(float, (words[13], words[15], words[16])))
    assert len(expected) == 3
    names = ["src_port", "dst_port", "ssrc", "packets", "lost", "longest_gap_ms", "mean_jitter_ms", "max_jitter_ms"]
    for actual, wanted in zip(found[names].itertuples(index=False), sorted(expected), strict=True):
        assert tuple(map(float, actual)) == pytest.approx(wanted, abs=0.0011)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_diameter_pairs_are_those_of_tshark(path: Path) -> None:
    """Frame of request, frame of answer, and the time between them."""
    fields = ["diameter.answer_in", "frame.number", "diameter.answer_to", "diameter.resp_time"]
    columns = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-n", "-2", "-r", path, "-Y", "diameter.answer_to", "-T", "fields", *columns]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True).stdout
    expected = sorted(
        (int(asked), int(frame), float(seconds))
        for _in, frame, all_asked, all_seconds in (line.split("\t") for line in printed.splitlines())
        for asked, seconds in zip(all_asked.split(","), all_seconds.split(","), strict=True)
    )
    found = diameter_pairs(read_capture(path).table).dropna(subset="final_frame")
    actual = sorted(zip(found["frame"], found["final_frame"], found["duration_s"], strict=True))
    assert [(a, b) for a, b, _ in actual] == [(a, b) for a, b, _ in expected]
    assert [s for *_, s in actual] == pytest.approx([s for *_, s in expected], abs=1e-8)


@pytest.mark.parametrize("path", [*RECORDINGS, *FREESWITCH], ids=lambda path: path.stem)
def test_counts_of_sip_are_those_of_tshark(path: Path) -> None:
    """Requests by method and responses by status, as `tshark -z sip,stat` counts them."""
    printed = statistics(path, "sip,stat")
    expected = {word: int(count) for word, count in re.findall(r"^  ([A-Z]+) +: +(\d+) Packets", printed, re.M)}
    codes = {word: int(count) for word, count in re.findall(r"^  SIP (\d{3}) .*: +(\d+) Packets", printed, re.M)}
    table = read_capture(path).table
    found = table.loc[table["protocol"] == "sip"]
    assert found["method"].dropna().value_counts().to_dict() == expected
    statuses = {str(code): count for code, count in found["status"].dropna().value_counts().to_dict().items()}
    assert statuses == codes


@pytest.mark.parametrize("path", FREESWITCH, ids=lambda path: path.stem)
def test_retransmissions_are_those_of_tshark(path: Path) -> None:
    """Messages that were sent again: requests and final responses."""
    match = re.search(r"resent SIP messages: (\d+)", statistics(path, "sip,stat"))
    assert match is not None
    found = transactions(read_capture(path).table)
    counted = pd.Series(found["retransmissions"] + found["response_retransmissions"]).sum()
    assert int(counted) == int(match[1])
