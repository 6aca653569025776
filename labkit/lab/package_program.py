"""A program of one file: found on this machine, else in its packages in the lab's folder (labkit.lab.packages)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import EngineMissing
from labkit.lab.engine import Progress
from labkit.lab.packages import can_fetch, fetch_packages, fetched_folder, library_folders
from labkit.lab.topology import ProgramSpec


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """A program that can run here, and how."""

    binary: str
    library_path: str = ""
    """LD_LIBRARY_PATH it needs; empty for an installed one."""


def find_program(spec: ProgramSpec) -> FoundProgram | None:
    """The program as things stand: the variable's, else an installed one, else a fetched one.

    EngineMissing where the variable names a program that cannot be run.
    """
    chosen = os.environ.get(spec.variable, "") if spec.variable else ""
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise EngineMissing(
                f"{spec.variable}={chosen} is no program that can be run; unset it or set the right path"
            )
        return FoundProgram(chosen)
    for root in (Path("/"), fetched_folder(spec)):
        found = [path for path in root.glob(spec.binary) if os.access(path, os.X_OK)]
        if found:
            libraries = "" if root == Path("/") else ":".join(map(str, library_folders(root)))
            return FoundProgram(str(max(found, key=_version)), libraries)
    return None


def get_program(spec: ProgramSpec, progress: Progress) -> FoundProgram:
    """The program, its packages fetched now where it is not here.

    EngineMissing says what is in the way.
    """
    found = find_program(spec)
    if found is None:
        if not can_fetch():
            raise EngineMissing(
                f"there is no {spec.name} here, and no apt-get to fetch its packages; install it, set {spec.variable} "
                "to one of your own, take the docker engine, or replay"
            )
        fetch_packages(spec, progress)
        found = find_program(spec)
    if found is None:
        raise EngineMissing(f"the packages {', '.join(spec.packages)} were fetched and hold no /{spec.binary}")
    return found


def _version(path: Path) -> list[int]:
    """Numbers in the path, so that 17 counts more than 9."""
    return [int(part) for part in re.findall(r"\d+", str(path))]
