"""Lessons as a person meets them: `./lab up`, a real browser, every cell, the ladder, a click on an arrow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.cli.lessons import stored_run_problem
from tests.chromium import Chromium

ROOT = Path(__file__).resolve().parents[2]
START_S = 240  # images may have to be built first
READY = (
    "document.querySelector('.jp-Toolbar-kernelName')?.textContent.startsWith('Python')"
    " && document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status == 'idle'"
)
"""The notebook is open and its kernel answers; 'idle' alone is also said before there is a kernel."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not list((ROOT / "notebooks").glob("01_*.ipynb")), reason="there is no lesson 01"),
]


class Lessons:
    """`./lab up` on a copy of the notebooks, and its URL."""

    def __init__(self, root: Path, engine: str) -> None:
        self.root = root
        for name in ("data", "docker", "labkit"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "requirements.lock"):
            (root / name).symlink_to(ROOT / name)
        (root / "notebooks").mkdir()
        for path in (ROOT / "notebooks").glob("*.ipynb"):
            (root / "notebooks" / path.name).write_bytes(path.read_bytes())
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "lab"), "up", "--engine", engine, "--name", f"browser-{os.getpid()}"],
            env={**os.environ, "LABKIT_NO_VENV": "1", "LABKIT_ROOT": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        """What `./lab up` printed until it gave the URL."""
        self.url = self._read_url()
        """The first notebook's address, with the token."""

    def _read_url(self) -> str:
        assert self._process.stdout is not None
        give_up = time.monotonic() + START_S
        for line in self._process.stdout:
            self.said += line
            found = re.search(r"http://127\.0\.0\.1:\d+/\S+", line)
            if found:
                return found[0]
            assert time.monotonic() < give_up, self.said
        raise AssertionError(f"./lab up ended without a URL:\n{self.said}")

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self._process.send_signal(2)
        self._process.communicate(timeout=60)
        return self._process.returncode


@pytest.fixture(
    scope="module",
    params=[
        "replay",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("local", marks=pytest.mark.local),
    ],
)
def lessons(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lessons]:
    """The lessons, open on one engine."""
    opened = Lessons(tmp_path_factory.mktemp("checkout"), request.param)
    yield opened
    assert opened.stop() == 0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path / "profile") as chromium:
        yield chromium


def test_up_proves_the_lab_and_opens_the_first_lesson(lessons: Lessons, browser: Chromium) -> None:
    """`./lab up` prints a registration as a ladder and a URL that opens lesson 00 with a kernel."""
    assert "REGISTER" in lessons.said
    assert "401 Unauthorized" in lessons.said
    browser.open(lessons.url)
    browser.wait_for(READY, 120)
    tab = "document.querySelector('#jp-main-dock-panel .lm-mod-current')?.textContent"
    browser.wait_for(f"{tab} == '00_start_here.ipynb'")


def test_lesson_01_runs_and_its_ladder_can_be_clicked(lessons: Lessons, browser: Chromium, tmp_path: Path) -> None:
    """Run All runs lesson 01 to its end without an error; the ladder is on the screen; a click shows a message."""
    path = next((lessons.root / "notebooks").glob("01_*.ipynb"))
    browser.open(re.sub(r"00_start_here\.ipynb", path.name, lessons.url))
    browser.wait_for(READY, 120)
    menu(browser, 4, "runmenu:run-all")
    notebook = saved_when_run(browser, path)
    errors = [
        output
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "raises-exception" not in cell["metadata"].get("tags", [])
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]
    assert errors == []
    see_and_click_the_ladder(browser, tmp_path)


def menu(browser: Chromium, place: int, command: str) -> None:
    """Choose a command from the menu that stands at this place of the menu bar.

    The toolbar has buttons for the same commands, and an open menu may cover them: only entries of menus count.
    """
    browser.click_on(f".lm-MenuBar-item:nth-child({place})")
    browser.click_on(f'.lm-Menu-item[data-command="{command}"]')


def saved_when_run(browser: Chromium, path: Path) -> dict[str, list[dict[str, object]]]:
    """Save now and then until the file says that every cell was run, and return it."""
    give_up = time.monotonic() + 120
    while True:
        menu(browser, 1, "docmanager:save")
        time.sleep(1)
        if stored_run_problem(path) is None and browser.value(READY):
            return json.loads(path.read_text(encoding="utf-8"))
        assert time.monotonic() < give_up, "the lesson does not come to its end"


def scroll_until(browser: Chromium, script: str) -> None:
    """Scroll down from the top until something is there: JupyterLab takes out of the page what is far from the view."""
    for place in range(0, 40_000, 500):
        browser.value(f"document.querySelector('.jp-WindowedPanel-outer').scrollTop = {place}")
        time.sleep(0.25)
        if browser.value(script):
            return
    raise AssertionError(f"nowhere in the notebook: {script}")


LADDER = "document.querySelector('.jp-OutputArea .jupyter-widgets .js-plotly-plot')"
"""The clickable ladder of `browse()`: a plotly figure inside a widget, not a stored picture."""
ARROW = f"""(() => {{
    const plot = {LADDER}, layout = plot._fullLayout, box = plot.getBoundingClientRect();
    const trace = plot._fullData[plot._fullData.length - 1];
    const at = (axis, value) => axis._offset + axis.l2p(axis.d2l(value));
    const i = trace.x.findIndex(v => v !== null);
    return [box.x + at(layout.xaxis, trace.x[i]), box.y + at(layout.yaxis, trace.y[i])];
}})()"""
"""Where the first point of the last trace, the one that can be clicked, stands on the screen."""
IN_SIGHT = f"(r => r.top > 60 && r.top < 500)({LADDER}.getBoundingClientRect())"
TEXT_BESIDE = f"{LADDER}.closest('.jp-OutputArea-output').innerText"


def see_and_click_the_ladder(browser: Chromium, tmp_path: Path) -> None:
    """Scroll to the clickable ladder, see that it is drawn, click an arrow, and read its message beside it."""
    scroll_until(browser, f"!!{LADDER}")
    for _ in range(20):  # what comes into the page above it moves it once more
        browser.value(f"{LADDER}.scrollIntoView({{block: 'start'}})")
        time.sleep(0.3)
        browser.value("document.querySelector('.jp-WindowedPanel-outer').scrollTop -= 40")
        time.sleep(0.3)
        if browser.value(f"!!{LADDER} && {IN_SIGHT}"):
            break
    browser.wait_for(f"{LADDER}.querySelectorAll('.scatterlayer .trace').length > 0")
    time.sleep(0.5)
    browser.photograph(tmp_path / "ladder.png")
    assert "Call-ID" not in browser.value(TEXT_BESIDE)
    explained = f"/Call-ID|Session-Id/.test({TEXT_BESIDE})"
    for _ in range(10):  # a page that still grows above the ladder moves it from under the pointer
        browser.click(*browser.value(ARROW))
        time.sleep(2)
        if browser.value(explained):
            break
    assert browser.value(explained)
    browser.photograph(tmp_path / "clicked.png")
