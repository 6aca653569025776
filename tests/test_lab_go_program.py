"""A program built from a Go module: found, built once, or one sentence that says why not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from labkit.errors import EngineMissing
from labkit.lab.go_program import build_go_program, find_go_program
from labkit.lab.topology import ProgramSpec

FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo {version}; exit 0; fi
[ -z "{complaint}" ] || {{ echo "go: downloading x" >&2; echo "{complaint}" >&2; exit 1; }}
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\necho built\\n' > "$2"; chmod 755 "$2"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module folder; a home and a PATH of the test's own."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "go.mod").write_text("module x\n\ngo 1.22.4\n")
    (folder / "go.sum").write_text("")
    (folder / "tools.go").write_text("package x\n")
    return folder


def spec(module: Path) -> ProgramSpec:
    """The program of that module."""
    return ProgramSpec("rater", "LABKIT_RATER_BIN", (), "rate-engine", module, "example.org/rate-engine")


def install_go(module: Path, version: str = "go1.26.8", complaint: str = "") -> None:
    """A go that does as it is told."""
    path = module.parent / "bin" / "go"
    path.write_text(FAKE_GO.format(version=version, complaint=complaint))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_it_is_built_once(module: Path) -> None:
    """The second time it is found, without a word."""
    install_go(module)
    said: list[str] = []
    path = build_go_program(spec(module), said.append)
    assert os.access(path, os.X_OK)
    assert "building rater" in said[0]
    assert build_go_program(spec(module), pytest.fail) == path
    assert [p.name for p in Path(path).parent.parent.iterdir() if p.name.startswith(".")] == []


def test_a_changed_pin_is_another_program(module: Path) -> None:
    """go.sum is part of its name."""
    install_go(module)
    build_go_program(spec(module), lambda line: None)
    (module / "go.sum").write_text("x v1 h1:y=\n")
    assert find_go_program(spec(module)) == ""


def test_a_program_of_ones_own_is_taken(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names it; a wrong one is said."""
    monkeypatch.setenv("LABKIT_RATER_BIN", "/bin/true")
    assert build_go_program(spec(module), pytest.fail) == "/bin/true"
    monkeypatch.setenv("LABKIT_RATER_BIN", "/nowhere")
    with pytest.raises(EngineMissing, match="LABKIT_RATER_BIN=/nowhere"):
        find_go_program(spec(module))


@pytest.mark.parametrize(("version", "said"), [("", "there is no go on PATH"), ("go1.19.8", "here is go1.19.8")])
def test_no_fitting_go_is_one_sentence(module: Path, monkeypatch: pytest.MonkeyPatch, version: str, said: str) -> None:
    """With what is wanted and the ways out."""
    if version:
        install_go(module, version)
    else:
        monkeypatch.setenv("PATH", str(module.parent / "bin"))
    with pytest.raises(EngineMissing) as refusal:
        build_go_program(spec(module), pytest.fail)
    assert said in str(refusal.value)
    assert "Go 1.22.4 or newer" in str(refusal.value)
    assert "replay" in str(refusal.value)


def test_a_build_that_fails_says_what_go_said(module: Path) -> None:
    """And leaves nothing half made."""
    install_go(module, complaint="checksum mismatch")
    with pytest.raises(EngineMissing, match="checksum mismatch"):
        build_go_program(spec(module), lambda line: None)
    assert find_go_program(spec(module)) == ""
    assert [p.name for p in (module.parent / "home" / "programs").iterdir()] == ["rater.lock"]
