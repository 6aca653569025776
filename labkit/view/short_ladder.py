"""A ladder of up to some hundred rows as SVG traces of plotly: every row on the page, labels in two weights.

A handful of traces hold everything, whatever the number of messages, for a trace or an annotation per message costs
seconds from some hundred messages on. All numbers are lists, so that a stored figure can be read in a diff.

Labels have a trace of their own without empty strings: plotly.js loses labels of a trace that has gaps when the
figure is laid out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.view.arrow import Arrow
from labkit.view.layout import Layout, group_of, silence
from labkit.view.paper import (
    BOTTOM_PX,
    LABEL_PX,
    LOOP,
    Paper,
    Trace,
    escape,
    label_place,
    lifelines,
    loop_side,
    tick_text,
)
from labkit.view.theme import Theme

_NAMES_BELOW_ROWS = 12
"""From so many rows on the names above may be out of sight."""
_BAND_PX = 9
"""Thickness of the band of a stream."""

Placed = tuple[Arrow, int]
"""An arrow and its row."""


def short_figure(
    layout: Layout, theme: Theme, title: str, hovers: Sequence[str], highlight: Sequence[int] = ()
) -> Trace:
    """Return a figure as a dict of data and layout.

    Args:
        layout: what is drawn where.
        theme: colours.
        title: stands above; may be empty.
        hovers: what the pointer shows, one for each arrow.
        highlight: numbers of messages whose rows get a coloured background.
    """
    return _Sheet(layout, theme, title).figure(hovers, highlight)


class _Sheet:
    def __init__(self, layout: Layout, theme: Theme, title: str) -> None:
        self._layout, self._theme = layout, theme
        self._column, self._last = layout.column, len(layout.column) - 1
        self._named_below = layout.rows >= _NAMES_BELOW_ROWS
        self._paper = Paper(layout, theme, title, layout.rows, BOTTOM_PX if self._named_below else 12)

    def figure(self, hovers: Sequence[str], highlight: Sequence[int]) -> Trace:
        layout = self._paper.figure_layout(highlight)
        layout["yaxis"] |= {"fixedrange": True, "tickvals": list(self._layout.row), "ticktext": self._tick_texts()}
        layout["dragmode"] = False
        if self._named_below:
            layout["annotations"] += self._paper.names_below()
        return {"data": [*self._lifelines(), *self._arrows(), self._labels(), self._targets(hovers)], "layout": layout}

    def _tick_texts(self) -> list[str]:
        texts = []
        for arrow in self._layout.drawing.arrows:
            time, number = tick_text(arrow.number, arrow.time_s)
            texts.append(f"{self._paper.faint(time)}   {self._paper.ink(f'<b>{number}</b>')} ")
        return texts

    def _trace(self, **fields: Any) -> Trace:
        return {"type": "scatter", "hoverinfo": "skip", "showlegend": False, **fields}

    def _lifelines(self) -> list[Trace]:
        """Lifelines, broken where nothing was said for long; and the length of each silence."""
        gaps, line = self._layout.gaps, {"color": self._theme.lifeline, "width": 1.5}
        edges = [-0.75, *(edge for row, _ in gaps for edge in (row - 0.62, row + 0.22)), self._layout.rows - 0.5]
        xs, ys = lifelines(self._column.values(), edges)
        lines = self._trace(mode="lines", x=xs, y=ys, line=line)
        if not gaps:
            return [lines]
        xs, ys = lifelines(self._column.values(), [edge for row, _ in gaps for edge in (row - 0.55, row + 0.2)])
        dots = self._trace(mode="lines", x=xs, y=ys, line=line | {"dash": "dot"})
        between = self._last / 2 + 0.5 * (self._last % 2 == 0 and self._last > 0)
        words = self._trace(
            mode="text", x=[between] * len(gaps), y=[row - 0.2 for row, _ in gaps],
            text=[self._paper.faint(f"{silence(seconds)} of silence") for _, seconds in gaps],
            textposition="middle center", textfont={"size": 11, "color": self._theme.faint_ink},
        )  # fmt: skip
        return [lines, dots, words]

    def _arrows(self) -> list[Trace]:
        traces = []
        placed = list(zip(self._layout.drawing.arrows, self._layout.row, strict=True))
        for group, colour in self._layout.colours(self._theme).items():
            mine = [(arrow, row) for arrow, row in placed if group_of(arrow) == group]
            for again in (False, True):
                chosen = [(arrow, row) for arrow, row in mine if arrow.again == again]
                if chosen:
                    xs, ys = self._paths(chosen)
                    traces.append(self._trace(
                        mode="lines", x=xs, y=ys, name=self._paper.legend_name(group), legendgroup=group,
                        showlegend=not again, opacity=0.45 if group == "rtp" else 1, line={
                            "color": colour, "width": _BAND_PX if group == "rtp" else 2,
                            "dash": "dash" if again else "solid",
                        },
                    ))  # fmt: skip
            traces.append(self._heads(mine, colour))
        return traces

    def _paths(self, chosen: Sequence[Placed]) -> tuple[list[float | None], list[float | None]]:
        xs: list[float | None] = []
        ys: list[float | None] = []
        for arrow, row in chosen:
            start, end = self._column[arrow.source], self._column[arrow.target]
            if start == end:
                out = start + loop_side(start, self._last) * LOOP
                xs += [start, out, out, start, None]
                ys += [row - 0.3, row - 0.3, row + 0.12, row + 0.12, None]
            else:
                xs += [start, end, None]
                ys += [row, row, None]
        return xs, ys

    def _heads(self, mine: Sequence[Placed], colour: str) -> Trace:
        ends, angles, rows = [], [], []
        for arrow, row in mine:
            start, end = self._column[arrow.source], self._column[arrow.target]
            rightward = end > start or (start == end and loop_side(start, self._last) < 0)
            ends.append(end)
            rows.append(row + 0.12 if start == end else row)
            angles.append(90 if rightward else 270)
        return self._trace(mode="markers", x=ends, y=rows, cliponaxis=False, marker={
            "symbol": "triangle-up", "angle": angles, "size": 11, "color": colour, "opacity": 1,
            "standoff": 6, "line": {"width": 0},  # the tip, not the middle, touches the lifeline
        })  # fmt: skip

    def _labels(self) -> Trace:
        arrows = self._layout.drawing.arrows
        if not arrows:
            return self._trace(
                mode="text", x=[0], y=[0], text=[self._paper.faint("no SIP or Diameter message in this capture")],
                textposition="middle center",
            )  # fmt: skip
        places = [self._label_place(arrow) for arrow in arrows]
        return self._trace(
            mode="text", x=[x for x, _ in places], y=[row - 0.08 for row in self._layout.row], cliponaxis=False,
            text=[self._label(arrow) for arrow in arrows], textposition=[position for _, position in places],
            textfont={
                "size": LABEL_PX, "shadow": self._paper.halo(),
                "color": [self._theme.refusal if arrow.refused else self._theme.ink for arrow in arrows],
            },
        )  # fmt: skip

    def _label(self, arrow: Arrow) -> str:
        words = ("✗ " if arrow.refused else "") + f"<b>{escape(arrow.short_message[0])}</b>"
        for small in (arrow.short_message[1], arrow.short_detail):
            words += f"  <span style='font-size:10.5px'>{escape(small)}</span>" if small else ""
        return words if arrow.refused else self._paper.ink(words)

    def _label_place(self, arrow: Arrow) -> tuple[float, str]:
        characters = len(arrow.short_label) + 2 * arrow.refused
        return label_place(self._column[arrow.source], self._column[arrow.target], characters, self._last)

    def _targets(self, hovers: Sequence[str]) -> Trace:
        """One unseen point a message: what the pointer finds, and what a click returns."""
        arrows = self._layout.drawing.arrows
        return self._trace(
            mode="markers", x=[(self._column[arrow.source] + self._column[arrow.target]) / 2 for arrow in arrows],
            y=list(self._layout.row), name="messages", marker={"size": 14, "opacity": 0},
            customdata=[arrow.row for arrow in arrows], hovertext=list(hovers), hoverinfo="text",
        )  # fmt: skip
