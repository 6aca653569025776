"""`./lab doctor`: every prerequisite, and for each that fails its cure."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import native
from labkit.cli import exits
from labkit.cli.parts import BROWSERS
from labkit.cli.wipe import in_short
from labkit.errors import LabkitError
from labkit.paths import project_root

if TYPE_CHECKING:
    from labkit.lab.engine import Engine

OK, NOTE, MISSING = "ok", "note", "MISSING"
_PROBE_ADDRESS = "127.255.200.13"
"""A loopback address that no lab takes: binding port 5060 on it fails only where a program holds all addresses."""
_DISK_NEEDED_GB = 2.0
"""Images 0.5 GB, environment 0.8 GB, and room to record."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    subject: str
    """What was looked at."""
    state: str
    """"ok"; "note": works, but with less; "MISSING": something needed is not there."""
    text: str
    """What was seen."""
    cure: str = ""
    """What to do, empty when nothing."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="say what is missing on this machine and how to get it",
        description="Look at everything that labkit needs or can use. Changes nothing. "
        "Exit code 0: the lab can run here; 3: something is MISSING, with its cure beside it.",
    )
    parser.add_argument("--json", action="store_true", help="the findings for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print every finding."""
    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not args.json:
            print(_line(finding), flush=True)
    missing = sum(finding.state == MISSING for finding in findings)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(f"\n{missing} missing." if missing else "\nAll that the lab needs is here: ./lab up")
    return exits.MISSING if missing else exits.OK


def examine() -> Iterator[Finding]:
    """Make every check in turn; one that breaks is itself a finding."""
    for check in (
        python,
        packages,
        loops,
        disk,
        home,
        engines,
        firewall,
        sip_port,
        jupyter_port,
        packet_rights,
        leftovers,
        tshark,
        chromium,
    ):
        try:
            yield from check()
        except (OSError, LabkitError) as error:
            yield Finding(check.__name__.replace("_", " "), NOTE, f"could not be looked at: {error}")


def python() -> Iterator[Finding]:
    """The Python that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("Python", OK, f"{version}, {sys.executable}")
    else:
        yield Finding(
            "Python", MISSING, f"{version}", "install Python 3.11, 3.12 or 3.13; or LABKIT_PYTHON=/path/to/it ./lab up"
        )


def packages() -> Iterator[Finding]:
    """The packages against requirements.lock."""
    wanted = dict(line.split("==") for line in _lock_lines())
    other = [
        f"{name} {_installed(name) or 'absent'} instead of {version}"
        for name, version in wanted.items()
        if _installed(name) != version
    ]
    # What only other packages ask for may be absent: a newer Python, or conda's choice of versions, needs less.
    absent = [name for name in _named() if _installed(name) is None]
    if absent:
        yield Finding(
            "packages",
            MISSING,
            f"absent: {', '.join(absent[:4])}",
            "remove .venv and run ./lab up; with conda: conda env update",
        )
    elif not other:
        yield Finding("packages", OK, f"{len(wanted)} as in requirements.lock")
    else:
        yield Finding(
            "packages",
            NOTE,
            f"{len(other)} differ from requirements.lock, for example {other[0]}",
            "only `./lab test` minds",
        )


def loops() -> Iterator[Finding]:
    """The decoder's inner loops, in C where that could be compiled."""
    if native.compiled is not None:
        yield Finding("decoder", OK, "its inner loops are compiled")
        return
    yield Finding(
        "decoder",
        NOTE,
        "its inner loops run in Python: all works, big captures and SIP take half as long again",
        "apt-get install gcc libc6-dev python3-dev, then: .venv/bin/python -m labkit.native",
    )


def disk() -> Iterator[Finding]:
    """Room for environment, programs, images."""
    places = {project_root(), _existing(_home())}
    if Path("/var/lib/docker").exists():
        places.add(Path("/var/lib/docker"))
    for place in {place.stat().st_dev: place for place in sorted(places)}.values():  # one line a file system
        free_gb = shutil.disk_usage(place).free / 1e9
        cure = "make room; `docker system prune` removes images and containers that nothing uses"
        if free_gb < _DISK_NEEDED_GB:
            yield Finding("disk", MISSING, f"{free_gb:.1f} GB free at {place}, {_DISK_NEEDED_GB:.0f} GB needed", cure)
        else:
            yield Finding("disk", OK, f"{free_gb:.0f} GB free at {place}")


def home() -> Iterator[Finding]:
    """The folder where labs keep their records."""
    folder = _home()
    if os.access(_existing(folder), os.W_OK):
        yield Finding("lab folder", OK, str(folder))
    else:
        yield Finding("lab folder", MISSING, f"{folder} cannot be written", "set LABKIT_HOME to a folder of yours")


def engines() -> Iterator[Finding]:
    """Docker and local; replay needs nothing."""
    from labkit.lab.choice import make_engine

    reasons = {name: make_engine(name).available() for name in ("docker", "local")}
    works = [name for name, reason in reasons.items() if reason is None]
    for name, reason in reasons.items():
        if reason is None:
            yield Finding(f"engine {name}", OK, "can run here")
        elif works or not sys.platform.startswith("linux"):
            yield Finding(f"engine {name}", NOTE, reason)
        else:
            yield Finding(
                f"engine {name}", MISSING, reason, "one live engine is enough; without any, lessons are replayed"
            )
    yield Finding("engine replay", OK, "needs nothing")


def firewall() -> Iterator[Finding]:
    """Whether a container reaches a program on this host; phones are such programs."""
    from labkit.lab.choice import make_engine
    from labkit.lab.docker_reach import container_reaches_host

    if make_engine("docker").available() is not None:
        return
    reached = container_reaches_host()
    if reached is None:
        yield Finding(
            "firewall", NOTE, "can be looked at when the images are built", "./lab up --engine docker builds them"
        )
    elif reached:
        yield Finding("firewall", OK, "containers reach phones on this host")
    else:
        yield Finding(
            "firewall",
            MISSING,
            "what containers send to this host is dropped: on the docker engine no phone would get an answer",
            "let Docker's bridges in: ufw: sudo ufw allow from 172.16.0.0/12; firewalld: sudo firewall-cmd "
            "--zone=trusted --add-source=172.16.0.0/12; plain: sudo iptables -I INPUT -s 172.16.0.0/12 -j ACCEPT. "
            "Or take --engine local, which needs none of it",
        )


def sip_port() -> Iterator[Finding]:
    """Port 5060 of every address: a package's service there keeps the local engine from starting."""
    if not sys.platform.startswith("linux"):
        return
    for kind, word in ((socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_PROBE_ADDRESS, 5060))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                yield Finding(
                    f"port 5060/{word}",
                    MISSING,
                    f"{_holder(word)} holds it on every address; the local engine cannot start",
                    "the service of the kamailio package: sudo systemctl disable --now kamailio; "
                    "another program: sudo ss -lntup 'sport = :5060' names it. The docker engine does not mind",
                )
                return
    yield Finding("port 5060", OK, "free for the local engine")


def jupyter_port() -> Iterator[Finding]:
    """JupyterLab's usual port."""
    from labkit.cli.up import DEFAULT_PORT

    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) == 0:
            yield Finding(
                f"port {DEFAULT_PORT}",
                NOTE,
                "taken; JupyterLab will take the next free one",
                "or choose: ./lab up --port N",
            )
        else:
            yield Finding(f"port {DEFAULT_PORT}", OK, "free for JupyterLab")


def packet_rights() -> Iterator[Finding]:
    """CAP_NET_RAW, which only the local engine can use."""
    from labkit.capture.source import can_sniff

    if can_sniff():
        yield Finding("packets (CAP_NET_RAW)", OK, "the local engine sees the wire")
    else:
        yield Finding(
            "packets (CAP_NET_RAW)",
            NOTE,
            'not allowed to this user: on the local engine nodes send copies of their messages ("mirrored"), '
            "and every lesson works; the docker engine sees the wire anyway",
            "only to see TCP itself on the local engine: run as root, or take --engine docker",
        )


def leftovers() -> Iterator[Finding]:
    """What crashed labs left; what belongs to a lab that runs is none."""
    from labkit.lab.choice import make_engine
    from labkit.lab.lab import list_labs

    running = [lab.id for lab in list_labs()]
    lines = [line for name in ("docker", "local") for line in _leftovers_of(make_engine(name))]
    found = [line for line in lines if not any(lab in line for lab in running)]
    if running:
        yield Finding("labs", OK, f"running: {', '.join(running)}")
    if found:
        yield Finding(
            "left-overs", NOTE, "; ".join(in_short(found)[:3]), "./lab wipe removes them, and stops what runs"
        )
    else:
        yield Finding("left-overs", OK, "none")


def tshark() -> Iterator[Finding]:
    """The second opinion of the tests."""
    yield _tool("tshark", ("tshark",), "tests hold our decoder against it", "apt-get install tshark")


def chromium() -> Iterator[Finding]:
    """The browser of the tests."""
    yield _tool("Chromium", BROWSERS, "browser tests", "apt-get install chromium")


def _tool(subject: str, names: tuple[str, ...], use: str, cure: str) -> Finding:
    for name in names:
        path = shutil.which(name)
        if path:
            return Finding(subject, OK, path)
    return Finding(subject, NOTE, f"not there; used by {use} only", cure)


def _leftovers_of(engine: Engine) -> list[str]:
    return engine.leftovers() if engine.available() is None else []


def _holder(word: str) -> str:
    """Name the process that holds port 5060 on all addresses, as far as this user may know."""
    inodes = set()
    for line in Path(f"/proc/net/{word}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(":13C4") and fields[1].startswith("00000000"):
            inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(handle) in inodes for handle in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return "a program of another user"


def _line(finding: Finding) -> str:
    text = f"{finding.state:8}{finding.subject}: {finding.text}"
    return f"{text}\n        -> {finding.cure}" if finding.cure else text


def _lock_lines() -> list[str]:
    text = (project_root() / "requirements.lock").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]


def _named() -> list[str]:
    """The packages that labkit itself asks for."""
    import tomllib  # new in Python 3.11, and an older Python is to be told so

    project = tomllib.loads((project_root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.match(r"[\w.-]+", line)[0] for line in project["dependencies"]]  # type: ignore[index]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _home() -> Path:
    from labkit.lab.record import home_folder

    return home_folder()


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
