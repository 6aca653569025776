"""A ladder of thousands of rows: WebGL traces of packed numbers, of which a window of rows is seen at a time.

The shaft of an arrow is the error bar of its head, so that one trace of small integers holds both. Labels have traces
of their own without empty strings: plotly.js loses labels of a trace with gaps when the figure is laid out again.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.view.arrow import Arrow
from labkit.view.layout import Layout, silence
from labkit.view.paper import (
    BOTTOM_PX,
    LABEL_PX,
    LOOP,
    ROW_PX,
    Paper,
    Trace,
    escape,
    label_start,
    lifelines,
    loop_side,
)
from labkit.view.theme import Theme

WINDOW_ROWS = 40
"""Rows that are seen at a time."""
_MOST_PAGES = 50
"""A slider with more steps cannot be aimed at; dragging moves by less."""
_SLIDER_PX = 40
_HOVER_PX = 2 * ROW_PX
"""How far from the start of its label a message is shown: a word; WebGL measures along both axes."""

_LOOK = attrgetter("message", "detail", "source", "target", "refused", "again")
"""What decides how an arrow and its label look, but for the colour; most come again and again."""

Label = tuple[str, float, str, bool]
"""What stands at an arrow: text, x, plotly's text position, whether it is a refusal."""


def packed(numbers: NDArray[Any]) -> dict[str, str]:
    """Numbers as plotly.js takes them; plotly.py packs arrays just so, but looks at each for 0.1 ms before."""
    return {"dtype": numbers.dtype.str[1:], "bdata": base64.b64encode(numbers.tobytes()).decode()}


class Texts(NDArray[np.object_]):
    """Strings that plotly copies as one; lists, and objects in arrays, it copies and searches value by value, twice."""

    def __deepcopy__(self, _memo: dict[int, Any] | None) -> Texts:
        return self.copy()  # strings never change


def texts(strings: Sequence[str]) -> Texts:
    """Strings as a value of a trace."""
    return np.array(strings, object).view(Texts)


class Steps(list[Trace]):
    """Steps of a slider that plotly copies as one; twice it would walk through all their dicts and lists."""

    def __deepcopy__(self, _memo: dict[int, Any] | None) -> Steps:
        copied: Steps = pickle.loads(pickle.dumps(self))
        return copied


def long_figure(
    layout: Layout, theme: Theme, title: str, *, hover: bool = True, highlight: Sequence[int] = ()
) -> Trace:
    """Return a figure as a dict of data and layout.

    Args:
        layout: what is drawn where.
        theme: colours.
        title: stands above; may be empty.
        hover: whether the pointer shows sender, receiver, frame and call of a message.
        highlight: numbers of messages whose rows get a coloured background.
    """
    return _Sheet(layout, theme, title).figure(hover, highlight)


class _Sheet:
    def __init__(self, layout: Layout, theme: Theme, title: str) -> None:
        self._layout, self._theme, self._arrows = layout, theme, layout.drawing.arrows
        self._last = len(layout.column) - 1
        self._paper = Paper(layout, theme, title, min(layout.rows, WINDOW_ROWS), BOTTOM_PX + _SLIDER_PX)
        self._row = np.array(layout.row, "u2" if layout.rows < 1 << 16 else "u4")
        self._looks, self._look = self._find_looks()
        column = layout.column
        self._start = np.array([column[arrow.source] for arrow in self._looks], "i2")[self._look]
        self._end = np.array([column[arrow.target] for arrow in self._looks], "i2")[self._look]

    def _find_looks(self) -> tuple[list[Arrow], NDArray[np.int32]]:
        """One arrow of each look, and which of them each arrow looks like."""
        first: list[Arrow] = []
        place: dict[tuple[object, ...], int] = {}
        codes = []
        for arrow in self._arrows:
            look = _LOOK(arrow)
            code = place.get(look)
            if code is None:
                code = place[look] = len(first)
                first.append(arrow)
            codes.append(code)
        return first, np.array(codes, "i4")

    def figure(self, hover: bool, highlight: Sequence[int]) -> Trace:
        layout = self._paper.figure_layout(highlight)
        layout["yaxis"] |= {"fixedrange": False, "tickvals": packed(self._row), "ticktext": self._tick_texts()}
        layout |= {"dragmode": "pan", "sliders": self._pages(), "hoverdistance": _HOVER_PX}
        return {"data": [*self._lifelines(), *self._shafts(), *self._labels(hover)], "layout": layout}

    def _tick_texts(self) -> Texts:
        return texts([f"{arrow.time_s:.3f} s  {arrow.number or ''}" for arrow in self._arrows])

    def _pages(self) -> list[Trace]:
        seen, rows = self._paper.seen_rows, self._layout.rows
        step = max(seen, -(-rows // _MOST_PAGES))
        steps = Steps(
            {
                "label": str(first + 1), "method": "relayout",
                "args": ["yaxis.range", self._paper.y_range(min(first, rows - seen))],
            }
            for first in range(0, rows, step)
        )  # fmt: skip
        faint = {"size": 11, "color": self._theme.faint_ink}
        return [{
            "active": 0, "steps": steps, "pad": {"t": 26, "b": 4}, "x": 0, "len": 1, "y": 0,
            "currentvalue": {"prefix": "from row ", "font": faint},
            "font": faint | {"size": 10}, "bgcolor": self._theme.box, "activebgcolor": self._theme.faint_ink,
            "bordercolor": self._theme.lifeline, "tickcolor": self._theme.lifeline,
        }]  # fmt: skip

    # ---- traces -----------------------------------------------------------------------------------------------------

    def _trace(self, **fields: Any) -> Trace:
        return {"type": "scattergl", "hoverinfo": "skip", "showlegend": False, **fields}

    def _lifelines(self) -> list[Trace]:
        xs, ys = lifelines(self._layout.column.values(), [-0.75, self._layout.rows - 0.5])
        lines = self._trace(mode="lines", x=xs, y=ys, line={"color": self._theme.lifeline, "width": 1.5})
        gaps = self._layout.gaps
        if not gaps:
            return [lines]
        middle = self._last / 2 + 0.5 * (self._last % 2 == 0 and self._last > 0)
        words = self._trace(
            mode="text", x=packed(np.full(len(gaps), middle, "f4")),
            y=packed(np.array([row - 0.2 for row, _ in gaps], "f4")),
            text=texts([f"{silence(seconds)} of silence" for _, seconds in gaps]),
            textfont={"size": 11, "color": self._theme.faint_ink},
        )  # fmt: skip
        return [lines, words]

    def _shafts(self) -> list[Trace]:
        """One trace for each colour, two where something was sent again (thin, with an open head)."""
        colours = self._layout.colours(self._theme)
        place = {group: index for index, group in enumerate(dict.fromkeys(colours.values()))}
        code_of = {group: place[colour] for group, colour in colours.items()}
        code = np.array([code_of[arrow.call or arrow.protocol] for arrow in self._arrows], "u2")
        again = np.array([arrow.again for arrow in self._looks], bool)[self._look]
        names: dict[str, str] = {}
        for group, colour in colours.items():
            names.setdefault(colour, group)
        traces = []
        for colour, index in place.items():
            for repeated in (False, True):
                chosen = np.flatnonzero((code == index) & (again == repeated))
                if len(chosen):
                    traces.append(self._shaft(chosen, colour, repeated, names[colour]))
        return traces

    def _shaft(self, chosen: NDArray[np.intp], colour: str, repeated: bool, group: str) -> Trace:
        start, end, row = self._start[chosen], self._end[chosen], self._row[chosen]
        right, left = np.maximum(start - end, 0).astype("u1"), np.maximum(end - start, 0).astype("u1")
        rightward = end > start
        if (start == end).any():
            right, left, rightward = self._with_loops(start, end)
        return self._trace(
            mode="markers", x=packed(end.astype("u1")), y=packed(row), name=self._paper.legend_name(group),
            legendgroup=group, showlegend=not repeated,
            error_x={
                "type": "data", "symmetric": False, "array": packed(right), "arrayminus": packed(left),
                "width": 0, "thickness": 7 if group == "rtp" else 1 if repeated else 2, "color": colour,
            },
            marker={
                "symbol": "triangle-up-open" if repeated else "triangle-up", "size": 11, "color": colour,
                "angle": packed(np.where(rightward, 90, -90).astype("i1")),
            },
        )  # fmt: skip

    def _with_loops(self, start: NDArray[np.int16], end: NDArray[np.int16]) -> tuple[Any, Any, Any]:
        """A message to oneself is a stub beside its lifeline."""
        side = np.array([loop_side(int(place), self._last) for place in end])
        own = start == end
        right = np.where(own & (side > 0), LOOP, np.maximum(start - end, 0)).astype("f4")
        left = np.where(own & (side < 0), LOOP, np.maximum(end - start, 0)).astype("f4")
        return right, left, (end > start) | (own & (side < 0))

    def _labels(self, hover: bool) -> list[Trace]:
        """One trace for each way a label stands and each colour.

        WebGL moves the labels of a trace alike, so those that do not begin at their place need a trace for each length.
        Most do: plotly takes 0.1 ms for a trace, and a label in the middle of a long arrow has a lifeline through it.
        """
        labels = [self._label(arrow) for arrow in self._looks]
        words, xs = texts([label[0] for label in labels]), np.array([label[1] for label in labels], "f4")
        ways: dict[tuple[str, bool, int], int] = {}
        way = np.array([
            ways.setdefault((position, refused, len(text) // 2 if position.endswith("left") else 0), len(ways))
            for text, _, position, refused in labels
        ])[self._look]  # fmt: skip
        told = self._hovers() if hover else None
        traces = []
        for (position, refused, _length), index in ways.items():
            chosen = np.flatnonzero(way == index)
            looks = self._look[chosen]
            trace = self._trace(
                mode="text", x=packed(xs[looks]), y=packed((self._row[chosen] - 0.08).astype("f4")),
                text=words[looks], textposition=position,
                textfont={"size": LABEL_PX, "color": self._theme.refusal if refused else self._theme.ink},
            )  # fmt: skip
            if told is not None:
                trace["customdata"] = told[chosen]
                trace |= {"hoverinfo": "text", "hovertemplate": "<b>%{text}</b><br>%{customdata}<extra></extra>"}
            traces.append(trace)
        return traces

    def _label(self, arrow: Arrow) -> Label:
        text = ("✗ " if arrow.refused else "") + arrow.short_label
        start, end = self._layout.column[arrow.source], self._layout.column[arrow.target]
        x, position = label_start(start, end, len(text), self._last)
        return text, x, position, arrow.refused

    def _hovers(self) -> Texts:
        """Who to whom, which frame, which call."""
        names = {name: escape(name) for name in self._layout.column}
        calls = {group: f" {escape(group)}" for group in self._layout.groups} | {"": ""}
        return texts([
            f"{names[arrow.source]} to {names[arrow.target]}, frame {arrow.frame}{calls[arrow.call]}"
            for arrow in self._arrows
        ])  # fmt: skip
