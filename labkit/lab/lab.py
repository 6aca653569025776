"""A lab: started, found again from any process, looked at, broken on purpose, stopped.

Theory. A lab is its record on disk (labkit.lab.engine.Record) plus what really runs; `RunningLab` keeps nothing else,
so any number of processes may hold one for the same lab. Whatever changes a lab happens under the lab's file lock, on a
record read afresh, and the record is saved before and after each step: a process that is killed leaves a record that
says what may be running, and the next one that looks tidies up.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from labkit.errors import DockerNotRunning, EngineMissing, LabkitError, StackError
from labkit.lab.engine import (
    Engine,
    Progress,
    Record,
    Sniffer,
    boot_id,
    choose_engine,
    labs_folder,
    make_engine,
)
from labkit.lab.faults import Fault, fault_named
from labkit.lab.ready import bring_up, is_ready
from labkit.lab.state import file_lock, lock_is_held, remove_folder
from labkit.lab.topology import Topology, load_topology

if TYPE_CHECKING:
    from labkit.clients.hss import HssClient

DEFAULT_NAME = "lab"
_DAEMON_S = 1.0
_NAME = re.compile(r"^[a-z][a-z0-9-]{0,23}$")


def start_lab(
    name: str = DEFAULT_NAME,
    engine: str = "auto",
    nodes: Sequence[str] | None = None,
    progress: Progress = print,
    *,
    topology: Topology | None = None,
) -> RunningLab:
    """Start a lab and return it when every node is ready; a lab of that name that already runs is used as it is.

    Args:
        engine: "docker", "local" or "auto".
        nodes: names of nodes; by default those of lab.toml's `default`.
        progress: takes a line now and then, for the person who waits.
    Raises:
        EngineMissing: the engine cannot run here.
        NodeNotReady: a node did not come; everything that was started has been removed again, its logs are kept.
        StackError: the lab already runs on another engine, or its folder cannot be written.
    """
    _check_name(name)
    topology = topology or load_topology()
    wanted = tuple(nodes) if nodes is not None else topology.default
    for node in wanted:
        topology.node(node)
    waiting = f"another process is starting or stopping the lab {name!r}; waiting for it"
    with file_lock(_lock_path(name), lambda: progress(waiting)):
        found = _running(name, topology)
        if found is not None:
            return _use_running(found, engine, wanted, progress)
        choice = choose_engine(engine)
        if choice.engine is None:
            raise EngineMissing(f"nothing to start: {choice.sentence}")
        choice.engine.prepare(topology, wanted, progress)
        record = _new_record(name, choice.name, topology.realm)
        return _start(choice.engine, topology, record, wanted, progress)


def attach(name: str = DEFAULT_NAME) -> RunningLab | None:
    """The lab of that name where it runs, else None.

    What a killed start or an earlier boot left is removed on the way; a fault that outlived its limit is healed.
    """
    _check_name(name)
    topology = load_topology()
    if Record.load(labs_folder() / name) is None or lock_is_held(_lock_path(name)):
        return _if_running(name, topology)
    with file_lock(_lock_path(name)):
        lab = _running(name, topology)
        if lab is not None:
            lab._heal_overdue()
        return lab


def list_labs() -> list[RunningLab]:
    """Every lab of this user that runs, by name."""
    folder = labs_folder()
    names = sorted(path.parent.name for path in folder.glob("*/lab.json")) if folder.is_dir() else []
    return [lab for name in names if _NAME.match(name) and (lab := attach(name)) is not None]


def wipe_all(engines: Sequence[str] = ("docker", "local")) -> list[str]:
    """Remove everything that any lab of this user left: what was removed, one line each.

    Records, configurations and logs go; images and fetched programs stay. Engines that cannot be asked are left out.
    """
    removed: list[str] = []
    killed = {record.engine for record in _records() if record.phase == "starting"}
    for name in engines:
        engine = make_engine(name)
        if engine.available() is None or name == "local":
            removed += engine.wipe()
            if name in killed and _let_daemon_finish(engine):
                removed += engine.wipe()
    folder = labs_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            remove_folder(path)
            removed.append(f"folder {path}")
        else:
            path.unlink(missing_ok=True)
    return removed


class LabHands:
    """What may be done to a lab while its lock is held; given to faults."""

    def __init__(self, engine: Engine, topology: Topology, record: Record) -> None:
        self._engine, self._topology, self._record = engine, topology, record

    def stop(self, *nodes: str, kill: bool = False) -> None:
        """Stop nodes; returns when they are gone."""
        self._engine.stop_nodes(self._record, nodes, kill=kill)

    def start(self, *nodes: str) -> None:
        """Start nodes that do not run; returns when they, and those that depend on them, are ready."""
        missing = [n for n in nodes if self._engine.state(self._record, n).state != "running"]
        also = [n for n in self._record.nodes if n not in missing and self._waits_for(n, missing)]
        bring_up(
            self._engine,
            self._topology,
            self._record,
            missing,
            also=also,
            started=lambda node: self._record.save(),
        )

    def _waits_for(self, node: str, others: Sequence[str]) -> bool:
        depends = any(c.at in others for c in self._topology.node(node).ready)
        return depends and self._engine.state(self._record, node).state == "running"


class RunningLab:
    """A lab that runs. Every method looks at what is, not at what was."""

    def __init__(self, engine: Engine, topology: Topology, record: Record) -> None:
        self.engine = engine
        """What runs the nodes."""
        self.topology = topology
        self.record = record
        """As it was when last looked at."""
        self._timers: dict[str, threading.Timer] = {}
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
        return self.record.addresses[spec.name], spec.port(port).number

    def sip_address(self, node: str) -> tuple[str, int]:
        """Where a node takes SIP."""
        return self.address(node, "sip")

    def phone_address(self, index: int) -> tuple[str, int]:
        """Address and SIP port for the phone number `index`."""
        return self.engine.phone_address(self.record, index)

    @property
    def hss(self) -> HssClient:
        """The admin door of the HSS; one client, which keeps its connection."""
        if self._hss is None:
            from labkit.clients.hss import HssClient

            address, port = self.address("hss", "admin")
            self._hss = HssClient(f"http://{address}:{port}", self.record.token)
        return self._hss

    def sniffer(self) -> Sniffer:
        """A source of this lab's packets, not yet started; its `kind` is "wire" or "mirrored"."""
        return self.engine.sniffer(self.record)

    # ---- looking ----------------------------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        """The lab and its started nodes, as `./lab status --json` prints it."""
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
                    "addresses": [state.address or self.record.addresses[node.name]],
                    "ports": {port.name: str(port) for port in node.ports.values()},
                }
            )
        return {
            "id": self.id,
            "name": self.name,
            "engine": self.engine_name,
            "started": self.started,
            "capture": self.capture_kind,
            "faults": sorted(self.record.faults),
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
    def start_nodes(self, nodes: Sequence[str], progress: Progress = lambda line: None) -> None:
        """Start further nodes and return when they are ready; those that run already stay as they are."""
        for node in nodes:
            self.topology.node(node)
        with self._change() as record:
            self.engine.prepare(self.topology, tuple(nodes), progress)
            self._start_or_stop_again(record, nodes)

    def _start_or_stop_again(self, record: Record, nodes: Sequence[str]) -> None:
        """A node that did not become ready does not stay half up."""
        try:
            LabHands(self.engine, self.topology, record).start(*nodes)
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
        with self._change() as record:
            hands = LabHands(self.engine, self.topology, record)
            hands.stop(node)
            hands.start(node)

    def stop(self) -> None:
        """Stop the lab and remove all it holds; logs stay until the next start of a lab of this name."""
        for timer in self._timers.values():
            timer.cancel()
        if self._hss is not None:
            self._hss.close()
            self._hss = None
        with file_lock(_lock_path(self.name)):
            current = Record.load(self.record.folder)
            if current is None or current.id != self.id:
                self.engine.teardown(self.record)  # another process was faster, or the record is lost
                return
            _remove(self.engine, current)

    # ---- faults -----------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def fault(self, name: str, **options: Any) -> Iterator[Fault]:
        """Break something for the length of the `with` block; it is mended at the end, whatever happens."""
        fault = self.inject(name, **options)
        try:
            yield fault
        finally:
            self.heal(name)

    def inject(self, name: str, **options: Any) -> Fault:
        """Break something until `heal(name)`, or until the fault's time limit is over."""
        fault = fault_named(name)
        limit_s = float(options.pop("time_limit_s", fault.time_limit_s))
        with self._change() as record:
            if name in record.faults:
                raise StackError(f"the fault {name!r} is in already; heal it first")
            until = datetime.now(UTC) + timedelta(seconds=limit_s)
            record.faults[name] = {"until": until.isoformat(), "options": options}
            record.save()
            fault.inject(LabHands(self.engine, self.topology, record), options)
        timer = threading.Timer(limit_s, self._heal_quietly, [name])
        timer.daemon = True
        timer.start()
        self._timers[name] = timer
        return fault

    def heal(self, name: str) -> None:
        """Mend a fault; returns when the lab works again. Fine where it is not in."""
        fault = fault_named(name)
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
        with self._change() as record:
            if name in record.faults:
                self._heal(record, fault)

    def _heal(self, record: Record, fault: Fault) -> None:
        fault.heal(LabHands(self.engine, self.topology, record), record.faults[fault.name]["options"])
        record.faults.pop(fault.name, None)

    def _heal_quietly(self, name: str) -> None:
        """From the timer's thread: a lab that is gone by now needs no healing."""
        with contextlib.suppress(LabkitError):
            self.heal(name)

    def _heal_overdue(self) -> None:
        now = datetime.now(UTC)
        for name, noted in list(self.record.faults.items()):
            if datetime.fromisoformat(noted["until"]) < now:
                self._heal(self.record, fault_named(name))
                self.record.save()

    @contextlib.contextmanager
    def _change(self) -> Iterator[Record]:
        """The lab's lock held, its record read afresh, and saved at the end, also after an error."""
        with file_lock(_lock_path(self.name)):
            current = Record.load(self.record.folder)
            if current is None or current.id != self.id:
                raise StackError(f"the lab {self.id} does not run any more: another process has stopped it")
            for each in fields(Record):
                setattr(self.record, each.name, getattr(current, each.name))
            try:
                yield self.record
            finally:
                self.record.save()


# ---- starting and finding -------------------------------------------------------------------------------------------
def _new_record(name: str, engine: str, realm: str) -> Record:
    return Record(
        id=f"{name}-{secrets.token_hex(3)}",
        name=name,
        engine=engine,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        uid=os.getuid() if hasattr(os, "getuid") else 0,
        boot=boot_id(),
        realm=realm,
        token=secrets.token_urlsafe(24),
    )


def _start(engine: Engine, topology: Topology, record: Record, nodes: Sequence[str], progress: Progress) -> RunningLab:
    """Everything or nothing: what fails or is interrupted is taken down again."""
    began = datetime.now(UTC)
    remove_folder(record.folder)
    try:
        record.save()
        engine.allocate(topology, record)
        record.save()
        bring_up(engine, topology, record, nodes, started=lambda node: record.save())
        record.phase = "running"
        record.save()
    except BaseException as error:
        with _no_interrupt():
            if not isinstance(error, Exception):  # an interrupt cuts off requests that the daemon goes on with
                _let_daemon_finish(engine)
            _remove(engine, record)
        raise
    finally:
        engine.release(record)
    took_s = (datetime.now(UTC) - began).total_seconds()
    progress(f"the lab {record.id} runs on {record.engine}: {', '.join(nodes)} ready in {took_s:.1f} s")
    return RunningLab(engine, topology, record)


def _use_running(lab: RunningLab, engine: str, nodes: Sequence[str], progress: Progress) -> RunningLab:
    """A lab that runs is used; nodes that have died without a fault being in are started again."""
    if engine not in ("auto", lab.engine_name):
        raise StackError(
            f"the lab {lab.name!r} runs already, on the {lab.engine_name} engine; stop it first (./lab down), "
            "or give the other one a name of its own (--name)"
        )
    lab._heal_overdue()
    if not lab.record.faults:
        dead = [n for n in nodes if lab.engine.state(lab.record, n).state != "running"]
        if dead:
            progress(f"starting what does not run: {', '.join(dead)}")
            lab.engine.prepare(lab.topology, tuple(dead), progress)
            try:
                lab._start_or_stop_again(lab.record, dead)
            finally:
                lab.record.save()
    return lab


def _running(name: str, topology: Topology) -> RunningLab | None:
    """With the lock held: the lab where it runs; the rest of one that does not run any more is removed."""
    record = Record.load(labs_folder() / name)
    if record is None:
        return None
    engine = make_engine(record.engine)
    try:
        if record.phase == "running" and _alive(engine, record):
            return RunningLab(engine, topology, record)
        if record.phase == "starting" and _let_daemon_finish(engine):
            engine.teardown(record)
        _remove(engine, record)
    except DockerNotRunning:
        pass  # a lab of a daemon that is gone does not run; its record stays, so that `down` can end it later
    return None


def _records() -> list[Record]:
    """Every record there is."""
    folder = labs_folder()
    found = [Record.load(path.parent) for path in folder.glob("*/lab.json")] if folder.is_dir() else []
    return [record for record in found if record is not None]


def _let_daemon_finish(engine: Engine) -> bool:
    """Where a daemon makes things: give it time to end what a killed or interrupted process had asked of it."""
    if engine.name != "docker":
        return False
    time.sleep(_DAEMON_S)
    return True


def _if_running(name: str, topology: Topology) -> RunningLab | None:
    """Without the lock, as somebody holds it: the lab where its record says that it runs."""
    record = Record.load(labs_folder() / name)
    if record is None or record.phase != "running":
        return None
    return RunningLab(make_engine(record.engine), topology, record)


def _alive(engine: Engine, record: Record) -> bool:
    if record.engine == "local" and record.boot != boot_id():
        return False
    return any(engine.state(record, node).state == "running" for node in record.nodes)


def _remove(engine: Engine, record: Record) -> None:
    """Stop everything, then forget the lab; its logs stay."""
    record.phase = "stopping"
    with contextlib.suppress(StackError):  # a full disk must not keep a lab running
        record.save()
    engine.teardown(record)
    (record.folder / "lab.json").unlink(missing_ok=True)


def _lock_path(name: str) -> Any:
    return labs_folder() / f"{name}.lock"


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise StackError(f"{name!r} cannot be the name of a lab: 1 to 24 of a-z, 0-9 and hyphen, a letter first")


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Tidying up is short and must not be cut in two by a second Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
