"""Where everything stands in a ladder: columns, rows, silences and colours.

The figure, the picture in a notebook's widget and the text are drawn from the same `Layout`, so they agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labkit.view.arrow import Arrow
from labkit.view.drawing import Drawing
from labkit.view.theme import Theme

GAP_S = 0.2
"""A silence of at least this many seconds gets a row of its own."""
GROUP_NAMES = {"diameter": "Diameter", "evapi": "evapi", "jsonrpc": "JSON-RPC", "rtp": "RTP"}
"""How groups that are no calls are called in a legend."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing with places: all rows have the same height, all lifelines the same distance."""

    drawing: Drawing
    """What is drawn."""
    column: dict[str, int]
    """Node to its place from the left, from 0."""
    row: tuple[int, ...]
    """Row of each arrow of the drawing, from 0; rows that are missing are silences."""
    gaps: tuple[tuple[int, float], ...]
    """(row, seconds) of each silence."""
    rows: int
    """Number of rows, silences included."""
    groups: tuple[str, ...]
    """What has a colour of its own: 'call-1' and so on, then those of GROUP_NAMES, as far as they occur."""

    def colours(self, theme: Theme) -> dict[str, str]:
        """Return the colour of each group."""
        own = {**dict.fromkeys(("diameter", "evapi", "jsonrpc"), theme.diameter), "rtp": theme.media}
        return {
            group: own.get(group) or theme.calls[place % len(theme.calls)] for place, group in enumerate(self.groups)
        }


def lay_out(drawing: Drawing) -> Layout:
    """Give every arrow of a drawing its row, and every silence one of its own."""
    rows: list[int] = []
    gaps: list[tuple[int, float]] = []
    before, row = 0.0, 0
    for arrow in drawing.arrows:
        time_s = arrow.time_s
        if time_s - before >= GAP_S:
            gaps.append((row, time_s - before))
            row += 1
        if time_s > before:
            before = time_s
        rows.append(row)
        row += 1
    column = {name: place for place, name in enumerate(drawing.nodes)}
    return Layout(
        drawing,
        column,
        tuple(rows),
        tuple(gaps),
        row,
        _groups([arrow.call or arrow.protocol for arrow in drawing.arrows]),
    )


def group_of(arrow: Arrow) -> str:
    """Return what the arrow shares its colour with: its call, else its protocol."""
    return arrow.call or arrow.protocol


def _groups(keys: Iterable[str]) -> tuple[str, ...]:
    """Calls in order, then other protocols, media last."""
    present = dict.fromkeys(keys)
    return (*(key for key in present if key not in GROUP_NAMES), *(key for key in GROUP_NAMES if key in present))


def clock(time_s: float) -> str:
    """Write a time since the start the way it is read most easily."""
    return f"{time_s * 1000:.1f} ms" if time_s < 0.99995 else f"{time_s:.3f} s"


def silence(seconds: float) -> str:
    """Write a length of time with two figures that matter."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
