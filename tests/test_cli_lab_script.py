"""The `lab` script: any Python can read it, the right one runs it, its environment is made once."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "lab"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with an environment folder of its own."""
    monkeypatch.setenv("LABKIT_VENV", str(tmp_path / "venv"))
    spec = spec_from_loader("lab_script", SourceFileLoader("lab_script", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_old_python_can_read_it() -> None:
    """It parses as Python 3.7 (the oldest that ast can check), so an old Python gets a sentence, not a SyntaxError."""
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
    assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree)), "f-strings are younger than Python 3.5"
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= set(sys.stdlib_module_names)


def test_it_is_executable() -> None:
    """`./lab` works as it is checked out."""
    assert os.access(SCRIPT, os.X_OK)


def test_old_python_gets_one_sentence(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Python that is too old, with no other on PATH, is told what to install."""
    monkeypatch.delenv("LABKIT_PYTHON", raising=False)
    monkeypatch.setattr(lab.sys, "version_info", (3, 9, 18))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit) as ended:
        lab.find_python()
    assert ended.value.code == 3
    assert "this is Python 3.9" in (said := capsys.readouterr().err)
    assert "3.11" in said


def test_named_python_must_fit(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LABKIT_PYTHON is used when it fits and refused with the reason when not."""
    monkeypatch.setenv("LABKIT_PYTHON", sys.executable)
    assert lab.find_python() == sys.executable
    monkeypatch.setenv("LABKIT_PYTHON", "/nowhere/python")
    with pytest.raises(SystemExit):
        lab.find_python()
    assert "does not run" in capsys.readouterr().err


def write_finished(lab: ModuleType, **changes: str) -> None:
    python = Path(lab.venv_python())
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    Path(lab.STAMP).write_text(json.dumps({**lab.wanted_stamp(), **changes}))


def test_finished_environment_is_used(lab: ModuleType) -> None:
    """An environment of this lock file, for this checkout, is not made again."""
    assert not lab.is_finished()
    write_finished(lab)
    assert lab.is_finished()


@pytest.mark.parametrize("changes", [{"lock": "other"}, {"checkout": "/elsewhere"}])
def test_changed_lock_or_moved_checkout_is_noticed(lab: ModuleType, changes: dict[str, str]) -> None:
    """New versions in the lock file, or a checkout moved elsewhere, make a new environment."""
    write_finished(lab, **changes)
    assert not lab.is_finished()


def test_interrupted_making_is_begun_anew(lab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted making left is removed; only a whole one gets its stamp."""
    half = Path(lab.VENV) / "lib" / "half-a-package"
    half.mkdir(parents=True)
    Path(lab.UNFINISHED).touch()
    steps: list[list[str]] = []

    def note(command: list[str], what: str, cure: str) -> None:
        steps.append(command)
        if len(steps) == 1:
            assert not half.exists()
            assert Path(lab.UNFINISHED).exists()
            python = Path(lab.venv_python())
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)

    monkeypatch.setattr(lab, "run_quietly", note)
    monkeypatch.setattr(lab.subprocess, "check_output", lambda *args, **options: str(lab.VENV).encode())
    monkeypatch.setattr(lab, "version_of", lambda python: (3, 12) if os.path.exists(python) else None)
    lab.make_environment()
    assert [step[2] for step in steps] == ["venv", "pip"]
    assert lab.is_finished()
    assert not Path(lab.UNFINISHED).exists()
    assert (Path(lab.VENV) / "labkit-checkout.pth").read_text().strip() == str(SCRIPT.parent)


def test_the_environment_of_another_checkout_is_left_alone(
    lab: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that two checkouts share serves the one that made it; once that is gone, the other may have it."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "lab").touch()
    write_finished(lab, checkout=str(other))
    with pytest.raises(SystemExit) as ended:
        lab.make_environment()
    assert ended.value.code == 3
    assert f"is the environment of the checkout in {other}; name another folder" in capsys.readouterr().err
    assert Path(lab.venv_python()).exists()
    (other / "lab").unlink()
    lab.refuse_anothers()


def test_failed_step_shows_its_words_and_the_cure(lab: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """When pip fails, its last lines are shown, and what usually helps."""
    with pytest.raises(SystemExit) as ended:
        lab.run_quietly(
            [sys.executable, "-c", "print('no such index'); raise SystemExit(1)"], "installing", "Set a proxy."
        )
    assert ended.value.code == 3
    said = capfd.readouterr().err
    assert "no such index" in said
    assert "Set a proxy." in said


def test_no_venv_runs_this_python() -> None:
    """With LABKIT_NO_VENV=1 the Python that runs the script is used as it is."""
    out = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"],
        env={**os.environ, "LABKIT_NO_VENV": "1", "LABKIT_VENV": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "commands" in out.stdout
