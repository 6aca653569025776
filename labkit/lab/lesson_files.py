"""Files that a lesson puts into a node's configuration folder: a routing block of the learner's, a small database.

They lie in `CONF_DIR/lesson` on both engines, read-only for a container, and outlive a restart of the node, so a fault
that restarts it heals to what the lesson had. `lk.open` takes them away again (`RunningLab.restore_nodes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from labkit.errors import StackError
from labkit.lab.process import describe
from labkit.lab.record import Record
from labkit.lab.state import remove_folder

FOLDER = "lesson"
"""Below CONF_DIR."""
MAX_BYTES = 8 << 20
"""Of all files of a node together; they are examples, not a warehouse."""


def lesson_folder(record: Record, node: str) -> Path:
    """This host's folder that the node sees as CONF_DIR/lesson."""
    return record.node_folder(node) / "conf" / FOLDER


def has_lesson(record: Record, node: str) -> bool:
    """Whether a lesson has put files there."""
    return lesson_folder(record, node).is_dir()


def put_lesson(record: Record, node: str, files: Mapping[str, bytes]) -> None:
    """Put files in place of those that were there; none at all leaves no folder.

    A container's user is nobody on this host, so the files are readable for all; the folders above are closed.

    Args:
        files: path below CONF_DIR/lesson -> content.
    Raises:
        StackError: a path leads out of the folder, it is too much, or it cannot be written.
    """
    for name in files:
        path = PurePosixPath(name)
        if not name or path.is_absolute() or any(part in ("..", "") for part in path.parts) or "\0" in name:
            raise StackError(f"{name!r} is no name for a file of a lesson: give a plain name, without .. or /")
    if sum(map(len, files.values())) > MAX_BYTES:
        raise StackError(f"a lesson's files may have {MAX_BYTES >> 20} MB together")
    folder = lesson_folder(record, node)
    remove_folder(folder)
    try:
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o644)
        for inner in [folder, *folder.rglob("*")] if files else []:
            if inner.is_dir():
                inner.chmod(0o755)
    except OSError as error:
        raise StackError(f"cannot write the lesson's files for {node}: {describe(error)}") from error
