"""What calls cost, as pictures: a staircase over the length of a call, and a bill by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from labkit.view.theme import theme_for

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""So that lines differ by more than their colour."""


def draw_staircase(lengths_s: Sequence[float], costs: Mapping[str, Sequence[Decimal]]) -> go.Figure:
    """Draw what a call costs over its length, one line a tariff.

    Args:
        lengths_s: lengths in seconds, ascending.
        costs: name of the tariff -> the cost at each of these lengths.
    """
    import plotly.graph_objects as go

    theme = theme_for(None)
    figure = go.Figure(layout={"template": "none"})
    for number, (name, line) in enumerate(costs.items()):
        figure.add_scatter(
            x=list(lengths_s),
            y=[float(cost) for cost in line],
            name=name,
            mode="lines",
            # What is asked at 61 s holds for all that is longer than the last length asked, so up first, then on.
            line={
                "shape": "vh",
                "width": 2.5,
                "color": theme.calls[number % len(theme.calls)],
                "dash": _DASHES[number % len(_DASHES)],
            },
            hovertemplate="%{x} s: %{y:.4f}<extra>" + name + "</extra>",
        )
    _lay_out(figure, "length of the call in seconds", "cost")
    return figure


def draw_bill(bill: pd.DataFrame) -> go.Figure:
    """Draw a bill as stacked bars: one bar a row, one colour a column.

    Args:
        bill: amounts; the index goes along the page.
    """
    import plotly.graph_objects as go

    theme = theme_for(None)
    figure = go.Figure(layout={"template": "none"})
    for number, name in enumerate(bill.columns):
        figure.add_bar(
            x=[str(label) for label in bill.index],
            y=[float(amount) for amount in bill[name]],
            name=str(name),
            marker={
                "color": theme.calls[number % len(theme.calls)],
                "pattern": {"shape": ("", "/", ".", "x")[number % 4], "fgopacity": 0.6},
            },
            hovertemplate="%{x}: %{y:.2f}<extra>" + str(name) + "</extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.2)
    _lay_out(figure, str(bill.index.name or ""), "amount")
    return figure


def _lay_out(figure: Any, below: str, beside: str) -> None:
    theme = theme_for(None)
    axis = {
        "gridcolor": theme.lifeline,
        "zeroline": False,
        "linecolor": theme.lifeline,
        "tickfont": {"color": theme.faint_ink},
        "title": {"font": {"color": theme.ink}},
        "fixedrange": True,
        "automargin": True,
    }
    figure.update_layout(
        height=360,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        paper_bgcolor=theme.paper,
        plot_bgcolor=theme.paper,
        font={"color": theme.ink},
        legend={"orientation": "h", "y": 1.12, "x": 0},
        xaxis={**axis, "title": {"text": below, "font": {"color": theme.ink}}},
        yaxis={**axis, "title": {"text": beside, "font": {"color": theme.ink}}, "rangemode": "tozero"},
        hoverlabel={"bgcolor": theme.hover[0], "font": {"color": theme.hover[1]}},
        dragmode=False,
    )
