"""Money in pictures: the staircase that a balance goes down, and how a session's steps share an account's money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labkit.view.stairs import Stairs, stairs_svg
from labkit.view.theme import Theme, theme_for

Figure = dict[str, Any]
"""A plotly figure as data and layout."""


def balance_figure(
    times_s: Sequence[float],
    money: Sequence[float],
    taken: Sequence[float] = (),
    *,
    title: str = "",
    dark: bool | None = None,
) -> Figure:
    """Draw what an account had, and what open sessions had taken of it.

    Args:
        times_s: when it was looked at, seconds since the first look.
        money: what it had then.
        taken: what its open sessions had taken by then; empty for nothing.
        title: stands above.
        dark: paper, as for `labkit.view.ladder`.
    """
    theme = theme_for(dark)

    def line(name: str, values: Sequence[float], colour: str, dash: str) -> dict[str, Any]:
        style = {"color": colour, "width": 2.5, "shape": "hv", "dash": dash}
        return {"type": "scatter", "mode": "lines", "name": name, "x": list(times_s), "y": list(values), "line": style}

    data = [line("balance", money, theme.calls[0], "solid")]
    if any(taken):
        data.append(line("taken by open calls", taken, theme.diameter, "dot"))
    return {"data": data, "layout": _layout(theme, title, "seconds")}


def balance_svg(times_s: Sequence[float], money: Sequence[float], taken: Sequence[float]) -> str:
    """Draw the same as SVG, for the time while it still changes."""
    theme = theme_for(None)
    lines = [Stairs("taken by open calls", taken, theme.diameter, dashed=True)] if any(taken) else []
    lines.append(Stairs("balance", money, theme.calls[0]))
    return stairs_svg(times_s, lines, tick_s=1, decimals=3, onwards=True)


def ledger_figure(
    steps: Sequence[str], parts: Mapping[str, Sequence[float]], *, title: str = "", dark: bool | None = None
) -> Figure:
    """Draw one column a step: what is free, what is reserved, what is spent.

    Args:
        steps: what was done, from left to right.
        parts: "free", "reserved" and "spent" to one amount a step.
        title: stands above.
        dark: paper, as for `labkit.view.ladder`.
    """
    theme = theme_for(dark)
    colours = {"free": theme.calls[0], "reserved": theme.diameter, "spent": theme.media}
    places = list(range(1, len(steps) + 1))
    data = [
        {"type": "bar", "name": name, "x": places, "y": list(amounts), "marker": {"color": colours[name]}}
        for name, amounts in parts.items()
    ]
    layout = _layout(theme, title, "")
    layout |= {"barmode": "stack", "bargap": 0.35}
    layout["xaxis"] |= {"tickvals": places, "ticktext": [step.replace(", ", ",<br>") for step in steps]}
    return {"data": data, "layout": layout}


def _layout(theme: Theme, title: str, below: str) -> dict[str, Any]:
    ink = theme.page_ink or theme.ink
    axis = {"color": ink, "gridcolor": theme.lifeline, "zerolinecolor": theme.lifeline, "rangemode": "tozero"}
    return {
        "title": {"text": title, "font": {"color": ink, "size": 14}},
        "height": 320,
        "margin": {"l": 60, "r": 20, "t": 70, "b": 55},
        "paper_bgcolor": theme.paper,
        "plot_bgcolor": theme.paper,
        "font": {"color": ink},
        "xaxis": axis | {"title": {"text": below}},
        "yaxis": axis | {"title": {"text": "money"}, "tickformat": ".3f"},
        "legend": {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
    }
