"""The recordings of the lesson on hold: what the project says of them, held against tshark's own reading."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from labkit.capture.offers import exchanges
from labkit.capture.phases import REPORTS, SHORTEST_S, phase_table, phases
from labkit.capture.table import Messages, read_capture
from labkit.view.media_flows import flows

CASSETTES = Path(__file__).resolve().parents[1] / "data" / "cassettes" / "09"
MOST_BYTES = 1_300_000
"""All recordings of the lesson together: short phases, so that a clone stays small."""


def recorded(name: str) -> Messages:
    names = json.loads((CASSETTES / f"{name}.json").read_text(encoding="utf-8"))["names"]
    return read_capture((CASSETTES / f"{name}.pcapng").read_bytes(), names)


def test_the_recordings_are_small() -> None:
    """Sound is 20 kB a second: nobody adds minutes of it by accident."""
    assert sum(path.stat().st_size for path in CASSETTES.iterdir()) < MOST_BYTES


@pytest.mark.tshark
@pytest.mark.parametrize("name", ["hold", "both", "old-way"])
def test_tshark_counts_the_same_sound_and_reports(name: str) -> None:
    """Per sender, RTP packets and SR and RR are as many as tshark finds by itself."""
    messages = recorded(name)
    theirs = Counter[tuple[str, str]]()
    for line in tshark(
        CASSETTES / f"{name}.pcapng", "(rtp or rtcp) and not icmp", "udp.srcport", "rtp.p_type", "rtcp.pt"
    ):
        port, rtp, rtcp = line.split("\t")
        theirs.update({(port, "RTP"): 1} if rtp else {})
        if "203" not in rtcp.split(","):
            theirs.update((port, REPORTS[int(one)]) for one in rtcp.split(",") if int(one or 0) in REPORTS)
    ours = Counter[tuple[str, str]]()
    rtp_flows, rtcp_flows = flows(messages, 0.0)
    for flow in (*rtp_flows, *rtcp_flows):
        ours.update((flow.sender, kind) for kind in flow.kinds)
    assert kinds_and_counts(ours) == kinds_and_counts(theirs)
    assert {name for name, _kind in ours} == {"alice", "bob"}


def kinds_and_counts(found: Counter[tuple[str, str]]) -> list[tuple[str, int]]:
    """Without the senders, whom tshark knows by their ports alone."""
    return sorted((kind, number) for (_sender, kind), number in found.items())


def tshark(path: Path, display: str, *fields: str) -> list[str]:
    command = ["tshark", "-r", str(path), "-Y", display, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_reports_of_alice_count_what_she_sent() -> None:
    """The last SR of a stream tells as many packets as were seen of it by then: RTCP is made from the sound itself."""
    from labkit.wire.rtp import parse_rtcp

    messages = recorded("hold")
    table = messages.table
    told = 0
    for number, row in enumerate(table.to_dict("records")):
        if row["protocol"] == "rtcp" and row["payload_type"] == 200:
            sender = parse_rtcp(messages.raw[number])[0].sender
            assert sender is not None
            before = (table["protocol"] == "rtp") & (table["ssrc"] == row["ssrc"]) & (table["time"] <= row["time"])
            assert sender.packets == int(before.sum())
            assert sender.payload_bytes == 160 * sender.packets
            told += 1
    assert told >= 4


def test_phases_are_long_enough_to_tell() -> None:
    """Every phase that the lesson shows with its sound lasts well above what is asked of one."""
    for name, first in (("hold", 0), ("views", 1), ("both", 1), ("old-way", 0), ("update", 1), ("refused", 1)):
        assert min(phase.lasts_s for phase in phases(recorded(name))[first:]) > SHORTEST_S + 0.02, name


def test_glare_waits_as_the_rfc_has_it() -> None:
    """Both are refused with 491 by the other phone; the callee tries again first (RFC 3261 section 14.1)."""
    found = exchanges(recorded("glare"))
    refused = [(one.by, one.to) for one in found if one.answer == "491 Request Pending"]
    assert refused[:2] == [("alice", "bob"), ("bob", "alice")]
    again = [one for one in found if one.taken][1:]
    assert [one.by for one in again] == ["bob", "alice"]
    waited_s = {one.by: (one.sent_ns - found[1].done_ns) / 1e9 for one in again}
    assert 0 <= waited_s["bob"] < 2.2
    assert 2.05 < waited_s["alice"] < 4.3


def test_a_refused_offer_changes_no_sound() -> None:
    """After 488 both go on talking; the table says so of a phase that follows no answer."""
    (_first, row) = phase_table(recorded("refused")).to_dict("records")
    assert row["answer"] == "488 Not Acceptable Here"
    assert (row["alice sends"], row["bob sends"]) == ("tone 400 Hz", "tone 500 Hz")
