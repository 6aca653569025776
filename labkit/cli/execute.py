"""`./lab execute`: store the outputs of lessons anew, from replay, without a browser."""

from __future__ import annotations

import argparse

from labkit.cli import exits
from labkit.cli.lessons import Lesson, all_lessons, execute, find_lesson, store


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `execute`."""
    parser = commands.add_parser(
        "execute",
        help="store the outputs of lessons anew (for authors)",
        description="Run lessons in replay, in a fresh kernel, and store them with their outputs. Commit only what "
        "this wrote: a save from JupyterLab holds pictures and widget states that differ from run to run.",
    )
    parser.add_argument("lesson", nargs="*", help="lesson numbers, for example 01; all without")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run and store the chosen lessons."""
    lessons = [find_lesson(number) for number in args.lesson] or all_lessons()
    for lesson in lessons:
        execute_and_store(lesson)
    return exits.OK


def execute_and_store(lesson: Lesson) -> None:
    """Replace the stored outputs of one lesson by those of a replay."""
    notebook = execute(lesson.path, {"LABKIT_ENGINE": "replay"})
    store(notebook, lesson.path)
    print(f"stored {lesson.path.name}, {lesson.path.stat().st_size // 1000} kB", flush=True)
