"""Kamailio for the local engine: found on this machine, else in packages in the lab's folder (labkit.lab.packages)."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import EngineMissing
from labkit.lab.packages import can_fetch, fetched_folder, library_folders
from labkit.lab.topology import ProgramSpec

_LOADMODULE = re.compile(r'^\s*loadmodule\s+"?([a-z0-9_]+)(?:\.so)?"?', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KamailioProgram:
    """A Kamailio that can run here, and how."""

    binary: str
    modules: tuple[str, ...]
    """Folders of modules, searched in this order."""
    library_path: str
    """LD_LIBRARY_PATH it needs; empty for an installed one."""
    resolv_wrapper: str
    """libresolv_wrapper.so, which gives it the lab's names."""

    @property
    def modules_dir(self) -> str:
        """The folders as Kamailio's mpath wants them."""
        return ":".join(self.modules)


def required_modules(configs: Iterable[str]) -> set[str]:
    """The modules that these Kamailio configurations load."""
    return {name for text in configs for name in _LOADMODULE.findall(text)}


def find_kamailio(spec: ProgramSpec, modules: set[str]) -> KamailioProgram | None:
    """The Kamailio to use as things stand: with all `modules` and a resolv_wrapper; None where something is lacking.

    EngineMissing where the variable names a program that cannot be run.
    """
    system, fetched = Path("/"), fetched_folder(spec)
    wrapper = next((str(p) for root in (system, fetched) for p in _library_files(root, "libresolv_wrapper.so*")), "")
    for binary, roots in _candidates(spec, system, fetched):
        folders = _module_folders(binary, roots)
        if wrapper and os.access(binary, os.X_OK) and _has_modules(folders, modules):
            places = [p for d in library_folders(fetched) for p in (d, d / "kamailio") if p.is_dir()]
            libraries = ":".join(map(str, places)) if fetched in roots else ""
            return KamailioProgram(binary, tuple(folders), libraries, wrapper)
    return None


def _candidates(spec: ProgramSpec, system: Path, fetched: Path) -> list[tuple[str, list[Path]]]:
    """(binary, roots of its modules), the better ones first.

    An installed Kamailio may lack modules that were fetched beside it, but a Kamailio that somebody built does not go
    with the distribution's modules, so whole ones are preferred.
    """
    chosen = os.environ.get(spec.variable, "") if spec.variable else ""
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise EngineMissing(
                f"{spec.variable}={chosen} is no program that can be run; unset it or set the right path"
            )
        return [(chosen, [system]), (chosen, [system, fetched])]
    own = str(fetched / "usr/sbin/kamailio")
    installed = _on_path("kamailio")
    found = [(own, [fetched])]
    return [(installed, [system]), *found, (installed, [system, fetched])] if installed else found


def can_have_kamailio(spec: ProgramSpec, modules: set[str]) -> str | None:
    """None where find_kamailio() finds it or fetch_packages() can be tried; else the reason with its cure."""
    try:
        if find_kamailio(spec, modules) is not None:
            return None
    except EngineMissing as error:
        return str(error)
    if can_fetch():
        return None
    return (
        "there is no Kamailio with its IMS modules and libresolv_wrapper here, and no apt-get to fetch their packages; "
        f"install them, or set {spec.variable or 'PATH'} to a Kamailio of your own"
    )


def _on_path(program: str) -> str:
    """PATH of ordinary users often lacks sbin, where Kamailio is."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which(program, path=path) or ""


def _library_files(root: Path, pattern: str) -> list[Path]:
    return [path for folder in library_folders(root) for path in sorted(folder.glob(pattern))]


def _module_folders(binary: str, roots: list[Path]) -> list[str]:
    """Where modules can be: beside the binary's own prefix first."""
    prefix = Path(binary).resolve().parent.parent
    own = [prefix / "lib64", prefix / "lib"] if prefix != Path("/usr") else []
    libraries = own + [folder for root in roots for folder in library_folders(root)]
    folders = [library / "kamailio" / "modules" for library in libraries]
    return list(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))


def _has_modules(folders: list[str], modules: set[str]) -> bool:
    return all(any(os.path.exists(f"{folder}/{name}.so") for folder in folders) for name in modules)


def python_program() -> str:
    """The Python that runs labkit now, for the nodes that are ours."""
    return sys.executable
