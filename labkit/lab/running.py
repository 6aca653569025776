"""A lab that runs: looked at, changed, broken on purpose, stopped.

Theory. A lab is its record on disk (labkit.lab.record.Record) plus what really runs; `RunningLab` keeps nothing else,
so any number of processes may hold one for the same lab. Whatever changes a lab happens under the lab's file lock, on a
record read afresh, and the record is saved before and after each step: a process that is killed leaves a record that
says what may be running, and the next one that looks tidies up.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from labkit.errors import StackError, TopologyError
from labkit.lab.engine import Engine, Progress, Sniffer
from labkit.lab.faults import Fault, fault_named
from labkit.lab.hands import LabHands
from labkit.lab.healing import describe_faults, heal, heal_overdue, inject, stop_healers
from labkit.lab.lesson_files import has_lesson, put_lesson
from labkit.lab.ready import is_ready
from labkit.lab.record import Record, lock_path
from labkit.lab.state import file_lock
from labkit.lab.topology import Topology

if TYPE_CHECKING:
    from labkit.clients.hss import HssClient


class RunningLab:
    """A lab that runs. Every method looks at what is, not at what was."""

    def __init__(self, engine: Engine, topology: Topology, record: Record) -> None:
        self.engine = engine
        """What runs the nodes."""
        self.topology = topology
        self.record = record
        """As it was when last looked at."""
        self._hss: HssClient | None = None

    # ---- what it is -------------------------------------------------------------------------------------------------
    @property
    def id(self) -> str:
        """Name, hyphen, six hex digits: in the environment of its processes, on its docker objects."""
        return self.record.id

    @property
    def name(self) -> str:
        """What it was called at its start."""
        return self.record.name

    @property
    def engine_name(self) -> str:
        """ "docker" or "local"."""
        return self.record.engine

    @property
    def started(self) -> str:
        """When, in UTC, ISO 8601."""
        return self.record.started

    @property
    def realm(self) -> str:
        """The realm of its nodes and subscribers."""
        return self.record.realm

    @property
    def capture_kind(self) -> str:
        """ "wire" or "mirrored"."""
        return self.record.capture

    def __repr__(self) -> str:
        return f"<lab {self.id} on {self.engine_name}, started {self.started}>"

    # ---- addresses --------------------------------------------------------------------------------------------------
    def names(self) -> dict[str, str]:
        """Address -> node name, for all nodes of the topology."""
        return {address: node for node, address in self.record.addresses.items()}

    def address(self, node: str, port: str) -> tuple[str, int]:
        """Address and port number that reach a node's port, for example ("pcscf", "sip")."""
        spec = self.topology.node(node)
        return self.record.address(spec.name), spec.port(port).number

    def sip_address(self, node: str) -> tuple[str, int]:
        """Where a node takes SIP."""
        return self.address(node, "sip")

    def phone_address(self, index: int) -> tuple[str, int]:
        """Address and SIP port for the phone number `index`."""
        return self.engine.phone_address(self.record, index)

    @property
    def hss(self) -> HssClient:
        """The admin door of the HSS; one client, which keeps its connection. StackError where the HSS is not ours."""
        if not self.has_own_hss:
            where = self.record.addresses.get("hss", "nowhere")
            raise StackError(f"the HSS of the lab {self.name!r} is external, at {where}: it has no door for us")
        if self._hss is None:
            from labkit.clients.hss import HssClient

            address, port = self.address("hss", "admin")
            self._hss = HssClient(f"http://{address}:{port}", self.record.token)
        return self._hss

    @property
    def has_own_hss(self) -> bool:
        """False where somebody else runs the HSS (`external` in lab.toml, LABKIT_HSS): nobody can ask it things."""
        return "hss" in self.topology.nodes and self.topology.node("hss").external is None

    @property
    def mirror_address(self) -> tuple[str, int] | None:
        """Where copies of what phones send go, in a lab whose packets cannot be sniffed; else None."""
        address, _, port = self.record.mirror.rpartition(":")
        return (address, int(port)) if self.record.capture == "mirrored" and address else None

    def sniffer(self) -> Sniffer:
        """A source of this lab's packets, not yet started; its `kind` is "wire" or "mirrored"."""
        return self.engine.sniffer(self.record)

    # ---- looking ----------------------------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        """The lab and its started nodes, as `./lab status --json` prints it."""
        self._read_anew(Record.load(self.record.folder))
        versions = self.versions()
        nodes = []
        for node in (n for n in self.topology.nodes.values() if n.name in self.record.nodes):
            state = self.engine.state(self.record, node.name)
            nodes.append(
                {
                    "name": node.name,
                    "title": node.title,
                    "engine": self.engine_name,
                    "state": state.state,
                    "detail": state.detail,
                    "version": versions.get(node.name, ""),
                    "addresses": [state.address or self.record.address(node.name)],
                    "ports": {port.name: str(port) for port in node.ports.values()},
                }
            )
        for name, place in self.record.external.items():
            title, port = self.topology.node(name).title, str(place["port"])
            about = {"name": name, "title": title, "engine": "", "state": "external", "detail": "not run by this lab"}
            nodes.append({**about, "version": "", "addresses": [place["address"]], "ports": {"diameter": port}})
        return {
            "id": self.id,
            "name": self.name,
            "engine": self.engine_name,
            "started": self.started,
            "capture": self.capture_kind,
            "faults": describe_faults(self.record),
            "nodes": nodes,
        }

    def versions(self) -> dict[str, str]:
        """Version of the program behind each started node; empty text where it did not say."""
        unknown = [n for n in self.record.nodes if n not in self.record.versions]
        if unknown:
            with contextlib.suppress(StackError), self._change() as record:
                for node in unknown:
                    record.versions[node] = self._version(node)
        return {n: self.record.versions.get(n, "") for n in self.topology.nodes if n in self.record.nodes}

    def _version(self, node: str) -> str:
        spec = self.topology.node(node)
        if not spec.version:
            return ""
        try:
            output = self.engine.run(self.topology, self.record, node, spec.version)
        except StackError:
            return ""
        found = re.search(spec.version_pattern, output)
        return found[1] if found else ""

    def logs(self, node: str, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Lines that a node logged, oldest first; with `follow` until it is gone."""
        self.topology.node(node)
        return self.engine.logs(self.record, node, follow=follow, tail=tail)

    def ready(self, node: str) -> bool:
        """True where every readiness condition of the node holds now."""
        self.topology.node(node)
        running = self.engine.state(self.record, node).state == "running"
        return running and is_ready(self.engine, self.topology, self.record, node)

    # ---- changing ---------------------------------------------------------------------------------------------------
    def prepare_nodes(self, nodes: Sequence[str], progress: Progress = lambda line: None) -> None:
        """Build or fetch what further nodes need, which may take minutes the first time, and do not start them."""
        self.engine.prepare(self.topology, tuple(self.topology.node(node).name for node in nodes), progress)

    def start_nodes(self, nodes: Sequence[str], progress: Progress = lambda line: None) -> None:
        """Start further nodes and return when they are ready; those that run already stay as they are."""
        for node in nodes:
            self.topology.node(node)
        with self._change() as record:
            self.start_with_lock(record, nodes, progress)

    def start_with_lock(self, record: Record, nodes: Sequence[str], progress: Progress) -> None:
        """With the lab's lock held: start nodes; one that does not become ready does not stay half up."""
        self.engine.prepare(self.topology, tuple(nodes), progress)
        try:
            self._hands().start(*nodes)
        except BaseException:
            self.engine.stop_nodes(record, tuple(nodes), kill=True)
            raise

    def stop_nodes(self, nodes: Sequence[str]) -> None:
        """Stop nodes; they are no longer part of the lab until they are started again."""
        with self._change() as record:
            self.engine.stop_nodes(record, tuple(nodes))
            for node in nodes:
                record.nodes.pop(node, None)

    def kill_node(self, node: str) -> None:
        """End a node the hard way, as a crash would."""
        self.topology.node(node)
        with self._change() as record:
            self.engine.stop_nodes(record, (node,), kill=True)

    def restart_node(self, node: str) -> None:
        """Stop and start a node; returns when it, and those that depend on it, are ready."""
        self.topology.node(node)
        with self._change():
            self._hands().restart(node)

    def put_lesson(self, node: str, files: Mapping[str, bytes]) -> None:
        """Put a lesson's files into a node's configuration and start it anew; none at all makes it what it was.

        Args:
            files: path below CONF_DIR/lesson -> content.
        Raises:
            NodeNotReady: it does not start with them; it is down then.
            TopologyError: this node takes none.
        """
        if not self.topology.node(node).lesson_modules:
            raise TopologyError(f"{self.topology.path}: [node.{node}] has no lesson_modules, so it takes no files")
        with self._change() as record:
            put_lesson(record, node, files)
            self._hands().renew(node)

    def restore_nodes(self) -> None:
        """Start every node that holds files of a lesson anew without them; such a node may have been left down."""
        self._read_anew(Record.load(self.record.folder))
        for node in [n for n in self.topology.nodes if has_lesson(self.record, n)]:
            if node in self.record.nodes:
                self.put_lesson(node, {})
            else:
                put_lesson(self.record, node, {})

    def logs_of_this_start(self, node: str) -> list[str]:
        """What a node has logged since it was last started."""
        self.topology.node(node)
        self._read_anew(Record.load(self.record.folder))
        return self.engine.logs_of_this_start(self.record, node)

    def stop(self) -> None:
        """Stop the lab and remove all it holds; logs stay until the next start of a lab of this name."""
        if self._hss is not None:
            self._hss.close()
            self._hss = None
        with file_lock(lock_path(self.name)):
            current = Record.load(self.record.folder)
            if current is None or current.id != self.id:
                stop_healers(self.record)
                self.engine.teardown(self.record)  # another process was faster, or the record is lost
                return
            remove(self.engine, current)

    # ---- faults -----------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def fault(self, name: str, **options: Any) -> Iterator[Fault]:
        """Break something for the length of the `with` block; it is mended at the end, whatever happens."""
        fault = self.inject(name, **options)
        try:
            yield fault
        finally:
            self.heal(name)

    def inject(self, name: str, *, time_limit_s: float | None = None, **options: Any) -> Fault:
        """Break something until `heal(name)`, or until its time limit is over, whatever becomes of this process.

        Args:
            options: those of the fault, see `labkit.faults`.
        """
        fault = fault_named(name)
        limit_s = fault.time_limit_s if time_limit_s is None else time_limit_s
        with self._change() as record:
            inject(self._hands(), record, fault, options, limit_s)
        return fault

    def heal(self, name: str) -> None:
        """Mend a fault; returns when the lab works again. Fine where it is not in."""
        fault = fault_named(name)
        with self._change() as record:
            heal(self._hands(), record, fault)

    def heal_all(self) -> list[str]:
        """Mend every fault, the last one in first; returns their names."""
        names = list(reversed(self.record.faults))
        for name in names:
            self.heal(name)
        return names

    def heal_overdue(self) -> None:
        """With the lab's lock held: mend what has outlived its time limit."""
        heal_overdue(self._hands(), self.record)

    def _hands(self) -> LabHands:
        return LabHands(self.engine, self.topology, self.record)

    @contextlib.contextmanager
    def _change(self) -> Iterator[Record]:
        """The lab's lock held, its record read afresh, and saved at the end, also after an error."""
        with file_lock(lock_path(self.name)):
            if not self._read_anew(Record.load(self.record.folder)):
                raise StackError(f"the lab {self.id} does not run any more: another process has stopped it")
            try:
                yield self.record
            finally:
                self.record.save()

    def _read_anew(self, current: Record | None) -> bool:
        """Take over what other processes have written; False where this lab has no record any more."""
        if current is None or current.id != self.id:
            return False
        for each in fields(Record):
            setattr(self.record, each.name, getattr(current, each.name))
        return True


def remove(engine: Engine, record: Record) -> None:
    """With the lab's lock held: stop everything, then forget the lab; its logs stay."""
    record.phase = "stopping"
    with contextlib.suppress(StackError):  # a full disk must not keep a lab running
        record.save()
    stop_healers(record)
    engine.teardown(record)
    (record.folder / "lab.json").unlink(missing_ok=True)
