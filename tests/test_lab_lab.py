"""A lab's life: started, found, used by several processes, stopped; and what it never leaves. On the stub lab."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub import processes_of, remains, use_stub_lab

from labkit.errors import LessonError, NodeNotReady, StackError, TopologyError
from labkit.lab.lab import RunningLab, attach, list_labs, start_lab, wipe_all
from labkit.lab.local import LocalEngine
from labkit.lab.record import Record, labs_folder
from labkit.lab.state import file_lock, lock_is_held

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the local engine needs Linux")

STARTER = "from labkit.lab.lab import start_lab; start_lab({name!r}, 'local', nodes={nodes!r})"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A home of its own for each test, with nothing left at its end."""
    folder = tmp_path / "home"
    use_stub_lab(monkeypatch, folder)
    yield folder
    LocalEngine().wipe()


def started(name: str = "lab", **options: object) -> RunningLab:
    return start_lab(name, "local", progress=lambda line: None, **options)  # type: ignore[arg-type]


def starter(name: str = "lab", nodes: tuple[str, ...] | None = None) -> subprocess.Popen[str]:
    """Another process that starts a lab."""
    code = STARTER.format(name=name, nodes=nodes)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def wait_until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# ---- start and stop -------------------------------------------------------------------------------------------------
def test_a_lab_starts_ready_and_stops_clean(home: Path) -> None:
    """After start every node's conditions hold; after stop nothing runs and no record or socket stays."""
    lab = started()
    assert all(lab.ready(node) for node in ("hss", "left", "right"))
    assert {p.node for p in processes_of(home)} == {"hss", "left", "right"}
    lab.stop()
    assert remains(home) == []
    lab.stop()


def test_the_status_says_what_the_command_line_prints(home: Path) -> None:
    """Lab: id, start, engine, capture; node: name, title, engine, state, version, addresses, ports."""
    lab = started()
    status = lab.status()
    assert status["id"] == lab.id
    assert (status["name"], status["engine"], status["capture"]) == ("lab", "local", "mirrored")
    left = status["nodes"][0]
    assert left == {
        "name": "left",
        "title": "Left",
        "engine": "local",
        "state": "running",
        "detail": left["detail"],
        "version": "1.2.3",
        "addresses": [lab.record.addresses["left"]],
        "ports": {"sip": "4060/udp"},
    }
    assert [node["name"] for node in status["nodes"]] == ["left", "right", "hss"]


def test_a_stopped_lab_leaves_its_logs(home: Path) -> None:
    """Logs can be read after the end, until a lab of that name starts again."""
    lab = started()
    assert list(lab.logs("left")) == ["node left starts"]
    lab.stop()
    assert (lab.record.node_folder("left") / "log").read_text() == "node left starts\n"


def test_names_and_addresses_of_a_lab(home: Path) -> None:
    """Every node's address is known by name and the other way round."""
    lab = started()
    assert lab.names()[lab.record.addresses["left"]] == "left"
    assert lab.sip_address("left") == (lab.record.addresses["left"], 4060)
    assert lab.address("hss", "admin") == (lab.record.addresses["hss"], 8380)
    assert lab.sniffer().kind == "mirrored"


def test_a_lab_older_than_a_node_says_so(home: Path) -> None:
    """Whoever updates the checkout while a lab runs reads one sentence about a node that has come since."""
    lab = started()
    del lab.record.addresses["left"]
    with pytest.raises(StackError, match=r"was started before lab\.toml had a node left: start it anew"):
        lab.sip_address("left")


def test_following_a_log_ends_with_its_node(home: Path) -> None:
    """`follow` goes on while the node runs, and stops when it is gone."""
    lab = started()
    lines = lab.logs("left", follow=True)
    assert next(lines) == "node left starts"
    threading.Timer(0.2, lab.kill_node, ["left"]).start()
    assert list(lines) == []


def test_a_configuration_is_for_its_user_only(home: Path) -> None:
    """Rendered files hold tokens: nobody else may read them."""
    lab = started()
    for path in lab.record.node_folder("left").rglob("*"):
        if path.parent.name == "conf":
            assert path.stat().st_mode & 0o077 == 0


# ---- several processes ----------------------------------------------------------------------------------------------
def test_starting_a_running_lab_attaches(home: Path) -> None:
    """The second start gives the same lab, from this or any process, and starts nothing."""
    first = started()
    pids = {p.pid for p in processes_of(home)}
    assert started().id == first.id
    found = attach()
    assert found is not None
    assert found.id == first.id
    other = starter()
    assert other.wait(20) == 0
    assert {p.pid for p in processes_of(home)} == pids


def test_a_lab_outlives_its_starter(home: Path) -> None:
    """The process that started a lab may end; another finds and stops it."""
    process = starter()
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "ready in" in said
    lab = attach()
    assert lab is not None
    assert lab.ready("left")
    lab.stop()
    assert remains(home) == []


def test_two_starters_of_one_name_make_one_lab(home: Path) -> None:
    """Racing starters end with one lab that both use."""
    processes = [starter() for _ in range(3)]
    for process in processes:
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
    assert len({p.lab for p in processes_of(home)}) == 1
    assert sorted(p.node for p in processes_of(home)) == ["hss", "left", "left", "right", "right"]


def test_two_labs_at_once_do_not_meet(home: Path) -> None:
    """Labs of different names have their own addresses, and one may stop while the other goes on."""
    one, two = started("one"), started("two")
    assert one.record.own["block"] != two.record.own["block"]
    assert [lab.name for lab in list_labs()] == ["one", "two"]
    one.stop()
    assert two.ready("left")
    assert [lab.name for lab in list_labs()] == ["two"]
    assert {p.lab for p in processes_of(home)} == {two.id}


def test_a_lab_that_another_process_stopped_says_so(home: Path) -> None:
    """A RunningLab whose lab has gone does not start nodes behind anybody's back."""
    lab = started()
    other = attach()
    assert other is not None
    other.stop()
    with pytest.raises(StackError, match="another process has stopped it"):
        lab.restart_node("left")
    lab.stop()
    assert remains(home) == []


# ---- what goes wrong ------------------------------------------------------------------------------------------------
def test_a_node_that_dies_is_reported_at_once_with_its_last_words(home: Path) -> None:
    """The error names the condition, the state, the log and a hint, long before the time is over; nothing stays."""
    began = time.monotonic()
    with pytest.raises(NodeNotReady) as caught:
        started(nodes=("hss", "broken"))
    assert time.monotonic() - began < 4
    said = str(caught.value)
    assert "broken is not ready" in said
    assert "an answer to SIP OPTIONS" in said
    assert "exited (exit code 3)" in said
    assert "cannot bind: Address already in use" in said
    assert "doctor" in said
    assert remains(home) == []
    assert (labs_folder() / "lab/nodes/broken/log").exists()


def test_a_node_that_may_be_started_twice_is(home: Path) -> None:
    """A program that loses a race of its own at the first start runs after the second."""
    lab = started()
    lab.start_nodes(["unlucky"])
    assert lab.ready("unlucky")


def test_a_node_that_never_answers_is_reported_after_its_time(home: Path) -> None:
    """A running but silent node: how long was waited, and that it runs."""
    with pytest.raises(NodeNotReady, match=r"silent is not ready: waited 0\.\d s for .* its state is running"):
        started(nodes=("silent",))
    assert remains(home) == []


def test_an_on_demand_node_that_fails_does_not_take_the_lab_down(home: Path) -> None:
    """Starting a further node is all or nothing for that node only."""
    lab = started()
    with pytest.raises(NodeNotReady):
        lab.start_nodes(["silent"])
    assert lab.ready("left")
    assert {p.node for p in processes_of(home)} == {"hss", "left", "right"}


def test_names_that_cannot_be_are_refused(home: Path) -> None:
    """A lab's name becomes a folder and a label; nodes must be in the topology; faults must be known."""
    for name in ("", "../x", "Lab", "a b", "x" * 30):
        with pytest.raises(StackError, match="cannot be the name"):
            started(name)
    with pytest.raises(TopologyError, match="no node 'nobody'"):
        started(nodes=("nobody",))
    with pytest.raises(LessonError, match="hss-down"):
        started().inject("nothing-like-that")


def test_a_home_that_cannot_be_made_is_one_sentence(home: Path) -> None:
    """A file where the folder should be: said before anything starts."""
    home.write_text("")
    with pytest.raises(StackError, match="point LABKIT_HOME"):
        started()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space for a configuration: the reason and the way out, and everything that ran is gone."""

    def no_space(path: object, *arguments: object, **options: object) -> int:
        raise OSError(28, "No space left on device", str(path))

    real = os.open

    def full(path: object, *arguments: object, **options: object) -> int:
        if str(path).endswith("settings.json") and "right" in str(path):
            return no_space(path)
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StackError, match="the disk is full"):
        started()
    monkeypatch.undo()
    use_stub_lab(monkeypatch, home)
    assert remains(home) == []


def test_a_node_with_a_bad_memory_layout_is_started_again_with_another(home: Path) -> None:
    """Its UAR type is wrong at first: the padding of its configuration grows until it is right, and then stays."""
    lab = started(nodes=("hss", "moody"))
    padding = lab.record.padding["moody"]
    assert padding == 2
    assert lab.ready("moody")
    lab.restart_node("moody")
    assert lab.record.padding["moody"] == padding
    asked = [line for line in lab.logs("moody") if line.startswith("REGISTER")]
    assert len(asked) == 3, "no further look once it was good"


# ---- what is left ---------------------------------------------------------------------------------------------------
def test_ctrl_c_during_a_start_leaves_nothing(home: Path) -> None:
    """An interrupt while nodes come up takes down what was started."""
    process = starter(nodes=("hss", "left", "silent"))
    wait_until(lambda: {"hss", "silent"} <= {p.node for p in processes_of(home)}, "the nodes start")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert remains(home) == []


def test_a_second_ctrl_c_does_not_cut_the_tidying_up(home: Path) -> None:
    """Impatience does not leave processes."""
    process = starter(nodes=("hss", "left", "silent"))
    wait_until(lambda: {"hss", "silent"} <= {p.node for p in processes_of(home)}, "the nodes start")
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    process.communicate(timeout=20)
    assert remains(home) == []


def kill_a_starter(home: Path) -> None:
    """Kill -9 a process in the middle of its start."""
    process = starter(nodes=("hss", "left", "silent"))
    wait_until(lambda: {"hss", "silent"} <= {p.node for p in processes_of(home)}, "the nodes start")
    process.kill()
    process.communicate(timeout=20)
    assert processes_of(home)


def test_wipe_finds_all_that_a_killed_starter_left(home: Path) -> None:
    """After kill -9, wipe ends every process and removes record, sockets and folders; a second wipe finds nothing."""
    kill_a_starter(home)
    removed = wipe_all(engines=("local",))
    assert any("process" in line for line in removed)
    assert remains(home) == []
    assert list(labs_folder().iterdir()) == []
    assert wipe_all(engines=("local",)) == []


def test_wipe_works_without_any_record(home: Path) -> None:
    """Processes are found by their environment, also where every file of the lab was deleted."""
    kill_a_starter(home)
    (labs_folder() / "lab" / "lab.json").unlink()
    wipe_all(engines=("local",))
    assert remains(home) == []


def test_a_killed_start_is_tidied_up_by_whoever_looks_next(home: Path) -> None:
    """attach() removes the rest of a killed start and says that no lab runs; a new start works."""
    kill_a_starter(home)
    assert attach() is None
    assert remains(home) == []
    assert started().ready("left")


def test_a_record_of_an_earlier_boot_is_no_lab(home: Path) -> None:
    """After a reboot the record still stands, but its pids mean nothing: it is dropped and a start works."""
    lab = started()
    lab.stop()
    old = Record(**{**vars_of(lab.record), "boot": "another boot", "phase": "running"})
    old.nodes = {"left": {"pid": os.getpid(), "start_ticks": 1}}
    old.save()
    assert attach() is None
    assert started().ready("left")


def vars_of(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in Record.__dataclass_fields__}


def test_a_lab_of_a_docker_daemon_that_is_gone_is_no_lab(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Docker was stopped, its old record is no reason to fail: looking finds no lab, and a start works."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/no-socket")
    lab = started()
    lab.stop()
    old = Record(**{**vars_of(lab.record), "engine": "docker", "phase": "running"})
    old.nodes = {"left": {"container": "0" * 64}}
    old.save()
    assert attach() is None
    assert list_labs() == []
    assert started().ready("left")


def test_a_lab_whose_nodes_all_died_is_no_lab(home: Path) -> None:
    """Where every process was killed from outside, the lab counts as stopped."""
    lab = started()
    for process in processes_of(home):
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not processes_of(home), "they are gone")
    assert attach() is None
    assert remains(home) == []
    assert lab.id not in [other.id for other in list_labs()]


def test_a_dead_node_is_started_again_by_the_next_start(home: Path) -> None:
    """Starting a lab that half runs brings back the rest."""
    lab = started()
    lab.kill_node("left")
    assert not lab.ready("left")
    assert started().id == lab.id
    assert lab.ready("left") or attach().ready("left")  # type: ignore[union-attr]


@pytest.mark.parametrize("cycle", range(3))
def test_up_and_down_again_and_again_leaves_nothing(home: Path, cycle: int) -> None:
    """Cycles leave no process, socket, record, guard or open file."""
    gc.collect()  # what earlier tests have let go of
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        started().stop()
        assert remains(home) == []
    assert len(os.listdir("/proc/self/fd")) == before


# ---- nodes one by one -----------------------------------------------------------------------------------------------
def test_a_node_is_killed_and_restarted_at_its_address(home: Path) -> None:
    """A restarted node has a new process and the old address, and is ready when the call returns."""
    lab = started()
    before = {p.pid for p in processes_of(home) if p.node == "left"}
    lab.restart_node("left")
    after = {p.pid for p in processes_of(home) if p.node == "left"}
    assert lab.ready("left")
    assert not before & after
    lab.kill_node("left")
    assert lab.status()["nodes"][0]["state"] == "exited"


def test_restarting_waits_for_those_that_depend_on_it(home: Path) -> None:
    """When the HSS is back, the nodes that have to find it again have found it."""
    lab = started()
    lab.restart_node("hss")
    assert lab.ready("left")


def test_a_node_can_leave_the_lab(home: Path) -> None:
    """A stopped on-demand node is no longer listed."""
    lab = started()
    lab.stop_nodes(["right"])
    assert [node["name"] for node in lab.status()["nodes"]] == ["left", "hss"]
    lab.start_nodes(["right"])
    assert lab.ready("right")


def test_a_charging_engine_is_ready_when_its_proxy_has_it(home: Path) -> None:
    """Its proxy says so, by another answer to OPTIONS; without a proxy in the lab there is nothing to wait for."""
    lab = started(nodes=("meter", "till"))
    assert lab.ready("meter")
    lab.kill_node("meter")
    assert not lab.ready("meter")
    lab.restart_node("meter")
    assert lab.ready("meter")
    alone = started("alone", nodes=("meter",))
    assert alone.ready("meter")


def test_a_charging_engine_that_does_not_know_its_proxy_yet_is_started_anew(home: Path) -> None:
    """The proxy comes into the lab later: the engine's configuration is written again, and it connects."""
    lab = started(nodes=("meter",))
    (before,) = {p.pid for p in processes_of(home)}
    lab.start_nodes(["till"])
    assert lab.ready("meter")
    assert before not in {p.pid for p in processes_of(home)}


def test_while_a_lab_starts_it_is_not_there_yet(home: Path) -> None:
    """Looking does not wait for a starter, and does not disturb it."""
    process = starter(nodes=("hss", "silent"))
    wait_until(lambda: {"hss", "silent"} <= {p.node for p in processes_of(home)}, "the nodes start")
    assert lock_is_held(labs_folder() / "lab.lock")
    assert attach() is None
    process.communicate(timeout=20)
    with file_lock(labs_folder() / "lab.lock", timeout_s=1):
        pass
