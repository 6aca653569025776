"""The ladder: a lifeline for each node, an arrow for each message, drawn with plotly.

The figure is built as a plain dict of lists and handed to plotly once: its JSON is the same on every run for the same
capture, and a change of it can be read in a diff. A handful of traces hold everything, whatever the number of
messages, for a trace or an annotation per message costs seconds from some hundred messages on.

Labels have a trace of their own without empty strings: plotly.js loses labels of a trace that has gaps when the
figure is laid out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.view.drawing import Arrow, Drawing, tell
from labkit.view.hover import hover_text
from labkit.view.theme import Theme, theme_for

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labkit.capture.table import Messages

SVG_LIMIT = 300
"""Up to this many rows every row is on the page at once; above, a window of WINDOW_ROWS rows shows a part."""
WINDOW_ROWS = 40
"""Rows that are seen at a time in a long ladder."""
ROW_PX = 31
"""Height of a row."""
GAP_S = 0.2
"""A silence of at least this many seconds gets a row of its own."""

_TOP_PX, _BOTTOM_PX, _LEFT_PX, _RIGHT_PX = 90, 44, 92, 34
_NARROW_PX = 470
"""Labels are placed so that nothing is cut off in a figure of this width."""
_FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
_LABEL_PX, _CHARACTER_PX = 12, 6.5
_MOST_GROUPS = 5
"""A legend of more entries than these would not fit in a narrow figure; then the hover text alone names the call."""
_LEGEND_PX = 30
"""The legend's distance from the top, in pixels."""
_LOOP = 0.3
"""Width of the loop of a message to itself, in distances between lifelines."""

_NO_BUTTONS = ["select", "lasso", "zoom", "zoomIn", "zoomOut", "autoScale", "resetScale"]
"""Buttons of plotly that do nothing good to a ladder."""

Trace = dict[str, Any]


def ladder(
    messages: Messages,
    *,
    title: str = "",
    dark: bool | None = None,
    show: str = "story",
    highlight: Sequence[int] | int = (),
    order: Sequence[str] = (),
) -> go.Figure:
    """Draw a capture as a ladder.

    Args:
        messages: what `read_capture` returned.
        title: stands above the picture.
        dark: colours for dark paper; None means what `use_theme` chose.
        show: 'story' for the numbered messages (and, dashed, what was sent again); 'all' for every message, also
            100 Trying and watchdogs, in the order of frames.
        highlight: number or numbers of messages whose rows get a coloured background.
        order: names of nodes from left to right, where the usual order does not fit.
    Returns:
        A figure as high as it has rows; it takes the width that it is given.
    """
    import plotly.graph_objects as go

    drawing = tell(messages, show=show, retransmissions=True, order=order)
    numbers = (highlight,) if isinstance(highlight, int) else tuple(highlight)
    sheet = Sheet(drawing, theme_for(dark), title)
    hovers = [hover_text(arrow, messages, full=not sheet.long) for arrow in drawing.arrows]
    return go.Figure(sheet.figure(hovers, numbers), _validate=False)


class Sheet:
    """A drawing on paper: which row and which column everything stands in."""

    def __init__(self, drawing: Drawing, theme: Theme, title: str = "") -> None:
        self.drawing, self.theme, self.title = drawing, theme, title
        self.column = {name: place for place, name in enumerate(drawing.nodes)}
        self.row: list[int] = []
        """Row of each arrow; between them rows of silence."""
        self.gaps: list[tuple[int, float]] = []
        """(row, seconds) of each silence."""
        before, row = 0.0, 0
        for arrow in drawing.arrows:
            if arrow.time_s - before >= GAP_S:
                self.gaps.append((row, arrow.time_s - before))
                row += 1
            before = max(before, arrow.time_s)
            self.row.append(row)
            row += 1
        self.rows = row
        """Number of rows, silences included."""
        self.long = self.rows > SVG_LIMIT

    # ------------------------------------------------------------------ the whole

    def figure(self, hovers: Sequence[str], highlight: Sequence[int] = ()) -> Trace:
        """Return the figure as a dict of data and layout."""
        data = [*self._lifelines(), *self._arrows(), *self._labels(), self._targets(hovers)]
        return {"data": data, "layout": self._layout(highlight)}

    def _kind(self) -> str:
        return "scattergl" if self.long else "scatter"

    def _layout(self, highlight: Sequence[int]) -> Trace:
        theme = self.theme
        seen = min(self.rows, WINDOW_ROWS) if self.long else self.rows
        several = len(self.drawing.nodes) > 1
        height = _TOP_PX + max(seen, 1) * ROW_PX + self._bottom_px()
        return {
            "autosize": True,
            "height": height,
            "margin": {"l": _LEFT_PX, "r": _RIGHT_PX, "t": _TOP_PX, "b": self._bottom_px(), "pad": 0},
            "paper_bgcolor": theme.paper,
            "plot_bgcolor": theme.paper,
            "font": {"family": _FONT, "size": _LABEL_PX, "color": theme.ink},
            "title": {
                "text": f"<b>{escape(self.title)}</b>" if self.title else "",
                "font": {"size": 15},
                "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 14, "t": 13},
                "y": 1, "yref": "container", "yanchor": "top", "automargin": False,
            },
            "showlegend": 1 < len(self._groups()) <= _MOST_GROUPS,
            "legend": {
                "orientation": "h", "itemclick": False, "itemdoubleclick": False,
                "x": 12 / 1000, "xref": "container", "xanchor": "left",
                "y": 1 - _LEGEND_PX / height, "yref": "container", "yanchor": "top",
                "font": {"size": 11, "color": theme.faint_ink}, "bgcolor": "rgba(0,0,0,0)",
            },
            "xaxis": {
                "range": [-0.35 if several else -1, len(self.drawing.nodes) - 0.65 if several else 1],
                "visible": False, "fixedrange": True,
            },
            "yaxis": {
                "range": [seen - 0.65, -0.75],
                "fixedrange": not self.long,
                "tickmode": "array", "tickvals": list(self.row), "ticktext": self._tick_texts(),
                "tickfont": {"size": 11, "color": theme.faint_ink},
                "showgrid": False, "zeroline": False, "showline": False, "ticks": "",
            },
            "annotations": self._names(),
            "shapes": self.shapes(highlight),
            "sliders": self._pages(seen) if self.long else [],
            "hovermode": "y",
            "hoverdistance": ROW_PX,
            "hoverlabel": {
                "align": "left", "namelength": 0, "bgcolor": theme.box, "bordercolor": theme.faint_ink,
                "font": {"family": _FONT, "size": 12, "color": theme.ink},
            },
            "dragmode": "pan" if self.long else False,
            "modebar": {"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": theme.lifeline, "remove": _NO_BUTTONS},
        }  # fmt: skip

    def _bottom_px(self) -> int:
        if self.long:
            return _BOTTOM_PX + 40
        return _BOTTOM_PX if self._named_below() else 12

    def _named_below(self) -> bool:
        """In a high ladder the names above may be out of sight."""
        return self.rows >= 12 and not self.long

    def _tick_texts(self) -> list[str]:
        texts = []
        for arrow in self.drawing.arrows:
            number = "" if arrow.number is None else str(arrow.number)
            texts.append(f"{clock(arrow.time_s)}   <span style='color:{self.theme.ink}'><b>{number}</b></span> ")
        return texts

    def _names(self) -> list[Trace]:
        """Names of the nodes in boxes above, and below when the ones above may be out of sight."""
        theme = self.theme
        box = {
            "xref": "x", "yref": "paper", "showarrow": False, "bgcolor": theme.box, "bordercolor": theme.lifeline,
            "borderwidth": 1, "borderpad": 4, "font": {"size": 12, "color": theme.ink},
        }  # fmt: skip
        names = [(f"<b>{escape(name)}</b>", place) for name, place in self.column.items()]
        above = [{**box, "text": text, "x": x, "y": 1, "yanchor": "bottom", "yshift": 2} for text, x in names]
        if not self._named_below():
            return above
        below = [{**box, "text": text, "x": x, "y": 0, "yanchor": "top", "yshift": -2} for text, x in names]
        return above + below

    def shapes(self, highlight: Sequence[int]) -> list[Trace]:
        """Return the background of the rows of the messages with these numbers."""
        marked = [
            row for arrow, row in zip(self.drawing.arrows, self.row, strict=True) if arrow.number in set(highlight)
        ]
        return [self.band(row) for row in marked]

    def band(self, row: int) -> Trace:
        """Return the background of one row."""
        return {
            "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": row - 0.72, "y1": row + 0.28,
            "fillcolor": self.theme.highlight, "line": {"width": 0}, "layer": "below",
        }  # fmt: skip

    def _pages(self, seen: int) -> list[Trace]:
        steps = []
        for start in range(0, self.rows, seen):
            first = min(start, self.rows - seen)
            steps.append({
                "label": str(start + 1), "method": "relayout",
                "args": [{"yaxis.range": [first + seen - 0.65, first - 0.75]}],
            })  # fmt: skip
        return [{
            "active": 0, "steps": steps, "pad": {"t": 26, "b": 4}, "x": 0, "len": 1, "y": 0,
            "currentvalue": {"prefix": "from row ", "font": {"size": 11, "color": self.theme.faint_ink}},
            "font": {"size": 10, "color": self.theme.faint_ink}, "bgcolor": self.theme.box,
            "bordercolor": self.theme.lifeline, "tickcolor": self.theme.lifeline,
        }]  # fmt: skip

    # ------------------------------------------------------------------ traces

    def _trace(self, **fields: Any) -> Trace:
        return {"type": self._kind(), "hoverinfo": "skip", "showlegend": False, **fields}

    def _lifelines(self) -> list[Trace]:
        """Lifelines, broken where nothing was said for long; and the length of each silence."""
        theme, gap_rows = self.theme, [row for row, _seconds in self.gaps]
        edges = [-0.75, *(edge for row in gap_rows for edge in (row - 0.62, row + 0.22)), self.rows - 0.5]
        xs: list[float | None] = []
        ys: list[float | None] = []
        for place in self.column.values():
            for top, bottom in zip(edges[::2], edges[1::2], strict=True):
                xs += [place, place, None]
                ys += [top, bottom, None]
        lines = self._trace(mode="lines", x=xs, y=ys, line={"color": theme.lifeline, "width": 1.5})
        if not self.gaps:
            return [lines]
        dots_x: list[float | None] = []
        dots_y: list[float | None] = []
        for row in gap_rows:
            for place in self.column.values():
                dots_x += [place, place, None]
                dots_y += [row - 0.55, row + 0.2, None]
        dots = self._trace(
            mode="lines", x=dots_x, y=dots_y, line={"color": theme.lifeline, "width": 1.5, "dash": "dot"}
        )
        middle = (len(self.column) - 1) / 2
        words = self._trace(
            mode="text", x=[middle + 0.5 * (len(self.column) % 2 == 1 and len(self.column) > 1)] * len(self.gaps),
            y=[row - 0.2 for row in gap_rows], text=[f"{silence(seconds)} of silence" for _row, seconds in self.gaps],
            textposition="middle center", textfont={"size": 11, "color": theme.faint_ink},
        )  # fmt: skip
        return [lines, dots, words]

    def _groups(self) -> list[str]:
        """Diameter last, calls before it in order."""
        calls = dict.fromkeys(arrow.call for arrow in self.drawing.arrows if arrow.protocol == "sip")
        diameter = [""] if any(arrow.protocol == "diameter" for arrow in self.drawing.arrows) else []
        return [*calls, *diameter]

    def _colour(self, call: str, place: int) -> str:
        return self.theme.calls[place % len(self.theme.calls)] if call else self.theme.diameter

    def _arrows(self) -> list[Trace]:
        traces = []
        for place, group in enumerate(self._groups()):
            colour = self._colour(group, place)
            mine = [
                (arrow, row) for arrow, row in zip(self.drawing.arrows, self.row, strict=True) if arrow.call == group
            ]
            for again in (False, True):
                chosen = [(arrow, row) for arrow, row in mine if arrow.again == again]
                if not chosen:
                    continue
                xs, ys = self._paths(chosen)
                name = group or "Diameter"
                traces.append(self._trace(
                    mode="lines", x=xs, y=ys, name=name,
                    legendgroup=name, showlegend=not again,
                    line={"color": colour, "width": 2, "dash": "dash" if again else "solid"},
                ))  # fmt: skip
            traces.append(self._heads(mine, colour))
        return traces

    def _paths(self, chosen: Sequence[tuple[Arrow, int]]) -> tuple[list[float | None], list[float | None]]:
        xs: list[float | None] = []
        ys: list[float | None] = []
        for arrow, row in chosen:
            start, end = self.column[arrow.source], self.column[arrow.target]
            if start == end:
                out = start + self._loop_side(start) * _LOOP
                xs += [start, out, out, start, None]
                ys += [row - 0.3, row - 0.3, row + 0.12, row + 0.12, None]
            else:
                xs += [start, end, None]
                ys += [row, row, None]
        return xs, ys

    def _loop_side(self, place: int) -> int:
        """A loop stands to the right of its lifeline, except at the last one."""
        return -1 if place == len(self.column) - 1 and place > 0 else 1

    def _heads(self, mine: Sequence[tuple[Arrow, int]], colour: str) -> Trace:
        ends, angles, rows = [], [], []
        for arrow, row in mine:
            start, end = self.column[arrow.source], self.column[arrow.target]
            rightward = end > start or (start == end and self._loop_side(start) < 0)
            ends.append(end)
            rows.append(row + 0.12 if start == end else row)
            angles.append(90 if rightward else 270)
        heads: Trace = {"symbol": "triangle-up", "angle": angles, "size": 11, "color": colour, "opacity": 1}
        if not self.long:  # the tip, not the middle, touches the lifeline
            heads |= {"standoff": 6, "line": {"width": 0}}
        return self._trace(mode="markers", x=ends, y=rows, marker=heads, **self._unclipped())

    def _unclipped(self) -> Trace:
        """What sticks out of the plot area stays whole; WebGL cannot do that."""
        return {} if self.long else {"cliponaxis": False}

    def _labels(self) -> list[Trace]:
        arrows = self.drawing.arrows
        if not arrows:
            return [self._trace(
                mode="text", x=[0], y=[0], text=["no SIP or Diameter message in this capture"],
                textposition="middle center",
            )]  # fmt: skip
        places = [self._label_place(arrow) for arrow in arrows]
        font: Trace = {
            "size": _LABEL_PX,
            "color": [self.theme.refusal if arrow.refused else self.theme.ink for arrow in arrows],
        }
        if not self.long:  # a halo keeps a label readable where it crosses a lifeline; WebGL has none
            font["shadow"] = ", ".join([f"0 0 2px {self.theme.paper}"] * 4)
        return [self._trace(
            mode="text", x=[x for x, _position in places], y=[row - 0.08 for row in self.row],
            text=[self._label(arrow) for arrow in arrows], textposition=[position for _x, position in places],
            textfont=font, **self._unclipped(),
        )]  # fmt: skip

    def _label(self, arrow: Arrow) -> str:
        cross = "✗ " if arrow.refused else ""
        if self.long:
            return cross + arrow.short_label
        words = f"<b>{escape(arrow.short_message[0])}</b>"
        for small in (arrow.short_message[1], arrow.short_detail):
            words += f"  <span style='font-size:10.5px'>{escape(small)}</span>" if small else ""
        return cross + words

    def _label_place(self, arrow: Arrow) -> tuple[float, str]:
        """Centre a label over its arrow, or lean it inward where it would leave the picture."""
        ends = sorted((self.column[arrow.source], self.column[arrow.target]))
        last = len(self.column) - 1
        if ends[0] == ends[1]:
            side = self._loop_side(ends[0])
            return ends[0] + side * (_LOOP + 0.03), "middle right" if side > 0 else "middle left"
        pitch = (_NARROW_PX - _LEFT_PX - _RIGHT_PX) / (last + 0.7)
        half = (len(arrow.short_label) + 2 * arrow.refused) * _CHARACTER_PX / 2 / pitch
        middle = (ends[0] + ends[1]) / 2
        if middle + half > last + 0.35:
            return ends[1] - 0.03, "top left"
        if middle - half < -0.35:
            return ends[0] + 0.03, "top right"
        return middle, "top center"

    def _targets(self, hovers: Sequence[str]) -> Trace:
        """One unseen point a message: what the pointer finds, and what a click returns."""
        places = [(self.column[arrow.source] + self.column[arrow.target]) / 2 for arrow in self.drawing.arrows]
        return {
            "type": self._kind(), "mode": "markers", "x": places, "y": list(self.row), "showlegend": False,
            "name": "messages", "marker": {"size": 14, "opacity": 0, "color": self.theme.box},
            "customdata": [arrow.row for arrow in self.drawing.arrows],
            "hovertext": list(hovers), "hoverinfo": "text",
        }  # fmt: skip


def clock(time_s: float) -> str:
    """Write a time since the start the way it is read most easily."""
    return f"{time_s * 1000:.1f} ms" if time_s < 0.99995 else f"{time_s:.3f} s"


def silence(seconds: float) -> str:
    """Write a length of time with two figures that matter."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def escape(text: str) -> str:
    """Make text of a message harmless where plotly reads a little HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
