"""The lessons as files: finding them, reading what is stored in them, running them without a browser."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LessonError
from labkit.paths import project_root

CELL_TIMEOUT_S = 120
"""No cell of a lesson takes longer, even on a slow machine that starts the lab inside it."""
IGNORED_TAG = "nbval-ignore-output"
"""A cell that carries it is run, and its output is not compared; a compared cell must follow."""
_UNSTABLE_METADATA = ("widgets", "signature")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One notebook of the course."""

    number: str
    """Two digits, as in the file name and in data/cassettes/."""
    path: Path
    """The notebook."""

    @property
    def title(self) -> str:
        """File name without its ending."""
        return self.path.stem

    @property
    def needs_lab(self) -> bool:
        """Whether it opens a lab; one that does not is the same run on every engine, and has no recordings."""
        return "lk.open(" in self.path.read_text(encoding="utf-8")


def nodes_of(lesson: Lesson) -> tuple[str, ...]:
    """Return the nodes that a lesson asks for besides those that every lab has: lk.open("15", nodes=["cgrates"])."""
    return tuple(str(name) for name in _asked(lesson, "nodes") or ())


def needs_the_wire(lesson: Lesson) -> bool:
    """Whether a lesson looks at what only a sniffer sees: lk.open("16", wire=True)."""
    return bool(_asked(lesson, "wire"))


def _asked(lesson: Lesson, word: str) -> Any:
    """What a lesson says by this word when it opens its lab; None where it does not."""
    for cell in code_cells(read_notebook(lesson.path)):
        code = "".join(cell["source"])
        for node in ast.walk(ast.parse(code)) if f"{word}=" in code else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".open"):
                named = [keyword.value for keyword in node.keywords if keyword.arg == word]
                return ast.literal_eval(named[0]) if named else None
    return None


def all_lessons() -> tuple[Lesson, ...]:
    """Return every lesson, in order."""
    found = []
    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        match = re.match(r"(\d+)_", path.name)
        if match:
            found.append(Lesson(match[1], path))
    return tuple(found)


def find_lesson(number: str) -> Lesson:
    """Return the lesson "01"; "1" and a notebook's file name do too.

    Raises:
        LessonError: there is none; the message lists those that are there.
    """
    wanted = Path(number).stem.split("_")[0].zfill(2)
    lessons = all_lessons()
    for lesson in lessons:
        if lesson.number == wanted:
            return lesson
    known = ", ".join(lesson.number for lesson in lessons) or "none at all"
    raise LessonError(f"There is no lesson {number!r} in {project_root() / 'notebooks'}; there is: {known}.")


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook's JSON."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the code cells in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def stored_run_problem(path: Path) -> str | None:
    """Return why a notebook's stored outputs cannot be compared, or None when it was run top to bottom.

    nbval compares nothing in a cell that was never run, and passes it; so this is asked first.
    """
    written = [cell for cell in code_cells(read_notebook(path)) if "".join(cell["source"]).strip()]
    counts = [cell.get("execution_count") for cell in written]
    if not counts:
        return "it has no code cell"
    if counts != list(range(1, len(counts) + 1)):
        return f"it was not stored run from top to bottom; store it anew with: ./lab execute {path.name.split('_')[0]}"
    return None


def execute(path: Path, env: Mapping[str, str]) -> Any:
    """Run a notebook in a fresh kernel and return it with its outputs, not yet written anywhere.

    Args:
        path: the notebook; the kernel works in its folder.
        env: environment variables for the kernel on top of ours, for example LABKIT_ENGINE.
    Raises:
        LessonError: a cell failed; the message holds the cell and what it said.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute(env={**os.environ, **env})
    except CellExecutionError as error:
        words = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # the colours of a notebook's traceback
        raise LessonError(f"{path.name} stopped at a cell that failed:\n{words}") from error
    return notebook


def store(notebook: Any, path: Path) -> None:
    """Write an executed notebook without what differs from run to run and machine to machine."""
    import nbformat

    for name in _UNSTABLE_METADATA:
        notebook.metadata.pop(name, None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            # Without its state, which is not stored, JupyterLab shows "model not found" in the widget's place; its
            # text is shown instead until somebody runs the cell.
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
