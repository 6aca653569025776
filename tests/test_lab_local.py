"""The local engine's parts: blocks of addresses, processes that are found again, programs, ports."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import pytest
from stub import use_stub_lab

from labkit.errors import CaptureError, EngineMissing, PortBusy, StackError
from labkit.lab import local, local_block, packages, process, programs
from labkit.lab.local import LocalEngine
from labkit.lab.ports import can_bind, port_holder
from labkit.lab.process import alive, lab_processes, spawn, stop_processes
from labkit.lab.programs import find_kamailio, required_modules
from labkit.lab.record import Record
from labkit.lab.state import file_lock, lock_is_held, remove_folder
from labkit.lab.topology import ProgramSpec, load_topology

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the local engine needs Linux")

SLEEPER = [sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [sys.executable, "-S", "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]


@pytest.fixture(autouse=True)
def stub_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_stub_lab(monkeypatch, tmp_path / "home")


def environment(home: Path, node: str = "one") -> dict[str, str]:
    return {"LABKIT_LAB": "test-1", "LABKIT_NODE": node, "LABKIT_HOME": str(home)}


def record(name: str = "lab") -> Record:
    return Record(id=f"{name}-000001", name=name, engine="local", started="2026-01-01T00:00:00+00:00")


# ---- processes ------------------------------------------------------------------------------------------------------
def test_a_process_is_found_by_its_environment_and_stopped(tmp_path: Path) -> None:
    """Any process can find a lab's processes by what their environment says, and end them."""
    pid, ticks = spawn(SLEEPER, environment(tmp_path), tmp_path, tmp_path / "log")
    assert alive(pid, ticks)
    assert not alive(pid, ticks + 1)
    found = lab_processes(home=str(tmp_path))
    assert [(p.pid, p.lab, p.node, p.start_ticks) for p in found] == [(pid, "test-1", "one", ticks)]
    assert os.getsid(pid) == pid
    stop_processes(found)
    assert not alive(pid, ticks)
    assert lab_processes(home=str(tmp_path)) == []


def test_a_process_that_ignores_term_is_killed(tmp_path: Path) -> None:
    """TERM first, KILL for what stays."""
    pid, ticks = spawn(STUBBORN, environment(tmp_path), tmp_path, tmp_path / "log")
    while b"SIG_IGN" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        time.sleep(0.01)
    stop_processes(lab_processes(home=str(tmp_path)), grace_s=0.3)
    assert not alive(pid, ticks)


def test_a_pid_that_was_given_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """The start time decides: a process with the same number but another start is not signalled."""
    pid, ticks = spawn(SLEEPER, environment(tmp_path), tmp_path, tmp_path / "log")
    (found,) = lab_processes(home=str(tmp_path))
    process._signal(process.LabProcess(pid, ticks - 1, "", "", "", 1, ""), signal.SIGKILL)
    assert alive(pid, ticks)
    stop_processes([found], kill=True)


def test_a_new_process_is_found_at_once(tmp_path: Path) -> None:
    """The kernel shows an environment a little after exec; whoever has spawned a process finds it all the same."""
    found = []
    for _ in range(20):
        pid, _ticks = spawn(SLEEPER, environment(tmp_path), tmp_path, tmp_path / "log")
        found.append(pid in {one.pid for one in lab_processes(home=str(tmp_path))})
    stop_processes(lab_processes(home=str(tmp_path)), kill=True)
    assert all(found)


def test_a_program_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """A missing program is a StackError with its name."""
    with pytest.raises(StackError, match="cannot start /no/such/program"):
        spawn(["/no/such/program"], environment(tmp_path), tmp_path, tmp_path / "log")


def test_a_full_log_does_not_end_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel stops the file from growing; the program goes on."""
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 10_000)
    chatter = (
        "import os,time\ntime.sleep(0.2)\nwhile 1:\n try: os.write(1, b'x' * 1000)\n except OSError: time.sleep(0.01)"
    )
    pid, ticks = spawn([sys.executable, "-S", "-c", chatter], environment(tmp_path), tmp_path, tmp_path / "log")
    deadline = time.monotonic() + 5
    while (tmp_path / "log").stat().st_size < 10_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert alive(pid, ticks)
    assert (tmp_path / "log").stat().st_size == 10_000
    stop_processes(lab_processes(home=str(tmp_path)))


def test_a_long_log_keeps_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut is the beginning, at a line."""
    monkeypatch.setattr(process, "LOG_TRIM_BYTES", 1000)
    monkeypatch.setattr(process, "LOG_KEEP_BYTES", 100)
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(500)))
    process.trim_log(log)
    lines = log.read_text().splitlines()
    assert lines[0] == "[older lines were removed]"
    assert lines[-1] == "line 499"
    assert len(lines) < 20
    process.trim_log(tmp_path / "none")


# ---- blocks of addresses --------------------------------------------------------------------------------------------
def test_two_starters_get_two_blocks() -> None:
    """While a lab starts its block is held, also against a starter that would have drawn the same one."""
    topology, first, second = load_topology(), LocalEngine(), LocalEngine()
    one, two = record(), record()
    first.allocate(topology, one)
    second.allocate(topology, two)
    assert one.id == two.id
    assert one.own["block"] != two.own["block"]
    first.release(one)
    second.release(two)
    three = record()
    first.allocate(topology, three)
    assert three.own["block"] == one.own["block"]
    first.release(three)


def test_a_block_with_a_busy_port_is_not_taken() -> None:
    """A block is free only if every port of every node can be bound in it."""
    topology, engine = load_topology(), LocalEngine()
    first = record()
    engine.allocate(topology, first)
    engine.release(first)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((first.addresses["left"], 4060))
        second = record()
        engine.allocate(topology, second)
        engine.release(second)
    assert second.own["block"] != first.own["block"]


def test_a_port_that_is_taken_everywhere_names_its_holder() -> None:
    """A program on every address (as the package's own service) is told by name and pid."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wildcard:
        wildcard.bind(("0.0.0.0", 0))
        port = wildcard.getsockname()[1]
        assert not can_bind("127.82.2.1", port, "udp")
        said = port_holder("127.82.2.1", port, "udp")
        assert f"(pid {os.getpid()})" in said
        assert f"every address:{port}/udp" in said
        error = local_block._port_busy("127.82.2.1", port, "udp")
        assert isinstance(error, PortBusy)
        assert str(os.getpid()) in str(error)
    assert can_bind("127.82.2.1", port, "udp")
    assert port_holder("127.82.2.1", port, "udp") == ""


def test_a_port_that_no_block_has_free_is_an_error_at_start(tmp_path: Path) -> None:
    """With a program on every address at a node's port, no block helps: the start says who it is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wildcard:
        wildcard.bind(("0.0.0.0", 0))
        path = tmp_path / "lab.toml"
        path.write_text(
            '[lab]\nrealm = "x.test"\n[image.one]\nfolder = "one"\n[node.alpha]\nimage = "one"\nhost = 10\n'
            f'command = ["run"]\nports = {{ sip = "{wildcard.getsockname()[1]}/udp" }}\n'
        )
        engine = LocalEngine()
        with pytest.raises(PortBusy, match=rf"held by .*\(pid {os.getpid()}\), on every address"):
            engine.allocate(load_topology(path), record())
        assert engine._guards == {}


def test_phones_have_addresses_of_their_own_and_then_ports() -> None:
    """150 phones get .101 to .250 at port 5060; more of them share addresses by port."""
    topology, engine, lab = load_topology(), LocalEngine(), record()
    engine.allocate(topology, lab)
    engine.release(lab)
    block = lab.own["block"]
    assert engine.phone_address(lab, 0) == (f"{block}.101", 5060)
    assert engine.phone_address(lab, 149) == (f"{block}.250", 5060)
    assert engine.phone_address(lab, 150) == (f"{block}.101", 5061)
    assert len({engine.phone_address(lab, i) for i in range(1000)}) == 1000


def test_a_long_home_gets_a_short_folder_for_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Unix socket's path is at most 107 bytes, so a deep home has its sockets elsewhere, and they are found again."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / ("deep" * 20)))
    Path(os.environ["LABKIT_HOME"]).mkdir()
    topology, engine, lab = load_topology(), LocalEngine(), record()
    engine.allocate(topology, lab)
    sockets = Path(lab.own["sockets"])
    assert len(str(sockets)) < 80
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert engine.leftovers() == [f"folder {sockets}"]
    engine.teardown(lab)
    assert not sockets.exists()
    assert engine.leftovers() == []


def test_the_kind_of_capture_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """LABKIT_CAPTURE=mirror mirrors always; an unknown word is an error."""
    monkeypatch.setenv("LABKIT_CAPTURE", "mirror")
    assert local._choose_capture() == "mirrored"
    monkeypatch.setenv("LABKIT_CAPTURE", "film")
    with pytest.raises(CaptureError, match="wire or mirror"):
        local._choose_capture()


# ---- programs -------------------------------------------------------------------------------------------------------
def test_required_modules_are_read_from_the_configurations() -> None:
    """Every loadmodule line counts, with or without quotes and ending; comments do not."""
    text = 'loadmodule "tm.so"\n  loadmodule "cdp"\nloadmodule sl.so\n# loadmodule "no.so"\nmodparam("x", "y", 1)\n'
    assert required_modules([text, 'loadmodule "pv.so"']) == {"tm", "cdp", "sl", "pv"}


def fake_kamailio(root: Path, modules: tuple[str, ...], wrapper: bool = True) -> Path:
    """A folder that looks like an unpacked Kamailio."""
    libraries = root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
    (libraries / "kamailio/modules").mkdir(parents=True)
    (root / "usr/sbin").mkdir(parents=True)
    binary = root / "usr/sbin/kamailio"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    for name in modules:
        (libraries / "kamailio/modules" / f"{name}.so").write_text("")
    if wrapper:
        (libraries / "libresolv_wrapper.so").write_text("")
    return binary


def test_a_fetched_kamailio_is_found_where_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Binary, every module that is needed, and the wrapper: else it has to be fetched."""
    monkeypatch.setattr(programs, "_on_path", lambda name: "")
    spec = ProgramSpec("kamailio", "LABKIT_KAMAILIO_BIN", ("kamailio",))
    assert find_kamailio(spec, {"tm"}) is None
    folder = packages.fetched_folder(spec)
    binary = fake_kamailio(folder, ("tm", "cdp"))
    found = find_kamailio(spec, {"tm", "cdp"})
    assert found is not None
    assert found.binary == str(binary)
    assert found.modules_dir.startswith(str(folder))
    assert str(folder) in found.library_path
    assert find_kamailio(spec, {"tm", "nowhere"}) is None


def test_a_program_named_by_the_environment_must_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wrong path is said, never silently replaced."""
    monkeypatch.setenv("LABKIT_KAMAILIO_BIN", str(tmp_path / "none"))
    with pytest.raises(EngineMissing, match="LABKIT_KAMAILIO_BIN="):
        find_kamailio(ProgramSpec("kamailio", "LABKIT_KAMAILIO_BIN"), set())


def test_fetching_says_what_apt_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """When apt cannot do it, its complaint and the ways out are in the error, and no half folder stays."""
    monkeypatch.setattr(packages, "_apt", lambda arguments: "Unable to locate package kamailio")
    spec = ProgramSpec("kamailio", "LABKIT_KAMAILIO_BIN", ("kamailio",))
    with pytest.raises(EngineMissing, match="Unable to locate package"):
        packages.fetch_packages(spec, lambda line: None)
    assert not packages.fetched_folder(spec).exists()


# ---- locks and folders ----------------------------------------------------------------------------------------------
def test_a_lock_keeps_others_out_until_it_is_let_go(tmp_path: Path) -> None:
    """One holder at a time; the one who waits is told; a lock that never comes is an error."""
    path, waited = tmp_path / "a.lock", []
    assert not lock_is_held(path)
    with file_lock(path):
        assert lock_is_held(path)
        with pytest.raises(StackError, match="another process"), file_lock(path, lambda: waited.append(1), 0.1):
            pass
    assert waited == [1]
    assert not lock_is_held(path)
    with file_lock(path):
        pass


def test_removing_a_folder_that_is_not_there_is_fine(tmp_path: Path) -> None:
    """Tidying up can be repeated."""
    remove_folder(tmp_path / "none")
