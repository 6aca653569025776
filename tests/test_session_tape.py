"""The tape: what was answered live is answered again in replay, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from labkit.clients.cgrates import Cdr
from labkit.errors import CallFailed, NodeNotReady, ReplayError
from labkit.session import values
from labkit.session.tape import Tape, tape_from
from labkit.session.taped import Switchboard, Taped
from labkit.wire import sip

RESPONSE = b"SIP/2.0 200 OK\r\nCall-ID: a\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"


class Bell:
    """Something with the shapes of a phone: a coroutine that returns a handle, an error, a property."""

    def __init__(self) -> None:
        self.rung = 0

    async def ring(self, times: int = 1) -> int:
        """Ring it."""
        self.rung += times
        return self.rung

    async def break_down(self) -> None:
        raise CallFailed("no sound", status=480, reason="Temporarily Unavailable", raw=b"x")

    async def clapper(self) -> Clapper:
        return Clapper()

    @property
    def count(self) -> int:
        return self.rung


class Clapper:
    async def swing(self) -> str:
        return "swung"


def session(live: bool, calls: list[dict] | None = None) -> tuple[Switchboard, Taped]:
    board = Switchboard(tape_from("99", "t", calls or []), live=live)
    board.hand_out(Clapper)
    return board, Taped(board, "bell", Bell, Bell() if live else None)


def test_a_long_argument_is_not_told_whole() -> None:
    """What the recording does not hold is named by its first line: a routing block has many."""
    with pytest.raises(ReplayError) as caught:
        tape_from("06", "lesson", []).play("proxy.start", {"text": "\nrequest_route {\n    exit;\n}\n"})
    assert "text='request_route {' and 2 more lines" in str(caught.value)


async def play_through(bell: Taped) -> list[object]:
    """What a lesson does; the same cell live and in replay."""
    seen: list[object] = [await bell.ring(), await bell.ring(times=2), await bell.ring(), bell.count]
    clapper = await bell.clapper()
    seen += [repr(clapper), await clapper.swing()]
    with pytest.raises(CallFailed, match="no sound") as caught:
        await bell.break_down()
    return [*seen, caught.value.status, caught.value.raw]


def test_replay_gives_the_answers_of_the_live_run_also_through_a_json_file() -> None:
    """Values, errors with all they carry, handles and properties are the same in both modes."""
    board, bell = session(live=True)
    live = asyncio.run(play_through(bell))
    board.loop.stop()
    kept = json.loads(json.dumps(board.tape.calls))
    _, again = session(live=False, calls=kept)
    assert asyncio.run(play_through(again)) == live
    assert live[:4] == [1, 3, 4, 4]


def test_a_call_that_was_not_recorded_names_the_command_that_records_it() -> None:
    """Replay says in one sentence what it lacks, and never invents an answer."""
    _, bell = session(live=False, calls=[{"call": "bell.ring", "args": {}, "result": 1}])
    assert asyncio.run(bell.ring()) == 1
    with pytest.raises(ReplayError, match=r"bell.ring\(\) only 1 time;.*\./lab record 99"):
        asyncio.run(bell.ring())
    with pytest.raises(ReplayError, match=r"bell.ring\(times=3\) not at all"):
        asyncio.run(bell.ring(times=3))


def test_outside_a_capture_the_last_answer_may_be_asked_for_again() -> None:
    """Running such a cell twice is no error."""
    tape = tape_from("99", "lesson", [{"call": "x", "args": {}, "result": 5}], repeat_last=True)
    assert [tape.play("x", {})["result"] for _ in range(3)] == [5, 5, 5]


def test_positional_and_named_arguments_are_the_same_question() -> None:
    """A learner may write either."""
    _, bell = session(live=False, calls=[{"call": "bell.ring", "args": {"times": 2}, "result": 7}])
    assert asyncio.run(bell.ring(2)) == 7


def test_wrong_arguments_fail_in_replay_as_they_would_live() -> None:
    """The real class's signature rules."""
    _, bell = session(live=False)
    with pytest.raises(TypeError):
        asyncio.run(bell.ring(volume=11))


def test_the_phone_s_own_names_and_help_are_shown() -> None:
    """Tab completion and docstrings come from the real class."""
    _, bell = session(live=False)
    assert {"ring", "clapper", "count"} <= set(dir(bell))
    assert bell.ring.__doc__ == "Ring it."


def test_values_survive_json() -> None:
    """Bytes, SIP messages and nested plain values come back as they were."""
    message = sip.parse_message(RESPONSE)
    for value in (None, 1, "x", b"\x00\xff", {"a": [1, {"b": b"c"}]}, message):
        back = values.from_json(json.loads(json.dumps(values.to_json(value))))
        assert back == value or back.to_bytes() == message.to_bytes()


def test_a_tape_cannot_name_a_foreign_type() -> None:
    """A recording is a file from elsewhere: it must not make us import things."""
    with pytest.raises(ReplayError, match="names the type"):
        values.from_json({"$dataclass": "subprocess:Popen", "fields": {"args": "true"}})


def test_errors_keep_class_text_and_fields() -> None:
    """A replayed error is caught by the same except clause and shows the same text."""
    error = NodeNotReady("hss", awaited="port 3868", waited_s=2.0, hint="look")
    back = values.error_from_json(json.loads(json.dumps(values.error_to_json(error))))
    assert isinstance(back, NodeNotReady)
    assert str(back) == str(error)
    assert back.awaited == "port 3868"


def test_an_unknown_dataclass_is_kept_as_text_only_where_it_is_no_type_of_ours() -> None:
    """What a tape holds can always be read back or refused in one sentence."""

    @dataclasses.dataclass(frozen=True)
    class Foreign:
        x: int

    with pytest.raises(ReplayError):
        values.from_json(values.to_json(Foreign(1)))


def test_a_tape_can_be_rewound() -> None:
    """A capture cell that is run again starts from the first answer."""
    tape = Tape("t", "99", [{"call": "x", "args": {}, "result": 1}])
    assert tape.play("x", {})["result"] == 1
    tape.rewind()
    assert tape.play("x", {})["result"] == 1


def test_what_an_application_server_recorded_comes_back() -> None:
    """A server's URI and the requests that reached it are the same in replay, where nobody listens."""
    from labkit.peers.app_server import AppServer

    async def lesson(server: Any, send: bool) -> list[Any]:
        uri, before = server.uri, server.requests
        if send:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                lines = (
                    f"MESSAGE {uri} SIP/2.0",
                    "Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKx",
                    "From: <sip:a@b>;tag=1",
                )
                more = "To: <sip:as@b>", "Call-ID: c", "CSeq: 1 MESSAGE", "P-Served-User: <sip:u@h>;sescase=term"
                where = uri.partition("@")[2].split(":")
                sock.sendto("\r\n".join([*lines, *more, "", ""]).encode(), (where[0], int(where[1])))
        first = await server.wait_request("MESSAGE")
        await server.behave("silent")
        seen = server.requests
        await server.stop()
        return [uri, before, first, first.message.call_id, first.served_user, first.done, seen, server.mode]

    board = Switchboard(tape_from("99", "t", []), live=True)
    started = AppServer("as", address="127.0.0.1", port=0)

    def prepare() -> AppServer:
        board.loop.run_blocking(started.start())
        return started

    live = asyncio.run(lesson(Taped(board, "as", AppServer, None, prepare=prepare), send=True))
    board.loop.stop()
    kept = json.loads(json.dumps(board.tape.calls))
    again = Taped(Switchboard(tape_from("99", "t", kept), live=False), "as", AppServer, None)
    replayed = asyncio.run(lesson(again, send=False))
    assert live == replayed
    assert live[3:6] == ["c", "sip:u@h", "answered"]


def test_money_lengths_and_times_survive_json() -> None:
    """What the charging engine answers comes back exactly, digit for digit."""
    cdr = Cdr(
        "call-1",
        "*default",
        "*rated",
        "1001",
        "1001",
        "64",
        datetime(2026, 1, 5, 10, tzinfo=UTC),
        timedelta(seconds=61),
        Decimal("0.1610"),
        "*cdrs",
        "",
        "*voice",
        "call",
    )
    kept = json.loads(json.dumps(values.to_json([cdr])))
    (again,) = values.from_json(kept)
    assert again == cdr
    assert str(again.cost) == "0.1610"
