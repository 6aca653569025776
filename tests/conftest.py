"""Rules for all tests: what a marker needs, and no test touches the labs or settings of the person who runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from decoder_ways import loops, way  # noqa: F401  # fixtures

from labkit.cli.parts import missing_reason, required

NEEDS = ("docker", "local", "tshark", "browser", "native")
"""Markers that name something a machine may lack."""
_THE_PERSONS = ("ENGINE", "NAME", "RECORD", "CASSETTES", "ROOT", "LAB", "NODE", "NO_VENV", "VENV", "PYTHON")
"""LABKIT_ variables that are about somebody's own lab or lesson; others describe the machine or this run."""
_reasons: dict[str, str | None] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Take the person's lab settings out of the environment before any test module is read."""
    for name in _THE_PERSONS:
        os.environ.pop(f"LABKIT_{name}", None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and fail it instead where LABKIT_REQUIRE says it must."""
    for name in NEEDS:
        if item.get_closest_marker(name) is None:
            continue
        if name not in _reasons:
            _reasons[name] = missing_reason(name)
        reason = _reasons[name]
        if reason is None:
            continue
        if name in required():
            pytest.fail(f"LABKIT_REQUIRE names {name}: {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def own_lab_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give every test that starts no lab an empty LABKIT_HOME; live ones keep it for the programs fetched into it."""
    if any(request.node.get_closest_marker(name) for name in ("docker", "local")):
        return
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path_factory.mktemp("labkit-home")))


@pytest.fixture
def project() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parents[1]
