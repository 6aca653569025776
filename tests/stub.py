"""Helpers for tests that run the stub lab (tests/stub_lab): small Python programs in the place of Kamailio."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labkit.lab.local import LocalEngine
from labkit.lab.process import LabProcess, lab_processes

ROOT = Path(__file__).parent / "stub_lab"


def use_stub_lab(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Make every lab of this test a stub lab, kept in `home`."""
    monkeypatch.setenv("LABKIT_HOME", str(home))
    monkeypatch.setenv("LABKIT_ROOT", str(ROOT))
    monkeypatch.setenv("LABKIT_CAPTURE", "mirror")


def processes_of(home: Path) -> list[LabProcess]:
    """All processes of labs in `home`."""
    return lab_processes(home=str(home.resolve()))


def remains(home: Path) -> list[str]:
    """What a lab must not leave: processes, sockets, a record."""
    found = [f"process {p.pid} {p.node}" for p in processes_of(home)]
    for folder, _, names in os.walk(home):
        found += [name for name in names if name == "lab.json" or (Path(folder) / name).is_socket()]
    return found + LocalEngine().leftovers()
