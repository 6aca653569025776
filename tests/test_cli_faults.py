"""`./lab faults`, `./lab break`, `./lab heal` and what `./lab status` says meanwhile. On the stub lab."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub import remains, use_stub_lab

from labkit.cli import exits
from labkit.cli.main import main
from labkit.lab.faults import faults
from labkit.lab.lab import RunningLab, start_lab
from labkit.lab.local import LocalEngine

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the local engine needs Linux")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A home of its own for each test, with nothing left at its end."""
    folder = tmp_path / "home"
    use_stub_lab(monkeypatch, folder)
    monkeypatch.delenv("LABKIT_NAME", raising=False)
    yield folder
    LocalEngine().wipe()


@pytest.fixture
def lab(home: Path) -> RunningLab:
    return start_lab("lab", "local", progress=lambda line: None)


def test_the_list_needs_no_lab(capsys: pytest.CaptureFixture[str]) -> None:
    """Every fault with what it does, the symptom and its limit; as JSON too."""
    assert main(["faults"]) == exits.OK
    said = capsys.readouterr().out
    assert all(f"{name}  (limit 300 s)" in said for name in faults)
    assert main(["faults", "--json"]) == exits.OK
    shown = json.loads(capsys.readouterr().out)
    assert [fault["name"] for fault in shown] == list(faults)
    assert {fault["until"] for fault in shown} == {None}


def test_break_status_heal(lab: RunningLab, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is broken says what to expect, stands in the status and in the list, and is mended by `heal`."""
    assert main(["break", "hss-down", "--for", "120"]) == exits.OK
    said = capsys.readouterr().out
    assert faults["hss-down"].symptom in said
    assert "in 120 s" in said
    assert main(["status"]) == exits.FAILED
    assert "FAULT hss-down: the HSS is stopped; heals itself in 1" in capsys.readouterr().out
    main(["status", "--json"])
    assert json.loads(capsys.readouterr().out)["faults"][0]["name"] == "hss-down"
    main(["faults"])
    assert "hss-down  (IN, heals itself in 1" in capsys.readouterr().out
    assert main(["heal", "hss-slow"]) == exits.OK
    assert "hss-slow is not in" in capsys.readouterr().out
    assert main(["heal"]) == exits.OK
    assert capsys.readouterr().out == "healed hss-down\n"
    assert main(["status"]) == exits.OK
    assert main(["heal", "all"]) == exits.OK
    assert "nothing is broken" in capsys.readouterr().out
    lab.stop()
    assert remains(home) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["break", "nothing-like-that"], "there is no fault 'nothing-like-that'; there are hss-down"),
        (["heal", "nothing-like-that"], "there is no fault 'nothing-like-that'"),
        (["break", "hss-slow", "delay_s"], "write KEY=VALUE"),
        (["break", "hss-slow", "delay_s=long"], "is a number, not 'long'"),
        (["break", "hss-down", "user=bob"], "has no option 'user'; it has none"),
        (["break", "hss-down", "--for", "0"], "may stay for up to 3600 s, not for 0"),
        (["break", "hss-down", "--name", "other"], "No lab named 'other' runs"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    lab: RunningLab, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    """A wrong name, option, limit or lab: exit code 1, a sentence, and nothing is broken."""
    assert main(words) == exits.FAILED
    assert sentence in capsys.readouterr().err
    assert lab.status()["faults"] == []
