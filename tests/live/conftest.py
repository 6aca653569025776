"""Live labs for tests: the fixture `lab` runs a test on every engine that this machine has.

A missing engine is a skip with its reason, or a failure where LABKIT_REQUIRE names it (the rule: tests/conftest.py,
by the markers below). Labs of a test run live in a home of their own, so nobody's running lab is touched; only the
programs that the local engine fetched before are shared with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.lab.choice import make_engine
from labkit.lab.lab import RunningLab, start_lab
from labkit.lab.record import home_folder

ENGINES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("local", marks=pytest.mark.local),
]


@pytest.fixture(scope="session", autouse=True)
def live_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A LABKIT_HOME for this run; what its labs left is removed at the end."""
    programs = home_folder() / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    home = tmp_path_factory.mktemp("live-home")
    (home / "programs").symlink_to(programs)
    before = os.environ.get("LABKIT_HOME")
    os.environ["LABKIT_HOME"] = str(home)
    yield home
    for name in ("docker", "local"):
        engine = make_engine(name)
        if engine.available() is None:
            engine.wipe()
    if before is None:
        del os.environ["LABKIT_HOME"]
    else:
        os.environ["LABKIT_HOME"] = before


@pytest.fixture(scope="module", params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """The engine that this test runs on."""
    return str(request.param)


@pytest.fixture(scope="module")
def lab(engine_name: str, live_home: Path) -> Iterator[RunningLab]:
    """A running lab, one for all tests of a module on an engine; tests leave it as they found it."""
    running = start_lab(f"live-{engine_name}", engine_name)
    yield running
    running.stop()
