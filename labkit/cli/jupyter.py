"""JupyterLab as a child process: started with a token, found by the file it writes, stopped for certain."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from labkit.errors import StackError

_SETTINGS = Path(__file__).with_name("jupyterlab")
"""Settings of JupyterLab that differ from its defaults; a person's own settings win."""
_START_S = 60.0
"""JupyterLab takes 2 s; a cold disk and two busy cores take longer."""
_STOP_S = 8.0
"""Kernels get this long to end by themselves."""


class JupyterLab:
    """A running JupyterLab; who makes one calls `stop`."""

    def __init__(self, root: Path, notebook: str, env: Mapping[str, str], port: int, log: Path) -> None:
        self._token = secrets.token_hex(24)
        self._notebook = notebook
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_file = log.open("wb")
        self._runtime = Path(_runtime_folder())
        self._process = subprocess.Popen(
            _command(root, notebook, port),
            # The token goes by the environment: command lines are for every user of the machine to read.
            env={**os.environ, **env, "JUPYTER_TOKEN": self._token},
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            # Out of the terminal's reach: Ctrl-C is ours to handle, JupyterLab would ask "y/n?" instead.
            start_new_session=True,
        )

    def wait_until_ready(self) -> str:
        """Return the URL to open, with its token, once the server listens.

        Raises:
            StackError: it ended or does not listen; its last words are in the message.
        """
        began = time.monotonic()
        server_file = self._runtime / f"jpserver-{self._process.pid}.json"
        while time.monotonic() - began < _START_S:
            if self._process.poll() is not None:
                raise StackError(f"JupyterLab ended at once.\n{self._last_words()}")
            server = _read_json(server_file)
            if server is not None:
                return f"http://127.0.0.1:{server['port']}/lab/tree/{self._notebook}?token={self._token}"
            time.sleep(0.05)
        raise StackError(f"JupyterLab did not listen after {_START_S:.0f} s.\n{self._last_words()}")

    def wait(self, stop_asked: Callable[[], bool]) -> None:
        """Wait until the server ends (File > Shut Down), or `stop_asked` is true.

        A signal usually interrupts the wait by itself; but an exception that a handler raises can get lost in a
        destructor, so the question is asked too.
        """
        while self._process.poll() is None and not stop_asked():
            time.sleep(0.2)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """End the server and its kernels politely; where `hurry` becomes true or it takes too long, kill them."""
        if self._process.poll() is None:
            self._process.terminate()
        give_up = time.monotonic() + _STOP_S
        while self._process.poll() is None:
            if hurry() or time.monotonic() > give_up:
                _kill_group(self._process)
                self._process.wait()
            time.sleep(0.05)
        self._log_file.close()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        return "\n".join(f"    {line}" for line in lines)


def _command(root: Path, notebook: str, port: int) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=100",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{notebook}",
        f"--LabApp.app_settings_dir={_SETTINGS}",  # no question about newsletters in front of a lesson
        "--LabApp.extension_manager=readonly",  # what a lesson needs is in the environment already
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the server; on POSIX with all in its process group."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
    else:
        process.kill()


def _runtime_folder() -> str:
    from jupyter_core.paths import jupyter_runtime_dir

    return str(jupyter_runtime_dir())


def _read_json(path: Path) -> dict[str, object] | None:
    try:
        server: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return server
