"""What every stored lesson must be, whatever it teaches."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

import labkit
from labkit.cli.lessons import IGNORED_TAG, all_lessons, stored_run_problem

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if ".ipynb_checkpoints" not in path.parts]
MAX_BYTES = 200_000
LONG_LINES = 14
"""Nine of ten code cells are at most so long, none is more than twice as long."""
FORBIDDEN_TAGS = {"nbval-skip"}
"""A skipped cell is a cell that nobody knows to work."""

each_lesson = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def python_of(cell: dict[str, Any]) -> str:
    """The cell's Python; a cell of another language (`%%kamailio`) has none."""
    return "" if source(cell).startswith("%%") else source(cell)


def text_of(path: Path) -> str:
    return "\n".join(source(cell) for cell in cells(path, "markdown"))


@each_lesson
def test_stored_run_from_top_to_bottom(path: Path) -> None:
    """Every code cell was run once, in order: nbval passes what was never run."""
    assert stored_run_problem(path) is None


@each_lesson
def test_no_error_is_stored_by_accident(path: Path) -> None:
    """An output of type error stands only in a cell that is meant to raise."""
    for cell in cells(path, "code"):
        errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
        assert not errors or "raises-exception" in cell["metadata"].get("tags", []), source(cell)


@each_lesson
def test_every_cell_is_run_and_what_is_ignored_is_checked_after(path: Path) -> None:
    """No cell is skipped; a cell whose output is ignored is followed by one whose output is compared."""
    code = cells(path, "code")
    for number, cell in enumerate(code):
        tags = set(cell["metadata"].get("tags", []))
        assert not tags & FORBIDDEN_TAGS, source(cell)
        assert "NBVAL_" not in source(cell), "use tags: a comment in a cell is for the reader"
        if IGNORED_TAG in tags:
            assert number + 1 < len(code), "the last cell is ignored: nothing checks it"
            follower = code[number + 1]
            assert IGNORED_TAG not in follower["metadata"].get("tags", []), source(follower)
            assert follower["outputs"], f"nothing is compared after {source(cell)!r}"


@each_lesson
def test_nothing_unstable_or_large_is_stored(path: Path) -> None:
    """No widget state, no PNG snapshot, no execution times, no random table ids, under 200 kB."""
    raw = path.read_text(encoding="utf-8")
    notebook = json.loads(raw)
    assert "widgets" not in notebook["metadata"], "store it with ./lab execute"
    assert all("execution" not in cell["metadata"] for cell in notebook["cells"]), "store it with ./lab execute"
    assert '"image/png"' not in raw, "store it with ./lab execute"
    assert not re.search(r"T_[0-9a-f]{5}_row", raw), "give the Styler a fixed uuid"
    assert path.stat().st_size < MAX_BYTES


@each_lesson
def test_a_figure_is_not_the_only_output(path: Path) -> None:
    """Pages that cannot draw plotly, and nbval, need the table or text beside a figure."""
    code = cells(path, "code")
    for number, cell in enumerate(code):
        figures = [out for out in cell["outputs"] if "application/vnd.plotly.v1+json" in out.get("data", {})]
        if figures:
            near = code[number : number + 3]
            texts = [
                out for one in near for out in one["outputs"] if "text/plain" in out.get("data", {}) or "text" in out
            ]
            assert texts, f"a compared table or text belongs near {source(cell)!r}"


@each_lesson
def test_it_is_readable(path: Path) -> None:
    """Short cells, and at least one text cell to two code cells."""
    lengths = sorted(len(source(cell).splitlines()) for cell in cells(path, "code"))
    assert len(cells(path, "markdown")) * 2 >= len(lengths)
    assert quantiles(lengths, n=10)[8] <= LONG_LINES
    assert max(lengths) <= 2 * LONG_LINES


@each_lesson
def test_it_has_the_parts_of_a_lesson(path: Path) -> None:
    """A question as title, what one will be able to do, how long it takes, and for lessons proper all the steps."""
    text = text_of(path)
    assert re.match(r"# .*\?", text), "the title is a question"
    assert re.search(r"minutes", text)
    if path.stem.startswith("00"):
        return
    headings = " ".join(re.findall(r"^#+ (.*)$", text, re.MULTILINE)).lower()
    for part in ("predict", "run", "look", "break", "fix", "check yourself", "read next"):
        assert part in headings, f"no heading says {part!r}"


@each_lesson
def test_it_uses_public_names_only(path: Path) -> None:
    """A lesson imports labkit itself, never a room of it, and uses no name that labkit does not offer."""
    for cell in cells(path, "code"):
        tree = ast.parse(python_of(cell), mode="exec", type_comments=False)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != "labkit" or node.module == "labkit", ast.unparse(node)
            if isinstance(node, ast.Import):
                assert all(not alias.name.startswith("labkit.") for alias in node.names), ast.unparse(node)
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("lk", "labkit")
            ):
                assert hasattr(labkit, node.attr), f"labkit offers no {node.attr}"
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), f"{node.attr} is private"


@each_lesson
def test_links_inside_the_project_resolve(path: Path) -> None:
    """A relative link leads to a file that is there."""
    for target in re.findall(r"\]\(([^)#\s]+)", text_of(path)):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


def test_lessons_have_numbers_and_recordings() -> None:
    """Lesson files are named NN_words.ipynb, each number once; each that opens a lab has its folder of recordings."""
    numbers = [path.name.split("_")[0] for path in NOTEBOOKS]
    assert all(re.fullmatch(r"\d\d", number) for number in numbers)
    assert len(set(numbers)) == len(numbers)
    for number in (lesson.number for lesson in all_lessons() if lesson.needs_lab):
        assert (ROOT / "data" / "cassettes" / number).is_dir(), f"record it: ./lab record {number}"


@each_lesson
def test_the_readme_names_it(path: Path) -> None:
    """Who looks for a lesson looks there first."""
    assert f"(notebooks/{path.name})" in (ROOT / "README.md").read_text(encoding="utf-8")
