"""Lessons as a person meets them: `./lab up`, a real browser, every cell, the ladder, a click on an arrow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Chromium
from tests.jupyter_page import READY, ROOT, TAB, Lessons, open_notebook, run_all, saved_when_run, scroll_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not list((ROOT / "notebooks").glob("01_*.ipynb")), reason="there is no lesson 01"),
]


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
    browser.wait_for(f"{TAB} == '00_start_here.ipynb' && {READY}", 120)


def test_lesson_01_runs_and_its_ladder_can_be_clicked(lessons: Lessons, browser: Chromium, tmp_path: Path) -> None:
    """Run All runs lesson 01 to its end without an error; the ladder is on the screen; a click shows a message."""
    path = next((lessons.root / "notebooks").glob("01_*.ipynb"))
    open_notebook(browser, lessons, path.name)
    run_all(browser)
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


LADDER = "document.querySelector('.jp-OutputArea .lk')"
"""The ladder of `browse()`: our own widget."""
ROW = f"""(() => {{
    const box = {LADDER}.querySelectorAll('.lk-row')[3].getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
}})()"""
"""Where the fourth row stands on the screen."""
IN_SIGHT = f"(r => r.top > 60 && r.top < 500)({LADDER}.getBoundingClientRect())"
TEXT_BESIDE = f"{LADDER}.querySelector('.lk-message').innerText"


def see_and_click_the_ladder(browser: Chromium, tmp_path: Path) -> None:
    """Scroll to the clickable ladder, see that it is drawn, click a row, read its message; then use the keyboard."""
    scroll_until(browser, f"!!{LADDER}")
    for _ in range(20):  # what comes into the page above it moves it once more
        browser.value(f"{LADDER}.scrollIntoView({{block: 'start'}})")
        time.sleep(0.3)
        browser.value("document.querySelector('.jp-WindowedPanel-outer').scrollTop -= 40")
        time.sleep(0.3)
        if browser.value(f"!!{LADDER} && {IN_SIGHT}"):
            break
    browser.wait_for(f"{LADDER}.querySelectorAll('.lk-row').length > 3")
    time.sleep(0.5)
    browser.photograph(tmp_path / "ladder.png")
    assert "Call-ID" not in browser.value(TEXT_BESIDE)
    explained = f"/Call-ID|Session-Id/.test({TEXT_BESIDE})"
    for _ in range(10):  # a page that still grows above the ladder moves it from under the pointer
        browser.click(*browser.value(ROW))
        time.sleep(2)
        if browser.value(explained):
            break
    assert browser.value(explained)
    before = browser.value(TEXT_BESIDE)
    browser.value(f"{LADDER}.querySelector('.lk-rows').focus()")
    browser.ask("Input.dispatchKeyEvent", type="keyDown", key="ArrowDown")
    browser.wait_for(f"{TEXT_BESIDE} !== {before!r} && {explained}")
    browser.photograph(tmp_path / "clicked.png")
