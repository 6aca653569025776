"""One run of pytest as a child process, and what its report says."""

from __future__ import annotations

import os
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


def run_pytest(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Report:
    """Run pytest with its output on this terminal, and read its report.

    Args:
        arguments: after `pytest`.
        env: variables on top of ours.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            f"--junitxml={report}",
            "-o",
            "junit_family=xunit1",
            *arguments,
        ]
        code = subprocess.run(command, cwd=project_root(), env={**os.environ, **(env or {})}, check=False).returncode
        cases = read_report(report.read_bytes()) if report.exists() else ()
    counts = {outcome: sum(case.outcome == outcome for case in cases) for outcome in ("passed", "failed", "skipped")}
    crash = "" if code in (0, _NO_TESTS) or counts["failed"] else f"pytest ended with exit code {code}"
    return Report(cases, time.monotonic() - began, crash, counts)


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
