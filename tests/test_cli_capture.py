"""`./lab capture`: what it prints and what it leaves, with a source of packets that needs no lab and no right."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from labkit.capture.mirror_source import MirrorSniffer
from labkit.capture.table import read_capture
from labkit.cli.main import main
from labkit.wire.hep import HepPacket
from tests.view_messages import recording

COLLECTOR = (f"127.204.{os.getpid() % 250 + 1}.2", 19060)


class MirroredLab:
    """As much of a running lab as the command asks for."""

    name, engine_name = "mirrored", "local"

    def __init__(self) -> None:
        self.heard = MirrorSniffer(COLLECTOR)
        self.watched = threading.Event()

    def sniffer(self) -> MirrorSniffer:
        """Collects what the test sends."""
        return self.heard

    def names(self) -> dict[str, str]:
        """Of two nodes."""
        return {"172.30.0.13": "pcscf", "172.30.0.11": "icscf", "172.30.0.12": "scscf", "172.30.0.10": "hss"}

    def phone_address(self, index: int) -> tuple[str, int]:
        """As the recordings have it."""
        return "172.30.0.1", 6001 + index


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> MirroredLab:
    """The lab that runs, on a terminal of 120 columns."""
    running = MirroredLab()

    def say(line: str) -> None:
        print(line, file=sys.stderr)
        if line.startswith("Watching"):
            running.watched.set()

    monkeypatch.setattr("labkit.lab.lab.attach", lambda name: running)
    monkeypatch.setattr("labkit.cli.capture._say", say)
    monkeypatch.setenv("COLUMNS", "120")
    return running


def watch_a_registration(lab: MirroredLab, *options: str) -> None:
    """Run the command; nodes send copies of the recorded registration, and then comes Ctrl-C."""
    messages = recording("01")
    ends = messages.table[["src", "src_port", "dst", "dst_port", "transport"]].itertuples(index=False)

    def send() -> None:
        assert lab.watched.wait(60)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
            now_us = time.time_ns() // 1000
            for place, (end, raw) in enumerate(zip(ends, messages.raw, strict=True)):
                node.sendto(HepPacket(*end, now_us + place, 1, raw, 1).to_bytes(), COLLECTOR)
        os.kill(os.getpid(), signal.SIGINT)

    sending = threading.Thread(target=send)
    sending.start()
    assert main(["capture", *options]) == 0
    sending.join()


def test_a_ladder_grows_and_a_file_is_left(
    lab: MirroredLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a message in the order of the wire, names of nodes above; Ctrl-C leaves a whole file of all packets."""
    path = tmp_path / "seen.pcapng"
    watch_a_registration(lab, "--ladder", "--to", str(path))
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split() == ["alice", "pcscf", "icscf", "scscf", "hss", "message"]
    assert len(lines) == 1 + 18
    assert "UAA DIAMETER_FIRST_REGISTRATION" in lines[4]
    assert "18 messages, 0 retransmissions, no packet lost" in said.err
    kept = read_capture(path)
    assert len(kept) == 18
    assert not kept.warning
    assert kept.table["dst_node"].iloc[0] == "pcscf"


def test_without_ladder_every_line_is_a_sentence(lab: MirroredLab, capsys: pytest.CaptureFixture[str]) -> None:
    """For narrow terminals, for grep and for screen readers."""
    watch_a_registration(lab)
    assert capsys.readouterr().out.splitlines()[0].endswith("s  alice -> pcscf: REGISTER (call-1, CSeq 36)")


def test_it_ends_by_itself_when_its_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    """`--seconds`: exit code 0, and what was seen in one line, be it nothing."""
    assert main(["capture", "--seconds", "0.2"]) == 0
    assert "0 packets, 0 messages" in capsys.readouterr().err


def test_another_engine_than_the_running_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence says which engine the lab is on."""
    assert main(["capture", "--engine", "docker"]) == 1
    assert "runs on local" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_before_anything_is_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the reason."""
    assert main(["capture", "--to", str(tmp_path / "absent" / "x.pcapng")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
