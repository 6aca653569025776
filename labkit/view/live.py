"""A ladder that grows while traffic runs: in a notebook's cell, until the capture ends.

Then the widget makes room for what can be stored: the plain ladder, and the table of the messages below it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from labkit.errors import LabkitError
from labkit.view.browse import explained_html
from labkit.view.hover import headers_of
from labkit.view.live_rows import LiveRows
from labkit.view.mime import HTML, PLOTLY, TEXT

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from labkit.capture.rows import Row

_TURN_S = 0.05
"""The page is brought up to date so often."""
_COUNT_S = 0.5
"""Counters move so often, also when no message comes."""
_LISTENING_S = 5.0
"""A page that is still being made hears nothing: so long every turn sends all rows, unless it has asked before."""
_MOST_AGAIN = 2000
"""But no more rows than these."""


class Feed(Protocol):
    """Where a live view has its messages from (see `labkit.capture.live.LiveFeed`)."""

    def take(self) -> list[Row]:
        """Return what came since the last call."""

    @property
    def lost(self) -> int:
        """How many packets could not be read in time."""


class LiveView:
    """One ladder that grows; `start` shows it, `finish` leaves a plain one in its place."""

    def __init__(self, feed: Feed, names: Callable[[], Mapping[str, str]], title: str = "") -> None:
        """Prepare.

        Args:
            feed: where the messages come from.
            names: gives the names of nodes by "address" or "address:port"; phones may be added while traffic runs.
            title: stands above the ladder.
        """
        self._feed, self._names = feed, names
        self.story = LiveRows()
        """What was shown so far."""
        self.widget = _live_class()(self.story, title)
        """The widget; a notebook shows it."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown: Any = None
        self._below: Any = None
        self._sent = 0
        self._began_s = self._counted_s = time.monotonic()
        self._counted = 0
        self._rate = 0.0

    def start(self, *, display: bool = True) -> None:
        """Show the view in the present cell, and keep it up to date from now on."""
        if display:
            self._display()
        self._thread = threading.Thread(target=self._run, name="labkit-live", daemon=True)
        self._thread.start()

    def finish(self, figure: go.Figure | None = None, table: pd.DataFrame | None = None) -> None:
        """Stop; leave the plain ladder and the table in the place of the widget, where there is something to leave."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None
            with contextlib.suppress(LabkitError):
                self.turn(running=False)
        if figure is not None and table is not None and self._shown is not None:
            self._shown.update({PLOTLY: json.loads(figure.to_json()), TEXT: "The ladder, as it was."}, raw=True)
            self._below.update(table)

    def turn(self, *, running: bool = True) -> None:
        """Bring the page up to date once."""
        self.story.name(self._names())
        self.story.feed(self._feed.take())
        fresh = len(self.story.rows) - self._sent
        if fresh:
            deaf = not self.widget.heard and time.monotonic() - self._began_s < _LISTENING_S
            begin = max(0, len(self.story.rows) - _MOST_AGAIN) if deaf else self._sent
            self.widget.send_rows(begin)
            self._sent = len(self.story.rows)
        if fresh or not running or time.monotonic() - self._counted_s >= _COUNT_S:
            self._count(running)

    def _count(self, running: bool) -> None:
        now_s = time.monotonic()
        if now_s - self._counted_s < _COUNT_S and running:
            return
        elapsed_s = max(now_s - self._counted_s, 1e-3)
        self._rate = (self.story.messages - self._counted) / elapsed_s if running else 0.0
        self._counted_s, self._counted = now_s, self.story.messages
        self.widget.live = {
            "running": running, "messages": self.story.messages, "again": self.story.again, "rate": self._rate,
            "lost": self._feed.lost, "streams": self.story.streams(time.time_ns()), "note": "",
        }  # fmt: skip

    def _run(self) -> None:
        while not self._ended.wait(_TURN_S):
            try:
                self.turn()
            except LabkitError as error:  # the view must say so; the capture itself says it too, at its end
                self.widget.live = {**self.widget.live, "running": False, "note": str(error)}
                return

    def _display(self) -> None:
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            return
        if get_ipython() is None:
            return
        self._shown = display(self.widget, display_id=True)  # type: ignore[no-untyped-call]
        self._below = display({TEXT: "", HTML: ""}, raw=True, display_id=True)  # type: ignore[no-untyped-call]


@cache
def _live_class() -> Any:
    """Make the class when it is first needed: the widget libraries are imported late."""
    from labkit.view.widget import ladder_widget_class

    class Live(ladder_widget_class()):  # type: ignore[misc]
        """The growing ladder's page."""

        def __init__(self, story: LiveRows, title: str) -> None:
            self._story = story
            self.heard = False
            """Whether the page has asked for rows: then it hears what is sent."""
            empty = {"messages": 0, "again": 0, "rate": 0, "lost": 0, "streams": [], "note": ""}
            super().__init__(title=title, live={"running": True, **empty})

        def send_rows(self, begin: int) -> None:
            """Send the rows from this one on."""
            story = self._story
            self.send({
                "type": "rows", "from": begin, "rows": story.rows[begin:], "nodes": list(story.nodes),
                "order": story.columns(), "groups": list(story.groups), "calls": story.calls,
            })  # fmt: skip

        def _asked(self, widget: Any, content: Any, buffers: Any) -> None:
            if content.get("type") == "rows":
                self.heard = True
                if self._story.rows:
                    self.send_rows(min(max(int(content["from"]), 0), len(self._story.rows)))
            super()._asked(widget, content, buffers)

        def explained(self, place: int) -> str:
            return explained_html(self._story.arrows[place], self._story.raw[place])

        def hint(self, place: int) -> list[tuple[str, str]]:
            return headers_of(self._story.arrows[place], self._story.raw[place], self._story.cells[place])

        def __repr__(self, **_options: Any) -> str:
            return "A ladder that grows while traffic runs; in a running notebook."

    return Live
