"""A balance looked at while phones talk: `async with lab.watching("alice") as balance: ...`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from labkit.session import values
from labkit.session.taped import Switchboard, Taped
from labkit.view.mime import HTML, PLOTLY, TEXT

if TYPE_CHECKING:
    import pandas as pd

    from labkit.clients.cgrates import Cgrates, Sample

_EVERY_S = 0.1
_SHOW_S = 0.25
_MOST_S = 5.0
"""So long, after the block, a session may take to be closed."""


class BalanceWatch:
    """Looks at an account every tenth of a second, and draws what it sees as it comes.

    The first look is over when the block begins, the last one comes when it has ended and no session is open.
    """

    def __init__(self, board: Switchboard, door: Taped, account: str) -> None:
        self.account = account
        """Whose money."""
        self.samples: list[Sample] = []
        """What was seen."""
        self._board, self._door = board, door
        self._tasks: list[asyncio.Task[None]] = []
        self._shown: Any = None
        self._ending = False

    async def __aenter__(self) -> Self:
        if self._board.live:
            await self._board.loop.run(self._look(self._real(), time.monotonic()))
            self._tasks = [asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._redraw())]
        self._shown = _display(self._moving())
        return self

    async def __aexit__(self, *_: object) -> None:
        call, about = "cgrates.watching", {"account": self.account}
        if not self._board.live:
            self.samples = values.from_json(self._board.tape.play(call, about)["result"])
        else:
            entry = self._board.tape.begin(call, about)
            self._ending = True
            following, drawing = self._tasks
            await following
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing
            entry["result"] = values.to_json(self.samples)
        if self._shown is not None:
            self._shown.update(self._picture(), raw=True)

    # ---- what it saw ------------------------------------------------------------------------------------------------
    @property
    def steps(self) -> list[Decimal]:
        """Every balance that it had, in order, each once: what it went through, whenever that was seen."""
        found: list[Decimal] = []
        for sample in self.samples:
            if not found or sample.money != found[-1]:
                found.append(sample.money)
        return found

    @property
    def table(self) -> pd.DataFrame:
        """One row a look: time_s, money, sessions (open ones), taken (by these so far)."""
        import pandas as pd

        columns = ("time_s", "money", "sessions", "taken")
        return pd.DataFrame({name: [getattr(sample, name) for sample in self.samples] for name in columns})

    def __repr__(self) -> str:
        return f"<the balance of {self.account}, looked at {len(self.samples)} times>"

    # ---- looking ----------------------------------------------------------------------------------------------------
    def _real(self) -> Cgrates:
        real: Cgrates = self._door._real()
        return real

    async def _look(self, door: Cgrates, began: float) -> None:
        self.samples.append(await door.sample(self.account, began))

    async def _follow(self) -> None:
        await self._board.loop.run(self._keep_looking(self._real(), time.monotonic()))

    async def _keep_looking(self, door: Cgrates, began: float) -> None:
        give_up: float | None = None
        while True:
            await asyncio.sleep(_EVERY_S)
            ending = self._ending  # asked before the look, so that the last look is one after the end
            await self._look(door, began)
            if ending:
                give_up = give_up or time.monotonic() + _MOST_S
                if not self.samples[-1].sessions or time.monotonic() > give_up:
                    return

    async def _redraw(self) -> None:
        while True:
            await asyncio.sleep(_SHOW_S)
            if self._shown is not None:
                self._shown.update(self._moving(), raw=True)

    def _moving(self) -> dict[str, Any]:
        """The picture as it is while it changes."""
        from labkit.view.balance import balance_svg

        return {HTML: balance_svg(*self._columns()), TEXT: self._title}

    def _picture(self) -> dict[str, Any]:
        """The picture that stays."""
        from labkit.view.balance import balance_figure

        return {PLOTLY: balance_figure(*self._columns(), title=self._title), TEXT: self._title}

    def _columns(self) -> tuple[list[float], list[float], list[float]]:
        """Times in seconds, money, and what open sessions had taken."""
        seen = list(self.samples)
        return [one.time_s for one in seen], [float(one.money) for one in seen], [float(one.taken) for one in seen]

    @property
    def _title(self) -> str:
        return f"the balance of {self.account}"


def _display(picture: dict[str, Any]) -> Any:
    """Show it in the notebook's cell, to be brought up to date; nothing outside of a notebook."""
    from IPython.core.getipython import get_ipython

    if get_ipython() is None:
        return None
    from IPython.display import display

    return display(picture, raw=True, display_id=True)  # type: ignore[no-untyped-call]
