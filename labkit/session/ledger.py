"""A book of one account, kept by hand: after each step of a session, what is free, what is reserved, what is spent."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from labkit.session.taped import Taped


class Ledger:
    """`ledger = lab.ledger("alice")`, `await ledger.note("initiate 60 s", granted)`, `ledger.table`."""

    def __init__(self, door: Taped, account: str) -> None:
        self.account = account
        """Whose book it is."""
        self._door = door
        self._rows: list[dict[str, Any]] = []

    async def note(self, step: str, granted: timedelta | int | None = None) -> None:
        """Write down how things are now.

        Args:
            step: what has just been done.
            granted: what the engine said to it, where it said anything.
        """
        # The engine closes a session a moment after it has said so; what is open is asked for last.
        sample = await self._door.sample(self.account)
        while sample.sessions and step.startswith("terminate"):
            await asyncio.sleep(0.02)
            sample = await self._door.sample(self.account)
        before = self._rows[0]["free"] + self._rows[0]["reserved"] if self._rows else sample.money + sample.taken
        spent = before - sample.money - sample.taken
        said = granted.total_seconds() if isinstance(granted, timedelta) else granted
        self._rows.append(
            {"step": step, "granted": said, "free": sample.money, "reserved": sample.taken, "spent": spent}
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row a step: granted (seconds, or messages), free, reserved, spent (to the cent); absent is empty."""
        import pandas as pd

        rows = [
            {"step": row["step"], "granted": "" if row["granted"] is None else f"{row['granted']:g}"}
            | {name: f"{row[name]:.2f}" for name in ("free", "reserved", "spent")}
            for row in self._rows
        ]
        return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="n"))

    def figure(self) -> go.Figure:
        """Draw the steps from left to right; each column is the whole money."""
        import plotly.graph_objects as go

        from labkit.view.balance import ledger_figure

        parts = {name: [float(row[name]) for row in self._rows] for name in ("free", "reserved", "spent")}
        drawn = ledger_figure([row["step"] for row in self._rows], parts, title=f"the money of {self.account}")
        return go.Figure(drawn, _validate=False)

    @property
    def spent(self) -> Decimal:
        """All that is gone for good."""
        last: Decimal = self._rows[-1]["spent"] if self._rows else Decimal(0)
        return last
