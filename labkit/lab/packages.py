"""Programs out of the distribution's packages, unpacked in the lab's own folder.

No root, nothing installed, nothing outside `$LABKIT_HOME/programs`: apt downloads (and verifies) what the host lacks,
dpkg unpacks it there, and the program runs from there. Deleting the folder undoes it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from labkit.errors import EngineMissing
from labkit.lab.engine import Progress
from labkit.lab.other_user import programs_folder
from labkit.lab.process import describe
from labkit.lab.state import file_lock, remove_folder
from labkit.lab.topology import ProgramSpec


def fetch_packages(spec: ProgramSpec, progress: Progress) -> None:
    """Download and unpack the packages. Safe to repeat, to interrupt, and to run twice at once.

    EngineMissing says what apt said when it cannot be done.
    """
    target = fetched_folder(spec)
    programs = target.parent
    before = _identity(target)
    try:
        programs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineMissing(f"cannot make {programs}: {describe(error)}") from error
    with file_lock(programs / "fetch.lock", lambda: progress("waiting for another process that fetches packages")):
        if _identity(target) != before:
            return  # somebody else has fetched them meanwhile, and may be running the program from there
        progress(f"fetching the packages of {spec.name} into {programs} (once; nothing is installed)")
        started = time.monotonic()
        try:
            (programs / "debs" / "partial").mkdir(parents=True, exist_ok=True)
            debs = _download(spec, programs)
            _unpack(debs, target)
            for scratch in ("debs", "lists"):
                remove_folder(programs / scratch)
        except OSError as error:
            raise EngineMissing(f"cannot fetch {spec.name} into {programs}: {describe(error)}") from error
        progress(f"unpacked {len(debs)} packages in {time.monotonic() - started:.1f} s")


def _identity(folder: Path) -> int | None:
    """A number that changes when another folder takes this one's place; None while there is none."""
    try:
        return folder.stat().st_ino
    except OSError:
        return None


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
            f"apt cannot fetch the packages of {spec.name}; it said: {said} "
            f"Check the network (and the apt proxy), or install {spec.name}, or set {spec.variable}."
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


def fetched_folder(spec: ProgramSpec) -> Path:
    """Where the unpacked packages are; a name of its own per release, as a home may be shared between machines."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    kind = f"{release.get('ID', 'linux')}{release.get('VERSION_ID', '')}-{platform.machine()}"
    return programs_folder(spec) / f"{spec.name}-{kind}"


def can_fetch() -> bool:
    """Whether this system has the tools."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


def library_folders(root: Path) -> list[Path]:
    triplet = f"{platform.machine()}-linux-gnu"
    candidates = (root / "usr/lib" / triplet, root / "usr/lib64", root / "usr/lib", root / "lib" / triplet)
    return [folder for folder in candidates if folder.is_dir()]
