"""Labs of this user: started, found again from any process, listed, wiped away.

What a lab is, and what keeps processes from getting in each other's way: `labkit.lab.running`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from labkit.errors import DockerNotRunning, EngineMissing, StackError
from labkit.lab.choice import choose_engine, make_engine
from labkit.lab.engine import Engine, Progress
from labkit.lab.ready import bring_up
from labkit.lab.record import Record, boot_id, is_lab_name, labs_folder, lock_path
from labkit.lab.running import RunningLab as RunningLab
from labkit.lab.running import remove
from labkit.lab.state import file_lock, lock_is_held, remove_folder
from labkit.lab.topology import External, Topology, external_hss, load_topology, with_external

DEFAULT_NAME = "lab"
_DAEMON_S = 1.0


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
    topology = topology or external_hss(load_topology(), os.environ.get("LABKIT_HSS", ""))
    wanted = topology.own(tuple(nodes) if nodes is not None else topology.default)
    waiting = f"another process is starting or stopping the lab {name!r}; waiting for it"
    with file_lock(lock_path(name), lambda: progress(waiting)):
        found = _running(name, topology)
        if found is not None:
            return _use_running(found, engine, wanted, progress)
        choice = choose_engine(engine)
        if choice.engine is None:
            raise EngineMissing(f"nothing to start: {choice.sentence}")
        choice.engine.prepare(topology, wanted, progress)
        record = _new_record(name, choice.name, topology)
        return _start(choice.engine, topology, record, wanted, progress)


def attach(name: str = DEFAULT_NAME) -> RunningLab | None:
    """The lab of that name where it runs, else None.

    What a killed start or an earlier boot left is removed on the way; a fault that outlived its limit is healed.
    """
    _check_name(name)
    topology = load_topology()
    if Record.load(labs_folder() / name) is None or lock_is_held(lock_path(name)):
        return _if_running(name, topology)
    with file_lock(lock_path(name)):
        lab = _running(name, topology)
        if lab is not None:
            lab.heal_overdue()
        return lab


def list_labs() -> list[RunningLab]:
    """Every lab of this user that runs, by name."""
    folder = labs_folder()
    names = sorted(path.parent.name for path in folder.glob("*/lab.json")) if folder.is_dir() else []
    return [lab for name in names if is_lab_name(name) and (lab := attach(name)) is not None]


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


# ---- starting and finding -------------------------------------------------------------------------------------------
def _new_record(name: str, engine: str, topology: Topology) -> Record:
    return Record(
        id=f"{name}-{secrets.token_hex(3)}",
        name=name,
        engine=engine,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        uid=os.getuid() if hasattr(os, "getuid") else 0,
        boot=boot_id(),
        realm=topology.realm,
        external={node.name: asdict(node.external) for node in topology.nodes.values() if node.external is not None},
        token=secrets.token_urlsafe(24),
    )


def _start(engine: Engine, topology: Topology, record: Record, nodes: Sequence[str], progress: Progress) -> RunningLab:
    """Everything or nothing: what fails or is interrupted is taken down again."""
    began = datetime.now(UTC)
    remove_folder(record.folder)
    try:
        record.save()
        engine.allocate(topology, record)
        record.addresses |= {node: place["address"] for node, place in record.external.items()}
        record.save()
        bring_up(engine, topology, record, nodes, started=lambda node: record.save())
        record.phase = "running"
        record.save()
    except BaseException as error:
        with _no_interrupt():
            if not isinstance(error, Exception):  # an interrupt cuts off requests that the daemon goes on with
                _let_daemon_finish(engine)
            remove(engine, record)
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
    lab.heal_overdue()
    if not lab.record.faults:
        dead = [n for n in nodes if lab.engine.state(lab.record, n).state != "running"]
        if dead:
            progress(f"starting what does not run: {', '.join(dead)}")
            try:
                lab.start_with_lock(lab.record, dead, progress)
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
            return RunningLab(engine, _of_record(topology, record), record)
        if record.phase == "starting" and _let_daemon_finish(engine):
            engine.teardown(record)
        remove(engine, record)
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
    return RunningLab(make_engine(record.engine), _of_record(topology, record), record)


def _of_record(topology: Topology, record: Record) -> Topology:
    """The topology as it was when the lab was started, as far as others run its nodes."""
    return with_external(topology, {node: External(**place) for node, place in record.external.items()})


def _alive(engine: Engine, record: Record) -> bool:
    if record.engine == "local" and record.boot != boot_id():
        return False
    return any(engine.state(record, node).state == "running" for node in record.nodes)


def _check_name(name: str) -> None:
    if not is_lab_name(name):
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
