"""The lab as a picture: every node is in it, none is cut off, whatever the topology grows to."""

from __future__ import annotations

import re

from labkit.lab.topology import load_topology
from labkit.session.plan import draw_plan, nodes_table


def test_every_node_is_in_sight() -> None:
    """Nodes that nobody placed stand in rows below, inside the picture."""
    figure = draw_plan()
    low, high = figure.layout.yaxis.range
    left, right = figure.layout.xaxis.range
    boxes = [trace for trace in figure.data if trace.mode == "markers+text"]
    titles = [re.sub("<br>", " ", re.sub("</?span[^>]*>", "", text)) for trace in boxes for text in trace.text]
    assert sorted(titles) == sorted(["phones", *(node.title for node in load_topology().nodes.values())])
    places = [place for trace in boxes for place in zip(trace.x, trace.y, strict=True)]
    assert len(set(places)) == len(places)
    assert all(left < x < right and low + 0.3 < y < high for x, y in places)


def test_no_label_is_empty() -> None:
    """plotly.js loses labels of a trace that has gaps."""
    for trace in draw_plan().data:
        assert all(trace.text or ["x"])


def test_the_table_holds_what_the_lesson_has() -> None:
    """The core, and what the lesson asks for: a node added to the topology changes no other lesson's table."""
    assert list(nodes_table().index) == ["pcscf", "icscf", "scscf", "hss"]
    asked = nodes_table(["proxy"])
    assert list(asked.index) == ["pcscf", "icscf", "scscf", "hss", "proxy"]
    assert asked["starts"].tolist() == ["at once"] * 4 + ["on demand"]
