"""Ending a program of the lab's with all that it has started, without a look at the rest of the machine."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from labkit.lab.ports import can_bind
from labkit.lab.process import alive, kill_group, spawn

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes as Linux shows them")

PARENT = "import subprocess, sys, time\nprint(subprocess.Popen(['sleep', '60']).pid, flush=True)\ntime.sleep(60)"
HEADLESS = """
import ctypes, socket, threading, time
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_program_and_its_children_are_gone_at_once(tmp_path: Path) -> None:
    """When it returns nobody of them runs; a second time there is nobody, and nobody else is hit."""
    log = tmp_path / "log"
    pid, ticks = spawn([sys.executable, "-c", PARENT], {"PATH": "/usr/bin:/bin"}, tmp_path, log)
    deadline = time.monotonic() + 10
    while not (text := log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.01)
    child = Path(f"/proc/{text}/stat")
    assert child.exists()
    kill_group(pid, ticks)
    assert not alive(pid, ticks)
    assert not child.exists() or child.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    kill_group(pid, ticks)


def test_a_pid_that_another_has_by_now_is_left_alone(tmp_path: Path) -> None:
    """The start time is part of who it is."""
    pid, ticks = spawn(["sleep", "60"], {"PATH": "/usr/bin:/bin"}, tmp_path, tmp_path / "log")
    kill_group(pid, ticks + 1)
    assert alive(pid, ticks)
    kill_group(pid, ticks)
    assert not alive(pid, ticks)


def test_a_program_whose_first_thread_has_ended_still_runs(tmp_path: Path) -> None:
    """It looks like a zombie and holds its port; when it was killed, the port is free."""
    log = tmp_path / "log"
    pid, ticks = spawn([sys.executable, "-c", HEADLESS], {"PATH": "/usr/bin:/bin"}, tmp_path, log)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    port = int(log.read_text())
    assert alive(pid, ticks)
    assert not can_bind("127.0.0.1", port, "tcp")
    kill_group(pid, ticks)
    assert not alive(pid, ticks)
    assert can_bind("127.0.0.1", port, "tcp")
