"""The parts of a whole test run: each is run, or says why it was not, and gives one row of the table."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from labkit import native
from labkit.cli.lessons import (
    CELL_TIMEOUT_S,
    IGNORED_TAG,
    Lesson,
    code_cells,
    needs_the_wire,
    nodes_of,
    read_notebook,
    stored_run_problem,
)
from labkit.cli.pytest_run import PytestRun, Report, run_pytest
from labkit.errors import EngineMissing, LabkitError
from labkit.paths import project_root

if TYPE_CHECKING:
    from labkit.lab.lab import RunningLab

_MOST_WORKERS = 8
"""More processes than this take longer to start than they save."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Part:
    """One row of the table."""

    title: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    ran: bool = True
    note: str = ""
    """What there is to know, in a few words."""
    reason: str = ""
    """Why it did not run."""
    problems: tuple[str, ...] = ()
    """What failed, one line each."""
    skip_reasons: tuple[str, ...] = field(default=())


def required() -> tuple[str, ...]:
    """Return what LABKIT_REQUIRE says must not be missing here."""
    return tuple(word.strip() for word in os.environ.get("LABKIT_REQUIRE", "").split(",") if word.strip())


def missing_reason(name: str) -> str | None:
    """Return why "docker", "local", "tshark", "browser" or "native" cannot be used here; None when it can."""
    if name == "tshark":
        return None if shutil.which("tshark") else "tshark is not installed"
    if name == "browser":
        return None if any(shutil.which(browser) for browser in BROWSERS) else "Chromium is not installed"
    if name == "native":
        return None if native.compiled is not None else "the inner loops are not compiled (python -m labkit.native)"
    from labkit.lab.choice import make_engine

    try:
        return make_engine(name).available()
    except LabkitError as error:
        return str(error)


def unless_missing(name: str, title: str) -> Part | None:
    """Return the row of a part that cannot run here, or None when it can: failed where it is required."""
    reason = missing_reason(name)
    if reason is None:
        return None
    return _not_run(title, reason, must=name in required())


def pytest_part(title: str, marks: str, *, workers: int = 1) -> Part:
    """Run the tests that have these marks.

    Args:
        workers: processes to share them among, file by file.
    """
    _announce(title)
    return _tests_row(title, run_pytest([*_tests_with(marks), *_shared_among(workers)]))


def beside(title: str, marks: str, foreground: Callable[[], Part]) -> tuple[Part, Part]:
    """Run the tests that have these marks while something else runs, and return both rows.

    Live tests and lessons mostly wait for timers, so two of them at a time cost little more than one.
    """
    _announce(f"{title}: running, shown when they are done")
    with PytestRun(_tests_with(marks), silent=True) as background:
        other = foreground()
        _announce(title)
        return _tests_row(title, background.wait()), other


def _tests_with(marks: str) -> list[str]:
    return ["tests", "-m", marks]


def _shared_among(workers: int) -> list[str]:
    return ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else []


def _tests_row(title: str, report: Report) -> Part:
    failed = [case for case in report.cases if case.outcome == "failed"]
    return Part(
        title,
        passed=report.counts["passed"],
        failed=report.counts["failed"] + bool(report.crash),
        skipped=report.counts["skipped"],
        seconds=report.seconds,
        note="" if report.cases else "there are no such tests",
        problems=(*(f"{case.file}::{case.name}" for case in failed), *([report.crash] if report.crash else [])),
        skip_reasons=tuple(case.reason for case in report.cases if case.outcome == "skipped"),
    )


def lessons_replayed(lessons: Sequence[Lesson], repeat: int) -> Part:
    """Replay lessons, as many at a time as there are cores, and hold every cell against what is stored."""
    workers = min(len(lessons), worker_count())
    return _lessons("lessons, replay", lessons, repeat, {"LABKIT_ENGINE": "replay"}, workers)


def worker_count() -> int:
    """Return how many processes tests are shared among that ask nothing of a lab."""
    return min(os.cpu_count() or 1, _MOST_WORKERS)


def lessons_live(engine: str, lessons: Sequence[Lesson], repeat: int, *, must: bool) -> Part:
    """Run lessons on a lab of their own and hold every cell against what is stored.

    Args:
        must: whether it is a failure when the engine is not to be had here.
    """
    from labkit.lab.lab import attach, start_lab

    title = f"lessons, {engine}"
    reason = missing_reason(engine)
    if reason is not None:
        return _not_run(title, reason, must=must)
    name = f"test-{engine}-{os.getpid()}"
    _announce(f"starting the lab {name}")
    began = time.monotonic()
    try:
        started = start_lab(name=name, engine=engine, progress=print)
        possible, lacking = _with_their_nodes(started, lessons)
        part = _lessons(title, possible, repeat, {"LABKIT_ENGINE": engine, "LABKIT_NAME": name})
        if must:
            return replace(part, failed=part.failed + len(lacking), problems=(*part.problems, *lacking))
        return replace(part, skipped=part.skipped + len(lacking), skip_reasons=(*part.skip_reasons, *lacking))
    except LabkitError as error:
        return Part(title, failed=1, seconds=time.monotonic() - began, problems=(str(error),))
    finally:
        lab = attach(name)
        if lab is not None:
            lab.stop()


def _with_their_nodes(lab: RunningLab, lessons: Sequence[Lesson]) -> tuple[list[Lesson], list[str]]:
    """Return the lessons that this lab can run, their programs now built, and a sentence for each of the others.

    Building takes minutes the first time; a lesson's first cell, which would do it otherwise, does not have them.
    """
    from labkit.session.opening import NEEDS_THE_WIRE

    possible, lacking = [], []
    for lesson in lessons:
        if needs_the_wire(lesson) and lab.capture_kind != "wire":
            lacking.append(f"lesson {lesson.number}: {NEEDS_THE_WIRE}")
            continue
        try:
            lab.prepare_nodes(nodes_of(lesson), print)
            possible.append(lesson)
        except EngineMissing as error:
            lacking.append(f"lesson {lesson.number}: {error}")
    return possible, lacking


def _lessons(title: str, lessons: Sequence[Lesson], repeat: int, env: dict[str, str], workers: int = 1) -> Part:
    _announce(title)
    usable = {lesson: stored_run_problem(lesson.path) for lesson in lessons}
    problems = [f"{lesson.path.name}: {problem}" for lesson, problem in usable.items() if problem]
    chosen = [lesson for lesson, problem in usable.items() if problem is None]
    passed = 0
    seconds = 0.0
    for _ in range(repeat if chosen else 0):
        report = run_pytest([*_nbval_arguments(chosen), *_shared_among(workers)], env)
        passed += report.counts["passed"]
        seconds += report.seconds
        problems += [problem for lesson in chosen for problem in not_compared(lesson, report)]
        problems += [report.crash] if report.crash and not report.counts["failed"] else []
    return Part(
        title,
        passed=passed,
        failed=len(problems),
        seconds=seconds,
        note=_lessons_note(chosen, repeat),
        problems=tuple(problems),
    )


def not_compared(lesson: Lesson, report: Report) -> list[str]:
    """Return a line for every cell of a lesson that did not run to the end and pass; a skipped cell is one too."""
    mine = [case for case in report.cases if case.file.endswith(lesson.path.name)]
    lines = [
        f"{lesson.path.name} {case.name}: {case.reason or case.outcome}" for case in mine if case.outcome != "passed"
    ]
    lacking = len(code_cells(read_notebook(lesson.path))) - len({case.name for case in mine})
    if lacking:
        lines.append(f"{lesson.path.name}: {lacking} cells were not run at all")
    return lines


def _lessons_note(lessons: Sequence[Lesson], repeat: int) -> str:
    cells = [cell for lesson in lessons for cell in code_cells(read_notebook(lesson.path))]
    ignored = sum(IGNORED_TAG in cell["metadata"].get("tags", []) for cell in cells)
    times = f", {repeat} times" if repeat > 1 else ""
    return f"lessons: {len(lessons)}; cells run: {len(cells)}, compared: {len(cells) - ignored}{times}"


def _nbval_arguments(lessons: Sequence[Lesson]) -> list[str]:
    return [
        "-p",
        "labkit.cli.nbval_rules",
        "--nbval",
        "--nbval-current-env",
        f"--nbval-sanitize-with={project_root() / 'tests' / 'sanitize.cfg'}",
        f"--nbval-cell-timeout={CELL_TIMEOUT_S}",
        "--tb=short",
        *(str(lesson.path.relative_to(project_root())) for lesson in lessons),
    ]


def _not_run(title: str, reason: str, *, must: bool) -> Part:
    return Part(
        title, failed=int(must), ran=False, note="NOT RUN, though required" if must else "not run", reason=reason
    )


def _announce(title: str) -> None:
    print(f"\n=== {title} ===", flush=True)
