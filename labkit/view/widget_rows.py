"""The rows of a ladder as the page of its widget wants them: short lists, for thousands of them travel to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.view.arrow import Arrow
from labkit.view.layout import Layout, group_of

if TYPE_CHECKING:
    from labkit.capture.table import Messages

AGAIN, REFUSED, STREAM = 1, 2, 4
"""Flags of a row."""

WidgetRow = list[int | float | str | None]
"""[place, number, time_s, source, target, group, flags, words, small words] of a message, [seconds] of a silence."""


def widget_rows(layout: Layout) -> list[WidgetRow]:
    """Return all rows of a layout, silences in their places."""
    group = {name: place for place, name in enumerate(layout.groups)}
    silent = dict(layout.gaps)
    rows: list[WidgetRow] = []
    for place, (arrow, row) in enumerate(zip(layout.drawing.arrows, layout.row, strict=True)):
        if row - 1 in silent:
            rows.append([round(silent[row - 1], 3)])
        rows.append(widget_row(arrow, place, layout.column, group[group_of(arrow)]))
    return rows


def widget_row(arrow: Arrow, place: int, column: dict[str, int], group: int) -> WidgetRow:
    """Return one row.

    Args:
        arrow: the message or stream.
        place: its place among all arrows, by which the page asks for it.
        column: node to its place from the left.
        group: place of its group among all groups.
    """
    words, result = arrow.short_message
    flags = AGAIN * arrow.again | REFUSED * arrow.refused | STREAM * (arrow.protocol == "rtp")
    small = "  ".join(part for part in (result, arrow.short_detail) if part)
    source, target = column[arrow.source], column[arrow.target]
    return [place, arrow.number, round(arrow.time_s, 6), source, target, group, flags, words, small]


def call_ids(layout: Layout, messages: Messages) -> dict[str, str]:
    """Return the true Call-ID of each call."""
    true = messages.table["call_id"].tolist()
    found: dict[str, str] = {}
    for arrow in layout.drawing.arrows:
        if arrow.call and arrow.call not in found:
            found[arrow.call] = str(true[arrow.row])
    return found
