"""`./lab doctor`: each thing that can be missing is named, with its cure."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from labkit.cli import doctor, exits
from labkit.cli.doctor import MISSING, NOTE, OK, Finding
from labkit.cli.main import main
from labkit.errors import DockerNotRunning


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def engines(monkeypatch: pytest.MonkeyPatch, **reasons: str | None) -> None:
    """Let these engines give these reasons."""
    monkeypatch.setattr(
        "labkit.lab.choice.make_engine", lambda name: SimpleNamespace(available=lambda: reasons[name], leftovers=list)
    )


def test_old_python_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python outside 3.11 to 3.13 is told how to be replaced."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 1, "final", 0))
    finding = only(doctor.python())
    assert finding.state == MISSING
    assert "LABKIT_PYTHON" in finding.cure


def test_full_disk_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 2 GB is too little; the cure names what fills disks."""
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=5e8))
    findings = list(doctor.disk())
    assert findings
    assert all(finding.state == MISSING and "0.5 GB free" in finding.text for finding in findings)


def test_absent_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that labkit asks for and that is not there is missing; one of another version is only a note."""
    assert {"pandas", "scapy"} <= set(doctor._named())
    monkeypatch.setattr(doctor, "_named", lambda: ["pytest", "no-such-package"])
    finding = only(doctor.packages())
    assert (finding.state, finding.text) == (MISSING, "absent: no-such-package")
    monkeypatch.setattr(doctor, "_named", lambda: ["pytest"])
    monkeypatch.setattr(doctor, "_lock_lines", lambda: ["pytest==0.1", "only-for-old-pythons==1.0"])
    finding = only(doctor.packages())
    assert (finding.state, finding.text[:31]) == (NOTE, "2 differ from requirements.lock")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="live engines run on Linux")
def test_one_live_engine_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker missing is a note where local works, and a failure where nothing live does; its cure is said."""
    engines(monkeypatch, docker="the daemon is not running; start it", local=None)
    assert [finding.state for finding in doctor.engines()] == [NOTE, OK, OK]
    engines(monkeypatch, docker="the daemon is not running; start it", local="no apt-get")
    states = list(doctor.engines())
    assert [finding.state for finding in states] == [MISSING, MISSING, OK]
    assert "start it" in states[0].text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the local engine runs on Linux")
@pytest.mark.parametrize(("kind", "word"), [(socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")])
def test_a_program_on_port_5060_of_every_address_is_named(kind: int, word: str) -> None:
    """Who holds 0.0.0.0:5060 keeps the local engine from starting; it is named, and how to stop it."""
    with socket.socket(socket.AF_INET, kind) as holder:
        try:
            holder.bind(("0.0.0.0", 5060))
        except OSError:
            pytest.skip("port 5060 is in use on this machine")
        if kind == socket.SOCK_STREAM:
            holder.listen()
        finding = only(doctor.sip_port())
    assert finding.state == MISSING
    assert f"process {os.getpid()}" in finding.text
    assert finding.subject == f"port 5060/{word}"
    assert "systemctl disable --now kamailio" in finding.cure


def test_taken_jupyter_port_is_only_a_note() -> None:
    """JupyterLab takes the next free port, so a taken 8888 is no failure."""
    with socket.socket() as holder:
        try:
            holder.bind(("127.0.0.1", 8888))
        except OSError:
            pass  # somebody holds it already: just what is needed
        else:
            holder.listen()
        assert only(doctor.jupyter_port()).state == NOTE


def test_no_right_to_sniff_is_only_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_NET_RAW the local engine mirrors; doctor says so and what would change it."""
    monkeypatch.setattr("labkit.capture.source.can_sniff", lambda *args: False)
    finding = only(doctor.packet_rights())
    assert finding.state == NOTE
    assert "mirrored" in finding.text


def test_what_a_running_lab_holds_is_no_leftover(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a lab that runs are its own; those of a lab that no record knows are left over."""
    lines = ["process kamailio (pid 7) of pcscf in lab-aaaaaa", "process kamailio (pid 8) of pcscf in old-bbbbbb"]
    monkeypatch.setattr(doctor, "_leftovers_of", lambda engine: lines[:])
    engines(monkeypatch, docker=None, local=None)
    monkeypatch.setattr("labkit.lab.lab.list_labs", lambda: [SimpleNamespace(id="lab-aaaaaa")])
    text = " ".join(f"{finding.state} {finding.text}" for finding in doctor.leftovers())
    assert "running: lab-aaaaaa" in text
    assert "processes of old-bbbbbb" in text
    assert "processes of lab-aaaaaa" not in text


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """One check that cannot be made does not keep the others from being made."""

    def broken() -> Iterator[Finding]:
        raise DockerNotRunning("the daemon went away")
        yield

    broken.__name__ = "engines"
    monkeypatch.setattr(doctor, "engines", broken)
    subjects = {finding.subject: finding for finding in doctor.examine()}
    assert "went away" in subjects["engines"].text
    assert "Python" in subjects


@pytest.mark.parametrize(("state", "code"), [(OK, exits.OK), (NOTE, exits.OK), (MISSING, exits.MISSING)])
def test_exit_code_says_whether_something_is_missing(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """3 when something is missing, 0 with notes only; the cure stands below its finding."""
    monkeypatch.setattr(doctor, "examine", lambda: iter([Finding("disk", state, "full", "make room")]))
    assert main(["doctor"]) == code
    assert "-> make room" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out)[0]["state"] == state


@pytest.mark.parametrize(("reached", "state"), [(True, OK), (False, MISSING), (None, NOTE)])
def test_a_firewall_that_silences_phones_is_found(
    monkeypatch: pytest.MonkeyPatch, reached: bool | None, state: str
) -> None:
    """A container's datagram arrives: fine; it does not: the cure names the usual firewalls; no image yet: said."""
    engines(monkeypatch, docker=None)
    monkeypatch.setattr("labkit.lab.docker_reach.container_reaches_host", lambda: reached)
    finding = only(doctor.firewall())
    assert finding.state == state
    if state == MISSING:
        assert all(word in finding.cure for word in ("ufw", "firewall-cmd", "iptables", "--engine local"))


def test_without_docker_there_is_no_firewall_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local engine never leaves loopback."""
    engines(monkeypatch, docker="no daemon")
    assert list(doctor.firewall()) == []
