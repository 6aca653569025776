"""A program out of packages, and one that refuses to run as root."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from labkit.errors import EngineMissing
from labkit.lab import other_user as other
from labkit.lab import package_program as found
from labkit.lab import packages
from labkit.lab.package_program import FoundProgram, find_program, get_program
from labkit.lab.topology import ProgramSpec

SPEC = ProgramSpec("box", "LABKIT_BOX_BIN", ("box",), "usr/lib/box-of-a-test/*/bin/box", refuses_root=True)


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """These tests write nowhere else, whoever runs them."""
    monkeypatch.setattr(other, "_FOR_ROOT", tmp_path / "everybody")


def program(root: Path, version: str) -> Path:
    path = root / f"usr/lib/box-of-a-test/{version}/bin/box"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_fetched_program_is_found_with_its_libraries() -> None:
    """The newest of several versions, as numbers count and not as letters do."""
    assert find_program(SPEC) is None
    root = packages.fetched_folder(SPEC)
    program(root, "9")
    newest = program(root, "17")
    (root / "usr/lib64").mkdir()
    assert find_program(SPEC) == FoundProgram(str(newest), f"{root}/usr/lib64:{root}/usr/lib")


def test_the_variable_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And one that names nothing that runs is said to."""
    own = program(tmp_path, "1")
    monkeypatch.setenv("LABKIT_BOX_BIN", str(own))
    assert find_program(SPEC) == FoundProgram(str(own))
    monkeypatch.setenv("LABKIT_BOX_BIN", str(tmp_path / "nothing"))
    with pytest.raises(EngineMissing, match="LABKIT_BOX_BIN"):
        find_program(SPEC)


def test_without_the_program_and_without_apt_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the ways out."""
    monkeypatch.setattr(found, "can_fetch", lambda: False)
    with pytest.raises(EngineMissing, match="docker engine, or replay"):
        get_program(SPEC, lambda line: None)


def test_packages_that_hold_something_else_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endless fetching."""
    monkeypatch.setattr(found, "can_fetch", lambda: True)
    monkeypatch.setattr(found, "fetch_packages", lambda spec, progress: None)
    with pytest.raises(EngineMissing, match="hold no /usr/lib/box-of-a-test"):
        get_program(SPEC, lambda line: None)


def test_an_ordinary_user_stays_who_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a lab of root runs a program that refuses root as somebody else."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert other.other_user(SPEC) is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert other.other_user(ProgramSpec("box")) is None
    user = other.other_user(SPEC)
    assert user is not None
    assert 0 not in user


def test_roots_programs_lie_where_the_other_user_reaches_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the lab's home, except where that is closed to others, as root's own home is."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("LABKIT_HOME", str(home))
    temporary = Path(tempfile.gettempdir())
    for path in (home, *home.parents):
        if path.is_relative_to(temporary) and path != temporary:
            path.chmod(0o755)
    assert other.programs_folder(SPEC) == home / "programs"
    home.chmod(0o700)
    assert other.programs_folder(SPEC) == tmp_path / "everybody" / "programs"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert other.programs_folder(SPEC) == home / "programs"
