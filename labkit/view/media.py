"""What was said and what was heard, one under the other: a ladder that lies on its side, and packets a second.

All three panels share one axis of time. In the uppermost a horizontal line is a node and a vertical one a message, at
its true time: zoomed in far enough, it is the ladder. Beside each offer stands what its writer wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from labkit.capture.offers import Exchange, exchanges
from labkit.view.drawing import Drawing, tell
from labkit.view.media_flows import Flow, flows, rate
from labkit.view.paper import CHARACTER_PX, FONT, Trace, escape
from labkit.view.theme import Theme, theme_for

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labkit.capture.table import Messages

LANE_PX, WORDS_PX, EDGE_PX = 24, 31, 10
"""Distance of two nodes; height of the words above the first and below the last of them, and of what is beyond."""
NARROW_PX, MARGIN = 900, 1.06
"""Words do not run into one another in a figure of this width; and how much of the time axis is left free."""
RTP_PX, RTCP_PX, GAP_PX = 150, 96, 26
TOP_PX, BOTTOM_PX, LEFT_PX, RIGHT_PX = 74, 40, 70, 18
RTP_WINDOW_S, RTCP_WINDOW_S = 0.1, 0.3
"""Rates are counted over so long before each moment."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up")


@dataclass(frozen=True, slots=True)
class Words:
    """What somebody wrote, beside the lane of its writer."""

    time_s: float
    """When the offer was sent that it belongs to."""
    text: str
    """In plotly's little HTML."""
    above: bool
    """Above the first lane, else below the last one."""
    level: int
    """0 is nearest to the lane."""


def media_chart(messages: Messages, *, title: str = "", dark: bool | None = None) -> go.Figure:
    """Draw who sends sound and reports, under the messages that decide about it.

    Args:
        messages: what `read_capture` returned.
        title: stands above the picture.
        dark: as for a ladder.
    Returns:
        A figure that takes the width that it is given.
    """
    import plotly.graph_objects as go

    drawing = tell(messages)
    rows = [arrow.row for arrow in drawing.arrows]
    start_s = min(messages.table["time"].astype("int64").iloc[rows].tolist(), default=0) * 1e-9
    offered = exchanges(messages)
    sheet = _Sheet(theme_for(dark), drawing, offered, start_s)
    rtp, rtcp = flows(messages, start_s)
    traces = sheet.traces(rtp, rtcp)
    return go.Figure({"data": traces, "layout": sheet.layout(title, traces)}, _validate=False)


class _Sheet:
    """The three panels."""

    def __init__(self, theme: Theme, drawing: Drawing, offered: list[Exchange], start_s: float) -> None:
        self._theme, self._drawing = theme, drawing
        self._offered = [(round(one.sent_ns * 1e-9 - start_s, 4), one) for one in offered]
        self._lane = {name: -place for place, name in enumerate(drawing.nodes)}
        self._until_s = max((arrow.time_s for arrow in drawing.arrows), default=1.0)
        self._placed = self._place_words()
        levels = {
            above: max((w.level for w in self._placed if w.above == above), default=-1) + 1 for above in (True, False)
        }
        self._room_px = {above: EDGE_PX + WORDS_PX * number for above, number in levels.items()}
        self._ladder_px = sum(self._room_px.values()) + LANE_PX * max(len(drawing.nodes) - 1, 1)
        self._plot_px = self._ladder_px + RTP_PX + RTCP_PX + 2 * GAP_PX

    def traces(self, rtp: Sequence[Flow], rtcp: Sequence[Flow]) -> list[Trace]:
        present = {flow.sender for flow in (*rtp, *rtcp)}
        senders = [*(name for name in self._lane if name in present), *sorted(present - set(self._lane))]
        rtp, rtcp = (sorted(kind, key=lambda flow: senders.index(flow.sender)) for kind in (rtp, rtcp))
        style = {name: self._style(place) for place, name in enumerate(senders)}
        return [
            *self._lifelines(),
            *self._messages(),
            *self._words(),
            *(trace for flow in rtp for trace in self._rtp(flow, style[flow.sender])),
            *(trace for flow in rtcp for trace in self._rtcp(flow, style[flow.sender])),
        ]

    def _style(self, place: int) -> tuple[str, str, str]:
        """Colour, dash and symbol of a sender: told apart without colour, too."""
        colours = (self._theme.calls[0], self._theme.diameter, *self._theme.calls[1:])
        return colours[place % len(colours)], _DASHES[place % len(_DASHES)], _SYMBOLS[place % len(_SYMBOLS)]

    def _trace(self, **fields: Any) -> Trace:
        return {"type": "scatter", "hoverinfo": "skip", "showlegend": False, **fields}

    def _lifelines(self) -> list[Trace]:
        ys = [y for lane in self._lane.values() for y in (lane, lane, None)]
        line = {"color": self._theme.lifeline, "width": 1.5}
        return [self._trace(mode="lines", x=[0, self._until_s, None] * len(self._lane), y=ys, line=line)]

    def _messages(self) -> list[Trace]:
        """A stroke for each message, with its head at who gets it. Strokes are error bars: they take the least room."""
        traces = []
        for refused, upward in ((False, False), (False, True), (True, False), (True, True)):
            arrows = [
                arrow
                for arrow in self._drawing.arrows
                if arrow.refused == refused and (self._lane[arrow.target] > self._lane[arrow.source]) == upward
            ]
            if not arrows:
                continue
            colour = self._theme.refusal if refused else self._theme.media
            lengths = [abs(self._lane[arrow.target] - self._lane[arrow.source]) for arrow in arrows]
            bars = {"array": [0] * len(lengths), "arrayminus": lengths} if upward else {"array": lengths}
            traces.append(self._trace(
                mode="markers", x=[arrow.time_s for arrow in arrows], y=[self._lane[arrow.target] for arrow in arrows],
                error_y={
                    "type": "data", "symmetric": False, **bars, "color": colour, "thickness": 1.5, "width": 0,
                },
                marker={
                    "symbol": "triangle-up" if upward else "triangle-down", "size": 7, "color": colour,
                    "line": {"width": 0},
                },
                text=[escape(f"{arrow.message}, {arrow.source} → {arrow.target}") for arrow in arrows],
                hoverinfo="all", hovertemplate="%{text}, %{x:.4f} s<extra></extra>",
            ))  # fmt: skip
        return traces

    def _place_words(self) -> list[Words]:
        """Beside each writer what it wrote: of the offerer, the method and the offer; of the other, the answer.

        Words that would run into others of the same side stand one level further out.
        """
        pixel_s = self._until_s * MARGIN / (NARROW_PX - LEFT_PX - RIGHT_PX)
        ends: dict[tuple[bool, int], float] = {}
        placed = []
        for time_s, one in self._offered:
            offer = self._ink(f"{one.request}<br><b>{one.offer}</b>")
            answer, characters = self._answer(one), len(one.answer if one.taken else "✗ 000")
            both = ((one.by, offer, max(len(one.request), len(one.offer))), (one.to, answer, characters))
            for name, text, width in both:
                if name in self._lane and text:
                    above = -2 * self._lane[name] < len(self._lane) - 1
                    level = next(n for n in count() if ends.get((above, n), -1.0) <= time_s)
                    ends[above, level] = time_s + (width * CHARACTER_PX + 6) * pixel_s
                    placed.append(Words(time_s, text, above, level))
        return placed

    def _words(self) -> list[Trace]:
        if not self._placed:
            return []
        last, step = len(self._lane) - 1, WORDS_PX / LANE_PX
        heights = [0.25 + words.level * step for words in self._placed]
        return [self._trace(
            mode="text", x=[words.time_s for words in self._placed], cliponaxis=False,
            y=[round(h if words.above else -last - h, 3) for words, h in zip(self._placed, heights, strict=True)],
            text=[words.text for words in self._placed],
            textposition=["top right" if words.above else "bottom right" for words in self._placed],
            textfont={"size": 11, "color": self._theme.ink},
        )]  # fmt: skip

    def _answer(self, one: Exchange) -> str:
        if not one.answer:
            return ""
        if one.taken:
            return self._ink(f"<b>{one.answer}</b>")
        status = one.answer.partition(" ")[0]
        return f"<span style='color:{self._theme.refusal}'>✗ <b>{status}</b></span>"

    def _rtp(self, flow: Flow, style: tuple[str, str, str]) -> list[Trace]:
        colour, dash, _symbol = style
        xs, ys = rate(flow.times_s, self._until_s, RTP_WINDOW_S)
        name = f"{flow.sender} → {flow.receiver}"
        return [self._trace(
            mode="lines", x=xs, y=ys, yaxis="y2", name=self._faint(escape(name)), legendgroup=flow.sender,
            showlegend=True, line={"color": colour, "width": 2.5, "dash": dash},
            hoverinfo="all", hovertemplate=f"{escape(name)}: RTP %{{y:g}}/s at %{{x:g}} s<extra></extra>",
        )]  # fmt: skip

    def _rtcp(self, flow: Flow, style: tuple[str, str, str]) -> list[Trace]:
        import numpy as np

        colour, dash, symbol = style
        xs, ys = rate(flow.times_s, self._until_s, RTCP_WINDOW_S)
        name = escape(f"{flow.sender} → {flow.receiver}")
        line = {"color": colour, "width": 1.5, "dash": dash}
        traces = [self._trace(mode="lines", x=xs, y=ys, yaxis="y3", line=line)]
        for kind in dict.fromkeys(flow.kinds):
            times_s = [time_s for time_s, each in zip(flow.times_s, flow.kinds, strict=True) if each == kind]
            traces.append(self._trace(
                mode="markers", x=times_s, y=np.round(np.interp(times_s, xs, ys), 1).tolist(), yaxis="y3",
                hoverinfo="all", hovertemplate=f"{name}: {kind} at %{{x:g}} s<extra></extra>",
                marker={
                    "symbol": symbol if kind == "SR" else f"{symbol}-open", "size": 7, "color": colour,
                    "line": {"width": 1.5, "color": colour},
                },
            ))  # fmt: skip
        return traces

    # ---- around the traces ------------------------------------------------------------------------------------------
    def layout(self, title: str, traces: Sequence[Trace]) -> Trace:
        theme = self._theme
        height = TOP_PX + self._plot_px + BOTTOM_PX
        lanes = len(self._lane)
        axis = {
            "showgrid": True, "gridcolor": theme.lifeline, "gridwidth": 0.5, "zeroline": False, "fixedrange": True,
            "tickfont": {"size": 11, "color": theme.faint_ink},
        }  # fmt: skip
        domains = self._domains()
        until_s = self._until_s * MARGIN or 1.0
        return {
            "template": {}, "autosize": True, "height": height,
            "margin": {"l": LEFT_PX, "r": RIGHT_PX, "t": TOP_PX, "b": BOTTOM_PX, "pad": 0},
            "paper_bgcolor": theme.paper, "plot_bgcolor": theme.paper,
            "font": {"family": FONT, "size": 12, "color": theme.ink},
            "title": {
                "text": self._ink(f"<b>{escape(title)}</b>") if title else "", "font": {"size": 15},
                "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 14, "t": 13},
                "y": 1, "yref": "container", "yanchor": "top", "automargin": False,
            },
            "legend": {
                "orientation": "h", "x": 12 / 1000, "xref": "container", "xanchor": "left",
                "y": 1 - 34 / height, "yref": "container", "yanchor": "top", "itemclick": False,
                "itemdoubleclick": False, "font": {"size": 11, "color": theme.faint_ink}, "bgcolor": "rgba(0,0,0,0)",
            },
            "xaxis": {
                "anchor": "y3", "range": [-0.02 * until_s, until_s], "ticksuffix": " s", "showgrid": False,
                "zeroline": False, "tickfont": {"size": 11, "color": theme.faint_ink},
            },
            "yaxis": {
                "domain": domains[0], "range": [
                    1 - max(lanes, 2) - self._room_px[False] / LANE_PX, self._room_px[True] / LANE_PX,
                ], "fixedrange": True, "showgrid": False,
                "zeroline": False, "tickmode": "array", "tickvals": list(self._lane.values()),
                "ticktext": [self._ink(f"<b>{escape(name)}</b> ") for name in self._lane], "tickfont": {"size": 12},
            },
            "yaxis2": axis | {"domain": domains[1], "range": self._rates(traces, "y2"), "nticks": 4},
            "yaxis3": axis | {"domain": domains[2], "range": self._rates(traces, "y3"), "nticks": 3},
            "annotations": [
                self._heading("RTP packets a second", domains[1][1]),
                self._heading("RTCP reports a second   (● with sound: SR, ○ without: RR)", domains[2][1]),
            ],
            "shapes": [
                {
                    "type": "line", "xref": "x", "x0": time_s, "x1": time_s, "yref": "paper", "y0": 0,
                    "y1": domains[1][1], "line": {"color": theme.lifeline, "width": 1, "dash": "dot"}, "layer": "below",
                }
                for time_s, _one in self._offered
            ],
            "hovermode": "closest",
            "hoverlabel": {
                "align": "left", "namelength": 0, "bgcolor": theme.hover[0], "bordercolor": theme.faint_ink,
                "font": {"family": FONT, "size": 12, "color": theme.hover[1]},
            },
            "dragmode": "zoom",
            "modebar": {
                "orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": theme.lifeline,
                "activecolor": theme.faint_ink, "remove": ["select", "lasso", "autoScale"],
            },
        }  # fmt: skip

    def _domains(self) -> list[list[float]]:
        """Ladder, RTP, RTCP from top to bottom, as shares of the height."""
        below_rtp = RTCP_PX / self._plot_px
        below_gap = (RTCP_PX + GAP_PX) / self._plot_px
        above_rtp = (RTCP_PX + GAP_PX + RTP_PX) / self._plot_px
        return [[above_rtp + GAP_PX / self._plot_px, 1], [below_gap, above_rtp], [0, below_rtp]]

    def _rates(self, traces: Sequence[Trace], axis: str) -> list[float]:
        """From a little below nothing to a little above the highest rate, so that no line lies on the edge."""
        highest = max((rate for trace in traces if trace.get("yaxis") == axis for rate in trace["y"]), default=0) or 1.0
        return [round(-0.04 * highest, 1), round(1.15 * highest, 1)]

    def _heading(self, words: str, y: float) -> Trace:
        return {
            "text": self._faint(words), "xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": y,
            "yanchor": "bottom", "showarrow": False, "font": {"size": 11, "color": self._theme.faint_ink},
        }  # fmt: skip

    def _ink(self, words: str) -> str:
        return f"<span style='color:{self._theme.page_ink}'>{words}</span>" if self._theme.page_ink else words

    def _faint(self, words: str) -> str:
        return f"<span style='color:{self._theme.page_faint_ink}'>{words}</span>" if self._theme.page_ink else words
