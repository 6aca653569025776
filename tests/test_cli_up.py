"""`./lab up`: what is stopped when, whatever interrupts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PRELUDE = """
import sys, time
import labkit.lab.lab, labkit.lab.choice, labkit.cli.proof, labkit.cli.jupyter
from labkit.cli.main import main
from labkit.errors import CallFailed, NodeNotReady
from labkit.lab.choice import Choice

class Lab:
    id, name, started = "lab-000000", "lab", "today"
    def stop(self):
        print("LAB STOPPING", flush=True)
        time.sleep(0.4)
        print("LAB STOPPED", flush=True)
        running.clear()

class Jupyter:
    def __init__(self, *args, **options): print("JUPYTER STARTED", flush=True)
    def wait_until_ready(self): return "http://127.0.0.1:8888/lab?token=t"
    def wait(self, stop_asked):
        print("WAITING", flush=True)
        while not stop_asked(): time.sleep(0.05)
    def stop(self, hurry):
        began = time.monotonic()
        while not hurry() and time.monotonic() - began < 0.5: time.sleep(0.01)
        print("JUPYTER STOPPED", "in a hurry" if hurry() else "politely", flush=True)

running = []
def start_lab(name, engine, progress):
    start_hook()
    running.append(Lab())
    return running[0]
def start_hook(): pass
labkit.lab.lab.start_lab = start_lab
labkit.lab.lab.attach = lambda name: running[0] if running else None
labkit.lab.choice.choose_engine = lambda name: Choice("local", object(), "Engine: local, as asked.")
labkit.cli.proof.prove_live = lambda: "LADDER"
labkit.cli.jupyter.JupyterLab = Jupyter
"""


def run_up(
    words: str, changes: str = "", signals: tuple[signal.Signals, ...] = (), after: str = "WAITING"
) -> tuple[int, str]:
    """Run `up` with a lab and a JupyterLab of straw, send signals once it has said `after`; return code and output."""
    code = f"{PRELUDE}\n{changes}\nsys.exit(main({words.split()!r}))"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    said = ""
    if signals:
        while after not in said:
            line = child.stdout.readline()
            assert line, said
            said += line
        for number in signals:
            child.send_signal(number)
            time.sleep(0.1)
    rest, _ = child.communicate(timeout=30)
    return child.returncode, said + rest


pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_jupyterlab_and_the_lab(number: signal.Signals) -> None:
    """Ctrl-C, a kill and a closed terminal end both, in this order, with success."""
    code, said = run_up("up", signals=(number,))
    assert code == 0, said
    assert said.index("JUPYTER STOPPED politely") < said.index("LAB STOPPED")
    assert "LADDER" in said
    assert "http://127.0.0.1:8888/lab?token=t" in said


def test_a_second_ctrl_c_only_hurries() -> None:
    """An impatient second and third Ctrl-C kill JupyterLab at once; the lab is still stopped whole."""
    code, said = run_up("up", signals=(signal.SIGINT, signal.SIGINT, signal.SIGINT))
    assert code == 0, said
    assert "in a hurry" in said
    assert "LAB STOPPED" in said


def test_ctrl_c_during_the_proof_stops_the_lab() -> None:
    """Interrupted between start and lessons, the lab that was just started goes."""
    code, said = run_up(
        "up", "labkit.cli.proof.prove_live = lambda: (print('WAITING', flush=True), time.sleep(30))", (signal.SIGINT,)
    )
    assert code == 130
    assert "LAB STOPPED" in said


def test_no_jupyter_leaves_the_lab_running() -> None:
    """--no-jupyter ends after the proof; the lab stays and the way to stop it is said."""
    code, said = run_up("up --no-jupyter")
    assert code == 0
    assert "LADDER" in said
    assert "./lab down" in said
    assert "LAB STOP" not in said
    assert "JUPYTER" not in said


def test_a_lab_that_runs_already_is_used_without_a_proof() -> None:
    """A second `up` does not take the core away from those who use it."""
    code, said = run_up("up --no-jupyter", "running.append(Lab())")
    assert code == 0
    assert "runs already" in said
    assert "LADDER" not in said


def test_a_failed_proof_leaves_the_lab_to_look_at() -> None:
    """When the registration fails, the sentence of the failure is shown and the lab stays for its logs to be read."""
    change = "def no(): raise CallFailed('REGISTER was answered 403')\nlabkit.cli.proof.prove_live = no"
    code, said = run_up("up", change)
    assert code == 1
    assert "403" in said
    assert "./lab logs" in said
    assert "LAB STOP" not in said


def test_a_failed_start_is_a_sentence() -> None:
    """A node that does not come is told as it is, with exit code 1."""
    change = "def start_hook(): raise NodeNotReady('scscf', awaited='an answer to OPTIONS', waited_s=10.0)"
    code, said = run_up("up", change)
    assert code == 1
    assert "an answer to OPTIONS" in said
    assert "Traceback" not in said


def test_replay_starts_nothing(tmp_path: Path) -> None:
    """With engine replay the ladder comes from a recording; without recordings the sentence names the command."""
    os.environ["LABKIT_CASSETTES"] = str(tmp_path)
    try:
        change = "labkit.lab.choice.choose_engine = lambda name: Choice('replay', None, 'Engine: replay.')"
        code, said = run_up("up --engine replay --no-jupyter", change)
    finally:
        del os.environ["LABKIT_CASSETTES"]
    assert code == 1
    assert "./lab record" in said
