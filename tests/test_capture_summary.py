"""The summary of a capture and the picture of answer times."""

from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest

from labkit.capture.derived import diameter_pairs
from labkit.capture.summary import summary
from labkit.capture.table import Messages, read_capture
from labkit.practice.evening import evening
from labkit.view.answer_times import answer_times, spans
from tests.capture_bench import recording


def practice() -> Messages:
    return read_capture(evening(3000, 20).file(cut=False), {"192.0.2.30": "hss1"})


def test_it_says_what_was_there_and_what_failed() -> None:
    """Registrations, calls, Diameter and media, each with what did not succeed."""
    lines = repr(summary(practice())).splitlines()
    assert lines[0].endswith("Diameter.")
    assert lines[1].startswith("46 registrations: 18 succeeded, 21 with 403, 5 with 503")
    assert lines[2].startswith("6 calls: ")
    assert "11 with 5004, 6 with 5001, 5 with 3004" in lines[3]
    assert "packets lost in 2 of them" in lines[4]


def test_who_speaks() -> None:
    """The most talkative nodes, by name where they have one."""
    nodes = summary(practice()).nodes.set_index("node")
    assert nodes.at["hss1", "speaks"] == "diameter"
    assert nodes.at["192.0.2.10", "speaks"] == "diameter, sip"
    assert nodes.sent.is_monotonic_decreasing


def test_a_recording() -> None:
    """One registration of a real core."""
    found = summary(recording("01_first_registration"))
    assert "1 registration: 1 succeeded." in found.lines
    assert set(found.messages.protocol) == {"sip", "diameter"}
    assert "1 registration" in found._repr_html_()


def test_nothing_at_all() -> None:
    """An empty capture is no error."""
    with pytest.warns(UserWarning, match="1 whole frame was read"):
        empty = read_capture(evening(3000, 20).file()[:300])
    assert summary(empty).lines[0] == "No SIP, Diameter or RTP message was found."


def test_plotly_takes_the_answer_times() -> None:
    """Every property exists; two lines a command; numbers are those of the table."""
    pairs = diameter_pairs(practice().table)
    figure = json.loads(answer_times(pairs, title="t").to_json())
    go.Figure(figure)
    assert [trace["name"] for trace in figure["data"][::2]] == ["LIR", "MAR", "SAR", "UAR"]
    uar = (pairs.loc[pairs.command == "UAR", "duration_s"].astype(float) * 1000).dropna()
    drawn = [value for value in figure["data"][6]["y"] if value is not None]
    assert uar.min() <= min(drawn) <= uar.median() <= max(drawn) <= uar.max()


def test_answer_times_by_node() -> None:
    """Any column can part them; without answers the picture is empty."""
    pairs = diameter_pairs(practice().table)
    assert set(spans(pairs, "to", 10.0)) == {"hss1", "192.0.2.31"}
    assert len(answer_times(pairs.head(0)).data) == 0
