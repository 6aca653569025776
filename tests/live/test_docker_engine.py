"""The docker engine against a real daemon: how its containers are locked down, two labs at once, a killed node.

What a lab must not leave behind is tests/live/test_leftovers.py, on every engine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.lab.choice import make_engine
from labkit.lab.docker_client import connect
from labkit.lab.docker_reach import container_reaches_host
from labkit.lab.lab import RunningLab, start_lab, wipe_all
from labkit.lab.record import Record, labs_folder, owner_label

pytestmark = pytest.mark.docker

CYCLES = int(os.environ.get("LABKIT_CYCLES", "2"))
NAME = "docker-one"


@pytest.fixture(scope="module")
def api() -> Any:
    """The daemon, asked past the engine."""
    return connect()


@pytest.fixture(scope="module")
def running(live_home: Path) -> Iterator[RunningLab]:
    """A lab with every node there is, the optional ones too."""
    lab = start_lab(NAME, "docker", progress=lambda line: None)
    lab.start_nodes([node.name for node in lab.topology.nodes.values() if node.optional])
    yield lab
    lab.stop()


def containers(api: Any, lab: RunningLab) -> dict[str, dict[str, Any]]:
    """Node -> what the daemon says of its container."""
    return {node: api.inspect_container(noted["container"]) for node, noted in lab.record.nodes.items()}


def labelled(api: Any, label: str) -> list[str]:
    """Names of all containers, networks and volumes with a label."""
    chosen = {"label": label}
    found = [one["Names"][0] for one in api.containers(all=True, filters=chosen)]
    found += [one["Name"] for one in api.networks(filters=chosen)]
    return found + [one["Name"] for one in api.volumes(filters=chosen).get("Volumes") or []]


def subnet(api: Any, lab: RunningLab) -> str:
    return str(api.inspect_network(lab.record.own["network"])["IPAM"]["Config"][0]["Subnet"])


def starter() -> subprocess.Popen[bytes]:
    """Another process that starts a lab called "cut"."""
    code = "from labkit.lab.lab import start_lab; start_lab('cut', 'docker')"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_nodes(count: int) -> None:
    """Return once the record of the lab "cut" holds so many nodes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        record = Record.load(labs_folder() / "cut")
        if record is not None and len(record.nodes) >= count:
            return
        time.sleep(0.005)
    raise AssertionError("the lab does not start")


def test_every_container_is_locked_down(api: Any, running: RunningLab) -> None:
    """As the daemon sees it: ordinary user, read-only root, no capability, no way to one, limits on all that grows."""
    found = containers(api, running)
    assert set(found) == set(running.topology.nodes)
    for node, container in found.items():
        host = container["HostConfig"]
        assert container["Config"]["User"] not in ("", "root", "0"), node
        assert host["ReadonlyRootfs"] is True, node
        assert host["CapDrop"] == ["ALL"], node
        assert not host["CapAdd"], node
        assert not host["Privileged"], node
        assert "no-new-privileges" in host["SecurityOpt"], node
        assert 0 < host["Memory"] <= 1 << 30, node
        assert 0 < host["PidsLimit"] <= 256, node
        assert host["LogConfig"]["Type"] == "json-file", node
        assert set(host["LogConfig"]["Config"]) == {"max-size", "max-file"}, node
        assert not host["PortBindings"], node
        assert host["NetworkMode"] not in ("host", "default", "bridge"), node


def test_a_program_inside_has_no_powers(running: RunningLab) -> None:
    """What the flags mean, seen from inside: no capability in any set, no new ones, nothing writable but scratch."""
    for node in running.record.nodes:
        said = running.engine.run(running.topology, running.record, node, ("cat", "/proc/self/status"))
        values = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
        assert {values[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}, node
        assert values["NoNewPrivs"] == "1", node
        assert values["Uid"].split()[0] == "900", node
        tried = (
            "sh",
            "-c",
            "touch /etc/lab/x 2>&1; touch /usr/x 2>&1; touch /run/lab/x && rm /run/lab/x && echo scratch",
        )
        said = running.engine.run(running.topology, running.record, node, tried)
        assert said.count("Read-only file system") == 2, node
        assert said.splitlines()[-1] == "scratch", node


def test_everything_is_labelled(api: Any, running: RunningLab) -> None:
    """The lab's id and its user are on every container, network and volume: that is how they are found again."""
    of_the_lab = labelled(api, f"labkit.lab={running.id}")
    assert len([name for name in of_the_lab if name.startswith("/")]) == len(running.topology.nodes)
    assert f"labkit-{running.id}" in of_the_lab
    assert f"labkit-{running.id}-hss" in of_the_lab
    assert set(of_the_lab) <= set(labelled(api, f"labkit.user={owner_label()}"))


def test_nodes_have_the_addresses_of_the_record(api: Any, running: RunningLab) -> None:
    """What the record says is what the daemon gave, in a subnet that the daemon chose."""
    for node, container in containers(api, running).items():
        (place,) = container["NetworkSettings"]["Networks"].values()
        assert place["IPAddress"] == running.record.addresses[node]


def test_two_labs_at_once(api: Any, running: RunningLab) -> None:
    """On different subnets; ending one leaves the other as it was."""
    other = start_lab("docker-two", "docker", progress=lambda line: None)
    try:
        assert subnet(api, other) != subnet(api, running)
        assert all(lab.ready(node) for lab in (running, other) for node in lab.topology.default)
    finally:
        other.stop()
    assert labelled(api, f"labkit.lab={other.id}") == []
    assert all(running.ready(node) for node in running.topology.default)


@pytest.mark.parametrize("node", ["pcscf", "hss"])
def test_a_killed_node_is_started_again(running: RunningLab, node: str) -> None:
    """It keeps its address, becomes ready, and so do those that depend on it."""
    address = running.record.addresses[node]
    running.kill_node(node)
    assert running.engine.state(running.record, node).state == "exited"
    assert not running.ready(node)
    running.restart_node(node)
    assert running.engine.state(running.record, node).address == address
    assert all(running.ready(each) for each in running.topology.default)


def test_the_hss_keeps_its_state_over_a_kill(running: RunningLab) -> None:
    """Its folder is a volume: what was provisioned before the crash is there after it."""
    before = {one.impi for one in running.hss.subscribers()}
    running.kill_node("hss")
    running.restart_node("hss")
    assert {one.impi for one in running.hss.subscribers()} == before


def test_cycles_leave_nothing_with_the_daemon(api: Any, live_home: Path) -> None:
    """Up and down LABKIT_CYCLES times: no container, network or volume has the lab's label afterwards."""
    for cycle in range(CYCLES):
        lab = start_lab("cycle", "docker", progress=lambda line: None)
        lab.stop()
        assert labelled(api, f"labkit.lab={lab.id}") == [], f"cycle {cycle}"
    assert make_engine("docker").leftovers() == []


def test_wipe_after_kill_9_leaves_nothing_with_the_daemon(api: Any, live_home: Path) -> None:
    """The starter was killed half way; wipe takes that lab, and every other one of this user."""
    process = starter()
    wait_for_nodes(2)
    process.kill()
    process.wait(timeout=30)
    wipe_all(("docker",))
    assert labelled(api, f"labkit.user={owner_label()}") == []


def test_a_container_reaches_this_host(api: Any, live_home: Path) -> None:
    """What `./lab doctor` looks at; nothing of the look stays."""
    assert container_reaches_host() is True
    assert make_engine("docker").leftovers() == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("iptables") is None, reason="needs root and iptables")
def test_a_firewall_that_drops_what_containers_send_is_noticed(api: Any, live_home: Path) -> None:
    """The very port is closed for what comes in from bridges: no datagram arrives."""
    rule = ["INPUT", "-p", "udp", "--dport", "47119", "-j", "DROP"]
    if subprocess.run(["iptables", "-I", *rule], capture_output=True, check=False).returncode:
        pytest.skip("iptables cannot be used here")
    try:
        assert container_reaches_host(47119) is False
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
    assert make_engine("docker").leftovers() == []
