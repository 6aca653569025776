"""The picture of messages and media: its rates, its panels, that plotly takes it, nothing told by colour alone."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go
import pytest

from labkit.capture.table import Messages
from labkit.view.drawing import tell
from labkit.view.media import media_chart
from labkit.view.media_flows import STEP_S, flows, rate
from tests.view_messages import recording, with_media


def figure(messages: Messages, **options: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(media_chart(messages, **options).to_json())
    return parsed


def test_a_steady_stream_has_a_steady_rate() -> None:
    """A packet every 20 ms from 1 s to 2 s is 50 a second then, and nothing before or after, but for the window."""
    moments, rates = rate([1 + 0.02 * number for number in range(50)], 3.0, 0.2)
    at = dict(zip(moments, rates, strict=True))
    assert moments[0] == 0
    assert moments[-1] == 3.0
    assert {at[moment] for moment in moments if moment < 1} == {0}
    assert all(45 <= at[moment] <= 55 for moment in moments if 1.2 <= moment < 1.95)
    assert {at[moment] for moment in moments if moment > 2.2 + STEP_S} == {0}


def test_flows_name_both_ends() -> None:
    """Who sends to whom is found by the SDP, also where all media come from one address."""
    start_s = with_media().table["time"].astype("int64").min() * 1e-9
    rtp, rtcp = flows(with_media(), start_s)
    assert [(flow.sender, flow.receiver, len(flow.times_s)) for flow in rtp] == [
        ("alice", "bob", 40),
        ("bob", "alice", 40),
    ]
    assert rtcp == []


def test_translated_addresses() -> None:
    """Where something on the way rewrites the sender's address, the call's other party is the sender."""
    table = with_media().table.copy()
    table.loc[table["protocol"] == "rtp", "src"] = "192.0.2.2"
    rtp, _ = flows(Messages(table, with_media().raw, with_media().names), 0.0)
    assert [(flow.sender, flow.receiver) for flow in rtp] == [("alice", "bob"), ("bob", "alice")]


@pytest.mark.parametrize("dark", [None, False, True])
def test_plotly_takes_it(dark: bool | None) -> None:
    """Every property exists; one axis of time serves all panels; the JSON is lists and the same each time."""
    drawn = figure(with_media(), dark=dark, title="hold")
    go.Figure(drawn)
    assert all(trace.get("xaxis", "x") == "x" for trace in drawn["data"])
    assert {trace.get("yaxis", "y") for trace in drawn["data"]} == {"y", "y2"}
    assert media_chart(with_media(), dark=dark).to_json() == media_chart(with_media(), dark=dark).to_json()
    assert "bdata" not in json.dumps(drawn)


def test_every_message_has_a_stroke() -> None:
    """From the lane of who sent it to that of who got it; plotly draws error bars only where there is an `array`."""
    messages = recording("05")
    story = tell(messages)
    lanes = {name: -place for place, name in enumerate(story.nodes)}
    drawn = []
    for trace in figure(messages)["data"]:
        if bars := trace.get("error_y"):
            below = bars.get("arrayminus", [0] * len(bars["array"]))
            for x, y, up, down in zip(trace["x"], trace["y"], bars["array"], below, strict=True):
                drawn.append((x, y + up - down, y))
    assert sorted(drawn) == sorted((arrow.time_s, lanes[arrow.source], lanes[arrow.target]) for arrow in story.arrows)


def test_senders_differ_by_more_than_colour() -> None:
    """Each sender has a line of its own kind, named in the legend in the order of the lanes."""
    lines = [trace for trace in figure(with_media(), dark=False)["data"] if trace.get("yaxis") == "y2"]
    assert [line["name"] for line in lines] == ["alice → bob", "bob → alice"]
    assert len({line["line"]["dash"] for line in lines}) == 2
    assert len({line["line"]["color"] for line in lines}) == 2


def test_what_was_written_stands_beside_its_writer() -> None:
    """Offers with their method, answers alone: above for the caller, below for the callee."""
    words = next(trace for trace in figure(recording("05"), dark=False)["data"] if trace["mode"] == "text")
    above = [text for text, place in zip(words["text"], words["textposition"], strict=True) if place.startswith("top")]
    below = [
        text for text, place in zip(words["text"], words["textposition"], strict=True) if place.startswith("bottom")
    ]
    assert above == [
        "INVITE<br><b>sendrecv</b>",
        "INVITE<br><b>sendonly</b>",
        "INVITE<br><b>sendrecv</b>",
    ]
    assert below == ["<b>sendrecv</b>", "<b>recvonly</b>", "<b>sendrecv</b>"]


def test_a_capture_without_calls() -> None:
    """A registration has neither offers nor media: its messages alone are drawn."""
    drawn = figure(recording("01"))
    go.Figure(drawn)
    assert {trace.get("yaxis", "y") for trace in drawn["data"]} == {"y"}
