"""The charging trigger function, against the answers that CGrateS's DiameterAgent gave in a recording."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from labkit.capture.table import read_capture
from labkit.errors import ChargingEngineGone, PortBusy
from labkit.peers.charging_trigger import CONTEXT, ChargingTrigger, Grant
from labkit.wire.diameter import HEADER_SIZE, Message, message_length, parse_message

RECORDING = Path(__file__).parent / "data" / "rpc" / "credit_control.pcap"
ADDRESS = "127.83.1.1"
OWN = "127.83.1.2"
Answer = Callable[[Message], bytes | None]


def answers() -> list[bytes]:
    """The engine's own answers: CEA, then the CCAs."""
    return [raw for raw in read_capture(RECORDING).raw if not parse_message(raw).request]


def recorded(raws: Sequence[bytes]) -> Answer:
    """Give recorded answers one after the other, under the identifiers of the question."""
    waiting = list(raws)

    def answer(asked: Message) -> bytes:
        raw = waiting.pop(0)
        ids = asked.hop_by_hop_id.to_bytes(4, "big") + asked.end_to_end_id.to_bytes(4, "big")
        return raw[:12] + ids + raw[20:]

    return answer


def talk(answer: Answer, work: Callable[[ChargingTrigger], Awaitable[Any]], *, answer_s: float = 2.0) -> list[Message]:
    """Let the client talk to a server that answers so; what it was asked."""
    asked: list[Message] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(HEADER_SIZE):
            size = message_length(head) or HEADER_SIZE
            asked.append(parse_message(head + await reader.readexactly(size - HEADER_SIZE)))
            said = answer(asked[-1])
            if said is None:
                break
            writer.write(said[:7])  # in two pieces, as TCP may
            await writer.drain()
            await asyncio.sleep(0.002)
            writer.write(said[7:])
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, ADDRESS, 0)
        where = server.sockets[0].getsockname()
        client = ChargingTrigger("ctf", address=OWN, port=0, server=where, realm="lab.test", answer_s=answer_s)
        async with server, client:
            await work(client)

    asyncio.run(run())
    return asked


def test_a_session_is_asked_for_used_and_ended() -> None:
    """What was granted is what the engine's answers say; the questions carry what RFC 8506 wants."""
    seen: list[Grant] = []

    async def session(ctf: ChargingTrigger) -> None:
        who = ("call-1", "alice", "+15550002")
        seen.append(await ctf.initial(*who, asks_s=60))
        seen.append(await ctf.update(*who, used_s=60, asks_s=60))
        seen.append(await ctf.update(*who, used_s=30, asks_s=60))
        seen.append(await ctf.terminate(*who, used_s=0))

    cer, initial, update, _, terminate = talk(recorded(answers()), session)
    assert seen == [
        Grant(2001, "DIAMETER_SUCCESS", 60),
        Grant(2001, "DIAMETER_SUCCESS", 30),
        Grant(4012, "DIAMETER_CREDIT_LIMIT_REACHED", None),
        Grant(2001, "DIAMETER_SUCCESS", None),
    ]
    assert (cer.name, value(cer, "Auth-Application-Id")) == ("CER", 4)
    assert (initial.command_code, initial.application_id, initial.flags) == (272, 4, 0xC0)
    assert initial.avps[0].name == "Session-Id"
    assert value(initial, "Session-Id") == value(terminate, "Session-Id") == "ctf.lab.test;call-1"
    assert [value(one, "CC-Request-Type") for one in (initial, update, terminate)] == [1, 2, 3]
    assert [value(one, "CC-Request-Number") for one in (initial, update, terminate)] == [0, 1, 3]
    assert value(initial, "Service-Context-Id") == CONTEXT
    assert initial.find("Used-Service-Unit") is None
    assert update.find("Used-Service-Unit") is not None
    assert terminate.find("Requested-Service-Unit") is None


def test_everything_that_a_recorded_request_has_is_there() -> None:
    """The AVPs with which the recording was made are in ours too, but for those that name one peer."""

    async def ask(ctf: ChargingTrigger) -> None:
        await ctf.initial("call-1", "alice", "+15550002", asks_s=60)

    _, ours = talk(recorded(answers()), ask)
    theirs = next(parse_message(raw) for raw in read_capture(RECORDING).raw if parse_message(raw).name == "CCR")
    assert {avp.name for avp in theirs.avps} - {avp.name for avp in ours.avps} == {"User-Name", "Destination-Host"}


def test_no_answer_and_no_server_are_named() -> None:
    """Silence, a connection that ends in the middle, and nobody there."""

    async def ask(ctf: ChargingTrigger) -> None:
        with pytest.raises(ChargingEngineGone, match=expected):
            await ctf.initial("call-1", "alice", "+15550002", asks_s=60)

    capabilities = recorded(answers())
    expected = "has not answered in 0.2 s"
    talk(lambda asked: capabilities(asked) if asked.command_code == 257 else b"", ask, answer_s=0.2)
    capabilities = recorded(answers())
    expected = "closed the connection before it answered"
    talk(lambda asked: capabilities(asked) if asked.command_code == 257 else None, ask)

    async def alone() -> None:
        nobody = ChargingTrigger("ctf", address=OWN, port=0, server=(ADDRESS, 9), realm="lab.test")
        with pytest.raises(ChargingEngineGone, match="no charging system"):
            await nobody.start()
        with pytest.raises(ChargingEngineGone, match="not open"):
            await nobody.terminate("s", "alice", "1", used_s=0)

    asyncio.run(alone())


def test_a_port_that_is_taken_is_named() -> None:
    """So that a lab tries the next one."""

    async def twice() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, ADDRESS, 0)
        taken = await asyncio.start_server(lambda reader, writer: None, OWN, 0)
        port = taken.sockets[0].getsockname()[1]
        async with server, taken:
            client = ChargingTrigger(
                "ctf", address=OWN, port=port, server=server.sockets[0].getsockname(), realm="lab.test"
            )
            with pytest.raises(PortBusy, match=f"{OWN}:{port}"):
                await client.start()

    asyncio.run(twice())


def value(message: Message, name: str) -> Any:
    """The value of an AVP."""
    found = message.find(name)
    assert found is not None
    return found.value
