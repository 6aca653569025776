"""A program that the local engine builds from a Go module: once, into the lab's own folder, with the host's Go.

The module folder (go.mod, go.sum, a file that imports the program) is part of the project, so the build is the same
every time: go.sum vouches for every byte that is fetched. The program's folder carries a hash of these files in its
name; a changed pin is another program.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
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

_MODULE_FILES = ("go.mod", "go.sum", "tools.go")
_BUILD_S = 1800
"""A small machine with a slow network may need this long."""


def find_go_program(spec: ProgramSpec) -> str:
    """Path of the program as things stand, empty where it has to be built.

    Raises:
        EngineMissing: the variable names something that cannot be run.
    """
    chosen = os.environ.get(spec.variable, "") if spec.variable else ""
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise EngineMissing(
                f"{spec.variable}={chosen} is no program that can be run; unset it or set the right path"
            )
        return chosen
    built = _folder(spec) / spec.binary
    return str(built) if os.access(built, os.X_OK) else ""


def build_go_program(spec: ProgramSpec, progress: Progress) -> str:
    """Path of the program, built now where it is not there. Safe to interrupt, to repeat, and to run twice at once.

    Raises:
        EngineMissing: no Go, one that is too old, or the build's own words.
    """
    found = find_go_program(spec)
    if found:
        return found
    _require_go(spec)
    folder = _folder(spec)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineMissing(f"cannot make {folder.parent}: {describe(error)}") from error
    lock = folder.parent / f"{spec.name}.lock"
    with file_lock(lock, lambda: progress(f"waiting for another process that builds {spec.name}")):
        found = find_go_program(spec)  # by the one we waited for
        return found or _build(spec, folder, progress)


def find_go_files(spec: ProgramSpec) -> str:
    """Folder of the files that the program is given, as things stand; empty where they have to be fetched."""
    folder = _files_folder(spec)
    return str(folder) if folder.is_dir() else ""


def fetch_go_files(spec: ProgramSpec, progress: Progress) -> str:
    """Folder of the files that the program is given, fetched now where they are not there.

    Raises:
        EngineMissing: no Go, one that is too old, or what it said.
    """
    found = find_go_files(spec)
    if found:
        return found
    _require_go(spec)
    module, _, inside = spec.go_files.partition(" ")
    progress(f"fetching {inside} of {module} for {spec.name} (once)")
    words = ["go", "mod", "download", "-json", module]
    try:
        done = subprocess.run(
            words, cwd=spec.go_folder, env=_go_environment(), capture_output=True, text=True, timeout=_BUILD_S
        )
        source = Path(json.loads(done.stdout or "{}").get("Dir", "")) / inside
        if done.returncode or not source.is_dir():
            raise EngineMissing(_no_modules(spec.name, done.stderr))
        folder = _files_folder(spec)
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".building-{spec.name}-", dir=folder.parent))
        for path in (path for path in source.iterdir() if path.is_file()):
            shutil.copyfile(path, scratch / path.name)
        os.chmod(scratch, 0o755)
        with contextlib.suppress(OSError):  # another process was as quick
            os.replace(scratch, folder)
        shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise EngineMissing(f"the files of {spec.name} could not be fetched: {error}") from error
    return find_go_files(spec)


def _build(spec: ProgramSpec, folder: Path, progress: Progress) -> str:
    progress(f"building {spec.name} from its Go module into {folder} (once, one to three minutes)")
    started = time.monotonic()
    for stale in folder.parent.glob(f".building-{spec.name}-*"):
        remove_folder(stale)  # of a process that was killed; we hold the lock
    scratch = Path(tempfile.mkdtemp(prefix=f".building-{spec.name}-", dir=folder.parent))
    try:
        _go_build(spec, scratch / spec.binary)
        os.chmod(scratch, 0o755)
        remove_folder(folder)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    progress(f"built {spec.name} in {time.monotonic() - started:.0f} s")
    return str(folder / spec.binary)


def _go_build(spec: ProgramSpec, out: Path) -> None:
    words = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(out), spec.go_package]
    try:
        done = subprocess.run(
            words,
            cwd=spec.go_folder,
            env=_go_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_BUILD_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineMissing(f"{spec.name} could not be built: {error}") from error
    if done.returncode != 0:
        raise EngineMissing(_no_modules(spec.name, done.stderr))


def _go_environment() -> dict[str, str]:
    return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}


def _no_modules(name: str, stderr: str) -> str:
    said = [line for line in stderr.splitlines() if not line.startswith("go: downloading")]
    return (
        f"{name} could not be built; go said: {' / '.join(said[-3:])[:400]}. Its modules come from GOPROXY: "
        "check the network; or take the docker engine, or replay"
    )


def _require_go(spec: ProgramSpec) -> None:
    wanted = _version(re.search(r"^go (\S+)", _read(spec.go_folder / "go.mod"), re.MULTILINE))
    words = ".".join(map(str, wanted))
    try:
        done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        raise EngineMissing(
            f"{spec.name} has to be built with Go {words} or newer, and there is no go on PATH: install it, set "
            f"{spec.variable} to a built one, take the docker engine, or replay"
        ) from None
    if _version(re.search(r"go(\S+)", done.stdout)) < wanted:
        raise EngineMissing(
            f"{spec.name} has to be built with Go {words} or newer, and here is {done.stdout.strip() or 'none'}: "
            f"install a newer one, set {spec.variable} to a built program, take the docker engine, or replay"
        )


def _version(found: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", found[1])) if found else (0,)


def _folder(spec: ProgramSpec) -> Path:
    return programs_folder(spec) / f"{spec.name}-{_digest(spec, spec.go_package)}-{platform.machine()}"


def _files_folder(spec: ProgramSpec) -> Path:
    return programs_folder(spec) / f"{spec.name}-files-{_digest(spec, spec.go_files)}"


def _digest(spec: ProgramSpec, what: str) -> str:
    digest = hashlib.sha256(what.encode())
    for name in _MODULE_FILES:
        digest.update(_read(spec.go_folder / name).encode())
    return digest.hexdigest()[:12]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EngineMissing(f"cannot read {path}: {describe(error)}") from error
