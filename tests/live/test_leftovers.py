"""What a lab must never leave: containers, networks, volumes, processes, sockets, records. On every engine.

LABKIT_CYCLES sets how many times a lab goes up and down (3, unless it says more).
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.lab.choice import make_engine
from labkit.lab.lab import RunningLab, attach, start_lab, wipe_all
from labkit.lab.process import lab_processes
from labkit.lab.record import Record, labs_folder

CYCLES = int(os.environ.get("LABKIT_CYCLES", "3"))
NAME = "left"


def remains(engine: str, home: Path) -> list[str]:
    """Everything of this test's home that runs or stands on this engine, and sockets and records."""
    found = list(make_engine(engine).leftovers())
    found += [f"process {p.pid} of {p.node}" for p in lab_processes(home=str(home.resolve()))]
    folder = labs_folder() / NAME
    found += [str(path) for path in folder.rglob("*") if path.is_socket() or path.is_fifo() or path.name == "lab.json"]
    return found


def starter(engine: str) -> subprocess.Popen[str]:
    """Another process that starts a lab."""
    code = f"from labkit.lab.lab import start_lab; start_lab({NAME!r}, {engine!r})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def open_files() -> int:
    """How many files and sockets this process has open, once what nobody refers to any more has been closed."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def wait_for_record(nodes: int) -> Record:
    """The record of the lab that is starting, once it holds so many nodes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        record = Record.load(labs_folder() / NAME)
        if record is not None and len(record.nodes) >= nodes:
            return record
        time.sleep(0.002)
    raise AssertionError("the lab does not start")


def test_cycles_leave_nothing(engine_name: str, live_home: Path) -> None:
    """Up and down, again and again: after each time nothing is left, and no file stays open in the starter."""
    start_lab(NAME, engine_name).stop()
    before = open_files()
    for cycle in range(CYCLES):
        lab = start_lab(NAME, engine_name, progress=lambda line: None)
        assert all(lab.ready(node) for node in lab.record.nodes), f"cycle {cycle}"
        lab.stop()
        del lab
        assert remains(engine_name, live_home) == [], f"cycle {cycle}"
    assert open_files() <= before


@pytest.mark.parametrize("nodes", [0, 1, 3])
def test_ctrl_c_during_a_start_leaves_nothing(engine_name: str, live_home: Path, nodes: int) -> None:
    """Interrupted before the first node, after it, and near the end."""
    process = starter(engine_name)
    wait_for_record(nodes)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    lab = attach(NAME)
    if lab is not None:  # it was ready before the signal came: an ordinary lab, which an ordinary stop ends
        lab.stop()
    assert remains(engine_name, live_home) == []


@pytest.mark.parametrize("nodes", [0, 1, 3])
def test_wipe_after_kill_9_finds_everything(engine_name: str, live_home: Path, nodes: int) -> None:
    """The starter is gone without a word; wipe removes all that it had begun."""
    process = starter(engine_name)
    wait_for_record(nodes)
    process.kill()
    process.communicate(timeout=60)
    wipe_all()
    assert remains(engine_name, live_home) == []
    assert wipe_all() == []


def test_a_start_works_over_the_rest_of_a_killed_one(engine_name: str, live_home: Path) -> None:
    """Nobody has to wipe first: the next start takes away what the killed one left."""
    process = starter(engine_name)
    record = wait_for_record(1)
    process.kill()
    process.communicate(timeout=60)
    lab: RunningLab = start_lab(NAME, engine_name, progress=lambda line: None)
    assert lab.id != record.id
    assert all(lab.ready(node) for node in lab.record.nodes)
    lab.stop()
    assert remains(engine_name, live_home) == []


def test_a_lab_outlives_its_starter_and_is_stopped_by_another(engine_name: str, live_home: Path) -> None:
    """The starter ends, the lab stays, and any process can use and stop it."""
    process = starter(engine_name)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    lab = attach(NAME)
    assert lab is not None
    assert all(lab.ready(node) for node in lab.record.nodes)
    lab.stop()
    assert remains(engine_name, live_home) == []
