"""The ladder beside one message: a click on a row, or the arrow keys, show it explained.

Needs a live kernel: a notebook that is only read shows the plain ladder instead (`ladder`), and a stored output of
this holds one line of text, the same in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from labkit.view.arrow import Arrow
from labkit.view.drawing import tell
from labkit.view.hover import key_headers
from labkit.view.layout import Layout, lay_out
from labkit.view.message import explain
from labkit.view.paper import escape
from labkit.view.widget_rows import call_ids, widget_rows

if TYPE_CHECKING:
    from labkit.capture.table import Messages


def browse(
    messages: Messages,
    *,
    title: str = "",
    show: str = "story",
    order: Sequence[str] = (),
) -> Any:
    """Show a ladder whose messages can be opened; it takes the colours of the page that it stands on.

    Args:
        messages: what `read_capture` returned.
        title: stands above the ladder.
        show: 'story' or 'all', as for `labkit.view.ladder.ladder`.
        order: names of nodes from left to right, where the usual order does not fit.
    Returns:
        A widget; `.select(n)` opens message n, `.selected` is the number of the open one.
    """
    layout = lay_out(tell(messages, show=show, retransmissions=True, streams=True, order=order))
    return _browser_class()(messages, layout, title)


@cache
def _browser_class() -> Any:
    """Make the class when it is first needed: the widget libraries are imported late."""
    from labkit.view.widget import ladder_widget_class

    class Browser(ladder_widget_class()):  # type: ignore[misc]
        """Ladder, filter and message."""

        def __init__(self, messages: Messages, layout: Layout, title: str) -> None:
            self._messages, self._arrows = messages, layout.drawing.arrows
            super().__init__(
                title=title,
                nodes=list(layout.drawing.nodes),
                groups=list(layout.groups),
                calls=call_ids(layout, messages),
                rows=widget_rows(layout),
            )

        @property
        def selected(self) -> int | None:
            """Number of the message that is open; None when none is, or one that has no number."""
            return self._arrows[self.place].number if self.place >= 0 else None

        def select(self, number: int) -> None:
            """Open message `number`.

            Raises:
                LessonError: there is no such message.
            """
            from labkit.errors import LessonError

            places = [place for place, arrow in enumerate(self._arrows) if arrow.number == number]
            if not places:
                raise LessonError(f"This ladder has no message {number!r}.")
            self.place = places[0]

        def explained(self, place: int) -> str:
            return explained_html(self._arrows[place], self._messages.raw[self._arrows[place].row])

        def hint(self, place: int) -> list[tuple[str, str]]:
            return key_headers(self._arrows[place], self._messages)

        def __repr__(self, **_options: Any) -> str:
            return f"A ladder of {len(self._arrows)} messages; in a running notebook, click on one to read it."

    return Browser


def explained_html(arrow: Arrow, raw: bytes) -> str:
    """Return a message explained, with a line that says which one it is."""
    number = "" if arrow.number is None else f"{arrow.number} · "
    heading = f"<b>{number}{escape(arrow.source)} → {escape(arrow.target)}</b>, frame {arrow.frame}"
    stream = f"<div>{escape(arrow.label)}; its first packet:</div>" if arrow.protocol == "rtp" else ""
    return f"<div>{heading}</div>{stream}{explain(raw, arrow.protocol)._repr_html_()}"
