"""The command line: words that a newcomer understands, exit codes that mean something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.cli import exits
from labkit.cli.main import main, make_parser
from labkit.cli.wipe import in_short
from labkit.errors import EngineMissing, LabkitError, StackError

COMMANDS = (
    "up",
    "down",
    "status",
    "doctor",
    "wipe",
    "test",
    "execute",
    "record",
    "subscribers",
    "logs",
    "decode",
    "ladder",
)


@pytest.mark.parametrize("command", [*COMMANDS, "base-image", "compose"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`./lab COMMAND --help` says in a sentence what it does."""
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"./lab {command}" in text
    assert len(text) > 150


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """`./lab --help` names each command and what exit codes mean."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "exit codes" in text
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("words", [[], ["upp"], ["up", "--engine", "vmware"], ["decode", "x", "--only", "http"]])
def test_wrong_use_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that cannot be understood does nothing and returns 2."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == exits.WRONG_USE
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StackError("the S-CSCF is down"), exits.FAILED),
        (EngineMissing("no daemon"), exits.MISSING),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_a_sentence_and_an_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of ours is printed without a traceback; its kind decides the exit code."""

    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr("labkit.cli.down.run", fail)
    assert main(["down"]) == code
    said = capsys.readouterr().err
    assert said.startswith("lab: ")
    assert "Traceback" not in said


def test_traceback_is_there_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --traceback the error itself comes out."""

    def fail(args: object) -> int:
        raise StackError("the S-CSCF is down")

    monkeypatch.setattr("labkit.cli.down.run", fail)
    with pytest.raises(LabkitError):
        main(["--traceback", "down"])


def test_help_is_quick_to_load() -> None:
    """Describing all commands loads neither pandas nor docker nor an engine."""
    code = "import sys; from labkit.cli.main import make_parser; make_parser(); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("pandas", "docker", "plotly", "cryptography", "nbformat", "labkit.lab.lab"):
        assert f"'{name}'" not in loaded, name


def test_subscribers_json_has_the_keys_a_phone_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """`subscribers --json` gives identities, K, OPc and AMF, which another phone could use."""
    assert main(["subscribers", "--json"]) == exits.OK
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    alice = rows["alice"]
    assert alice["impi"] == "001010000000001@ims.mnc001.mcc001.3gppnetwork.org"
    assert "sip:alice@ims.mnc001.mcc001.3gppnetwork.org" in alice["impus"]
    assert [len(alice[key]) for key in ("k", "opc", "amf")] == [32, 32, 4]
    assert rows["dave"]["auth"] == "digest"


def test_status_without_a_lab(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no lab runs, `status` says how to start one and `status --json` is null; both fail."""
    assert main(["status"]) == exits.FAILED
    assert "./lab up" in capsys.readouterr().out
    assert main(["status", "--json"]) == exits.FAILED
    assert json.loads(capsys.readouterr().out) is None


def test_down_without_a_lab_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    """Stopping what does not run is no failure."""
    assert main(["down"]) == exits.OK
    assert main(["down", "--all"]) == exits.OK
    assert "no lab" in capsys.readouterr().out


def test_logs_without_a_lab_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that needs a lab names the one that starts it."""
    assert main(["logs", "hss"]) == exits.FAILED
    assert "./lab up" in capsys.readouterr().err


def test_unknown_lesson_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong lesson number is answered with the right ones."""
    assert main(["execute", "77"]) == exits.FAILED
    assert "no lesson '77'" in capsys.readouterr().err


RECORDING = "tests/data/ims/01_first_registration.pcap"


def test_decode_to_csv_and_parquet(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`decode` writes one row a message in the format that the name asks for."""
    import pandas as pd

    for name in ("out.csv", "out.parquet"):
        assert main(["decode", str(project / RECORDING), "--to", str(tmp_path / name)]) == exits.OK
    csv, parquet = pd.read_csv(tmp_path / "out.csv"), pd.read_parquet(tmp_path / "out.parquet")
    assert len(csv) == len(parquet) > 10
    assert {300, 301, 303} <= set(parquet["command_code"].dropna())


def test_decode_spares_the_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`decode` asks numpy for one thread and Arrow for plain memory, unless the user has said what he wants."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "")
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL")
    assert main(["decode", str(project / RECORDING)]) == exits.OK
    assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "system"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a file that is always full")
def test_a_full_disk_behind_the_output_is_said(project: Path) -> None:
    """`./lab decode FILE > FULL` is a sentence, not a traceback."""
    command = [sys.executable, "-m", "labkit", "decode", str(project / RECORDING)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=project)
    assert (done.returncode, done.stderr) == (1, "lab: Nothing more can be written: there is no space left.\n")


@pytest.mark.parametrize("words", [["decode", "none.pcap", "--to", "o.csv"], ["ladder", "none.pcap"]])
def test_absent_file_is_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A capture file that is not there is a sentence, not a traceback."""
    assert main(words) == exits.FAILED
    assert "none.pcap" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["decode", RECORDING, "--to", "out.xlsx"], ["ladder", RECORDING, "--to", "out.txt"]])
def test_wrong_endings_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A target whose name says no known format is wrong use."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == exits.WRONG_USE
    assert "must end in" in capsys.readouterr().err


def test_ladder_as_text_and_as_page(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`ladder` prints text, or writes a page that needs no network."""
    assert main(["ladder", str(project / RECORDING)]) == exits.OK
    assert "REGISTER" in capsys.readouterr().out
    assert main(["ladder", str(project / RECORDING), "--to", str(tmp_path / "ladder.html")]) == exits.OK
    page = (tmp_path / "ladder.html").read_text()
    assert "plotly" in page.lower()
    assert '<script src="http' not in page


def test_names_of_a_recording_are_used(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a recording stands a .json with the names of nodes and phones: the ladder shows them."""
    capture = tmp_path / "first.pcap"
    capture.write_bytes((project / RECORDING).read_bytes())
    capture.with_suffix(".json").write_text(json.dumps({"names": {"172.30.0.13": "pcscf", "172.30.0.1": "alice"}}))
    assert main(["ladder", str(capture)]) == exits.OK
    assert capsys.readouterr().out.split()[:2] == ["alice", "pcscf"]
    for broken in ("[]", "no json", '{"names": 3}'):
        capture.with_suffix(".json").write_text(broken)
        assert main(["ladder", str(capture)]) == exits.OK


def test_wipe_tells_processes_in_short() -> None:
    """The dozens of processes of one lab are one line."""
    lines = ["process kamailio (pid 1) of pcscf in lab-1", "process kamailio (pid 2) of pcscf in lab-1", "folder /x"]
    assert in_short(lines) == ["2 processes of lab-1", "folder /x"]
