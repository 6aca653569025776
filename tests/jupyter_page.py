"""Lessons open in JupyterLab, as `./lab up` opens them, and what a person does there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from labkit.cli.lessons import stored_run_problem
from tests.chromium import Chromium

ROOT = Path(__file__).resolve().parents[1]
START_S = 240  # images may have to be built first
READY = (
    "document.querySelector('.jp-Toolbar-kernelName')?.textContent.startsWith('Python')"
    " && document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status == 'idle'"
)
"""The only open notebook's kernel answers; 'idle' alone is also said before there is a kernel."""
TAB = "document.querySelector('#jp-main-dock-panel .lm-mod-current')?.textContent"
"""The name on the tab in front."""


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


def open_notebook(browser: Chromium, lessons: Lessons, name: str) -> None:
    """Open a notebook alone, without the tabs that JupyterLab remembers from before, and wait for its kernel."""
    browser.open(re.sub(r"00_start_here\.ipynb", name, lessons.url) + "&reset")
    browser.wait_for(f"{TAB} == {name!r} && {READY}", 120)


WATCH_FOR_A_RUN = """(() => {
    window.runBegan = false;
    const look = () => {
        const busy = document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status == 'busy';
        const prompts = [...document.querySelectorAll('.jp-InputPrompt')];
        window.runBegan ||= busy || prompts.some(prompt => prompt.textContent.includes('*'));
    };
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
})()"""
"""Cells that wait show a star at once, before a slow machine's kernel is busy; JupyterLab may draw either sign anew."""


def menu(browser: Chromium, place: int, command: str) -> None:
    """Choose a command from the menu that stands at this place of the menu bar.

    The toolbar has buttons for the same commands, and an open menu may cover them: only entries of menus count.
    A busy page loses a click now and then, and one on the bar also closes a menu: what did not happen is done again.
    """
    entry = f'.lm-Menu-item[data-command="{command}"]'
    is_open = f"!!document.querySelector({entry!r})"
    for _ in range(5):
        if not browser.value(is_open):
            browser.click_on(f".lm-MenuBar-item:nth-child({place})")
        if browser.becomes(is_open, 5):
            browser.click_on(entry)
            if browser.becomes(f"!{is_open}", 5):
                return
    raise AssertionError(f"the menu bar's place {place} does not take {command}")


def run_all(browser: Chromium) -> None:
    """Choose Run All Cells and see it begin: right after the page is ready, JupyterLab may drop the first.

    Only what surely did not begin is chosen again: cells that run twice do not count from 1.
    """
    browser.value(WATCH_FOR_A_RUN)
    for _ in range(3):
        menu(browser, 4, "runmenu:run-all")
        if browser.becomes("window.runBegan", 20):
            return
    raise AssertionError("Run All Cells sets nothing going")


def saved_when_run(browser: Chromium, path: Path) -> dict[str, list[dict[str, object]]]:
    """Save now and then until the file says that every cell was run, and return it."""
    give_up = time.monotonic() + 240
    while True:
        menu(browser, 1, "docmanager:save")
        time.sleep(1)
        problem = stored_run_problem(path) or (None if browser.value(READY) else "the kernel is busy")
        if problem is None:
            return json.loads(path.read_text(encoding="utf-8"))
        assert time.monotonic() < give_up, f"the lesson does not come to its end: {problem}"


def scroll_until(browser: Chromium, script: str) -> None:
    """Scroll down from the top until something is there: JupyterLab takes out of the page what is far from the view."""
    for place in range(0, 40_000, 500):
        browser.value(f"document.querySelector('.jp-WindowedPanel-outer').scrollTop = {place}")
        time.sleep(0.25)
        if browser.value(script):
            return
    raise AssertionError(f"nowhere in the notebook: {script}")
