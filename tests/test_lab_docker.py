"""The docker engine without a daemon: what it says when there is none, and how it makes, finds and removes things."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, DockerException, NotFound
from docker.types import IPAMConfig

from labkit.errors import DockerNotRunning, StackError
from labkit.lab import docker as docker_engine
from labkit.lab.docker import DockerEngine, _lines
from labkit.lab.docker_client import connect, explain_connection, explain_refusal, is_own_address, said_plainly
from labkit.lab.docker_container import LOCKED_DOWN, why_exited
from labkit.lab.record import Record
from labkit.lab.topology import load_topology

HOST = "unix:///var/run/docker.sock"


class Refused(Exception):
    """What the SDK raises when the daemon says no."""

    __module__ = "docker.errors"

    def __init__(self, explanation: str) -> None:
        super().__init__(explanation)
        self.explanation = explanation


class FakeDaemon:
    """The daemon's low-level client, as far as the engine uses it: networks, containers, volumes in dictionaries."""

    def __init__(self, gateway: str = "127.0.0.1") -> None:
        self.subnet = gateway.rpartition(".")[0] + ".0/24"
        self.gateway = gateway
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"container": {}, "network": {}, "volume": {}}
        self.overlaps = 0
        self.started: list[str] = []

    def create_network(self, name: str, driver: str, ipam: IPAMConfig | None, labels: dict[str, str]) -> dict[str, str]:
        if ipam is not None and self.overlaps:
            self.overlaps -= 1
            raise APIError("Pool overlaps with other one on this address space")
        pool = ipam["Config"][0] if ipam is not None else {"Subnet": self.subnet, "Gateway": self.gateway}
        key = f"{len(self.objects['network'])}{'ab' * 32}"
        self.objects["network"][key] = {"Id": key, "Name": name, "IPAM": {"Config": [pool]}, "Labels": labels}
        return {"Id": key}

    def inspect_network(self, key: str) -> dict[str, Any]:
        return self.objects["network"][key]

    def create_volume(self, name: str, labels: dict[str, str]) -> None:
        self.objects["volume"][name] = {"Name": name, "Labels": labels}

    def create_host_config(self, **options: Any) -> dict[str, Any]:
        return options

    def create_endpoint_config(self, **options: Any) -> dict[str, Any]:
        return options

    def create_networking_config(self, networks: dict[str, Any]) -> dict[str, Any]:
        return networks

    def create_container(self, image: str, name: str, **options: Any) -> dict[str, str]:
        self.objects["container"][name] = {"Id": name, "Names": [f"/{name}"], "Labels": options["labels"]}
        self.objects["container"][name] |= {"Config": {"Image": image}, "options": options}
        self.objects["container"][name]["State"] = {"Running": False, "Status": "created"}
        return {"Id": name}

    def start(self, key: str) -> None:
        self.started.append(key)
        self.objects["container"][key]["State"] = {"Running": True, "Status": "running"}

    def inspect_container(self, key: str) -> dict[str, Any]:
        if key not in self.objects["container"]:
            raise NotFound(key)
        return self.objects["container"][key]

    def _chosen(self, kind: str, filters: dict[str, str]) -> list[dict[str, Any]]:
        key, _, value = filters["label"].partition("=")
        return [one for one in self.objects[kind].values() if one["Labels"].get(key) == value]

    def containers(self, all: bool, filters: dict[str, str]) -> list[dict[str, Any]]:
        return self._chosen("container", filters)

    def networks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        return self._chosen("network", filters)

    def volumes(self, filters: dict[str, str]) -> dict[str, Any]:
        return {"Volumes": self._chosen("volume", filters) or None}

    def remove_container(self, key: str, force: bool, v: bool) -> None:
        if self.objects["container"].pop(key, None) is None:
            response = type("Response", (), {"status_code": 404, "reason": "gone"})()
            raise NotFound("no such container", response=response)

    def remove_network(self, key: str) -> None:
        del self.objects["network"][key]

    def remove_volume(self, key: str) -> None:
        del self.objects["volume"][key]


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
def engine(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    """An engine of the user "me" that talks to the fake daemon."""
    made = DockerEngine(user="me")
    monkeypatch.setattr(made._daemon, "api", lambda: daemon)
    return made


def record(name: str = "lab") -> Record:
    return Record(id=f"{name}-000001", name=name, engine="docker", started="2026-01-01T00:00:00+00:00")


def caused_by(cause: BaseException) -> BaseException:
    """An error as it comes out of the SDK: the cause is an argument of an argument of the one that is raised."""
    inner = ConnectionError("Connection aborted.", cause)
    outer = DockerException(f"Error while fetching server API version: {inner}")
    outer.__cause__ = inner
    return outer


# ---- no daemon ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (FileNotFoundError(2, "No such file or directory"), "there is no Docker daemon .*apt install docker.io"),
        (PermissionError(13, "Permission denied"), r"may not talk to .*usermod -aG docker \$USER"),
        (ConnectionRefusedError(111, "Connection refused"), "is not running; start it with `sudo systemctl start"),
        (TimeoutError("timed out"), "does not answer .*check DOCKER_HOST"),
    ],
)
def test_why_no_daemon_answers(cause: BaseException, said: str) -> None:
    """Absent, forbidden, stopped, silent: each has its sentence and its cure."""
    with pytest.raises(DockerNotRunning, match=said):
        raise DockerNotRunning(explain_connection(caused_by(cause), HOST))


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the daemon's socket is a Unix socket")
def test_connecting_to_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The SDK's own errors become ours: no socket, and a socket that nobody listens on."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(DockerNotRunning, match="there is no Docker daemon"):
        connect()
    deaf = socket.socket(socket.AF_UNIX)
    deaf.bind(str(tmp_path / "none.sock"))
    with pytest.raises(DockerNotRunning, match="is not running"):
        connect()
    deaf.close()
    assert "is not running" in str(DockerEngine().available())


def test_a_daemon_elsewhere_is_no_engine(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """Phones of this host could not reach containers of another one; the network is removed again."""
    daemon.gateway, daemon.subnet = "198.51.100.1", "198.51.100.0/24"
    assert not is_own_address("198.51.100.1")
    with pytest.raises(DockerNotRunning, match="--engine local"):
        engine.allocate(load_topology(), record())
    assert daemon.objects["network"] == {}


@pytest.mark.parametrize(
    ("refusal", "cure"),
    [
        ("could not find an available, non-overlapping IPv4 address pool", "./lab wipe"),
        ("mkdir /var/lib/docker/x: no space left on device", "docker system prune"),
        ("invalid mount config: bind source path does not exist: /x", "LABKIT_HOME"),
        ("No such image: labkit/python:1", "./lab up"),
        ("something new", "Docker said: something new"),
    ],
)
def test_what_the_daemon_refuses(refusal: str, cure: str) -> None:
    """Refusals that learners meet come with what to do, others as Docker says them."""
    assert cure in explain_refusal(Refused(refusal))
    with pytest.raises(StackError, match="starting hss: "), said_plainly("starting hss"):
        raise Refused(refusal)


def test_our_own_errors_and_bugs_pass_unchanged() -> None:
    """Only what comes from Docker is put into other words."""
    with pytest.raises(StackError, match=r"^mine$"), said_plainly("x"):
        raise StackError("mine")
    with pytest.raises(ZeroDivisionError), said_plainly("x"):
        raise ZeroDivisionError


def test_without_a_daemon_nothing_is_left_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`./lab wipe` and `status` work on a machine without Docker."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert DockerEngine().leftovers() == []
    assert DockerEngine().wipe() == []


# ---- with one -------------------------------------------------------------------------------------------------------
def test_a_network_with_a_subnet_that_docker_chose(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """Made twice, so that fixed addresses are allowed; every node has its own address, this host the gateway's."""
    lab = record()
    engine.allocate(load_topology(), lab)
    (network,) = daemon.objects["network"].values()
    assert network["Labels"] == {"labkit.lab": lab.id, "labkit.user": "me"}
    assert network["IPAM"]["Config"][0]["Subnet"] == "127.0.0.0/24"
    assert lab.addresses["hss"] == "127.0.0.10"
    assert len(set(lab.addresses.values())) == len(load_topology().nodes)
    assert engine.phone_address(lab, 0)[0] == "127.0.0.1"
    assert engine.phone_address(lab, 0) != engine.phone_address(lab, 1)


def test_a_subnet_taken_in_between_is_asked_for_anew(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """Two labs that start at once may be given the same subnet for a moment."""
    daemon.overlaps = 2
    engine.allocate(load_topology(), record())
    assert len(daemon.objects["network"]) == 1
    daemon.overlaps = 99
    with pytest.raises(StackError, match="five attempts"):
        engine.allocate(load_topology(), record("two"))


def started(engine: DockerEngine, node: str) -> Record:
    lab = record()
    lab.token = "s3cret"
    engine.allocate(load_topology(), lab)
    engine.start_node(load_topology(), lab, node)
    engine.release(lab)
    return lab


def wait_for_answer(engine: DockerEngine, lab: Record, node: str) -> None:
    """Ask for the node's state until the daemon has answered its start."""
    while engine.state(lab, node).detail == "starting":
        time.sleep(0.001)


def test_every_container_is_locked_down(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """Not root, nothing writable but memory, no capability, limits, labels, fixed name and address."""
    lab = started(engine, "hss")
    (container,) = daemon.objects["container"].values()
    options = container["options"]
    assert options["user"] not in ("", "root", "0", None)
    assert LOCKED_DOWN.items() <= options["host_config"].items()
    assert options["host_config"]["mem_limit"].endswith("m")
    assert options["host_config"]["pids_limit"] > 0
    assert options["labels"] == {"labkit.lab": lab.id, "labkit.user": "me", "labkit.node": "hss"}
    (endpoint,) = options["networking_config"].values()
    assert endpoint["ipv4_address"] == lab.addresses["hss"]
    assert f"hss.{load_topology().realm}" in endpoint["aliases"]
    assert list(daemon.objects["volume"]) == [f"labkit-{lab.id}-hss"]


def test_configs_are_readable_by_the_containers_user(engine: DockerEngine) -> None:
    """Nobody in the container owns them; the folders above stay closed to other users of this host."""
    lab = started(engine, "hss")
    conf = lab.node_folder("hss") / "conf"
    assert (conf / "token").read_text() == "s3cret"
    assert (conf / "token").stat().st_mode & 0o777 == 0o644
    assert conf.stat().st_mode & 0o777 == 0o755


def test_a_stopped_container_is_used_again_unless_its_image_changed(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """A restart is quick; after a change of code it is a new container."""
    lab = started(engine, "pcscf")
    (container,) = daemon.objects["container"].values()
    container["State"] = {"Running": False, "Status": "exited", "ExitCode": 137}
    assert engine.state(lab, "pcscf").detail == "exit code 137"
    engine.start_node(load_topology(), lab, "pcscf")
    assert next(iter(daemon.objects["container"].values())) is container
    engine.release(lab)
    container["Config"]["Image"] = "labkit/kamailio:old"
    engine.start_node(load_topology(), lab, "pcscf")
    assert next(iter(daemon.objects["container"].values())) is not container
    assert engine.state(lab, "pcscf").state == "running"


def test_states(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """Never started, made, killed by its memory limit, removed by somebody."""
    lab = started(engine, "pcscf")
    assert engine.state(lab, "scscf").state == "absent"
    (container,) = daemon.objects["container"].values()
    container["State"] = {"Running": False, "Status": "created"}
    assert engine.state(lab, "pcscf").detail == "made but not started"
    assert "memory_mb" in why_exited({"OOMKilled": True})
    daemon.objects["container"].clear()
    assert engine.state(lab, "pcscf").state == "absent"


def test_a_container_that_docker_does_not_start_says_why(
    engine: DockerEngine, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts run in the background: until the daemon has answered a node counts as running, then its refusal comes."""
    asked, answer = threading.Event(), threading.Event()

    def refuse(key: str) -> None:
        asked.set()
        answer.wait(10)
        raise Refused("no space left on device")

    monkeypatch.setattr(daemon, "start", refuse)
    lab = record()
    engine.allocate(load_topology(), lab)
    engine.start_node(load_topology(), lab, "pcscf")
    assert asked.wait(10)
    assert engine.state(lab, "pcscf").detail == "starting"
    answer.set()
    with pytest.raises(StackError, match=r"starting pcscf: .*disk is full"):
        wait_for_answer(engine, lab, "pcscf")
    engine.teardown(lab)
    assert daemon.objects["container"] == {}


def test_teardown_takes_all_of_one_lab_and_nothing_else(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """By label, not by memory; again is fine."""
    lab = started(engine, "hss")
    daemon.create_network("other", "bridge", None, {"labkit.lab": "other-1", "labkit.user": "me"})
    daemon.create_volume("foreign", {"labkit.lab": lab.id + "0", "labkit.user": "you"})
    engine.teardown(lab)
    engine.teardown(lab)
    assert daemon.objects["container"] == {}
    assert [one["Name"] for one in daemon.objects["network"].values()] == ["other"]
    assert list(daemon.objects["volume"]) == ["foreign"]


def test_leftovers_are_what_no_record_knows(engine: DockerEngine, daemon: FakeDaemon) -> None:
    """A lab that has a record is not left over; wipe removes all of this user's, and nobody else's."""
    lab = started(engine, "hss")
    lab.save()
    assert engine.leftovers() == []
    (lab.folder / "lab.json").unlink()
    found = [f"{kind} labkit-{lab.id}{rest}" for kind, rest in (("container", "-hss"), ("network", ""))]
    assert engine.leftovers()[:2] == found
    daemon.create_volume("foreign", {"labkit.user": "you"})
    assert len(engine.wipe()) == 3
    assert list(daemon.objects["volume"]) == ["foreign"]
    assert engine.wipe() == []


def test_what_somebody_else_removed_first_is_fine(
    engine: DockerEngine, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes may end the same lab."""
    lab = started(engine, "pcscf")
    shown = daemon.containers(all=True, filters={"label": f"labkit.lab={lab.id}"})
    daemon.objects["container"].clear()
    monkeypatch.setattr(daemon, "containers", lambda **options: shown)
    engine.teardown(lab)
    assert daemon.objects["network"] == {}


def test_log_lines_are_whole() -> None:
    """Whatever the pieces are in which the daemon sends them."""
    assert list(_lines([b"on", b"e\r\ntw", b"o\n\nthr", b"ee \xff"])) == ["one", "two", "", "three \ufffd"]


def test_importing_the_engine_needs_no_sdk() -> None:
    """The Docker SDK is loaded when a daemon is asked, so that a machine without it can still explain itself."""
    assert "docker" not in vars(docker_engine)
