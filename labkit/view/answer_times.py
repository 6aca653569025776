"""How long Diameter answers took, while the capture ran: a line of middle times and one of slow ones a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.view.theme import theme_for

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SLOW = 0.95
"""The dotted line: so many of the answers were quicker."""
_HEIGHT_PX = 380


def answer_times(
    pairs: pd.DataFrame, *, by: str = "command", every_s: float = 5.0, title: str = "", dark: bool | None = None
) -> go.Figure:
    """Draw the answer times of Diameter.

    Args:
        pairs: what `diameter_pairs` gives, or some of its rows.
        by: the column whose values get a colour each: "command", "to", "from".
        every_s: answers of so many seconds make one point; where there was none, the line has a gap.
        title: stands above the picture.
        dark: see `ladder`.
    Returns:
        A figure: seconds since the first request from left to right, milliseconds upwards by powers of ten.
    """
    import plotly.graph_objects as go

    theme = theme_for(dark)
    traces: list[dict[str, Any]] = []
    for group, (name, times) in enumerate(spans(pairs, by, every_s).items()):
        colour = (theme.diameter, *theme.calls)[group % (1 + len(theme.calls))]
        for column, dash in (("middle", "solid"), ("slow", "dot")):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": name if column == "middle" else f"{name}, slowest 5 %",
                    "legendgroup": name,
                    "showlegend": column == "middle",
                    "x": times.index.tolist(),
                    "y": [None if value != value else round(value, 2) for value in times[column].tolist()],
                    "line": {"color": colour, "width": 2, "dash": dash},
                    "marker": {"size": 4},
                    "hovertemplate": "%{y:.1f} ms at %{x:.0f} s",
                }
            )
    ink = {"color": theme.ink, "gridcolor": theme.lifeline, "zeroline": False}
    layout = {
        "template": {},
        "autosize": True,
        "height": _HEIGHT_PX,
        "margin": {"l": 64, "r": 20, "t": 70 if title else 46, "b": 52},
        "paper_bgcolor": theme.paper,
        "plot_bgcolor": theme.paper,
        "font": {"color": theme.ink},
        "title": {"text": title, "font": {"size": 15}},
        "xaxis": {"title": {"text": "seconds since the first request"}, **ink},
        "yaxis": {"title": {"text": "ms until the answer"}, "type": "log", "dtick": 1, **ink},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
    }
    return go.Figure({"data": traces, "layout": layout}, _validate=False)


def spans(pairs: pd.DataFrame, by: str, every_s: float) -> dict[str, pd.DataFrame]:
    """Give the middle and the slow answer time of each group in each span, in ms, index seconds since the first."""
    import pandas as pd

    answered = pairs[pairs["duration_s"].notna() & pairs[by].notna()]
    if not len(answered):
        return {}
    since_s = (answered["time"] - pairs["time"].min()).dt.total_seconds()
    span = (since_s // every_s).astype(int)
    times_ms = answered["duration_s"].astype(float) * 1000
    grouped = times_ms.groupby([answered[by].astype(str), span])
    quantiles = pd.DataFrame({"middle": grouped.quantile(0.5), "slow": grouped.quantile(SLOW)})
    every = range(int(span.max()) + 1)
    found = {}
    for name in sorted(quantiles.index.get_level_values(0).unique()):
        one = quantiles.loc[name].reindex(every)
        found[name] = one.set_index((one.index + 0.5) * every_s)
    return found
