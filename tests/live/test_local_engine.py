"""The local engine with the real programs: ready means usable, faults show and heal, and no right is needed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.errors import CallFailed, StackError
from labkit.lab.choice import make_engine
from labkit.lab.lab import RunningLab, start_lab
from labkit.lab.process import lab_processes
from labkit.paths import project_root, subscribers_file
from labkit.peers.hss.subscribers import load_subscribers
from labkit.peers.ue import UE

pytestmark = pytest.mark.local

COSMETIC = (
    # cdp asks for the name of a connection that its other process has just taken over; it connects all the same.
    "I_Snd_CER(): Error on finding local host address",
    # Not an error: the answer to the question by which the I-CSCF's UAR type is looked at (labkit.lab.probes).
    "UAR sip:001010000000005@ims.mnc001.mcc001.3gppnetwork.org -> DIAMETER_ERROR_IDENTITY_NOT_REGISTERED",
)
"""What Kamailio says at a clean start and cannot be asked not to say."""
ORDINARY_UID = 50_000 + os.getpid() % 10_000
"""A user without account, group or right; another one for each test run, as two may go on at once."""


@pytest.fixture(scope="module")
def core(live_home: Path) -> Iterator[RunningLab]:
    """A core on the local engine, one for the tests of this module."""
    running = start_lab("core", "local", progress=lambda line: None)
    yield running
    running.stop()


def register(lab: RunningLab, name: str = "alice", index: int = 0) -> int:
    """Status of the final answer to a phone's registration; it is taken back again."""

    async def run() -> int:
        known = {subscriber.name: subscriber for subscriber in load_subscribers(subscribers_file())}
        address, port = lab.phone_address(index)
        options = {"address": address, "port": port, "pcscf": lab.sip_address("pcscf"), "realm": lab.realm}
        async with UE(known[name], **options) as ue:
            answer = await ue.register()
            await ue.deregister()
            return int(answer.status or 0)

    return asyncio.run(run())


def test_ready_means_that_the_first_registration_works(core: RunningLab) -> None:
    """No wait between start_lab() and the first REGISTER."""
    assert register(core) == 200


def test_a_clean_start_logs_no_error(core: RunningLab) -> None:
    """Start and a registration leave no line of trouble in any log, but for what is listed with its reason."""
    register(core, "bob", 1)
    words = ("ERROR", "CRITICAL", "BUG", "Traceback")
    lines = [f"{node}: {line}" for node in core.record.nodes for line in core.logs(node)]
    trouble = [line for line in lines if any(word in line for word in words)]
    assert [line for line in trouble if not any(known in line for known in COSMETIC)] == []


def test_every_node_speaks_from_its_own_address(core: RunningLab) -> None:
    """Diameter connections come from the CSCFs' addresses, so that a capture shows who speaks."""
    hss = core.record.addresses["hss"]
    sources = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if state == "01" and _address(remote) == (hss, 3868):
            sources.add(_address(local)[0])
    assert sources == {core.record.addresses["icscf"], core.record.addresses["scscf"]}


def _address(raw: str) -> tuple[str, int]:
    address, _, port = raw.partition(":")
    return socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)


def test_the_status_of_a_core(core: RunningLab) -> None:
    """Every node runs, with the version of its program."""
    nodes = {node["name"]: node for node in core.status()["nodes"]}
    assert set(nodes) == {"pcscf", "icscf", "scscf", "hss"}
    assert {node["state"] for node in nodes.values()} == {"running"}
    assert nodes["scscf"]["version"].count(".") == 2
    assert nodes["hss"]["version"]


def test_without_the_hss_nobody_registers_and_then_everybody_again(core: RunningLab) -> None:
    """The fault's symptom is a refusal; when heal() returns, the very next registration works."""
    with core.fault("hss-down"):
        assert not core.ready("hss")
        with pytest.raises(CallFailed) as caught:
            register(core, "carol", 2)
        assert caught.value.status >= 400
    assert register(core, "carol", 2) == 200


def test_a_restarted_scscf_is_usable_at_once(core: RunningLab) -> None:
    """The restart returns when the S-CSCF's Diameter connection is open again."""
    core.inject("scscf-restarted")
    core.heal("scscf-restarted")
    assert register(core) == 200


def test_a_killed_node_is_seen_and_started_again(core: RunningLab) -> None:
    """kill_node() ends all processes of the node; restart_node() brings it back to the same address."""
    core.kill_node("icscf")
    assert not [p for p in lab_processes(lab=core.id) if p.node == "icscf"]
    assert core.engine.state(core.record, "icscf").state == "exited"
    core.restart_node("icscf")
    assert register(core) == 200


def test_the_plain_proxy_starts_on_demand(core: RunningLab) -> None:
    """An optional node joins a running lab and leaves it."""
    assert not core.ready("proxy")
    core.start_nodes(["proxy"])
    assert core.ready("proxy")
    core.stop_nodes(["proxy"])
    assert register(core) == 200


@pytest.mark.parametrize("kind", ["wire", "mirror"])
def test_both_kinds_of_capture_see_sip_and_diameter(
    live_home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A registration is seen as SIP and as Diameter, sniffed or mirrored; the lab says which."""
    from labkit.capture.source import can_sniff

    if kind == "wire" and not can_sniff():
        pytest.skip("this process may not sniff (it needs CAP_NET_RAW)")
    monkeypatch.setenv("LABKIT_CAPTURE", kind)
    lab = start_lab("seen", "local", progress=lambda line: None)
    try:
        sniffer = lab.sniffer()
        sniffer.start()
        since = sniffer.mark()
        register(lab)
        frames = sniffer.frames(since, sniffer.mark())
        sniffer.stop()
    finally:
        lab.stop()
    assert sniffer.kind == lab.capture_kind == {"wire": "wire", "mirror": "mirrored"}[kind]
    wire = b"".join(raw for _, _, raw in frames)
    assert wire.count(b"REGISTER sip:") >= 4
    assert b"hss." + lab.realm.encode() in wire


def test_the_hss_forgets_nothing_when_it_is_killed(core: RunningLab) -> None:
    """A restarted HSS still knows who was given which sequence number: a phone needs no resynchronisation."""
    register(core)
    before = core.hss.subscriber("alice").sqn
    core.kill_node("hss")
    core.restart_node("hss")
    assert core.hss.subscriber("alice").sqn >= before
    assert register(core) == 200


# ---- an ordinary user -----------------------------------------------------------------------------------------------
AS_USER = """
import os
from labkit.lab.choice import choose_engine
from labkit.lab.lab import attach, start_lab
assert os.geteuid() == {uid}
status = open("/proc/self/status").read()
assert "CapEff:\\t0000000000000000" in status, status
choice = choose_engine("local")
lab = start_lab("mine", "local", progress=lambda line: print(line, flush=True))
print("capture", lab.capture_kind, "block", lab.record.own["block"], flush=True)
import sys; sys.path.insert(0, {tests!r})
from test_local_engine import register
print("registered", register(lab), flush=True)
print("version", lab.versions()["scscf"], flush=True)
with lab.fault("hss-down"):
    pass
print("registered", register(lab), flush=True)
lab.stop()
assert choice.engine.leftovers() == [], choice.engine.leftovers()
print("clean", flush=True)
"""


def reachable_python() -> str | None:
    """A Python that an ordinary user may run and that takes this one's packages; None where there is none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin:/opt/python/bin") or ""):
        if path and _as_user([path, "-c", "print(1)"], {}, Path("/")).returncode == 0:
            return path
    return None


def _as_user(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=environment,
            cwd=folder,
            user=ORDINARY_UID,
            group=ORDINARY_UID,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=180,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 126, "", str(error))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_the_whole_lab_runs_as_a_user_without_any_right(core: RunningLab) -> None:
    """Fetching, starting, registering, a fault and stopping, as a bare number, beside root's own lab."""
    python = reachable_python()
    if python is None:
        pytest.skip("no Python here that another user may run")
    home = Path("/tmp") / f"labkit-ordinary-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, ORDINARY_UID, ORDINARY_UID)
    packages = os.pathsep.join([str(project_root()), sysconfig.get_paths()["purelib"]])
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
    script = AS_USER.format(uid=ORDINARY_UID, tests=str(Path(__file__).parent))
    try:
        done = _as_user([python, "-c", script], environment, home)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "capture mirrored" in said
        assert said.count("registered 200") == 2
        assert said.rstrip().endswith("clean")
        assert f"block {core.record.own['block']}\n" not in said
        left = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _uid_of(entry) == ORDINARY_UID]
        assert left == []
    finally:
        shutil.rmtree(home)
    assert register(core) == 200


def _uid_of(entry: Path) -> int:
    try:
        zombie = entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return -1 if zombie else entry.stat().st_uid
    except OSError:
        return -1


def test_a_lab_whose_folder_was_deleted_can_still_be_wiped(live_home: Path) -> None:
    """Somebody removed the files of a running lab: its processes are found by their environment all the same."""
    lab = start_lab("lost", "local", nodes=["pcscf"], progress=lambda line: None)
    shutil.rmtree(lab.record.folder)
    with pytest.raises(StackError, match="does not run any more"):
        lab.restart_node("pcscf")
    lab.stop()
    assert lab_processes(lab=lab.id) == []
    assert not [line for line in make_engine("local").leftovers() if lab.id in line]
