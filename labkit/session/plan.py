"""The lab as a picture and a table, from the topology: who is there and who talks to whom over what."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_PLACES = {
    "phones": (0.0, 0.0),
    "pcscf": (1.5, 0.0),
    "icscf": (3.0, 0.8),
    "scscf": (3.0, -0.8),
    "scscf2": (3.0, -1.6),
    "hss": (4.5, 0.0),
    "proxy": (1.5, -1.6),
}
"""Where the nodes of the spine stand in the picture; nodes added to the topology go into a row below."""

_LINKS = (
    ("phones", "pcscf", "SIP (Gm)"),
    ("pcscf", "icscf", "SIP (Mw)"),
    ("pcscf", "scscf", "SIP (Mw)"),
    ("icscf", "scscf", "SIP (Mw)"),
    ("icscf", "hss", "Diameter (Cx)"),
    ("scscf", "hss", "Diameter (Cx)"),
)
"""Reference points between them: TS 23.228 section 4.4."""


def nodes_table(asked: Collection[str] = ()) -> pd.DataFrame:
    """Return one row a node of a lesson's lab: name, what it is, the ports it serves, and when it starts.

    Args:
        asked: the nodes that the lesson asks for, besides those that start in every lab.
    """
    import pandas as pd

    from labkit.lab.topology import load_topology

    rows = [
        {
            "node": node.name,
            "is the": node.title,
            "serves": ", ".join(_port(name, port) for name, port in node.ports.items()),
            "starts": "on demand" if node.optional else "at once",
        }
        for node in load_topology().nodes.values()
        if not node.optional or node.name in asked
    ]
    return pd.DataFrame(rows).set_index("node")


def draw_plan() -> Any:
    """Return a figure of the lab: a box a node (empty where it starts on demand only), a line a reference point."""
    import plotly.graph_objects as go

    from labkit.lab.topology import load_topology
    from labkit.view.theme import theme_for

    nodes = load_topology().nodes.values()
    titles = {"phones": "phones"} | {node.name: node.title for node in nodes}
    on_demand = {node.name for node in nodes if node.optional}
    places, theme = _places(list(titles)), theme_for(None)
    lowest = min(y for _x, y in places.values()) - 0.6
    figure = go.Figure(layout={"template": "none"})
    for protocol, dash, colour in (("SIP", "solid", theme.calls[0]), ("Diameter", "dot", theme.diameter)):
        links = [(places[left], places[right]) for left, right, label in _LINKS if label.startswith(protocol)]
        figure.add_scatter(
            x=[x for (x0, _), (x1, _) in links for x in (x0, x1, None)],
            y=[y for (_, y0), (_, y1) in links for y in (y0, y1, None)],
            mode="lines",
            line={"color": colour, "dash": dash, "width": 2},
        )
    middles = [(places[left], places[right], label) for left, right, label in _LINKS]
    figure.add_scatter(
        x=[(x0 + x1) / 2 for (x0, _), (x1, _), _label in middles],
        y=[(y0 + y1) / 2 for (_, y0), (_, y1), _label in middles],
        mode="text",
        text=[_worded(label, theme.page_faint_ink) for *_ends, label in middles],
        textfont={"shadow": ", ".join([f"0 0 3px {theme.halo}"] * 6), "color": theme.faint_ink, "size": 12},
    )
    for later in (False, True):
        names = [name for name in titles if (name in on_demand) == later]
        words = [titles[name].replace(" ", "<br>") for name in names]
        figure.add_scatter(
            x=[places[name][0] for name in names],
            y=[places[name][1] for name in names],
            mode="markers+text",
            text=[_worded(word, theme.page_faint_ink) for word in words] if later else words,
            textfont={"color": theme.faint_ink if later else "white", "size": 13},
            marker={"symbol": "square-open" if later else "square", "size": 62, "color": "#5b6670", "opacity": 1},
        )
    figure.update_traces(hoverinfo="skip", showlegend=False, cliponaxis=False)
    figure.update_layout(
        height=round(105 * (1.4 - lowest)),
        margin={"l": 20, "r": 20, "t": 10, "b": 10},
        paper_bgcolor=theme.paper,
        plot_bgcolor=theme.paper,
        xaxis={"visible": False, "range": [-0.6, 5.1], "fixedrange": True},
        yaxis={"visible": False, "range": [lowest, 1.4], "fixedrange": True},
        dragmode=False,
    )
    return figure


def _worded(label: str, ink: str) -> str:
    return f"<span style='color:{ink}'>{label}</span>" if ink else label


def _places(names: list[str]) -> dict[str, tuple[float, float]]:
    places = dict(_PLACES)
    further = [name for name in names if name not in places]
    for number, name in enumerate(further):
        places[name] = (1.5 * (number % 4), -2.5 - 0.9 * (number // 4))
    return places


def _port(name: str, port: Any) -> str:
    return f"{name} {port}"
