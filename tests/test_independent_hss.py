"""The HSS that is not ours says the same as ours to the same requests, as far as it goes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cx_client import REALM, SCSCF, USERS, CxClient, outcome, running_hss

from labkit.wire.aka import Milenage, answer_challenge, build_auts

ALICE, BOB = USERS["alice"], USERS["bob"]


@pytest.fixture
def other_port() -> Iterator[int]:
    """An independent HSS that runs; its port."""
    pytest.importorskip("diameter")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    script = Path(__file__).with_name("independent_hss.py")
    with subprocess.Popen(
        [sys.executable, str(script), "127.0.0.1", str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield port
        finally:
            process.kill()


async def _conversation(port: int) -> list[tuple[str, tuple[int, bool], list[str]]]:
    """Play a registration, a call and a de-registration; return each answer's name, result and AVPs of its own."""
    said = []
    common = {"Session-Id", "Vendor-Specific-Application-Id", "Auth-Session-State", "Origin-Host", "Origin-Realm"}
    nobody = type(ALICE)("x", f"nobody@{REALM}", (f"sip:nobody@{REALM}",), "aka")
    async with CxClient(port) as client:
        for asking in (
            client.uar(ALICE),
            client.uar(nobody),
            client.uar(ALICE, BOB.impus[0]),
            client.lir(ALICE.impus[0]),
            client.mar(ALICE, scheme="Unknown"),
            client.uar(ALICE),
            client.sar(ALICE, 1),
            client.lir(ALICE.impus[2]),
            client.uar(ALICE, kind=1),
            client.sar(ALICE, 5),
            client.uar(ALICE),
            client.uar(ALICE, kind=1),
            client.lir("sip:nobody@nowhere"),
        ):
            answer = await asking
            own = sorted(avp.name for avp in answer.avps if avp.name not in common)
            said.append((answer.name, outcome(answer), own))
    return said


async def _ours() -> list[tuple[str, tuple[int, bool], list[str]]]:
    async with running_hss() as hss:
        return await _conversation(hss.diameter_port)


def test_the_two_agree(other_port: int) -> None:
    """Both HSSs give each request of a subscriber's day the same result, with the same AVPs."""
    ours = asyncio.run(asyncio.wait_for(_ours(), 20))
    theirs = asyncio.run(asyncio.wait_for(_conversation(other_port), 20))
    assert len(ours) == 13
    assert theirs == ours


def test_vectors_of_the_other(other_port: int) -> None:
    """A SIM takes its challenge, and one after AUTS."""

    async def talk() -> None:
        sim = Milenage(ALICE.k, ALICE.opc)
        async with CxClient(other_port) as client:
            item = (await client.mar(ALICE)).find("SIP-Auth-Data-Item").find("SIP-Authenticate").raw
            assert answer_challenge(sim, item[:16], item[16:], 0).res
            auts = build_auts(sim, item[:16], 1_000_000)
            maa = await client.mar(ALICE, authorization=item[:16] + auts)
            item = maa.find("SIP-Auth-Data-Item").find("SIP-Authenticate").raw
            assert answer_challenge(sim, item[:16], item[16:], 1_000_000).res
            assert (await client.uar(ALICE)).find("Server-Name").value == SCSCF

    asyncio.run(asyncio.wait_for(talk(), 20))
