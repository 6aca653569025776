"""Child processes that outlive their starter, and finding them again (Linux).

Theory. A lab survives the process that started it, so a pid alone proves nothing: it may have been given to somebody
else. Every process of a lab therefore carries its lab, node and home in its environment (`LABKIT_LAB`, `LABKIT_NODE`,
`LABKIT_HOME`), which the kernel shows in /proc to the same user only, and children inherit it. A process is ours
exactly if its environment says so; all stopping goes through that, with a process file descriptor where the kernel has
them, so that between the look and the signal nobody else can take the number.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import StackError

LOG_LIMIT_BYTES = 64 * 1024 * 1024
"""The kernel lets no file of a node grow beyond this (RLIMIT_FSIZE)."""
LOG_TRIM_BYTES = 16 * 1024 * 1024
"""A log larger than this is cut when somebody looks at the lab."""
LOG_KEEP_BYTES = 4 * 1024 * 1024
"""What then stays of it: its end."""
_ORPHANS_S = 0.2
_SHOWN_S = 1.0
"""So long does a new process get to show its environment."""


@dataclass(frozen=True, slots=True)
class LabProcess:
    """One process of a lab, as /proc shows it."""

    pid: int
    start_ticks: int
    """Clock ticks after boot: with the pid the identity of a process."""
    lab: str
    node: str
    home: str
    """The LABKIT_HOME of its lab."""
    parent: int
    name: str
    """The program, shortened by the kernel to 15 characters."""


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    *,
    user: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Start `command` in a session of its own, output appended to `log`; its pid and start time in ticks.

    As another user and group where `user` names them, which only root may ask for.
    StackError where the program or the log cannot be opened.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(log, "ab", buffering=0) as output:
            # Python ignores SIGXFSZ; not restoring it lets the child survive a full log: its writes fail, no more.
            child = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                restore_signals=False,
                **_as_user(user),
            )
    except OSError as error:
        raise StackError(f"cannot start {command[0]}: {describe(error)}") from error
    _limit_files(child.pid)
    _wait_shown(child.pid)
    child.returncode = 0  # The child outlives this object; reap() collects it, and Popen must not warn about it.
    identity = _stat(child.pid)
    return child.pid, identity[0] if identity else 0


def _as_user(user: tuple[int, int] | None) -> dict[str, Any]:
    return {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}


def describe(error: OSError) -> str:
    """An operating system error as words with its cure, for the ones that newcomers meet."""
    where = f" ({error.filename})" if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"the disk is full{where}; make room, or point LABKIT_HOME at another disk"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"no permission{where}; make it writable for you, or point LABKIT_HOME at a folder that is"
        case errno.EAGAIN | errno.ENOMEM:
            return "the system allows no more processes or memory; stop other labs (./lab down) and try again"
    return f"{error.strerror or error}{where}"


def reap(pid: int) -> int | None:
    """Collect a child of ours that has ended; its exit code (negative: signal), None where that is not ours to know."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except (ChildProcessError, OSError):
        return None
    return os.waitstatus_to_exitcode(status) if done == pid else None


def alive(pid: int, start_ticks: int) -> bool:
    """True while that very process runs; a zombie does not, unless threads of it still hold its ports."""
    found = _stat(pid)
    return found is not None and found[0] == start_ticks and (found[2] not in "ZX" or _threads(pid) > 1)


def lab_processes(*, lab: str | None = None, node: str | None = None, home: str | None = None) -> list[LabProcess]:
    """Processes of labs of this user (of root: of every user), narrowed as asked; zombies are not counted."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        process = _lab_process(int(entry.name))
        if process is None or (lab is not None and process.lab != lab):
            continue
        if (node is None or process.node == node) and (home is None or process.home == home):
            found.append(process)
    return found


def stop_processes(select_processes: Iterable[LabProcess], *, kill: bool = False, grace_s: float = 3.0) -> None:
    """End processes and all their relatives of the same lab and node: TERM to the heads, KILL for what stays.

    Returns when all are gone. StackError names those that even KILL did not end within 10 s.
    """
    wanted = list(select_processes)
    if not wanted:
        return
    groups = {(p.lab, p.node, p.home) for p in wanted}
    if not kill:
        pids = {p.pid for p in wanted}
        heads = [p for p in wanted if p.parent not in pids]
        for head in heads:
            _signal(head, signal.SIGTERM)
        _wait_gone(heads, grace_s)
        _wait_gone(wanted, _ORPHANS_S)  # children that their parent did not take along get no second grace
    deadline = time.monotonic() + 10
    while left := [p for p in lab_processes() if (p.lab, p.node, p.home) in groups]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{p.name} (pid {p.pid})" for p in left)
            raise StackError(f"these processes do not end, not even by SIGKILL: {names}")
        for process in left:
            _signal(process, signal.SIGKILL)
        _wait_gone(left, 1.0)
    for process in wanted:
        reap(process.pid)


def kill_group(pid: int, start_ticks: int) -> None:
    """End a process that `spawn` started, and those that it has started itself, at once; returns when they are gone.

    Quicker than `stop_processes`, which looks at every process of the machine; what has left the group is not found.
    """
    if not alive(pid, start_ticks):
        return
    family = [pid, *_children(pid)]
    ticks = {one: found[0] for one in family if (found := _stat(one)) is not None}
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(alive(one, begun) for one, begun in ticks.items()) and time.monotonic() < deadline:
        time.sleep(0.002)
    reap(pid)


def _children(pid: int) -> list[int]:
    """Pids of those that a process has started and that still are there."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def trim_log(path: Path) -> None:
    """Cut a log that has grown over LOG_TRIM_BYTES to its end. Writers append, so they go on at the new end."""
    with contextlib.suppress(OSError):
        if path.stat().st_size <= LOG_TRIM_BYTES:
            return
        with open(path, "r+b") as file:
            file.seek(-LOG_KEEP_BYTES, os.SEEK_END)
            file.readline()
            rest = file.read()
            file.seek(0)
            file.write(b"[older lines were removed]\n" + rest)
            file.truncate()


def _limit_files(pid: int) -> None:
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (LOG_LIMIT_BYTES, LOG_LIMIT_BYTES))


def _wait_shown(pid: int) -> None:
    """Return when /proc shows the environment of a new process, by which it is found.

    Popen returns when exec has closed its pipe, and the kernel tells the new environment a little later.
    """
    deadline = time.monotonic() + _SHOWN_S
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/environ").read_bytes():
                return
        except OSError:
            return
        found = _stat(pid)
        if found is None or found[2] in "ZX":
            return
        time.sleep(0.001)


def _stat(pid: int) -> tuple[int, int, str] | None:
    """(start ticks, parent, state letter) of a process, None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything, so count from the last one: proc(5), fields 3, 4 and 22.
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[19]), int(fields[1]), fields[0]


def _threads(pid: int) -> int:
    """How many threads a process has, the first included; 0 where there is none such."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _lab_process(pid: int) -> LabProcess | None:
    try:
        # Root looks at all: a program that refuses to run as root has another user (labkit.lab.other_user).
        if os.geteuid() != 0 and os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return None
        raw = Path(f"/proc/{pid}/environ").read_bytes()
        if b"LABKIT_LAB=" not in raw:
            return None
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    stat = _stat(pid)
    words = dict(w.split("=", 1) for w in raw.decode("utf-8", "replace").split("\0") if "=" in w)
    if stat is None or stat[2] in "ZX" or not words.get("LABKIT_LAB"):
        return None
    return LabProcess(
        pid, stat[0], words["LABKIT_LAB"], words.get("LABKIT_NODE", ""), words.get("LABKIT_HOME", ""), stat[1], name
    )


def _signal(process: LabProcess, number: signal.Signals) -> None:
    """Signal that very process or nobody."""
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        if alive(process.pid, process.start_ticks):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)
        return
    try:
        if alive(process.pid, process.start_ticks):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def _wait_gone(processes: Sequence[LabProcess], timeout_s: float) -> None:
    """Return when all are gone or the time is over."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        _wait_one(process, deadline)
        reap(process.pid)


def _wait_one(process: LabProcess, deadline: float) -> None:
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while alive(process.pid, process.start_ticks) and time.monotonic() < deadline:
            time.sleep(0.01)
        return
    try:
        if alive(process.pid, process.start_ticks):
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            poller.poll(max(0, int((deadline - time.monotonic()) * 1000)))
    finally:
        os.close(handle)
