"""The ladder as a figure: what is in it, that plotly takes it, and that it stays cheap."""

from __future__ import annotations

import base64
import copy
import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from labkit.capture.table import Messages, read_capture
from labkit.view import theme
from labkit.view.drawing import tell
from labkit.view.ladder import SVG_LIMIT, ladder
from labkit.view.layout import lay_out
from labkit.view.long_ladder import WINDOW_ROWS, long_figure
from tests.view_messages import IMS, NAMES, changed, recording, repeated, with_media


def figure(messages: Messages, **options: Any) -> dict[str, Any]:
    """The figure as what its JSON says, packed numbers unpacked."""
    parsed: dict[str, Any] = unpacked(json.loads(ladder(messages, **options).to_json()))
    return parsed


def unpacked(value: Any) -> Any:
    """Replace plotly's packed arrays by lists."""
    if isinstance(value, dict) and "bdata" in value:
        return np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).tolist()
    if isinstance(value, dict):
        return {name: unpacked(one) for name, one in value.items()}
    return [unpacked(one) for one in value] if isinstance(value, list) else value


def words(text: str) -> str:
    """A text of the figure without the tags that colour it."""
    return re.sub(r"</?span[^>]*>", "", text)


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
    go.Figure(figure(repeated(recording("05"), 5), highlight=3))


def test_a_long_one_can_be_changed_and_copied() -> None:
    """It is plotly's own figure: what a learner changes is in its JSON, and a copy stands alone."""
    drawn = ladder(repeated(recording("05"), 5))
    before = json.loads(drawn.to_json())
    copied = copy.deepcopy(drawn).update_layout(height=321)
    after = json.loads(copied.to_json())
    assert after["data"] == before["data"]
    assert after["layout"]["yaxis"] == before["layout"]["yaxis"]
    assert after["layout"]["height"] == 321
    copied.data[-1].text = ["changed", *copied.data[-1].text[1:]]
    copied.layout.sliders[0].steps[1].label = "second"
    after = json.loads(copied.to_json())
    assert after["data"][-1]["text"] == ["changed", *before["data"][-1]["text"][1:]]
    assert after["layout"]["sliders"][0]["steps"][1] == before["layout"]["sliders"][0]["steps"][1] | {"label": "second"}
    assert json.loads(drawn.to_json()) == before


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
    names = [words(note["text"]) for note in drawn["layout"]["annotations"]]
    assert names == ["<b>alice</b>", "<b>pcscf</b>", "<b>icscf</b>", "<b>scscf</b>", "<b>hss</b>"] * 2


def test_an_arrow_leads_from_sender_to_receiver() -> None:
    """The first message goes from the first lifeline to the second, the last one back."""
    sip = next(trace for trace in figure(recording("01"))["data"] if words(trace.get("name", "")) == "call-1")
    assert sip["x"][:3] == [0, 1, None]
    assert sip["x"][-3:] == [1, 0, None]


def test_calls_and_diameter_have_colours_of_their_own() -> None:
    """A legend names them; all come from the palette for the colour-blind."""
    drawn = figure(recording("05"))
    named = {words(trace["name"]): trace["line"]["color"] for trace in drawn["data"] if trace.get("showlegend")}
    assert list(named) == ["call-1", "call-2", "call-3", "Diameter"]
    assert len(set(named.values())) == 4
    assert drawn["layout"]["showlegend"]


def test_a_retransmission_is_dashed() -> None:
    """And has no number."""
    drawn = figure(recording("20"))
    dashed = [trace for trace in drawn["data"] if trace.get("line", {}).get("dash") == "dash"]
    assert len(dashed) == 1
    assert sum("<b></b>" in words(tick) for tick in drawn["layout"]["yaxis"]["ticktext"]) == 2


def test_a_silence_breaks_the_lifelines() -> None:
    """It takes a row, and its length is written there."""
    drawn = figure(recording("04"))
    assert any([words(text) for text in trace.get("text", [])] == ["2.0 s of silence"] for trace in drawn["data"])
    assert len(drawn["layout"]["yaxis"]["tickvals"]) == 32
    assert drawn["layout"]["yaxis"]["tickvals"][-1] == 32


def test_a_message_to_oneself_is_a_loop() -> None:
    """Out of the lifeline, down, and back into it."""
    merged = read_capture(next(IMS.glob("01*.pcap")), {**NAMES, "172.30.0.11": "scscf"})
    sip = next(t for t in figure(merged, show="all")["data"] if words(t.get("name", "")) == "call-1")
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
    steps = [step["args"] for step in drawn["layout"]["sliders"][0]["steps"]]
    assert {name for name, _range in steps} == {"yaxis.range"}
    pages = [page for _name, page in steps]
    seen = {row for low, high in pages for row in range(round(high + 0.75), round(low + 0.65))}
    assert set(drawn["layout"]["yaxis"]["tickvals"]) <= seen


def arrows_of(drawn: dict[str, Any]) -> set[tuple[float, float, int]]:
    """Row, start and end of every arrow of a long ladder: its head with the error bar that is its shaft."""
    found = set()
    for trace in drawn["data"]:
        if trace["mode"] == "markers":
            bars = trace["error_x"]
            for x, y, right, left in zip(trace["x"], trace["y"], bars["array"], bars["arrayminus"], strict=True):
                found.add((y, x + right - left, x))
    return found


def test_a_long_ladder_shows_the_same_arrows_and_words() -> None:
    """Packed numbers say what the short figure says: who to whom, in which row, with which label."""
    messages = repeated(recording("05"), 4)
    layout = lay_out(tell(messages, retransmissions=True))
    drawn = figure(messages)
    column = layout.column
    assert arrows_of(drawn) == {
        (row, column[arrow.source], column[arrow.target])
        for arrow, row in zip(layout.drawing.arrows, layout.row, strict=True)
    }
    told = {
        round(y + 0.08): text
        for trace in drawn["data"]
        if trace["mode"] == "text" and "customdata" in trace
        for y, text in zip(trace["y"], trace["text"], strict=True)
    }
    assert told == {row: arrow.short_label for arrow, row in zip(layout.drawing.arrows, layout.row, strict=True)}


def test_a_label_in_a_long_ladder_begins_at_its_arrow() -> None:
    """At the left end, so that no lifeline goes through its middle; else at the right one, inside a narrow figure."""
    messages = repeated(recording("05"), 4)
    layout, drawn = lay_out(tell(messages, retransmissions=True)), figure(messages)
    by_row = dict(zip(layout.row, layout.drawing.arrows, strict=True))
    for trace in drawn["data"]:
        if trace["mode"] == "text" and "customdata" in trace:
            for x, y in zip(trace["x"], trace["y"], strict=True):
                arrow = by_row[round(y + 0.08)]
                left, right = sorted((layout.column[arrow.source], layout.column[arrow.target]))
                assert abs(x - left) < 0.1 if trace["textposition"] == "top right" else abs(x - right) < 0.1
    assert len({(trace["textposition"], len(trace["text"])) for trace in drawn["data"] if "textposition" in trace}) < 4


def test_a_message_to_oneself_in_a_long_ladder_is_a_stub() -> None:
    """It is not lost: half a shaft beside its lifeline."""
    merged = read_capture(next(IMS.glob("05*.pcap")), {**NAMES, "172.30.0.11": "scscf"})
    assert any(0 < abs(start - end) < 1 for _row, start, end in arrows_of(figure(repeated(merged, 4), show="all")))


def test_traces_do_not_grow_with_the_messages() -> None:
    """A trace or an annotation per message would cost seconds; in a long ladder not even calls have traces."""
    once, more = figure(repeated(recording("01"), 2)), figure(repeated(recording("01"), 6))
    assert len(more["data"]) <= len(once["data"]) + 2 * 4  # two traces for each further Call-ID
    assert len(more["layout"]["annotations"]) == len(once["layout"]["annotations"])
    assert len(figure(repeated(recording("01"), 60))["data"]) == len(figure(repeated(recording("01"), 90))["data"]) < 40


def test_a_long_figure_is_small() -> None:
    """Bytes a message, without and with what the pointer shows."""
    layout = lay_out(tell(repeated(recording("05"), 22), retransmissions=True))
    size = {
        hover: len(go.Figure(long_figure(layout, theme.AUTO, "t", hover=hover), _validate=False).to_json())
        for hover in (False, True)
    }
    assert size[False] / len(layout.row) <= 70
    assert size[True] / len(layout.row) <= 120


def test_a_stream_of_media_is_one_band() -> None:
    """Thousands of packets are one row, named by codec, with what was lost."""
    drawn = figure(with_media())
    band = next(trace for trace in drawn["data"] if words(trace.get("name", "")) == "RTP")
    assert len(band["x"]) == 2 * 3
    assert band["line"]["width"] > 5
    named = [words(text) for text in labels(drawn) if "RTP PCMU" in text]
    assert len(named) == 2
    assert "40 packets in 0.8 s, 0 lost" in named[0]


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
    """What a call asks for wins; at first a figure has no paper of its own, and its words have the page's colour."""
    assert figure(recording("01"))["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"
    assert all("var(--jp-content-font-color1," in text for text in labels(figure(recording("01"))))
    try:
        theme.use_theme("dark")
        assert figure(recording("01"))["layout"]["paper_bgcolor"] == theme.DARK.paper
        assert figure(recording("01"), dark=False)["layout"]["paper_bgcolor"] == theme.LIGHT.paper
    finally:
        theme.use_theme("auto")


def brightness(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast by WCAG 2."""
    light, dark = sorted((brightness(one), brightness(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("chosen", [theme.LIGHT, theme.DARK])
def test_colours_can_be_read(chosen: theme.Theme) -> None:
    """Text has at least the contrast that WCAG 2 asks for (4.5), arrows that of graphics (3)."""
    for ink in (chosen.ink, chosen.faint_ink, chosen.refusal):
        assert contrast(ink, chosen.paper) >= 4.5
    assert contrast(chosen.ink, chosen.highlight) >= 4.5
    for line in (chosen.diameter, chosen.media, *chosen.calls[:2]):
        assert contrast(line, chosen.paper) >= 3


@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_colours_without_paper_can_be_read_on_light_and_dark(page: str) -> None:
    """White, and JupyterLab's dark page: no colour has 4.5 on both, so text that cannot ask the page has at least 4."""
    for ink in (theme.AUTO.ink, theme.AUTO.faint_ink, theme.AUTO.refusal):
        assert contrast(ink, page) >= 4
    for line in (theme.AUTO.diameter, theme.AUTO.media, *theme.AUTO.calls):
        assert contrast(line, page) >= 3
    assert contrast(*theme.AUTO.hover) >= 7


def test_an_empty_capture_is_drawn_as_a_sentence() -> None:
    """A figure all the same, so that a lesson goes on."""
    empty = Messages(recording("01").table.iloc[:0], [], {})
    assert "no SIP or Diameter message in this capture" in ladder(empty).to_json()


def test_the_room_is_light_to_enter() -> None:
    """Importing it fetches neither plotly nor pandas nor widgets nor numpy."""
    code = (
        "import sys, labkit.view.ladder, labkit.view.browse, labkit.view.text_ladder, labkit.view.message;"
        "print([name for name in ('plotly', 'pandas', 'ipywidgets', 'anywidget', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
