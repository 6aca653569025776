"""What the plotly figures of short and long ladders share: title, names of nodes, legend, colours of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from labkit.view.layout import GROUP_NAMES, Layout, clock
from labkit.view.theme import Theme

Trace = dict[str, Any]

ROW_PX = 31
"""Height of a row."""
TOP_PX, BOTTOM_PX, LEFT_PX, RIGHT_PX = 90, 44, 92, 34
NARROW_PX = 470
"""Labels are placed so that nothing is cut off in a figure of this width."""
LABEL_PX, CHARACTER_PX, CAPITAL_PX = 12, 6.5, 7.6
"""Size of a label, width of one of its characters on average, and of one in a label of capitals."""
LOOP = 0.3
"""Width of the loop of a message to itself, in distances between lifelines."""

FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
_MOST_GROUPS = 5
"""A legend of more entries than these would not fit in a narrow figure; then the hover text alone names the call."""
_LEGEND_PX = 30
"""The legend's distance from the top, in pixels."""
_NO_BUTTONS = ["select", "lasso", "zoom", "zoomIn", "zoomOut", "autoScale", "resetScale"]
"""Buttons of plotly that do nothing good to a ladder."""


class Paper:
    """A layout on paper of a theme; makes the dictionaries that plotly wants."""

    def __init__(self, layout: Layout, theme: Theme, title: str, seen_rows: int, bottom_px: int) -> None:
        """Prepare.

        Args:
            layout: what is drawn.
            theme: colours.
            title: stands above; may be empty.
            seen_rows: rows that are in sight at a time.
            bottom_px: height of what stands below the rows.
        """
        self.layout, self.theme, self.title = layout, theme, title
        self.seen_rows, self.bottom_px = max(seen_rows, 1), bottom_px

    def figure_layout(self, highlight: Sequence[int]) -> Trace:
        """Return plotly's layout: everything but the traces."""
        theme, nodes = self.theme, len(self.layout.column)
        height = TOP_PX + self.seen_rows * ROW_PX + self.bottom_px
        return {
            "template": {},  # not plotly's own: 7 kB of defaults that a ladder has no use for
            "autosize": True,
            "height": height,
            "margin": {"l": LEFT_PX, "r": RIGHT_PX, "t": TOP_PX, "b": self.bottom_px, "pad": 0},
            "paper_bgcolor": theme.paper,
            "plot_bgcolor": theme.paper,
            "font": {"family": FONT, "size": LABEL_PX, "color": theme.ink},
            "title": {
                "text": self.ink(f"<b>{escape(self.title)}</b>") if self.title else "",
                "font": {"size": 15},
                "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 14, "t": 13},
                "y": 1, "yref": "container", "yanchor": "top", "automargin": False,
            },
            "showlegend": 1 < len(self.layout.groups) <= _MOST_GROUPS,
            "legend": {
                "orientation": "h", "itemclick": False, "itemdoubleclick": False,
                "x": 12 / 1000, "xref": "container", "xanchor": "left",
                "y": 1 - _LEGEND_PX / height, "yref": "container", "yanchor": "top",
                "font": {"size": 11, "color": theme.faint_ink}, "bgcolor": "rgba(0,0,0,0)",
            },
            "xaxis": {
                "range": [-0.35, nodes - 0.65] if nodes > 1 else [-1, 1], "visible": False, "fixedrange": True,
            },
            "yaxis": {
                "range": self.y_range(0),
                "tickmode": "array", "tickfont": {"size": 11, "color": theme.faint_ink},
                "showgrid": False, "zeroline": False, "showline": False, "ticks": "",
            },
            "annotations": self._names(y=1, yanchor="bottom", yshift=2),
            "shapes": self._bands(highlight),
            "hovermode": "y",
            "hoverdistance": ROW_PX,
            "hoverlabel": {
                "align": "left", "namelength": 0, "bgcolor": theme.hover[0], "bordercolor": theme.faint_ink,
                "font": {"family": FONT, "size": 12, "color": theme.hover[1]},
            },
            "modebar": {
                "orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": theme.lifeline,
                "activecolor": theme.faint_ink, "remove": _NO_BUTTONS,
            },
        }  # fmt: skip

    def y_range(self, first: int) -> list[float]:
        """Return the range of the y axis that shows the rows from this one on."""
        return [first + self.seen_rows - 0.65, first - 0.75]

    def names_below(self) -> list[Trace]:
        """Return the names of the nodes once more, for a picture that is higher than a screen."""
        return self._names(y=0, yanchor="top", yshift=-2)

    def _names(self, **place: Any) -> list[Trace]:
        """Names of the nodes in boxes."""
        box = {
            "xref": "x", "yref": "paper", "showarrow": False, "bgcolor": self.theme.box,
            "bordercolor": self.theme.lifeline, "borderwidth": 1, "borderpad": 4,
            "font": {"size": 12, "color": self.theme.ink},
        }  # fmt: skip
        names = self.layout.column.items()
        return [{**box, **place, "text": self.ink(f"<b>{escape(name)}</b>"), "x": x} for name, x in names]

    def _bands(self, numbers: Sequence[int]) -> list[Trace]:
        """Backgrounds of the rows of the messages with these numbers."""
        if not numbers:
            return []
        wanted = set(numbers)
        arrows = zip(self.layout.drawing.arrows, self.layout.row, strict=True)
        return [
            {
                "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": row - 0.72, "y1": row + 0.28,
                "fillcolor": self.theme.highlight, "line": {"width": 0}, "layer": "below",
            }
            for arrow, row in arrows if arrow.number in wanted
        ]  # fmt: skip

    # ---- words ------------------------------------------------------------------------------------------------------

    def ink(self, words: str) -> str:
        """Give words the page's own colour, where the page may have a theme."""
        return f"<span style='color:{self.theme.page_ink}'>{words}</span>" if self.theme.page_ink else words

    def faint(self, words: str) -> str:
        """The same for words that stand back."""
        return f"<span style='color:{self.theme.page_faint_ink}'>{words}</span>" if self.theme.page_ink else words

    def halo(self) -> str:
        """Return a text shadow of the paper's colour."""
        return ", ".join([f"0 0 2px {self.theme.halo}"] * 4)

    def legend_name(self, group: str) -> str:
        """Return how a group is called in the legend."""
        return self.faint(GROUP_NAMES.get(group) or group or "SIP")


def tick_text(number: int | None, time_s: float) -> tuple[str, str]:
    """Return what stands left of a row: when, and which message."""
    return clock(time_s), "" if number is None else str(number)


def lifelines(column: Iterable[int], edges: Sequence[float]) -> tuple[list[float | None], list[float | None]]:
    """Return the pieces of the lifelines, from each even edge to the next odd one."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for place in column:
        for top, bottom in zip(edges[::2], edges[1::2], strict=True):
            xs += [place, place, None]
            ys += [top, bottom, None]
    return xs, ys


def label_place(start: int, end: int, characters: int, last: int) -> tuple[float, str]:
    """Centre a label over its arrow, or lean it inward where it would leave the picture.

    Args:
        start: column that the arrow comes from.
        end: column that it leads to.
        characters: length of the label.
        last: the last column.
    Returns:
        x of the label, and plotly's text position.
    """
    if start == end:
        side = loop_side(start, last)
        return start + side * (LOOP + 0.03), "middle right" if side > 0 else "middle left"
    left, right = (start, end) if start < end else (end, start)
    half = _width(characters * CHARACTER_PX, last) / 2
    middle = (left + right) / 2
    if middle + half > last + 0.35:
        return right - 0.03, "top left"
    if middle - half < -0.35:
        return left + 0.03, "top right"
    return middle, "top center"


def label_start(start: int, end: int, characters: int, last: int) -> tuple[float, str]:
    """The same for labels that begin where their arrow does from the left, or end at its right end."""
    left, right = (start, end) if start < end else (end, start)
    if left == right:
        return label_place(start, end, characters, last)
    if left + 0.03 + _width(characters * CAPITAL_PX, last) > last + 0.35:
        return right - 0.03, "top left"
    return left + 0.03, "top right"


def _width(pixels: float, last: int) -> float:
    """What is that wide in a narrow figure, in distances between lifelines."""
    return pixels / ((NARROW_PX - LEFT_PX - RIGHT_PX) / (last + 0.7))


def loop_side(place: int, last: int) -> int:
    """Return on which side a loop stands: to the right of its lifeline, except at the last one."""
    return -1 if place == last and place > 0 else 1


def escape(text: str) -> str:
    """Make text of a message harmless where plotly reads a little HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
