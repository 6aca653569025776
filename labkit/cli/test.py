"""`./lab test`: everything that this machine can hold against the code, and one table that says what ran."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

from labkit.cli import exits
from labkit.cli.lessons import Lesson, all_lessons, find_lesson
from labkit.cli.parts import (
    Part,
    beside,
    lessons_live,
    lessons_replayed,
    pytest_part,
    required,
    unless_missing,
    worker_count,
)
from labkit.cli.signals import stop_signals
from labkit.cli.table import text_table

LIVE_ENGINES = ("docker", "local")
_ANY_ENGINE = "docker or local"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `test`."""
    parser = commands.add_parser(
        "test",
        help="test labkit and every lesson with what this machine has",
        description="Run the unit tests, replay every lesson, and on each engine present run the live tests and the "
        "lessons live; then say in one table what ran and what did not, and why. Exit code 0: all that ran passed.",
        epilog="LABKIT_REQUIRE=docker,local (also: tshark, browser, native) makes it a failure that one is missing.",
    )
    parser.add_argument("--lesson", metavar="NN", help="only this lesson's notebook, every cell run and compared")
    parser.add_argument(
        "--engine", choices=(*LIVE_ENGINES, "replay"), help="only on this engine (with --lesson: replay)"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run lessons N times on the same lab")
    parser.add_argument("--quick", action="store_true", help="unit tests and replay only: half a minute")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen parts and print the table."""
    with stop_signals():
        parts = list(_lesson_parts(args) if args.lesson else _all_parts(args))
    _print_summary(parts)
    return exits.FAILED if any(part.failed for part in parts) else exits.OK


def _lesson_parts(args: argparse.Namespace) -> Iterator[Part]:
    lessons = (find_lesson(args.lesson),)
    engine = args.engine or "replay"
    # Asked for by name: an engine that is not there is a failure, not a part left out.
    yield (
        lessons_replayed(lessons, args.repeat)
        if engine == "replay"
        else lessons_live(engine, lessons, args.repeat, must=True)
    )


def _all_parts(args: argparse.Namespace) -> Iterator[Part]:
    lessons = all_lessons()
    if args.engine in (None, "replay"):
        yield pytest_part("unit tests", f"not ({_ANY_ENGINE} or tshark or browser)", workers=worker_count())
        yield lessons_replayed(lessons, args.repeat)
    if args.quick or args.engine == "replay":
        return
    if args.engine is None:
        for tool in ("tshark", "browser"):
            title = f"{tool} tests"
            yield unless_missing(tool, title) or pytest_part(title, f"{tool} and not ({_ANY_ENGINE})")
    for engine in [args.engine] if args.engine else LIVE_ENGINES:
        yield from _live_parts(engine, lessons, args.repeat)


def _live_parts(engine: str, lessons: tuple[Lesson, ...], repeat: int) -> Iterator[Part]:
    title = f"live tests, {engine}"
    # A test that needs both engines belongs to docker's part, so that it runs once.
    marks = engine if engine == "docker" else f"{engine} and not docker"
    missing = unless_missing(engine, title)
    if missing is None:
        # A lesson without a lab was run as it is among those replayed.
        live = tuple(lesson for lesson in lessons if lesson.needs_lab)
        yield from beside(title, marks, lambda: lessons_live(engine, live, repeat, must=engine in required()))
    else:
        yield missing


def _print_summary(parts: list[Part]) -> None:
    rows = [
        (part.title, part.passed, part.failed, part.skipped, f"{part.seconds:.1f}" if part.ran else "-", part.note)
        for part in parts
    ]
    print("\n" + text_table(("what", "passed", "failed", "skipped", "seconds", "notes"), rows))
    for part in parts:
        if part.reason:
            print(f"not run {part.title}: {part.reason}")
        for problem in part.problems:
            print(f"FAILED  {part.title}: {problem}")
    for reason, count in Counter(reason for part in parts for reason in part.skip_reasons).most_common():
        print(f"skipped {count}: {reason}")
    wanted = ", ".join(required())
    if wanted:
        print(f"required here: {wanted}")
    totals = [sum(getattr(part, name) for part in parts) for name in ("passed", "failed", "skipped")]
    print("\n{} passed, {} failed, {} skipped".format(*totals), flush=True)
