"""docs/widespread-mistakes.md points at places that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labkit.cli.lessons import all_lessons, read_notebook

PAGE = Path(__file__).resolve().parents[1] / "docs" / "widespread-mistakes.md"
LINES = PAGE.read_text(encoding="utf-8").splitlines()
ROWS = [line.strip("| ").split(" | ") for line in LINES if line.startswith("| ")]
PLACES = [
    (number, heading)
    for row in ROWS
    for number, rest in re.findall(r"\b(\d\d)\b(?:\]\([^)]*\))?,? ((?:(?!;).)*)", row[-1])
    for heading in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", rest)
]


def test_every_row_names_a_lesson() -> None:
    """But the one that is everywhere."""
    assert len(ROWS) > 35
    assert all(re.search(r"\b\d\d\b", row[-1]) for row in ROWS if row[-1] not in ("see it in", "everywhere"))


@pytest.mark.parametrize(("number", "heading"), PLACES, ids=lambda value: str(value)[:30])
def test_the_heading_stands_in_the_lesson(number: str, heading: str) -> None:
    """Its first words are enough."""
    path = next(lesson.path for lesson in all_lessons() if lesson.number == number)
    cells = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "markdown"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    assert re.search(rf"^#+ {re.escape(heading)}", text, re.MULTILINE), f"lesson {number} has no heading {heading!r}"
