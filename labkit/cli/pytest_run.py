"""Runs of pytest as child processes, and what their reports say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labkit.paths import project_root

_NO_TESTS = 5
"""pytest's exit code when nothing was collected."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test, or one cell of a notebook."""

    file: str
    """Path of its file relative to the project."""
    name: str
    """Its name; "Cell 7" for a cell."""
    outcome: str
    """"passed", "failed" or "skipped"."""
    reason: str = ""
    """Why it was skipped, or the first line of its failure."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of pytest did."""

    cases: tuple[Case, ...]
    seconds: float
    crash: str = ""
    """Why pytest ended badly without a failed test; empty when it did not."""
    counts: dict[str, int] = field(default_factory=dict)
    """Outcome -> number."""


class PytestRun:
    """A run of pytest as a child process; a context manager, whose end stops a run that is still going on."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str] | None = None, *, silent: bool = False) -> None:
        """Start it.

        Args:
            arguments: after `pytest`.
            env: variables on top of ours.
            silent: keep what it prints until `wait`, instead of showing it as it comes.
        """
        self._began = time.monotonic()
        self._folder = tempfile.TemporaryDirectory()
        self._report = Path(self._folder.name) / "report.xml"
        self._printed = Path(self._folder.name) / "printed"
        options = ["-q", f"--junitxml={self._report}", "-o", "junit_family=xunit1"]
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, *arguments],
                cwd=project_root(),
                env={**os.environ, **(env or {})},
                stdout=printed if silent else None,
                stderr=subprocess.STDOUT if silent else None,
                start_new_session=True,  # Ctrl-C reaches it once, from us: a second one would cut its teardown short
            )

    def wait(self) -> Report:
        """Wait for its end, show what was kept back, and read its report."""
        code = self._process.wait()
        sys.stdout.write(self._printed.read_text(encoding="utf-8", errors="replace"))
        sys.stdout.flush()
        cases = read_report(self._report.read_bytes()) if self._report.exists() else ()
        counts = {
            outcome: sum(case.outcome == outcome for case in cases) for outcome in ("passed", "failed", "skipped")
        }
        crash = "" if code in (0, _NO_TESTS) or counts["failed"] else f"pytest ended with exit code {code}"
        return Report(cases, time.monotonic() - self._began, crash, counts)

    def __enter__(self) -> PytestRun:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:  # we are leaving early: it takes its labs down first
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        self._folder.cleanup()


def run_pytest(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Report:
    """Run pytest with its output on this terminal, and read its report.

    Args:
        arguments: after `pytest`.
        env: variables on top of ours.
    """
    with PytestRun(arguments, env) as run:
        return run.wait()


def read_report(raw: bytes) -> tuple[Case, ...]:
    """Return the cases of a JUnit XML file (family xunit1, which names the files)."""
    return tuple(_case(element) for element in ET.fromstring(raw).iter("testcase"))


def _case(element: ET.Element) -> Case:
    outcome, reason = "passed", ""
    for kind, found in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        inner = element.find(kind)
        if inner is not None:
            outcome, reason = found, (inner.get("message") or "").splitlines()[0] if inner.get("message") else ""
            break
    return Case(element.get("file") or "", element.get("name") or "", outcome, reason)
