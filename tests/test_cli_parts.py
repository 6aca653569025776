"""The test runner: what counts as passed, and what a missing engine means."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit.cli import parts
from labkit.cli.lessons import Lesson, stored_run_problem
from labkit.cli.pytest_run import Case, Report, read_report
from labkit.cli.table import text_table


def notebook(path: Path, counts: list[int | None]) -> Lesson:
    """Write a notebook whose code cells carry these execution counts."""
    cells = [new_markdown_cell("# Why?")] + [new_code_cell("1", execution_count=count) for count in counts]
    nbformat.write(new_notebook(cells=cells), path)
    return Lesson("01", path)


@pytest.mark.parametrize(
    ("counts", "fine"),
    [([1, 2, 3], True), ([1, 3], False), ([None, None], False), ([2, 1], False), ([], False), ([1, None], False)],
)
def test_only_a_run_from_top_to_bottom_can_be_compared(tmp_path: Path, counts: list[int | None], fine: bool) -> None:
    """A notebook never run, or run in another order, is refused: nbval would pass it."""
    lesson = notebook(tmp_path / "01_x.ipynb", counts)
    assert (stored_run_problem(lesson.path) is None) is fine


def test_each_cell_must_have_run_and_passed(tmp_path: Path) -> None:
    """A skipped cell, a failed one and one that never came are all problems."""
    lesson = notebook(tmp_path / "01_x.ipynb", [1, 2, 3])
    cases = (
        Case("notebooks/01_x.ipynb", "Cell 0", "passed"),
        Case("notebooks/01_x.ipynb", "Cell 1", "skipped", "because"),
    )
    problems = parts.not_compared(lesson, Report(cases, 1.0))
    assert problems == ["01_x.ipynb Cell 1: because", "01_x.ipynb: 1 cells were not run at all"]


def test_missing_engine_is_a_failure_only_where_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LABKIT_REQUIRE a missing engine is a row that says why; with it, a failure."""
    monkeypatch.setattr(parts, "missing_reason", lambda name: "no daemon")
    monkeypatch.delenv("LABKIT_REQUIRE", raising=False)
    left_out = parts.unless_missing("docker", "live tests, docker")
    assert left_out is not None
    assert (left_out.failed, left_out.ran) == (0, False)
    assert left_out.reason == "no daemon"
    monkeypatch.setenv("LABKIT_REQUIRE", "local, docker")
    needed = parts.unless_missing("docker", "live tests, docker")
    assert needed is not None
    assert (needed.failed, needed.reason) == (1, "no daemon")


def test_present_engine_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is there gives no row of its own: its tests do."""
    monkeypatch.setattr(parts, "missing_reason", lambda name: None)
    assert parts.unless_missing("docker", "x") is None


REPORT = b"""<?xml version="1.0"?><testsuites><testsuite>
<testcase name="a" file="tests/test_a.py"/>
<testcase name="b" file="tests/test_a.py"><failure message="assert 1 == 2&#10;more">...</failure></testcase>
<testcase name="c" file="tests/test_a.py"><skipped message="no tshark"/></testcase>
<testcase name="d" file="tests/test_a.py"><error message="fixture"/></testcase>
</testsuite></testsuites>"""


def test_report_is_read() -> None:
    """Failures and errors are failures; the reason is the first line of the message."""
    assert [(case.outcome, case.reason) for case in read_report(REPORT)] == [
        ("passed", ""),
        ("failed", "assert 1 == 2"),
        ("skipped", "no tshark"),
        ("failed", "fixture"),
    ]


def test_table_is_aligned() -> None:
    """Each column is as wide as its widest cell."""
    assert text_table(("a", "long"), [("xyz", 1)]).splitlines() == ["a    long", "---  ----", "xyz  1"]
