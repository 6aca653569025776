"""Records that survive their writer, and the choice of an engine."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import EngineMissing, StackError
from labkit.lab.choice import choose_engine, make_engine
from labkit.lab.record import Record, home_folder, labs_folder


class Here:
    """An engine that can or cannot run."""

    def __init__(self, name: str, reason: str | None) -> None:
        self.name, self._reason = name, reason

    def available(self) -> str | None:
        return self._reason


def maker(**reasons: str | None) -> Any:
    return lambda name: Here(name, reasons[name])


def test_auto_takes_docker_first() -> None:
    """Where a daemon answers, the choice is docker, and one sentence says why."""
    choice = choose_engine("auto", make=maker(docker=None, local=None))
    assert choice.name == "docker"
    assert choice.engine is not None
    assert "a Docker daemon answers" in choice.sentence


def test_auto_takes_local_without_docker_and_says_how_to_get_better() -> None:
    """Without Docker the choice is local; the sentence holds docker's reason, which is its cure."""
    choice = choose_engine("auto", make=maker(docker="no daemon answers; start it", local=None))
    assert choice.name == "local"
    assert "no daemon answers; start it" in choice.sentence


def test_auto_falls_back_to_replay() -> None:
    """With neither engine, lessons are replayed, and both reasons are told."""
    choice = choose_engine("auto", make=maker(docker="no daemon.", local="no Linux."))
    assert (choice.name, choice.engine) == ("replay", None)
    assert "no daemon" in choice.sentence
    assert "no Linux" in choice.sentence


def test_an_engine_that_was_asked_for_and_is_missing_is_an_error() -> None:
    """Asking by name never ends with another engine."""
    with pytest.raises(EngineMissing, match="no daemon"):
        choose_engine("docker", make=maker(docker="no daemon", local=None))
    assert choose_engine("local", make=maker(docker=None, local=None)).name == "local"
    assert choose_engine("replay", make=maker()).engine is None
    with pytest.raises(EngineMissing, match="no engine 'podman'"):
        make_engine("podman")


def record(**changes: Any) -> Record:
    fields = {"id": "lab-123456", "name": "lab", "engine": "local", "started": "2026-01-01T00:00:00+00:00"}
    return Record(**{**fields, **changes})


def test_a_record_comes_back_from_disk_as_it_was() -> None:
    """What is saved is loaded, by any process, and only its user may read it: it holds the admin doors' token."""
    first = record(token="secret", nodes={"hss": {"pid": 1, "start_ticks": 2}}, faults={"x": {"options": {}}})
    first.save()
    assert Record.load(labs_folder() / "lab") == first
    assert stat.S_IMODE((first.folder / "lab.json").stat().st_mode) == 0o600
    assert [p.name for p in first.folder.iterdir()] == ["lab.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"id": "x"}'])
def test_a_damaged_record_counts_as_none(text: str) -> None:
    """A file that is no record is not a reason to fail."""
    folder = labs_folder() / "lab"
    folder.mkdir(parents=True)
    (folder / "lab.json").write_text(text)
    assert Record.load(folder) is None


def test_a_record_of_a_newer_labkit_is_read_as_far_as_known() -> None:
    """Fields that this version does not know are left out."""
    record().save()
    path = labs_folder() / "lab" / "lab.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "red"}))
    assert Record.load(path.parent) == record()


def test_a_home_that_cannot_be_written_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the file and the way out."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file"))
    with pytest.raises(StackError, match="point LABKIT_HOME at another folder"):
        record().save()


def test_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """LABKIT_HOME, else the user's state folder."""
    monkeypatch.setenv("LABKIT_HOME", "~/there")
    assert home_folder() == Path.home() / "there"
    monkeypatch.delenv("LABKIT_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert home_folder() == Path("/state/labkit")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert home_folder() == Path.home() / ".local/state/labkit"
