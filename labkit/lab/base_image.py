"""The base image without a registry: debootstrap makes a small Debian, the Docker daemon imports it.

For a machine that reaches Debian's packages but no image registry. debootstrap verifies every package by the
distribution's keys, so the result is as trustworthy as the package server's archive.

    LABKIT_BASE_IMAGE       the name the image gets (debian:trixie-slim)
    LABKIT_DEBIAN_MIRROR    where packages come from (else debootstrap's own default)
    LABKIT_APT_PROXY, http_proxy, https_proxy, no_proxy     as for the other images (labkit.lab.images)
    LABKIT_CA_BUNDLE        certificates for a mirror over https
    TMPDIR                  where the system is unpacked: 400 MB, not mounted nodev or noexec (/var/tmp)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import StackError
from labkit.lab.docker_client import connect, said_plainly
from labkit.lab.images import base_image, build_arguments, ca_bundle, is_present, split_name

SUITE = "trixie"

_EMPTIED = ("dev", "proc", "sys", "run", "tmp", "var/tmp", "var/cache/apt", "var/lib/apt/lists", "var/log")
"""Folders of which the image gets the folder and not what is in it: Docker or the first apt-get fills them."""

_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale")
"""Nobody reads manuals in there: of these only the copyright files stay."""

_CHANGES = ['CMD ["bash"]', "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
_IMPORT_S = 600

Progress = Callable[[str], None]


def make_base_image(progress: Progress = print, again: bool = False) -> str:
    """Make the image that all others start from, unless it is there; return its name.

    Args:
        progress: takes a line now and then, for the person who waits.
        again: make it anew even if it is there.
    Raises:
        DockerNotRunning: no daemon to give it to.
        StackError: no root, no debootstrap, or debootstrap failed; says what to do.
    """
    name = base_image()
    with said_plainly("making the base image"):
        api = connect(timeout_s=_IMPORT_S)
        if not again and is_present(api, name):
            progress(f"{name} is there already; nothing to do (--again makes it anew)")
            return name
        repository, tag = split_name(name)
        program = _find_debootstrap()
        with _scratch_folder() as folder:
            progress(f"making {name} from Debian's packages with debootstrap (one or two minutes)")
            _run(_command(program, folder), _environment(folder), progress)
            progress(f"handing {name} to Docker")
            packed = folder / "image.tar"
            pack(folder / "root", packed)
            api.import_image_from_file(str(packed), repository=repository, tag=tag, changes=_CHANGES)
    progress(f"{name} is ready")
    return name


def _find_debootstrap() -> str:
    """Return the program's path.

    Raises:
        StackError: it is not there, or this user is not root.
    """
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
    program = shutil.which("debootstrap", path=path)
    if program is None:
        raise StackError(
            "making the base image needs debootstrap, which is not here: `sudo apt install debootstrap` "
            "(a Debian or Ubuntu machine), or name an image that you have in LABKIT_BASE_IMAGE"
        )
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise StackError(
            "making the base image needs root, because debootstrap installs a whole system into a folder: "
            "`sudo ./lab base-image`, or name an image that you have in LABKIT_BASE_IMAGE"
        )
    return program


def _command(program: str, folder: Path) -> list[str]:
    mirror = os.environ.get("LABKIT_DEBIAN_MIRROR")
    return [program, "--variant=minbase", SUITE, str(folder / "root"), *([mirror] if mirror else [])]


def _environment(folder: Path) -> dict[str, str]:
    """Return debootstrap's environment: its downloader wget reads proxies there, and certificates from a file."""
    environ = dict(os.environ) | build_arguments() | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    certificates = ca_bundle()
    if certificates:
        (folder / "ca.pem").write_bytes(certificates)
        (folder / "wgetrc").write_text(f"ca_certificate = {folder / 'ca.pem'}\n", encoding="utf-8")
        environ["WGETRC"] = str(folder / "wgetrc")
    return environ


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Make a folder that is removed whatever happens, with nothing mounted in it any more."""
    # /tmp is often mounted nodev or kept in memory; debootstrap wants neither.
    folder = Path(tempfile.mkdtemp(prefix="labkit-base-", dir=os.environ.get("TMPDIR") or "/var/tmp")).resolve()
    try:
        yield folder
    finally:
        _unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _unmount_below(folder: Path) -> None:
    """Take away what an interrupted debootstrap left mounted: removing files must never reach /proc or /sys.

    Raises:
        StackError: something stays mounted; the folder is then left as it is.
    """
    for point in reversed(mounts_below(folder)):
        subprocess.run(["umount", "--lazy", point], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    left = mounts_below(folder)
    if left:
        raise StackError(f"{left[0]} cannot be unmounted; unmount it by hand, then remove {folder}")


def mounts_below(folder: Path, table: str = "/proc/self/mounts") -> list[str]:
    """List mount points inside a folder, in the order in which they were made."""
    try:
        lines = Path(table).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    points = [line.split(" ")[1].encode().decode("unicode_escape") for line in lines if line.count(" ") > 1]
    return [point for point in points if point.startswith(f"{folder}/")]


def _run(command: list[str], environ: Mapping[str, str], progress: Progress) -> None:
    """Run debootstrap to its end; Ctrl-C reaches it too, and it is waited for.

    Raises:
        StackError: it failed; with its last lines.
    """
    last: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line.rstrip())
                if worth_showing(line):
                    progress(f"debootstrap: {line.removeprefix('I:').strip()}")
        except BaseException:
            process.terminate()
            process.wait()  # leaving `with` by Ctrl-C does not wait, and the folder is about to be removed
            raise
    if process.returncode:
        raise StackError(_failure(process.returncode, last))


def worth_showing(line: str) -> bool:
    """Tell whether a line of debootstrap is a step: one line a package is too many."""
    steps = ("Retrieving InRelease", "Resolving", "Installing", "Unpacking the base", "Configuring the", "Base system")
    return line.startswith(("W:", "E:")) or line.removeprefix("I: ").startswith(steps)


def _failure(code: int, last: deque[str]) -> str:
    said = "\n".join(f"    {line}" for line in last)
    return (
        f"debootstrap ended with exit code {code}; its last words:\n{said}\n"
        "If the package server was not reached: name another in LABKIT_DEBIAN_MIRROR, a proxy in LABKIT_APT_PROXY "
        "(or http_proxy), a company's certificates in LABKIT_CA_BUNDLE; if it does not know the keys: "
        "`sudo apt install debian-archive-keyring`."
    )


def pack(root: Path, target: Path) -> None:
    """Pack a system's files into a tar as the image's only layer, without what an image need not hold."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, arcname=".", filter=_keep)


def _keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    path = member.name.removeprefix("./")
    if path.startswith(tuple(f"{folder}/" for folder in _EMPTIED)):
        return None
    is_manual = path.startswith(tuple(f"{folder}/" for folder in _LEFT_OUT))
    if is_manual and not (member.isdir() or path.endswith("/copyright")):
        return None
    return member
