"""`./lab record LESSON`: run a lesson live and keep its packets and answers for replay."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from labkit.cli import exits
from labkit.cli.execute import execute_and_store
from labkit.cli.lessons import Lesson, execute, find_lesson, nodes_of
from labkit.cli.signals import stop_signals
from labkit.errors import LessonError
from labkit.paths import cassettes_folder


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `record`."""
    parser = commands.add_parser(
        "record",
        help="record a lesson from a live run (for authors)",
        description="Run a lesson's notebook on a lab of its own, keep packets and answers in data/cassettes/LESSON, "
        "and store the notebook's outputs from a replay of that. Nothing is replaced unless every cell ran.",
    )
    parser.add_argument("lesson", help="for example 01")
    parser.add_argument("--engine", choices=("auto", "docker", "local"), default="auto", help="what runs the nodes")
    parser.add_argument("--only-cassettes", action="store_true", help="do not store the notebook's outputs anew")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Record, then replay what was recorded into the notebook."""
    lesson = find_lesson(args.lesson)
    with stop_signals():
        for name in record(lesson, args.engine):
            print(f"recorded {name}")
    if not args.only_cassettes:
        execute_and_store(lesson)
    return exits.OK


def record(lesson: Lesson, engine: str) -> list[str]:
    """Run a lesson live and put its recordings in place of the old ones; return their names."""
    from labkit.lab.choice import choose_engine
    from labkit.lab.lab import start_lab

    choice = choose_engine(engine)
    if choice.engine is None:
        raise LessonError(f"A recording needs a lab that runs. {choice.sentence}")
    lab = start_lab(name=f"record-{os.getpid()}", engine=choice.name, progress=_say)
    try:
        lab.prepare_nodes(nodes_of(lesson), _say)  # not in the lesson's first cell, whose time is limited
        with tempfile.TemporaryDirectory() as scratch:
            env = {
                "LABKIT_ENGINE": choice.name,
                "LABKIT_NAME": lab.name,
                "LABKIT_RECORD": "1",
                "LABKIT_CASSETTES": scratch,
            }
            execute(lesson.path, env)
            return _put_in_place(Path(scratch) / lesson.number, cassettes_folder() / lesson.number)
    finally:
        lab.stop()


def _put_in_place(fresh: Path, kept: Path) -> list[str]:
    files = sorted(fresh.iterdir()) if fresh.is_dir() else []
    if not files:
        raise LessonError("The lesson ran and recorded nothing: does it open the lab, and close it in its last cell?")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(fresh, kept)
    return [str(kept / file.name) for file in files]


def _say(line: str) -> None:
    print(line, flush=True)
