"""Programs that refuse to run as root, in a lab of root: they run as "nobody", in folders of their own (Linux).

PostgreSQL ends where it finds itself to be root. Whoever runs labs as an ordinary user never meets this module. For
root, such a program gets another user, the one that every system has; and as that user can enter neither root's home
nor the lab's folder, its files lie elsewhere: those of a node in a folder of the lab below /tmp, which goes with the
lab, and the program itself, where nobody could reach it otherwise, in /var/lib/labkit.
"""

from __future__ import annotations

import os
from pathlib import Path

from labkit.errors import StackError
from labkit.lab.process import describe
from labkit.lab.record import home_folder
from labkit.lab.topology import ProgramSpec

_FOR_ROOT = Path("/var/lib/labkit")


def other_user(spec: ProgramSpec | None) -> tuple[int, int] | None:
    """The user and group that a node's program must run as; None where it runs as whoever runs the lab."""
    if spec is None or not spec.refuses_root or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    import pwd

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            f"{spec.name} does not run as root, and no user is named nobody: run the lab as a user"
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def programs_folder(spec: ProgramSpec) -> Path:
    """Where the lab keeps a program that it fetched or built."""
    folder = home_folder() / "programs"
    if other_user(spec) is None or _everybody_reaches(folder):
        return folder
    return _FOR_ROOT / "programs"


def _everybody_reaches(folder: Path) -> bool:
    """Whether every folder on the way may be entered by others."""
    said, real = folder.absolute(), folder.resolve()
    on_the_way = (said, *said.parents, real, *real.parents)
    return all(path.stat().st_mode & 0o001 for path in on_the_way if path.exists())


def hand_over(folder: Path, user: tuple[int, int]) -> None:
    """Give a folder and all in it to the other user."""
    try:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *user, follow_symlinks=False)
    except OSError as error:
        raise StackError(f"cannot hand {folder} over: {describe(error)}") from error
