"""The exercises of every lesson, replayed: the solution passes; an empty, a wrong and a stale answer do not."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from labkit.cli.lessons import all_lessons, code_cells, read_notebook
from labkit.errors import BlockRefused, LabkitError
from labkit.lesson.check import CheckFailed
from labkit.session import magic
from labkit.session.capture import Capture

SOLUTION = "solution"
LESSONS = [lesson for lesson in all_lessons() if '"solution"' in lesson.path.read_text(encoding="utf-8")]


@dataclass
class Exercise:
    """One exercise: its answer's name, its solution, and the cell that checks it."""

    answer: str
    solution: Any
    check: str

    @property
    def capture(self) -> str:
        """Name of the variable whose capture is checked: lk.check(NAME)."""
        for node in ast.walk(ast.parse(self.check)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "lk.check":
                return ast.unparse(node.args[0])
        raise AssertionError(f"no lk.check(...) in {self.check!r}")


def run_cell(code: str, names: dict[str, Any]) -> None:
    """Run a cell as a notebook does: top-level await is allowed, and a cell may be a routing block."""
    if code.startswith(f"%%{magic.NAME}"):
        line, _, block = code.partition("\n")
        with suppress(BlockRefused):  # where a lesson breaks something on purpose, the cell's tag says so
            magic.run_cell(names["lab"], line.removeprefix(f"%%{magic.NAME}"), block, names)
        return
    work = eval(compile(code, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.isawaitable(work):

        async def wait() -> None:
            await work

        asyncio.run(wait())


@pytest.fixture(scope="module", params=LESSONS, ids=lambda lesson: lesson.number)
def lesson(request: pytest.FixtureRequest) -> Iterator[tuple[dict[str, Any], list[Exercise]]]:
    """A replayed lesson's variables and its exercises, each with its solution filled in."""
    names: dict[str, Any] = {"__name__": "lesson"}
    exercises: list[Exercise] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_ENGINE", "replay")
        patch.chdir(Path(request.param.path).parent)
        waiting = ""
        for cell in code_cells(read_notebook(request.param.path)):
            code = "".join(cell["source"])
            run_cell(code, names)
            if SOLUTION in cell["metadata"].get("tags", []):
                waiting = code.split("=", 1)[0].strip()
            elif waiting:
                exercises.append(Exercise(waiting, names[waiting], code))
                waiting = ""
        yield names, exercises


def passes(exercise: Exercise, names: dict[str, Any], answer: Any, **instead: Any) -> bool:
    """Whether the check takes this answer; `instead` puts other things in the place of the lesson's variables."""
    try:
        run_cell(exercise.check, {**names, exercise.answer: answer, **instead})
    except (CheckFailed, LabkitError):
        return False
    except (KeyError, AttributeError, IndexError, TypeError):  # a foreign capture holds nothing of the kind
        if instead:
            return False
        raise
    return True


def wrong_answers(right: Any) -> list[Any]:
    """Answers that are near, and wrong."""
    if isinstance(right, bool):
        return [not right]
    if isinstance(right, int):
        return [right + 1, right - 1, str(right), float(right) + 0.5]
    if isinstance(right, str):
        return [right + "0", right[:-1], "nonsense"]
    if isinstance(right, list | tuple):
        return [right[:-1], [*right, right[-1]], [*right[:-1], 9999]]
    if isinstance(right, dict):
        last = list(right)[-1]
        return [{**right, last: wrong} for wrong in wrong_answers(right[last])]
    return ["nonsense", 0]


def test_a_lesson_has_three_to_five_exercises_and_their_solutions_pass(
    lesson: tuple[dict[str, Any], list[Exercise]],
) -> None:
    """Each exercise can be solved."""
    names, exercises = lesson
    assert 3 <= len(exercises) <= 5
    for exercise in exercises:
        assert passes(exercise, names, exercise.solution), exercise.answer


@pytest.mark.parametrize("path", [lesson.path for lesson in LESSONS], ids=lambda path: path.stem)
def test_a_solution_leaves_an_answer_alone(path: Path) -> None:
    """Run All must not put the solution in the place of what a learner wrote."""
    cells = [cell for cell in code_cells(read_notebook(path)) if SOLUTION in cell["metadata"].get("tags", [])]
    sources = ["".join(cell["source"]) for cell in cells]
    assert [source for source in sources if not re.match(r"(\w+) = lk\.solution\(\s*\1,", source)] == []


@pytest.mark.parametrize("empty", [..., None, "", [], {}], ids=repr)
def test_an_empty_answer_fails(lesson: tuple[dict[str, Any], list[Exercise]], empty: Any) -> None:
    """An untouched exercise does not pass."""
    names, exercises = lesson
    assert [exercise.answer for exercise in exercises if passes(exercise, names, empty)] == []


def test_a_wrong_answer_fails(lesson: tuple[dict[str, Any], list[Exercise]]) -> None:
    """A neighbouring message, a digit too many, one of several left out or named twice."""
    names, exercises = lesson
    for exercise in exercises:
        taken = [wrong for wrong in wrong_answers(exercise.solution) if passes(exercise, names, wrong)]
        assert taken == [], exercise.answer


def test_a_stale_answer_fails(lesson: tuple[dict[str, Any], list[Exercise]]) -> None:
    """The answer is held against the capture or table: against another one, the right answer of this one fails."""
    names, exercises = lesson
    captures = {name: value for name, value in names.items() if isinstance(value, Capture | pd.DataFrame)}
    for exercise in exercises:
        others = [name for name in captures if captures[name] is not captures[exercise.capture]]
        refused = [
            name
            for name in others
            if not passes(exercise, names, exercise.solution, **{exercise.capture: captures[name]})
        ]
        assert refused, f"{exercise.answer} passes whatever was captured"
