"""The widget's own script in a plain page, without a notebook: thousands of rows, keyboard, screen reader, themes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.view.browse import browse
from tests.chromium import Chromium
from tests.view_messages import changed, recording, repeated
from tests.widget_page import DARK, LIGHT, SYSTEM, write_page

pytestmark = pytest.mark.browser

ROWS = "[...document.querySelectorAll('.lk-row')]"
OPEN = "document.querySelector('.lk-open')?.getAttribute('aria-label')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One page for all tests."""
    with Chromium(tmp_path_factory.mktemp("profile") / "p", width=1200, height=900) as chromium:
        yield chromium


def press(browser: Chromium, *keys: str) -> None:
    """Press keys in the ladder."""
    browser.value("document.querySelector('.lk-rows').focus()")
    for key in keys:
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key=key)
        browser.ask("Input.dispatchKeyEvent", type="keyUp", key=key)
    time.sleep(0.3)


def show(browser: Chromium, url: str) -> None:
    """Open a page and wait for its first rows."""
    browser.open(url)
    browser.wait_for(f"{ROWS}.length > 3")


def test_thousands_of_rows_scroll_and_few_are_drawn(browser: Chromium, tmp_path: Path) -> None:
    """Whatever the length, only what is in sight is in the page; the end is there at once, and a frame is short."""
    widget = browse(repeated(recording("05"), 60))
    show(browser, write_page(widget, tmp_path / "long.html"))
    assert len(widget.rows) > 5000
    longest = browser.value("""new Promise(done => {
      const box = document.querySelector('.lk-rows'), frames = [];
      let last = performance.now(), step = 0;
      const next = now => {
        frames.push(now - last); last = now; box.scrollTop = ++step * 300;
        step < 120 ? requestAnimationFrame(next) : done(frames.sort((a, b) => a - b)[Math.floor(frames.length * 0.9)]);
      };
      requestAnimationFrame(next);
    })""")
    print(f"a frame while scrolling, 90th percentile: {longest:.0f} ms")
    assert browser.value(f"{ROWS}.length") < 120
    press(browser, "End")
    assert browser.value(OPEN).startswith(f"{widget._arrows[-1].number}. ")
    press(browser, "Home")
    assert browser.value(OPEN).startswith("1. alice to pcscf: REGISTER, CSeq 1, call-1")
    assert browser.errors == []


def test_keyboard_and_screen_reader(browser: Chromium, tmp_path: Path) -> None:
    """A list box whose rows are sentences; the one that is open is the active one; its message stands in a region."""
    show(browser, write_page(browse(recording("10")), tmp_path / "refused.html"))
    box = "document.querySelector('[role=listbox]')"
    assert browser.value(f"{box}.tabIndex") == 0
    assert browser.value(f"{box}.getAttribute('aria-label')") == "ladder of 6 messages; arrow keys choose one"
    press(browser, "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown")
    sentence = "4. hss to icscf: UAA, DIAMETER_ERROR_USER_UNKNOWN, refused"
    assert browser.value(OPEN).startswith(sentence)
    assert browser.value(f"document.getElementById({box}.getAttribute('aria-activedescendant')).ariaSelected") == "true"
    assert "Experimental-Result-Code" in browser.value("document.querySelector('[role=region]').innerText")
    press(browser, "End")
    assert "6 of 6" in browser.value("document.querySelector('.lk-which').innerText")


def test_the_pointer_shows_key_headers(browser: Chromium, tmp_path: Path) -> None:
    """They come from the kernel, once a row."""
    show(browser, write_page(browse(recording("01")), tmp_path / "hover.html"))
    x, y = browser.value(f"(r => [r.x + r.width / 2, r.y + 15])({ROWS}[3].getBoundingClientRect())")
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.wait_for(
        "/Experimental-Result-Code 2001/.test(document.querySelector('.lk-hint:not([hidden])')?.innerText)"
    )
    assert browser.value("model.asked") == [{"type": "hint", "place": 3}]


@pytest.mark.parametrize("look", [LIGHT, DARK, SYSTEM], ids=["light", "dark", "system"])
@pytest.mark.parametrize("system", ["light", "dark"])
def test_words_stand_out_on_the_page(
    browser: Chromium, tmp_path: Path, look: tuple[str, str, str], system: str
) -> None:
    """In JupyterLab's two themes whatever the system has, and by the system's choice on a page without theme."""
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": system}])
    url = write_page(browse(recording("01")), tmp_path / "look.html", look)
    page = Path(tmp_path / "look.html").read_text()
    Path(tmp_path / "look.html").write_text(page.replace("<style>", "<style>:root{color-scheme:light dark}", 1))
    show(browser, url)
    dark = system == "dark" if look is SYSTEM else look is DARK
    ink = browser.value("getComputedStyle(document.querySelector('.lk-main')).fill")
    brightness = sum(int(part) for part in ink.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert brightness > 200 if dark else brightness < 60


def test_bytes_from_the_network_cannot_become_markup(browser: Chromium, tmp_path: Path) -> None:
    """Neither in a row nor in what the pointer shows nor in the message."""
    whole = recording("01")
    bad = "<img src=x onerror='window.struck=1'>"
    evil = changed(whole, 0, whole.raw[0].replace(b"From: ", f"From: {bad}".encode()), method=bad)
    show(browser, write_page(browse(evil, show="all", title=bad), tmp_path / "evil.html"))
    browser.click(*browser.value(f"(r => [r.x + r.width / 2, r.y + 15])({ROWS}[0].getBoundingClientRect())"))
    time.sleep(0.6)
    assert browser.value("window.struck") is None
    assert browser.value("document.querySelectorAll('.lk img').length") == 0


def test_live_rows_before_the_page_was_ready_are_asked_for(browser: Chromium, tmp_path: Path) -> None:
    """A hole is not drawn over: the page asks from where it stands."""
    widget = browse(recording("01"))
    rows, widget.rows = widget.rows, []
    widget.live = {"running": True, "messages": 0, "again": 0, "rate": 0, "lost": 3, "streams": [], "note": ""}
    browser.open(write_page(widget, tmp_path / "live.html"))
    browser.wait_for("window.model?.asked.length > 0")
    about = f"nodes: {widget.nodes}, groups: {widget.groups}, calls: {{}}, order: [0, 1, 2, 3, 4]"
    tell = "model.tell('msg:custom', {{ type: 'rows', from: {}, rows: {}, " + about.replace("{}", "{{}}") + " }})"
    browser.value(tell.format(5, json.dumps(rows[5:])))
    assert browser.value("model.asked") == [{"type": "rows", "from": 0}, {"type": "rows", "from": 0}]
    browser.value(tell.format(0, json.dumps(rows)))
    browser.wait_for(f"{ROWS}.length >= 18")
    assert "3 packets lost" in browser.value("document.querySelector('.lk-counts').innerText")
