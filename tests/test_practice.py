"""The made-up network: the decoder must read out of its captures exactly what was put into them."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from labkit.capture.decode import COLUMNS, decode
from labkit.practice.evening import evening, practice_capture

READ = [name for name in COLUMNS if name not in ("src_node", "dst_node")]


@pytest.mark.parametrize(("seed", "overtaken", "repeated"), [(1, 0.0, 0.0), (2, 0.02, 0.02), (3, 0.3, 0.3)])
@pytest.mark.parametrize("few_frames", [0, 1 << 30], ids=["by arrays", "one by one"])
def test_every_field_of_every_row_is_the_truth(seed: int, overtaken: float, repeated: float, few_frames: int) -> None:
    """Fragments, TCP messages that share segments or take several, overtaken and repeated ones, IPv4, IPv6, VLAN."""
    traffic = evening(4000, seed, overtaken=overtaken, repeated=repeated)
    decoded = decode(traffic.file(), few_frames)
    rows = traffic.rows
    assert len(decoded.raw) == len(rows) > 2500
    wrong = [name for name in READ if decoded.columns[name] != [row.get(name) for row in rows]]
    assert wrong == []
    assert decoded.raw == [said.raw for _, said in traffic.said]


def test_ten_thousand_packets_by_arrays() -> None:
    """A capture of several pieces."""
    traffic = evening(12000, 4, overtaken=0.02, repeated=0.02)
    decoded = decode(traffic.file())
    assert len(traffic.frames) > 10000
    rows = traffic.rows
    assert [name for name in READ if decoded.columns[name] != [row.get(name) for row in rows]] == []


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    """Lessons cite its frames."""
    sums = [hashlib.sha256(practice_capture(tmp_path / name, packets=2000).read_bytes()) for name in "ab"]
    assert sums[0].digest() == sums[1].digest()
    assert practice_capture(tmp_path / "c", packets=2000, seed=5).read_bytes() != (tmp_path / "a").read_bytes()


def test_what_goes_wrong_in_an_evening() -> None:
    """Failures of every kind are there, and the one-way call and the one on hold."""
    rows = evening(4000, 20).rows
    results = Counter(row.get("experimental_result_code") for row in rows)
    assert results[5001]
    assert results[5004]
    statuses = Counter(row.get("status") for row in rows)
    assert min(statuses[status] for status in (200, 401, 403, 486, 503)) > 0


@pytest.mark.tshark
def test_tshark_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    """Every checksum is right, nothing is malformed, and tshark counts the same messages."""
    traffic = evening(4000, 6, overtaken=0.0, repeated=0.0)
    path = tmp_path / "evening.pcapng"
    path.write_bytes(traffic.file())
    checked = [part for name in ("ip", "tcp", "udp") for part in ("-o", f"{name}.check_checksum:TRUE")]
    bad = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0"
    assert _tshark(path, *checked, "-Y", bad) == []
    rows = traffic.rows
    sip = _tshark(path, "-Y", "sip", "-T", "fields", "-e", "sip.Call-ID", "-E", "occurrence=a")
    assert sum(len(line.split(",")) for line in sip) == sum(row["protocol"] == "sip" for row in rows)
    ports = ("-d", "tcp.port==13868,diameter", "-d", "udp.port==5062,sip")
    codes = _tshark(path, *ports, "-Y", "diameter", "-T", "fields", "-e", "diameter.cmd.code")
    assert sum(len(line.split(",")) for line in codes) == sum(row["protocol"] == "diameter" for row in rows)


def _tshark(path: Path, *arguments: str) -> list[str]:
    command = ["tshark", "-n", "-r", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
