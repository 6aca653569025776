"""A headless Chromium for tests, over its DevTools protocol: open a page, ask it, click it, photograph it.

Standard library and websocket-client (which JupyterLab's client brings) only; no driver program, no other browser.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

from labkit.cli.parts import BROWSERS

_FLAGS = (
    "--headless",
    "--no-sandbox",  # as root there is none; pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


class Chromium:
    """One browser with one page. Use it as a context manager."""

    def __init__(self, folder: Path, *, width: int = 1600, height: int = 1000) -> None:
        program = next(path for name in BROWSERS if (path := shutil.which(name)))
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._socket = websocket.create_connection(self._page_address(folder), timeout=60)
        except BaseException:
            self._process.kill()
            raise
        self._number = 0
        self.errors: list[str] = []
        """What the page's scripts threw."""
        for domain in ("Page", "Runtime"):
            self.ask(f"{domain}.enable")

    def _page_address(self, folder: Path) -> str:
        port_file = folder / "DevToolsActivePort"
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            if port_file.exists() and (lines := port_file.read_text().split()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                    pages = [page for page in json.load(answer) if page["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(0.05)
        raise TimeoutError("Chromium does not open its DevTools port")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a DevTools command and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]["exceptionDetails"])[:500])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        """Go to a page; does not wait for it."""
        self.ask("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """Return what an expression gives in the page; a promise is awaited."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 30.0) -> Any:
        """Return the expression's value as soon as it is true-like."""
        value = self.becomes(script, timeout_s)
        assert value, f"waited {timeout_s} s for {script}"
        return value

    def becomes(self, script: str, timeout_s: float) -> Any:
        """Return the expression's value as soon as it is true-like, or what it is when the time is over."""
        give_up = time.monotonic() + timeout_s
        while not (value := self.value(script)) and time.monotonic() < give_up:
            time.sleep(0.1)
        return value

    def click(self, x: float, y: float) -> None:
        """Move the mouse there and click, as a person does."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        time.sleep(0.1)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click_on(self, selector: str) -> None:
        """Click into the middle of the first element that the CSS selector finds."""
        box = self.wait_for(
            f"(() => {{ const e = document.querySelector({selector!r}); if (!e) return null;"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        self.click(*box)

    def photograph(self, path: Path) -> None:
        """Save what is on the screen as a PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
