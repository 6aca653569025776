"""Things that name each other, as a picture: a column of boxes for each kind, a line where one names the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.view.theme import theme_for

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ROW, _WIDTH = 0.9, 2.6


def draw_chain(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> go.Figure:
    """Draw a table as a chain, from left to right.

    Args:
        columns: what each column holds, for example "plan".
        rows: each a way through the columns; what is in two rows is drawn once.
    """
    import plotly.graph_objects as go

    theme = theme_for(None)
    places = _places(columns, rows)
    links = dict.fromkeys(((at, row[at]), (at + 1, row[at + 1])) for row in rows for at in range(len(columns) - 1))
    figure = go.Figure(layout={"template": "none"})
    figure.add_scatter(
        x=[x for left, right in links for x in (places[left][0], places[right][0], None)],
        y=[y for left, right in links for y in (places[left][1], places[right][1], None)],
        mode="lines",
        line={"color": theme.lifeline, "width": 2},
        hoverinfo="skip",
    )
    height = max(-y for _x, y in places.values()) + _ROW
    for number, (key, (x, y)) in enumerate(places.items()):
        figure.add_annotation(
            x=x,
            y=y,
            text=str(key[1]),
            showarrow=False,
            font={"color": "white", "size": 12},
            bgcolor=_box(key[0]),
            borderpad=5,
            name=f"box-{number}",
        )
    for at, column in enumerate(columns):
        figure.add_annotation(
            x=at * _WIDTH, y=_ROW, text=f"<b>{column}</b>", showarrow=False, font={"color": theme.ink, "size": 13}
        )
    figure.update_layout(
        height=round(52 * (height + 1)),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        paper_bgcolor=theme.paper,
        plot_bgcolor=theme.paper,
        showlegend=False,
        xaxis={"visible": False, "range": [-_WIDTH / 2, (len(columns) - 0.5) * _WIDTH], "fixedrange": True},
        yaxis={"visible": False, "range": [-height + 0.2, 1.5 * _ROW], "fixedrange": True},
        dragmode=False,
    )
    return figure


def _box(column: int) -> str:
    """A colour on which white reads well; neighbours differ."""
    return ("#5b6670", "#00608f")[column % 2]


def _places(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[tuple[int, Any], tuple[float, float]]:
    """Where each thing stands: in its column, in the middle of the things before it."""
    kinds = [list(dict.fromkeys(row[at] for row in rows)) for at in range(len(columns))]
    tallest = max(len(kind) for kind in kinds)
    return {
        (at, value): (at * _WIDTH, -_ROW * (number + 0.5) * tallest / len(kind) + _ROW / 2)
        for at, kind in enumerate(kinds)
        for number, value in enumerate(kind)
    }
