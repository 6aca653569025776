"""A balance that is watched, and a ledger kept by hand: live against a stand-in for the engine, and replayed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from labkit.clients.cgrates import Cgrates, Sample
from labkit.errors import ReplayError
from labkit.session import balance
from labkit.session.balance import BalanceWatch
from labkit.session.ledger import Ledger
from labkit.session.tape import Tape, tape_from
from labkit.session.taped import Switchboard, Taped


class Purse(Cgrates):
    """An account that loses a cent a look while a session is open; the session closes some looks after the end."""

    def __init__(self, cents: int, looks: int) -> None:
        self.cents, self.looks, self.taken = cents, looks, 0

    async def sample(self, account: str, began: float | None = None) -> Sample:
        """One look."""
        assert account == "alice"
        self.looks -= 1
        if self.looks > 0 and self.cents:
            self.cents, self.taken = self.cents - 1, self.taken + 1
        open_now = int(self.looks > 0)
        taken = Decimal(self.taken * open_now) / 100
        return Sample(float(-self.looks), Decimal(self.cents) / 100, open_now, taken)


def watched(purse: Purse) -> tuple[BalanceWatch, Tape]:
    """Look at it for the length of a short block."""
    tape = Tape("span", "16")
    board = Switchboard(tape, live=True)
    watch = BalanceWatch(board, Taped(board, "cgrates", Cgrates, purse), "alice")

    async def block() -> None:
        async with watch:
            await asyncio.sleep(0.25)

    asyncio.run(block())
    board.loop.stop()
    return watch, tape


def test_every_balance_is_seen_once_from_before_to_after() -> None:
    """The first look is over when the block begins; the last one comes when no session is open any more."""
    watch, _tape = watched(Purse(cents=4, looks=6))
    assert watch.steps == [Decimal(n) / 100 for n in (3, 2, 1, 0)]
    assert [sample.sessions for sample in watch.samples] == [1, 1, 1, 1, 1, 0]
    assert list(watch.table.columns) == ["time_s", "money", "sessions", "taken"]


def test_the_picture_moves_as_svg_and_stays_as_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """JupyterLab does not draw a plotly figure again: only the last one may be one."""
    shown: list[set[str]] = []

    class Shown:
        def update(self, picture: dict[str, Any], *, raw: bool) -> None:
            assert raw
            shown.append(set(picture))

    def display(picture: dict[str, Any]) -> Shown:
        shown.append(set(picture))
        return Shown()

    monkeypatch.setattr(balance, "_display", display)
    watched(Purse(cents=4, looks=6))
    assert len(shown) > 2
    assert all(one == {"text/html", "text/plain"} for one in shown[:-1])
    assert shown[-1] == {"application/vnd.plotly.v1+json", "text/plain"}


def test_a_replay_shows_what_was_seen() -> None:
    """The samples come from the tape; without them, one sentence says so."""
    watch, tape = watched(Purse(cents=3, looks=4))
    board = Switchboard(tape_from("16", "span", tape.calls), live=False)
    again = BalanceWatch(board, Taped(board, "cgrates", Cgrates, None), "alice")

    async def block(one: BalanceWatch) -> None:
        async with one:
            pass

    asyncio.run(block(again))
    assert again.samples == watch.samples
    with pytest.raises(ReplayError, match="record it anew"):
        asyncio.run(block(BalanceWatch(board, Taped(board, "cgrates", Cgrates, None), "bob")))


def test_a_ledger_adds_up_to_the_money_that_was_there() -> None:
    """Free, reserved and spent are all the money at every step."""
    board = Switchboard(Tape("span", "16"), live=True)
    ledger = Ledger(Taped(board, "cgrates", Cgrates, Purse(cents=3, looks=3)), "alice")

    async def steps() -> None:
        await ledger.note("initiate, 1 s", timedelta(seconds=1))
        await ledger.note("update, 1 s", 1)
        await ledger.note("terminate")

    asyncio.run(steps())
    board.loop.stop()
    table = ledger.table
    assert table["granted"].tolist() == ["1", "1", ""]
    assert table[["free", "reserved", "spent"]].values.tolist() == [
        ["0.02", "0.01", "0.00"],
        ["0.01", "0.02", "0.00"],
        ["0.01", "0.00", "0.02"],
    ]
    assert len(ledger.figure().data) == 3
    assert ledger.spent == Decimal("0.02")
