"""`./lab capture` beside a running lab: what the phones of another process do is printed, and kept whole."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

from labkit.capture.table import read_capture, settled
from labkit.lab.lab import RunningLab
from tests.jupyter_page import ROOT

sys.path.insert(0, str(Path(__file__).parent))
from test_capture_live import call_with_hold


def test_a_call_is_watched_and_kept(lab: RunningLab, tmp_path: Path) -> None:
    """Every message of a call is a line of the ladder; Ctrl-C leaves exit code 0 and a file without a hole."""
    path = tmp_path / "seen.pcapng"
    watching = subprocess.Popen(
        [sys.executable, str(ROOT / "lab"), "capture", "--name", lab.name, "--ladder", "--to", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert watching.stderr is not None
        assert "Ctrl-C ends" in watching.stderr.readline()
        names = lab.names() | asyncio.run(call_with_hold(lab))
        time.sleep(0.5)  # until the last ACK has gone its way
        watching.send_signal(signal.SIGINT)
        said, told = watching.communicate(timeout=30)
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 0
    assert "no packet lost" in told
    kept = read_capture(path, names)
    assert not kept.warning
    assert settled(kept) == []
    methods = kept.table["method"].value_counts()
    for method in ("REGISTER", "INVITE", "ACK", "BYE"):
        drawn = sum(f"  {method}  CSeq " in line for line in said.splitlines())
        assert drawn == methods[method] > 0
