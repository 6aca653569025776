"""Engines run nodes. What every engine can do, what a lab's record holds, and which engine to take.

A *record* is all that must survive the process that started a lab: it is written as JSON to
`$LABKIT_HOME/labs/<name>/lab.json` before anything runs, so that any other process can find, use and remove it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from labkit.errors import EngineMissing, StackError
from labkit.lab.topology import NodeSpec, Topology

Progress = Callable[[str], None]
"""Takes one line for the person who waits."""

ENGINES = ("docker", "local", "replay")
"""Engine names, the better ones first."""


@dataclass(slots=True)
class Record:
    """What is known of a lab, as stored in lab.json. Engines fill in `addresses`, `own` and `nodes`."""

    id: str
    """Lab name, a hyphen and six hex digits; in the environment of every process, on every docker object."""
    name: str
    engine: str
    """"docker" or "local"."""
    started: str
    """ISO 8601 with zone, UTC."""
    uid: int = 0
    """User who started it."""
    boot: str = ""
    """The kernel's boot id: processes of another boot are gone, whatever the record says."""
    phase: str = "starting"
    """"starting", "running" or "stopping"."""
    capture: str = "wire"
    """"wire" where packets are sniffed, "mirrored" where nodes send copies of their messages."""
    realm: str = ""
    token: str = ""
    """Secret of the lab's admin doors."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Node name -> address that reaches it from this machine."""
    mirror: str = ""
    """"address:port" of the mirror's collector; empty with capture "wire"."""
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Node name -> what the engine needs to find it again (pid and start time, container id)."""
    own: dict[str, Any] = field(default_factory=dict)
    """The engine's own notes for the whole lab (address block, network id)."""
    versions: dict[str, str] = field(default_factory=dict)
    """Node name -> version of its program."""
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Faults that are in, each written before it was injected, with all that its heal needs."""

    @property
    def folder(self) -> Path:
        """The lab's folder: record, configs, logs, state."""
        return labs_folder() / self.name

    def node_folder(self, node: str) -> Path:
        """Folder of one node: conf/, run/, state/, log."""
        return self.folder / "nodes" / node

    def save(self) -> None:
        """Write lab.json whole or not at all."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        target = self.folder / "lab.json"
        scratch = self.folder / f".lab.json.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # 0600 from the first byte on: the file holds the token of the admin doors.
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            os.replace(scratch, target)
        except OSError as error:
            raise StackError(
                f"cannot write {target}: {error.strerror or error}. "
                "Make room or rights there, or point LABKIT_HOME at another folder."
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Record | None:
        """The record in `folder`; None where there is none or it cannot be read as one."""
        try:
            fields = json.loads((folder / "lab.json").read_text(encoding="utf-8"))
            known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
            return cls(**known)
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class NodeState:
    """How one node is right now."""

    state: str
    """"running", "exited" or "absent"."""
    detail: str = ""
    """More words for a person, for example "exit code 1"."""
    address: str = ""
    pid: int | None = None
    """Process id on the local engine."""
    container: str = ""
    """Container id on the docker engine."""


class Sniffer(Protocol):
    """A live source of packets (see labkit.capture.source)."""

    kind: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def mark(self) -> int: ...
    def frames(self, since: int, until: int) -> list[tuple[int, int, bytes]]: ...


class Engine(Protocol):
    """Runs the nodes of a lab. Methods raise StackError and its kinds; none needs root."""

    name: str

    def available(self) -> str | None:
        """None where this engine can run here, else the reason and its cure in a sentence."""

    def prepare(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> None:
        """Make programs or images ready. Safe to repeat and to interrupt; quick when all is there."""

    def allocate(self, topology: Topology, record: Record) -> None:
        """Fill in the record's addresses and own notes: the network or the address block."""

    def release(self, record: Record) -> None:
        """The start has ended, well or not: let go of what was held only while starting."""

    def start_node(self, topology: Topology, record: Record, node: str) -> None:
        """Start one node and note it in `record.nodes` (the caller saves). Does not wait for readiness."""

    def stop_nodes(self, record: Record, nodes: tuple[str, ...], *, kill: bool = False) -> None:
        """Stop nodes at once, politely unless `kill`; returns when they are gone. Absent ones are fine."""

    def state(self, record: Record, node: str) -> NodeState:
        """What the node is doing now, looked up and not remembered."""

    def logs(self, record: Record, node: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Log lines without line ends; with `follow` until the node is gone."""

    def run(self, topology: Topology, record: Record, node: str, command: tuple[str, ...]) -> str:
        """Output of a command (placeholders allowed) run where the node runs, as its version command is."""

    def phone_address(self, record: Record, index: int) -> tuple[str, int]:
        """Address and SIP port for the phone number `index` (0, 1, ...)."""

    def probe_address(self, record: Record) -> str:
        """Local address that readiness probes are sent from; empty where the system may choose."""

    def sniffer(self, record: Record) -> Sniffer:
        """A source of this lab's packets, not yet started."""

    def teardown(self, record: Record) -> None:
        """Remove all that the lab holds outside its folder; repeating it is fine."""

    def leftovers(self) -> list[str]:
        """What labs of this user left on this machine outside any running lab, one line each."""

    def wipe(self) -> list[str]:
        """Remove everything any lab of this user has on this engine; what was removed, one line each."""


def home_folder() -> Path:
    """$LABKIT_HOME, else the user's state folder."""
    chosen = os.environ.get("LABKIT_HOME")
    return Path(chosen).expanduser() if chosen else default_home()


def default_home() -> Path:
    """The user's state folder, where LABKIT_HOME says nothing."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "labkit"


def owner_label() -> str:
    """Whose labs are whose, for things outside the home folder: the user's number, with a home of its own also that.

    So `./lab wipe` with LABKIT_HOME set (a test run, a second checkout) leaves the user's other labs alone.
    """
    uid = str(os.getuid() if hasattr(os, "getuid") else 0)
    if not os.environ.get("LABKIT_HOME"):
        return uid
    return f"{uid}-{hashlib.sha256(str(home_folder().resolve()).encode()).hexdigest()[:8]}"


def labs_folder() -> Path:
    """Where the records of labs are."""
    return home_folder() / "labs"


def boot_id() -> str:
    """A text that changes with every boot; empty where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine taken and why."""

    name: str
    """"docker", "local" or "replay"."""
    engine: Engine | None
    """None for replay, which runs nothing."""
    sentence: str
    """Which, why, and how to get a better one."""


def make_engine(name: str) -> Engine:
    """The engine called "docker" or "local"; EngineMissing for any other name."""
    if name == "docker":
        from labkit.lab.docker import DockerEngine

        engine: Engine = DockerEngine()
        return engine
    if name == "local":
        from labkit.lab.local import LocalEngine

        return LocalEngine()
    raise EngineMissing(
        f"there is no engine {name!r} that runs nodes; take docker or local (or replay, which needs none)"
    )


def choose_engine(name: str = "auto", *, make: Callable[[str], Engine] = make_engine) -> Choice:
    """The engine to use. "auto" takes docker where a daemon answers, else local, else replay.

    A name that cannot run here raises EngineMissing with the reason and the cure.
    """
    if name == "replay":
        return Choice("replay", None, "Engine: replay, as asked: packets come from the recordings, nothing is started.")
    if name != "auto":
        engine = make(name)
        reason = engine.available()
        if reason is not None:
            raise EngineMissing(f"the {name} engine cannot run here: {reason}")
        return Choice(name, engine, f"Engine: {name}, as asked.")
    reasons: dict[str, str] = {}
    for candidate in ("docker", "local"):
        engine = make(candidate)
        reason = engine.available()
        if reason is None:
            return Choice(candidate, engine, _why(candidate, reasons))
        reasons[candidate] = reason
    return Choice("replay", None, _why("replay", reasons))


def _why(name: str, reasons: Mapping[str, str]) -> str:
    docker, local = (reasons.get(key, "").rstrip(".") for key in ("docker", "local"))
    if name == "docker":
        return "Engine: docker, because a Docker daemon answers."
    if name == "local":
        return f"Engine: local (your own processes), because {docker}; with that cured, the lab runs in containers."
    return f"Engine: replay (recordings, nothing live), because {docker}; and {local}."


def on_linux() -> bool:
    """True where loopback blocks, /proc and Kamailio's packages are to be had."""
    return sys.platform.startswith("linux")


__all__ = [
    "ENGINES",
    "Choice",
    "Engine",
    "EngineMissing",
    "NodeSpec",
    "NodeState",
    "Progress",
    "Record",
    "Sniffer",
    "boot_id",
    "choose_engine",
    "default_home",
    "home_folder",
    "labs_folder",
    "make_engine",
    "on_linux",
    "owner_label",
]
