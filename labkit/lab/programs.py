"""Kamailio for the local engine: found on this machine, else its distribution's packages unpacked in the lab's folder.

No root, nothing installed, nothing outside `$LABKIT_HOME/programs`: apt downloads (and verifies) what the host lacks,
dpkg unpacks it there, and the program runs from there. Deleting the folder undoes it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import EngineMissing
from labkit.lab.engine import Progress, home_folder
from labkit.lab.process import describe
from labkit.lab.state import file_lock, remove_folder
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
    system, fetched = Path("/"), _fetched_folder(spec)
    wrapper = next((str(p) for root in (system, fetched) for p in _library_files(root, "libresolv_wrapper.so*")), "")
    for binary, roots in _candidates(spec, system, fetched):
        folders = _module_folders(binary, roots)
        if wrapper and os.access(binary, os.X_OK) and _has_modules(folders, modules):
            places = [p for d in _library_folders(fetched) for p in (d, d / "kamailio") if p.is_dir()]
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
    """None where find_kamailio() finds it or fetch_kamailio() can be tried; else the reason with its cure."""
    try:
        if find_kamailio(spec, modules) is not None:
            return None
    except EngineMissing as error:
        return str(error)
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        return None
    return (
        "there is no Kamailio with its IMS modules and libresolv_wrapper here, and no apt-get to fetch their packages; "
        f"install them, or set {spec.variable or 'PATH'} to a Kamailio of your own"
    )


def fetch_kamailio(spec: ProgramSpec, progress: Progress) -> None:
    """Download and unpack the packages. Safe to repeat, to interrupt, and to run twice at once.

    EngineMissing says what apt said when it cannot be done.
    """
    target = _fetched_folder(spec)
    programs = target.parent
    try:
        (programs / "debs" / "partial").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineMissing(f"cannot make {programs}: {describe(error)}") from error
    with file_lock(programs / "fetch.lock", lambda: progress("waiting for another process that fetches Kamailio")):
        progress(f"fetching Kamailio's packages into {programs} (once, about 14 MB; nothing is installed)")
        started = time.monotonic()
        try:
            debs = _download(spec, programs)
            _unpack(debs, target)
            for scratch in ("debs", "lists"):
                remove_folder(programs / scratch)
        except OSError as error:
            raise EngineMissing(f"cannot fetch Kamailio into {programs}: {describe(error)}") from error
        progress(f"unpacked {len(debs)} packages in {time.monotonic() - started:.1f} s")


def _download(spec: ProgramSpec, programs: Path) -> list[Path]:
    """The .deb files that the host lacks for the program, in programs/debs; apt resumes what was begun."""
    archives = programs / "debs"
    options = [
        "-o", "Debug::NoLocking=true",
        "-o", f"Dir::Cache::archives={archives}",
        "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
        "-o", "APT::Sandbox::User=",
    ]  # fmt: skip
    install = ["install", "-y", "--download-only", "--no-install-recommends", *spec.packages]
    said = _apt([*options, *install])
    if said is not None:
        # The host has no package lists, or stale ones: an ordinary user makes lists of their own.
        lists = programs / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options += ["-o", f"Dir::State::lists={lists}"]
        said = _apt([*options, "-o", "APT::Update::Error-Mode=any", "update"]) or _apt([*options, *install])
    if said is not None:
        raise EngineMissing(
            f"apt cannot fetch Kamailio's packages; it said: {said} "
            f"Check the network (and the apt proxy), or install Kamailio, or set {spec.variable}."
        )
    return sorted(archives.glob("*.deb"))


def _apt(arguments: list[str]) -> str | None:
    """None where apt-get did it, else its complaint in one line."""
    environment = os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            errors="replace",
        )
    except FileNotFoundError:
        return "there is no apt-get here."
    except subprocess.TimeoutExpired:
        return "no end after 600 s."
    if done.returncode == 0:
        return None
    complaints = [line[3:] for line in done.stderr.splitlines() if line.startswith("E: ")]
    more = f" (and {len(complaints) - 2} more like it)" if len(complaints) > 2 else ""
    return "; ".join(complaints[:2]) + more + "." if complaints else f"exit code {done.returncode}."


def _unpack(debs: list[Path], target: Path) -> None:
    """All packages into a fresh folder that takes `target`'s place when it is whole."""
    for stale in target.parent.glob(".unpacking-*"):
        remove_folder(stale)  # of a process that was killed; we hold the lock
    scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    try:
        for deb in debs:
            done = subprocess.run(["dpkg-deb", "-x", str(deb), str(scratch)], capture_output=True, text=True)
            if done.returncode != 0:
                deb.unlink(missing_ok=True)
                raise EngineMissing(f"{deb.name} does not unpack ({done.stderr.strip()[:200]}); try again")
        os.chmod(scratch, 0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetched_folder(spec: ProgramSpec) -> Path:
    """Where the unpacked packages are; a name of its own per release, as a home may be shared between machines."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    kind = f"{release.get('ID', 'linux')}{release.get('VERSION_ID', '')}-{platform.machine()}"
    return home_folder() / "programs" / f"{spec.name}-{kind}"


def _on_path(program: str) -> str:
    """PATH of ordinary users often lacks sbin, where Kamailio is."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which(program, path=path) or ""


def _library_folders(root: Path) -> list[Path]:
    triplet = f"{platform.machine()}-linux-gnu"
    candidates = (root / "usr/lib" / triplet, root / "usr/lib64", root / "usr/lib", root / "lib" / triplet)
    return [folder for folder in candidates if folder.is_dir()]


def _library_files(root: Path, pattern: str) -> list[Path]:
    return [path for folder in _library_folders(root) for path in sorted(folder.glob(pattern))]


def _module_folders(binary: str, roots: list[Path]) -> list[str]:
    """Where modules can be: beside the binary's own prefix first."""
    prefix = Path(binary).resolve().parent.parent
    own = [prefix / "lib64", prefix / "lib"] if prefix != Path("/usr") else []
    libraries = own + [folder for root in roots for folder in _library_folders(root)]
    folders = [library / "kamailio" / "modules" for library in libraries]
    return list(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))


def _has_modules(folders: list[str], modules: set[str]) -> bool:
    return all(any(os.path.exists(f"{folder}/{name}.so") for folder in folders) for name in modules)


def python_program() -> str:
    """The Python that runs labkit now, for the nodes that are ours."""
    return sys.executable
