"""The capture container: what it may do, and that it ends with the process that reads it, however that one ends."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.lab.docker_client import connect
from labkit.lab.lab import RunningLab, start_lab

pytestmark = pytest.mark.docker

READER = """
import sys, time
from labkit.lab.lab import attach
sniffer = attach("sniffed").sniffer()
sniffer.start()
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def api() -> Any:
    """The daemon, asked past the engine."""
    return connect()


@pytest.fixture(scope="module")
def running(live_home: Path) -> Iterator[RunningLab]:
    """A lab of one node: there is a bridge to listen to."""
    lab = start_lab("sniffed", "docker", ["hss"], progress=lambda line: None)
    yield lab
    lab.stop()


def capture_containers(api: Any, lab: RunningLab) -> list[str]:
    """Ids of the lab's containers that are no node."""
    found = api.containers(all=True, filters={"label": f"labkit.lab={lab.id}"})
    return [one["Id"] for one in found if "labkit.node" not in one["Labels"]]


def wait_until_gone(api: Any, lab: RunningLab, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while capture_containers(api, lab):
        assert time.monotonic() < deadline, "the capture container is still there"
        time.sleep(0.1)


def test_it_may_sniff_and_nothing_else(api: Any, running: RunningLab) -> None:
    """NET_RAW is its only capability, its root is read-only, and it writes no log that could grow."""
    sniffer = running.sniffer()
    sniffer.start()
    try:
        (key,) = capture_containers(api, running)
        host = api.inspect_container(key)["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert [name.removeprefix("CAP_") for name in host["CapAdd"]] == ["NET_RAW"]
        assert host["ReadonlyRootfs"] is True
        assert "no-new-privileges" in host["SecurityOpt"]
        assert host["LogConfig"]["Type"] == "none"
        assert not host["Binds"]
    finally:
        sniffer.stop()
    wait_until_gone(api, running)


def test_it_sees_what_is_sent_between_two_marks(running: RunningLab) -> None:
    """Asking the HSS something is seen; what was asked before the first mark is not."""
    sniffer = running.sniffer()
    sniffer.start()
    try:
        running.hss.subscribers()
        first = sniffer.mark()
        running.hss.subscribers()
        second = sniffer.mark()
        seen = sniffer.frames(first, second)
    finally:
        sniffer.stop()
    assert sum(b"GET " in raw for _time_ns, _linktype, raw in seen) == 1


def test_it_sees_what_phones_send_to_each_other(running: RunningLab) -> None:
    """That crosses no bridge, since all phones share the host's address on it: each datagram is seen once."""
    address, _port = running.phone_address(0)
    sniffer = running.sniffer()
    sniffer.start()
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            one.bind((address, 0))
            other.bind((address, 0))
            first = sniffer.mark()
            for number in range(20):
                one.sendto(b"sound %d" % number, other.getsockname())
            seen = sniffer.frames(first, sniffer.mark())
    finally:
        sniffer.stop()
    assert [raw[42:] for _time_ns, _linktype, raw in seen if raw[42:47] == b"sound"] == [
        b"sound %d" % number for number in range(20)
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a thing of Unix")
def test_it_ends_with_its_reader(api: Any, running: RunningLab) -> None:
    """A kernel that is killed in the middle of a capture leaves no container that listens for ever."""
    reader = subprocess.Popen([sys.executable, "-c", READER], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"started\n"
    assert len(capture_containers(api, running)) == 1
    reader.kill()
    reader.wait(timeout=10)
    reader.stdout.close()
    wait_until_gone(api, running)
    assert running.engine.state(running.record, "hss").state == "running"
