"""The lab as a picture and a table, from the topology: who is there and who talks to whom over what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError

if TYPE_CHECKING:
    import pandas as pd

_PLACES = {
    "phones": (0.0, 0.0),
    "pcscf": (1.5, 0.0),
    "icscf": (3.0, 0.8),
    "scscf": (3.0, -0.8),
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


def nodes_table() -> pd.DataFrame:
    """Return one row a node: name, what it is, the ports it serves, and whether it starts only on demand."""
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
    ]
    return pd.DataFrame(rows).set_index("node")


def draw_plan() -> Any:
    """Return a figure of the lab: a box a node, a line a reference point."""
    import plotly.graph_objects as go

    from labkit.lab.topology import load_topology

    titles = {"phones": "phones"} | {node.name: node.title for node in load_topology().nodes.values()}
    places = _places(list(titles))
    figure = go.Figure()
    for left, right, label in _LINKS:
        (x0, y0), (x1, y1) = places[left], places[right]
        dash = "dot" if "Diameter" in label else "solid"
        colour = "#D55E00" if "Diameter" in label else "#0072B2"
        figure.add_scatter(
            x=[x0, (x0 + x1) / 2, x1],
            y=[y0, (y0 + y1) / 2, y1],
            mode="lines+text",
            text=["", label, ""],
            textposition="top center",
            line={"color": colour, "dash": dash, "width": 2},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_scatter(
        x=[places[name][0] for name in titles],
        y=[places[name][1] for name in titles],
        mode="markers+text",
        text=list(titles.values()),
        textposition="middle center",
        textfont={"color": "white", "size": 13},
        marker={"symbol": "square", "size": 62, "color": "#444444"},
        hoverinfo="text",
        hovertext=list(titles),
        showlegend=False,
    )
    figure.update_layout(
        height=380,
        margin={"l": 20, "r": 20, "t": 20, "b": 20},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis={"visible": False, "range": [-0.6, 5.1]},
        yaxis={"visible": False, "range": [-2.2, 1.4]},
        font={"color": "#777777"},
    )
    return figure


def _places(names: list[str]) -> dict[str, tuple[float, float]]:
    places = dict(_PLACES)
    for number, name in enumerate(name for name in names if name not in places):
        places[name] = (float(number), -2.4)
    missing = [name for name in names if name not in places]
    if missing:
        raise LessonError(f"No place in the picture for {', '.join(missing)}.")
    return places


def _port(name: str, port: Any) -> str:
    return f"{name} {port}"
