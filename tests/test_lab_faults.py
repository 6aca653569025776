"""Faults: in, seen, and out again, whatever becomes of whoever broke it. On the stub lab."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stub import processes_of, remains, use_stub_lab

from labkit.errors import LessonError, StackError
from labkit.lab.faults import Fault, Faults, fault_named, faults
from labkit.lab.hands import LabHands
from labkit.lab.lab import RunningLab, attach, start_lab, wipe_all
from labkit.lab.local import LocalEngine
from labkit.lab.record import Record
from labkit.lab.topology import load_topology

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the local engine needs Linux")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A home of its own for each test, with nothing left at its end."""
    folder = tmp_path / "home"
    use_stub_lab(monkeypatch, folder)
    yield folder
    LocalEngine().wipe()


def started() -> RunningLab:
    return start_lab("lab", "local", progress=lambda line: None)


def healers(home: Path) -> list[str]:
    """Faults that a process waits to heal."""
    return [p.node.removeprefix("heal-") for p in processes_of(home) if p.node.startswith("heal-")]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def noted(lab: RunningLab) -> list[str]:
    """Names of the faults that the record on disk holds."""
    record = Record.load(lab.record.folder)
    assert record is not None
    return list(record.faults)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


def test_a_fault_is_in_for_the_length_of_its_block(home: Path) -> None:
    """The HSS is gone inside; outside everything is ready again, also after an error inside."""
    lab = started()
    with lab.fault("hss-down") as fault:
        assert "HSS" in fault.title
        assert fault.symptom
        assert not lab.ready("hss")
    assert lab.ready("left")
    with pytest.raises(ZeroDivisionError), lab.fault("hss-down"):
        raise ZeroDivisionError
    assert lab.ready("left")
    assert lab.record.faults == {}
    assert healers(home) == []


def test_the_status_tells_the_faults_that_are_in(home: Path) -> None:
    """Name, what it does, the symptom and when it ends: for a trainer's second terminal. It can be written as JSON."""
    lab = started()
    lab.inject("hss-down", time_limit_s=60)
    (shown,) = json.loads(json.dumps(lab.status()))["faults"]
    assert (shown["name"], shown["title"]) == ("hss-down", faults["hss-down"].title)
    assert shown["symptom"] == faults["hss-down"].symptom
    assert shown["until"] == lab.record.faults["hss-down"]["until"]


def test_a_process_killed_while_it_breaks_leaves_a_lab_that_heals_itself(home: Path) -> None:
    """The fault is on disk and its healer waits before anything breaks: SIGKILL half way, healed at the limit."""
    lab = started()
    process = run_python(
        "import os, signal\n"
        "from labkit.lab import hands\n"
        "from labkit.lab.lab import attach\n"
        "stop = hands.LabHands.stop\n"
        "def dies(self, *nodes, **options):\n"
        "    stop(self, *nodes)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "hands.LabHands.stop = dies\n"
        "attach().inject('hss-down', time_limit_s=2.0)\n"
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert noted(lab) == ["hss-down"]
    assert healers(home) == ["hss-down"]
    assert not lab.ready("hss")
    wait_until(lambda: noted(lab) == [], "the healer heals at the limit")
    assert lab.ready("left")
    wait_until(lambda: healers(home) == [], "the healer ends")


def test_a_fault_that_half_goes_in_is_healed_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error or Ctrl-C while it is injected: the lab is whole again when the error arrives."""
    lab = started()
    stop = LabHands.stop

    def interrupted(self: LabHands, *nodes: str, kill: bool = False) -> None:
        stop(self, *nodes)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LabHands, "stop", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lab.inject("hss-down")
    assert noted(lab) == []
    assert lab.ready("left")
    assert healers(home) == []


def test_any_process_can_heal(home: Path) -> None:
    """A fault that one process injected is healed by another; healing twice is fine; injecting twice is not."""
    lab = started()
    lab.inject("hss-down")
    with pytest.raises(StackError, match="'hss-down' is in already"):
        lab.inject("hss-down")
    other = attach()
    assert other is not None
    assert other.heal_all() == ["hss-down"]
    assert other.ready("left")
    lab.heal("hss-down")
    assert healers(home) == []


def test_two_faults_of_one_thing_cannot_be_in_at_once(home: Path) -> None:
    """Healing one would leave the other half in; the error names the one that is in the way."""
    lab = started()
    lab.inject("hss-down")
    with pytest.raises(StackError, match="'hss-down' is in already and breaks the HSS"):
        lab.inject("hss-slow")
    assert noted(lab) == ["hss-down"]


def test_a_fault_cannot_go_into_what_does_not_run(home: Path) -> None:
    """A dead node is no place for a fault: its heal would bring up what nobody had started."""
    lab = started()
    lab.kill_node("hss")
    with pytest.raises(StackError, match="hss does not run"):
        lab.inject("hss-down")
    assert noted(lab) == []


def test_what_is_overdue_is_healed_by_whoever_looks(home: Path) -> None:
    """Also where the healer was killed."""
    lab = started()
    lab.inject("hss-down", time_limit_s=0.4)
    for process in processes_of(home):
        if process.node == "heal-hss-down":
            os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.5)
    assert noted(lab) == ["hss-down"]
    other = attach()
    assert other is not None
    assert noted(lab) == []
    assert other.ready("left")


def test_a_lab_with_a_fault_in_stops_clean(home: Path) -> None:
    """Stopping needs no healing first, and takes the healer along; so does wipe."""
    lab = started()
    lab.inject("hss-down")
    lab.stop()
    assert remains(home) == []
    lab = started()
    lab.inject("hss-down")
    wipe_all(engines=("local",))
    assert remains(home) == []


def test_a_healer_leaves_a_later_lab_of_that_name_alone(home: Path) -> None:
    """A lab that was killed and started again is another one: its faults are its own."""
    lab = started()
    lab.inject("hss-down", time_limit_s=0.5)
    record = lab.record
    (record.folder / "lab.json").unlink()
    later = started()
    assert later.id != lab.id
    time.sleep(0.7)
    assert later.ready("left")
    LocalEngine().teardown(record)


def test_a_switch_changes_the_configuration_of_one_node_and_back(home: Path) -> None:
    """A wrong configuration is the template with a condition turned on; other nodes keep running."""
    lab = started()
    config = lab.record.node_folder("right") / "conf" / "settings.json"
    right, before = config.read_text(), {p.pid for p in processes_of(home) if p.node == "left"}
    hands = LabHands(lab.engine, lab.topology, lab.record)
    hands.switch("right", "WRONG", True)
    assert "wrong" in config.read_text()
    assert lab.ready("right")
    hands.switch("right", "WRONG", False)
    assert config.read_text() == right
    assert lab.record.switches == []
    assert {p.pid for p in processes_of(home) if p.node == "left"} == before


# ---- the list -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", faults.values(), ids=str)
def test_every_fault_says_what_it_does_and_what_to_expect(fault: Fault) -> None:
    """A title, a symptom, what it breaks, and a limit."""
    assert fault.title
    assert len(fault.symptom) > 40
    assert fault.breaks
    assert 0 < fault.time_limit_s <= 600


def test_the_list_of_faults_is_a_table() -> None:
    """Printed, it shows a line a fault: its name and what it does."""
    assert isinstance(faults, Faults)
    lines = repr(faults).splitlines()
    assert [line.split()[0] for line in lines] == list(faults)


def test_options_are_checked() -> None:
    """An unknown option is named with the known ones; texts of the command line become numbers."""
    assert fault_named("hss-slow").options_from({"delay_s": "0.5"}) == {"delay_s": 0.5, "commands": ""}
    with pytest.raises(LessonError, match="no option 'who'; it has user"):
        fault_named("wrong-key").options_from({"who": "bob"})
    with pytest.raises(LessonError, match="is a number, not 'long'"):
        fault_named("hss-slow").options_from({"delay_s": "long"})
    with pytest.raises(LessonError, match="hss-down"):
        fault_named("nothing-like-that")


def test_every_switch_of_a_fault_is_in_the_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    """And every switch in the topology is some fault's, and stands in a template of its node."""
    monkeypatch.delenv("LABKIT_ROOT")
    switched: set[tuple[str, str]] = set()

    class Hands:
        def switch(self, node: str, name: str, on: bool) -> None:
            switched.add((node, name))

    for fault in faults.values():
        if fault.breaks.startswith("the configuration of"):
            fault.inject(Hands(), {})  # type: ignore[arg-type]
    nodes = load_topology().nodes.values()
    assert switched == {(node.name, switch) for node in nodes for switch in node.switches}
    for node in nodes:
        text = "".join(path.read_text() for path in node.templates.values())
        assert all(re.search(rf"@@if !?{switch}\b", text) for switch in node.switches)
