"""The ladder as a figure: what is in it, that plotly takes it, and that it stays cheap."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import plotly.graph_objects as go
import pytest

from labkit.capture.table import Messages, read_capture
from labkit.view import theme
from labkit.view.ladder import SVG_LIMIT, WINDOW_ROWS, ladder
from tests.view_messages import IMS, NAMES, changed, recording, repeated


def figure(messages: Messages, **options: Any) -> dict[str, Any]:
    """The figure as what its JSON says."""
    parsed: dict[str, Any] = json.loads(ladder(messages, **options).to_json())
    return parsed


def labels(drawn: dict[str, Any]) -> list[str]:
    """The texts at the arrows."""
    texts = [trace["text"] for trace in drawn["data"] if trace["mode"] == "text"]
    return max(texts, key=len)


@pytest.mark.parametrize("name", ["01", "04", "05", "10", "20"])
@pytest.mark.parametrize("dark", [False, True])
def test_plotly_takes_it(name: str, dark: bool) -> None:
    """Every property exists and has a value that plotly allows; drawing itself does not validate."""
    go.Figure(figure(recording(name), dark=dark, title="a title", highlight=1))


def test_plotly_takes_a_long_one() -> None:
    """WebGL traces allow fewer properties than SVG traces."""
    go.Figure(figure(repeated(recording("05"), 5)))


def test_the_same_capture_gives_the_same_json() -> None:
    """Lists and not base64, so that a change can be read."""
    first, second = ladder(recording("01")).to_json(), ladder(recording("01")).to_json()
    assert first == second
    assert "bdata" not in first


def test_labels_have_no_gaps() -> None:
    """plotly.js loses labels of a trace with empty strings when it lays the figure out again."""
    drawn = figure(recording("05"))
    for trace in drawn["data"]:
        assert all(trace.get("text", ["x"]))
    assert len(labels(drawn)) == 92


def test_numbers_and_names_stand_around_it() -> None:
    """Message numbers at the left, nodes above, and below too where the picture is high."""
    drawn = figure(recording("01"))
    ticks = drawn["layout"]["yaxis"]["ticktext"]
    assert "<b>1</b>" in ticks[0]
    assert "<b>18</b>" in ticks[-1]
    names = [note["text"] for note in drawn["layout"]["annotations"]]
    assert names == ["<b>alice</b>", "<b>pcscf</b>", "<b>icscf</b>", "<b>scscf</b>", "<b>hss</b>"] * 2


def test_an_arrow_leads_from_sender_to_receiver() -> None:
    """The first message goes from the first lifeline to the second, the last one back."""
    sip = next(trace for trace in figure(recording("01"))["data"] if trace.get("name") == "call-1")
    assert sip["x"][:3] == [0, 1, None]
    assert sip["x"][-3:] == [1, 0, None]


def test_calls_and_diameter_have_colours_of_their_own() -> None:
    """A legend names them; all come from the palette for the colour-blind."""
    drawn = figure(recording("05"))
    named = {trace["name"]: trace["line"]["color"] for trace in drawn["data"] if trace.get("showlegend")}
    assert list(named) == ["call-1", "call-2", "call-3", "Diameter"]
    assert len(set(named.values())) == 4
    assert drawn["layout"]["showlegend"]


def test_a_retransmission_is_dashed() -> None:
    """And has no number."""
    drawn = figure(recording("20"))
    dashed = [trace for trace in drawn["data"] if trace.get("line", {}).get("dash") == "dash"]
    assert len(dashed) == 1
    assert sum("<b></b>" in tick for tick in drawn["layout"]["yaxis"]["ticktext"]) == 2


def test_a_silence_breaks_the_lifelines() -> None:
    """It takes a row, and its length is written there."""
    drawn = figure(recording("04"))
    assert any(trace.get("text") == ["2.0 s of silence"] for trace in drawn["data"])
    assert len(drawn["layout"]["yaxis"]["tickvals"]) == 32
    assert drawn["layout"]["yaxis"]["tickvals"][-1] == 32


def test_a_message_to_oneself_is_a_loop() -> None:
    """Out of the lifeline, down, and back into it."""
    merged = read_capture(next(IMS.glob("01*.pcap")), {**NAMES, "172.30.0.11": "scscf"})
    sip = next(t for t in figure(merged, show="all")["data"] if t.get("name") == "call-1")
    assert [2, 2.3, 2.3, 2, None] in [sip["x"][at : at + 5] for at in range(len(sip["x"]))]


def test_the_height_grows_with_the_rows() -> None:
    """Nothing is squeezed: the same room for every row."""
    short, long = figure(recording("10"))["layout"]["height"], figure(recording("05"))["layout"]["height"]
    assert long > short + (92 - 6) * 30


def test_a_refusal_is_marked_by_more_than_colour() -> None:
    """A cross stands before it."""
    assert [text.startswith("✗ ") for text in labels(figure(recording("10")))] == [False] * 3 + [True] * 3


def test_a_highlight_is_a_band_behind_its_row() -> None:
    """One rectangle for each number; a number that is not there marks nothing."""
    assert len(figure(recording("01"), highlight=[4, 14, 99])["layout"]["shapes"]) == 2


def test_a_long_ladder_is_a_window_to_page_through() -> None:
    """WebGL, a fixed number of rows, and a slider."""
    drawn = figure(repeated(recording("05"), 5))
    assert SVG_LIMIT < 5 * 92
    assert {trace["type"] for trace in drawn["data"]} == {"scattergl"}
    low, high = drawn["layout"]["yaxis"]["range"]
    assert WINDOW_ROWS - 1 < low - high < WINDOW_ROWS + 1
    pages = [step["args"][0]["yaxis.range"] for step in drawn["layout"]["sliders"][0]["steps"]]
    seen = {row for low, high in pages for row in range(round(high + 0.75), round(low + 0.65))}
    assert set(drawn["layout"]["yaxis"]["tickvals"]) <= seen


def test_traces_do_not_grow_with_the_messages() -> None:
    """A trace or an annotation per message would cost seconds."""
    once, more = figure(repeated(recording("01"), 2)), figure(repeated(recording("01"), 6))
    assert len(more["data"]) <= len(once["data"]) + 2 * 4  # two traces for each further Call-ID
    assert len(more["layout"]["annotations"]) == len(once["layout"]["annotations"])


def test_hover_tells_the_key_headers() -> None:
    """Who to whom, the true frame, and what one would look up first."""
    hover = figure(recording("01"))["data"][-1]["hovertext"]
    assert hover[3].startswith("<b>4 · UAA DIAMETER_FIRST_REGISTRATION</b><br>hss → icscf, frame 4<br>")
    assert "<b>Experimental-Result-Code</b> 2001" in hover[3]
    assert "<b>Call-ID</b> " in hover[0]


def test_bytes_from_the_network_cannot_become_markup() -> None:
    """Neither in a label nor in a hover text."""
    whole = recording("01")
    evil = (
        whole.raw[0]
        .replace(b"REGISTER sip:", b"REGISTER <a href='javascript:x'>sip:")
        .replace(b"From: ", b"From: <img src=x onerror=alert(1)>")
    )
    drawn = json.dumps(figure(changed(whole, 0, evil, method="<script>alert(1)</script>"), title="<i>", show="all"))
    for bad in ("<script", "<img", "<a href", "<i>"):
        assert bad not in drawn


def test_a_theme_can_be_chosen_for_all() -> None:
    """What a call asks for wins."""
    try:
        theme.use_theme("dark")
        assert figure(recording("01"))["layout"]["paper_bgcolor"] == theme.DARK.paper
        assert figure(recording("01"), dark=False)["layout"]["paper_bgcolor"] == theme.LIGHT.paper
    finally:
        theme.use_theme("light")


@pytest.mark.parametrize("chosen", [theme.LIGHT, theme.DARK])
def test_colours_can_be_read(chosen: theme.Theme) -> None:
    """Text has at least the contrast that WCAG 2 asks for (4.5), arrows that of graphics (3)."""

    def brightness(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        light, dark = sorted((brightness(one), brightness(other)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for ink in (chosen.ink, chosen.faint_ink, chosen.refusal):
        assert contrast(ink, chosen.paper) >= 4.5
    assert contrast(chosen.ink, chosen.highlight) >= 4.5
    for line in (chosen.diameter, *chosen.calls[:2]):
        assert contrast(line, chosen.paper) >= 3


def test_an_empty_capture_is_drawn_as_a_sentence() -> None:
    """A figure all the same, so that a lesson goes on."""
    empty = Messages(recording("01").table.iloc[:0], [], {})
    assert "no SIP or Diameter message in this capture" in ladder(empty).to_json()


def test_the_room_is_light_to_enter() -> None:
    """Importing it fetches neither plotly nor pandas nor widgets."""
    code = (
        "import sys, labkit.view.ladder, labkit.view.browse, labkit.view.text_ladder, labkit.view.message;"
        "print([name for name in ('plotly', 'pandas', 'ipywidgets', 'anywidget') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
