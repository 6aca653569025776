"""What is known of a lab, on disk, so that any process can find, use and remove it.

A *record* is all that must survive the process that started a lab: it is written as JSON to
`$LABKIT_HOME/labs/<name>/lab.json` before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit.errors import StackError

_NAME = re.compile(r"^[a-z][a-z0-9-]{0,23}$")


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
    padding: dict[str, int] = field(default_factory=dict)
    """Node name -> how often its configuration's PADDING had to be made longer; no entry before it was ready once."""
    versions: dict[str, str] = field(default_factory=dict)
    """Node name -> version of its program."""
    external: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Node name -> address, port and realm of the one that takes its place (topology.External)."""
    switches: list[str] = field(default_factory=list)
    """Switches of node configurations that are on (`switches` in lab.toml)."""
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Faults that are in, each written before it was injected, with all that its heal needs."""

    @property
    def folder(self) -> Path:
        """The lab's folder: record, configs, logs, state."""
        return labs_folder() / self.name

    def node_folder(self, node: str) -> Path:
        """Folder of one node: conf/, run/, state/, log."""
        return self.folder / "nodes" / node

    def address(self, node: str) -> str:
        """The address that reaches a node; StackError where the lab is older than the node's entry in lab.toml."""
        try:
            return self.addresses[node]
        except KeyError:
            raise StackError(
                f"the lab {self.name!r} was started before lab.toml had a node {node}: start it anew "
                "(./lab down, then ./lab up)"
            ) from None

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


def lock_path(name: str) -> Path:
    """The file whose lock says who may change the lab of that name."""
    return labs_folder() / f"{name}.lock"


def is_lab_name(name: str) -> bool:
    """True where a lab may be called that: it becomes a folder and a label."""
    return _NAME.match(name) is not None


def on_linux() -> bool:
    """True where loopback blocks, /proc and Kamailio's packages are to be had."""
    return sys.platform.startswith("linux")
