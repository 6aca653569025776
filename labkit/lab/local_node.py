"""One node as a process of the local engine: where its files are, and in which environment it runs (Linux)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from labkit.errors import StackError
from labkit.lab.go_program import find_go_files, find_go_program
from labkit.lab.lesson_files import has_lesson
from labkit.lab.other_user import other_user
from labkit.lab.package_program import FoundProgram
from labkit.lab.process import describe
from labkit.lab.programs import KamailioProgram, python_program
from labkit.lab.record import Record, home_folder
from labkit.lab.templates import Places
from labkit.lab.topology import NodeSpec, Topology

_LONGEST_SOCKET_FOLDER = 80
"""A Unix socket's path has 107 bytes; a folder longer than this leaves too few for a name."""


Program = KamailioProgram | FoundProgram
"""What a node runs, where that had to be looked for."""


def places(topology: Topology, record: Record, node: NodeSpec, program: Program | None) -> Places:
    """Where the node's files and the others are."""
    own = topology.programs.get(node.program)
    apart = other_user(own) is not None
    folder = apart_folder(record) / node.name if apart else record.node_folder(node.name)
    programs = {name: find_go_program(spec) if spec.go_package else "" for name, spec in topology.programs.items()}
    if own is not None and own.go_files:
        programs[f"{own.name}_files"] = find_go_files(own)
    programs["python"] = python_program()
    if program is not None:
        programs[node.program] = program.binary
    return Places(
        addresses=record.addresses,
        own_address=record.address(node.name),
        conf_dir=str(folder / "conf"),
        run_dir=str(folder / "run" if apart else Path(record.own["sockets"]) / node.name),
        state_dir=str(folder / "state"),
        programs=programs,
        hss_peer=record.addresses.get("hss", ""),
        modules_dir=program.modules_dir if isinstance(program, KamailioProgram) else "",
        mirror=record.mirror,
        token=record.token,
        switches=frozenset(record.switches),
        padding=record.padding.get(node.name, 0),
        lesson=has_lesson(record, node.name),
        running=frozenset(record.nodes) - {node.name},
    )


def environment(record: Record, node: NodeSpec, program: Program | None, values: dict[str, str]) -> dict[str, str]:
    """A small environment of the node's own, so that a learner's shell cannot change what a node does."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")}
    kept |= {
        "LABKIT_LAB": record.id,
        "LABKIT_NODE": node.name,
        "LABKIT_HOME": str(home_folder().resolve()),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    if isinstance(program, KamailioProgram):
        kept |= {"LD_PRELOAD": program.resolv_wrapper, "RESOLV_WRAPPER_HOSTS": str(record.folder / "hosts")}
    if program is not None and program.library_path:
        kept["LD_LIBRARY_PATH"] = program.library_path
    for name, value in node.environment.items():
        for key, filled in values.items():
            value = value.replace(f"@@{key}@@", filled)
        kept[name] = value
    return kept


def log_file(record: Record, node: str) -> Path:
    """What the node writes."""
    return record.node_folder(node) / "log"


def socket_folder(record: Record) -> Path:
    """Where the nodes' sockets go: in the lab's folder, or in a short one where its path is too long for a socket."""
    inside = record.folder / "run"
    if len(str(inside)) + 1 + 16 <= _LONGEST_SOCKET_FOLDER:
        return inside
    return _short_folder(record)


def apart_folder(record: Record) -> Path:
    """Where the files of nodes go that run as another user: the lab's own folder is closed to them."""
    folder = _short_folder(record)
    folder.chmod(0o711)
    return folder


def _short_folder(record: Record) -> Path:
    """A folder of the lab below /tmp."""
    short = Path(tempfile.gettempdir()) / f"labkit-{os.getuid()}-{record.id[-12:]}"
    try:
        short.mkdir(mode=0o700)
    except FileExistsError:
        if short.is_symlink() or short.stat().st_uid != os.getuid():
            raise StackError(f"{short} belongs to somebody else; point LABKIT_HOME at a shorter path") from None
    except OSError as error:
        raise StackError(f"cannot make {short}: {describe(error)}") from error
    with contextlib.suppress(OSError):
        (short / "home").write_text(str(home_folder().resolve()), encoding="utf-8")
    return short


def socket_folders() -> list[Path]:
    """Short socket folders that belong to labs of this home."""
    home = str(home_folder().resolve())
    found = []
    for path in Path(tempfile.gettempdir()).glob(f"labkit-{os.getuid()}-*"):
        with contextlib.suppress(OSError):
            owner = (path / "home").read_text(encoding="utf-8")
            if path.stat().st_uid == os.getuid() and (owner == home or not Path(owner).is_dir()):
                found.append(path)
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read: configurations hold keys and tokens."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StackError(f"cannot write {path}: {describe(error)}") from error
