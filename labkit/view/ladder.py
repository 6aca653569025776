"""The ladder: a lifeline for each node, an arrow for each message, drawn with plotly.

The figure is built as a plain dict and handed to plotly once: its JSON is the same on every run for the same capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.view.drawing import tell
from labkit.view.hover import hover_texts
from labkit.view.layout import lay_out
from labkit.view.short_ladder import short_figure
from labkit.view.theme import theme_for

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labkit.capture.table import Messages

SVG_LIMIT = 300
"""Up to this many rows every row is on the page at once; above, a window shows a part."""


def ladder(
    messages: Messages,
    *,
    title: str = "",
    dark: bool | None = None,
    show: str = "story",
    highlight: Sequence[int] | int = (),
    order: Sequence[str] = (),
) -> go.Figure:
    """Draw a capture as a ladder.

    Args:
        messages: what `read_capture` returned.
        title: stands above the picture.
        dark: True and False choose dark and light paper; None means what `use_theme` chose, at first no paper: the
            picture then fits the page that it stands on.
        show: 'story' for the numbered messages (and, dashed, what was sent again); 'all' for every message, also
            100 Trying and watchdogs, in the order of frames. RTP is one band a stream in both.
        highlight: number or numbers of messages whose rows get a coloured background.
        order: names of nodes from left to right, where the usual order does not fit.
    Returns:
        A figure as high as it has rows (a long one: 40 rows at a time); it takes the width that it is given.
    """
    import plotly.graph_objects as go

    layout = lay_out(tell(messages, show=show, retransmissions=True, streams=True, order=order))
    numbers = (highlight,) if isinstance(highlight, int) else tuple(highlight)
    if layout.rows > SVG_LIMIT:
        from labkit.view.long_ladder import long_figure

        figure = long_figure(layout, theme_for(dark), title, highlight=numbers)
    else:
        hovers = hover_texts(layout.drawing.arrows, messages)
        figure = short_figure(layout, theme_for(dark), title, hovers, numbers)
    return go.Figure(figure, _validate=False)
