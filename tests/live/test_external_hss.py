"""Another HSS in the place of ours: LABKIT_HSS names python-diameter with a Cx application, which runs on this host."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_core_live import make_phone, registered, run

from labkit.cli.main import main
from labkit.errors import CallFailed, StackError
from labkit.lab.docker_client import connect
from labkit.lab.docker_network import gateway_of
from labkit.lab.lab import RunningLab, attach, start_lab

SCRIPT = Path(__file__).resolve().parents[1] / "independent_hss.py"


def place_of(engine: str) -> str:
    """An address of this host that the nodes reach: loopback, or the gateway of Docker's own bridge."""
    if engine == "local":
        return "127.200.7.7"
    (network,) = [one for one in connect().networks(names=["bridge"]) if one["Name"] == "bridge"]
    return gateway_of(network)


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def external(engine_name: str) -> Iterator[str]:
    """Where the other HSS listens, as LABKIT_HSS has it."""
    pytest.importorskip("diameter")
    address = place_of(engine_name)
    port = free_port(address)
    command = [sys.executable, str(SCRIPT), address, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield f"{address}:{port}"
        process.kill()


@pytest.fixture(scope="module")
def other(engine_name: str, external: str, live_home: Path) -> Iterator[RunningLab]:
    """A lab without an HSS of its own."""
    os.environ["LABKIT_HSS"] = external
    try:
        lab = start_lab(f"other-{engine_name}", engine_name, progress=lambda line: None)
    finally:
        del os.environ["LABKIT_HSS"]
    yield lab
    lab.stop()


def test_registration_and_call(other: RunningLab) -> None:
    """The core is ready when it has found that HSS: alice and bob register, she calls him, both leave."""

    async def scene() -> None:
        async with registered(other, "alice", "bob", auto_answer=True) as (alice, _):
            await alice.reregister()
            await alice.set_sqn(alice.sqn_ms + 4096)  # ahead of that HSS: AUTS, a second MAR
            await alice.reregister()
            call = await alice.call("bob")
            await call.bye()
        async with registered(other, "alice") as (alice,):
            for callee, status in (("bob", "480"), (f"sip:nobody@{other.realm}", "604")):
                with pytest.raises(CallFailed, match=status):
                    await alice.call(callee)

    run(scene)


def test_somebody_whom_it_does_not_know(other: RunningLab) -> None:
    """Its answers decide, not our file's."""

    async def scene() -> None:
        async with make_phone(other, "mallory") as mallory:
            with pytest.raises(CallFailed) as refused:
                await mallory.register()
            assert refused.value.status == 403

    run(scene)


def test_the_lab_knows_that_it_is_not_its_own(
    other: RunningLab, external: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No node of it runs here; status says where it is; its door and faults about it are refused in a sentence."""
    address, _, port = external.partition(":")
    assert "hss" not in other.record.nodes
    (hss,) = [node for node in other.status()["nodes"] if node["name"] == "hss"]
    assert (hss["state"], hss["addresses"], hss["ports"]) == ("external", [address], {"diameter": port})
    assert main(["status", "--name", other.name]) == 0
    assert "external" in capsys.readouterr().out
    with pytest.raises(StackError, match=f"external, at {address}"):
        _ = other.hss
    with pytest.raises(StackError, match=f"hss is external, at {address}"):
        other.inject("hss-down")
    with pytest.raises(StackError, match="not ours to start"):
        other.start_nodes(["hss"])


def test_another_process_knows_it_too(other: RunningLab, external: str) -> None:
    """What LABKIT_HSS said is kept with the lab: a node that is started again connects to the same HSS."""
    found = attach(other.name)
    assert found is not None
    assert not found.has_own_hss
    found.restart_node("icscf")
    assert found.ready("icscf")
    assert found.names()[external.partition(":")[0]] == "hss"

    async def scene() -> None:
        async with registered(other, "carol"):
            await asyncio.sleep(0)

    run(scene)
