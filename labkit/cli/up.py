"""`./lab up`: choose an engine, start the lab, prove it with one registration, open the lessons."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING

from labkit.cli import exits
from labkit.cli.labs import add_name
from labkit.cli.signals import StopSignals, stop_signals
from labkit.errors import LabkitError
from labkit.paths import project_root

if TYPE_CHECKING:
    from labkit.lab.lab import RunningLab

FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"
DEFAULT_PORT = 8888


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `up`."""
    parser = commands.add_parser(
        "up",
        help="start the lab and open the lessons",
        description="Start the lab, prove it with one real registration, and open the lessons in JupyterLab. "
        "Ctrl-C stops both. Starting a lab that already runs uses it.",
        epilog="Engines: docker (a container a node), local (the same programs as your own processes, no root), replay "
        "(recordings, nothing runs). auto takes the first of these that works here.",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "docker", "local", "replay"),
        default=os.environ.get("LABKIT_ENGINE") or "auto",
        help="what runs the nodes (default: %(default)s)",
    )
    parser.add_argument("--no-jupyter", action="store_true", help="return after the proof and leave the lab running")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="JupyterLab's port; where it is taken, the next free one"
    )
    add_name(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Bring up lab and lessons; stop what was started when interrupted."""
    from labkit.lab.choice import choose_engine

    with stop_signals() as signals:
        choice = choose_engine(args.engine)
        _say(choice.sentence)
        if choice.engine is None:
            return _replay(args, signals)
        return _live(args, choice.name, signals)


def _replay(args: argparse.Namespace, signals: StopSignals) -> int:
    from labkit.cli.proof import prove_replay

    os.environ["LABKIT_ENGINE"] = "replay"
    _say("A registration, as it was recorded:")
    print(prove_replay(), flush=True)
    if args.no_jupyter:
        return exits.OK
    with suppress(KeyboardInterrupt):  # the usual way to end a lesson
        _lessons(args, "", signals)
    return exits.OK


def _live(args: argparse.Namespace, engine: str, signals: StopSignals) -> int:
    from labkit.lab.lab import attach

    os.environ["LABKIT_ENGINE"], os.environ["LABKIT_NAME"] = engine, args.name
    was_running = attach(args.name) is not None
    try:
        lab = _start_and_prove(args.name, engine, was_running)
    except KeyboardInterrupt:
        if not was_running:
            _stop_lab(args.name, signals)
        return exits.INTERRUPTED
    if args.no_jupyter:
        _say(f"The lab {lab.id} runs. Look at it: ./lab status; stop it: ./lab down")
        return exits.OK
    try:
        with suppress(KeyboardInterrupt):  # the usual way to end a lesson
            _lessons(args, lab.id, signals)
    finally:
        _stop_lab(args.name, signals)
    return exits.OK


def _start_and_prove(name: str, engine: str, was_running: bool) -> RunningLab:
    """Start the lab, or find it running; a new one registers a phone to show that it works."""
    from labkit.cli.proof import prove_live
    from labkit.lab.lab import start_lab

    lab = start_lab(name=name, engine=engine, progress=_say)
    if was_running:  # a proof would take the core away from the lessons that use it
        _say(f"The lab {name!r} runs already, since {lab.started}; it is used as it is.")
        return lab
    _say("Proof: alice registers.")
    try:
        print(prove_live(), flush=True)
    except LabkitError:
        _say("The lab still runs, so that you can look: ./lab status, ./lab logs scscf. Stop it: ./lab down")
        raise
    return lab


def _lessons(args: argparse.Namespace, lab_id: str, signals: StopSignals) -> None:
    """Run JupyterLab until it ends or a signal comes."""
    from labkit.cli.jupyter import JupyterLab
    from labkit.lab.record import home_folder

    server = JupyterLab(
        root=project_root(),
        notebook=FIRST_NOTEBOOK,
        # Not the lab's own id, which `./lab down` ends; but a sign by which `./lab wipe` finds an orphan.
        env={"LABKIT_LAB": f"{lab_id or args.name}-jupyter", "LABKIT_HOME": str(home_folder())},
        port=args.port,
        log=home_folder() / "jupyter" / f"{args.name}.log",
    )
    try:
        url = server.wait_until_ready()
        _say(f"The lessons are open at:\n\n    {url}\n")
        _say("Ctrl-C here stops JupyterLab" + (" and the lab." if lab_id else "."))
        if has_display():
            webbrowser.open(url)
        server.wait(lambda: signals.seen > 0)
    finally:
        signals.ignore_from_now()
        _say("Stopping JupyterLab ...")
        server.stop(hurry=lambda: signals.seen > 1)


def _stop_lab(name: str, signals: StopSignals) -> None:
    from labkit.lab.lab import attach

    signals.ignore_from_now()
    lab: RunningLab | None = attach(name)
    if lab is not None:
        _say("Stopping the lab ...")
        lab.stop()
        _say("Stopped; nothing is left behind.")


def has_display() -> bool:
    """Return whether a browser window can be seen by the person at this machine."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _say(line: str) -> None:
    print(line, flush=True)
