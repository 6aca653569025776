"""The ladder beside one message: a click on an arrow, a button or the list shows it explained.

Needs a live kernel: a notebook that is only read shows the plain ladder instead (`ladder`), and a stored output of
this holds one line of text, the same in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from labkit.view.drawing import Arrow, Drawing, tell
from labkit.view.hover import hover_text
from labkit.view.ladder import Sheet, escape
from labkit.view.message import explain
from labkit.view.theme import theme_for

if TYPE_CHECKING:
    from labkit.capture.table import Messages

_NOTHING = "<p style='opacity:.7'>Click on an arrow, or choose a message, and it is explained here.</p>"
_BUTTON = {"width": "40px", "flex": "0 0 auto"}
_PANE_PX = 560
"""Height of the message; longer ones scroll."""
_MOST_ROWS_PX = 900
"""Height at which the ladder scrolls by itself, so that the message beside it stays in sight."""


def browse(
    messages: Messages,
    *,
    title: str = "",
    dark: bool | None = None,
    show: str = "story",
    order: Sequence[str] = (),
) -> Any:
    """Show a ladder whose messages can be opened.

    Args:
        messages: what `read_capture` returned.
        title: stands above the ladder.
        dark: colours for dark paper; None means what `use_theme` chose.
        show: 'story' or 'all', as for `labkit.view.ladder.ladder`.
        order: names of nodes from left to right, where the usual order does not fit.
    Returns:
        An ipywidgets box; `.select(n)` opens message n, `.selected` is the number of the open one.
    """
    drawing = tell(messages, show=show, retransmissions=True, order=order)
    sheet = Sheet(drawing, theme_for(dark), title)
    return _browser_class()(messages, drawing, sheet)


@cache
def _browser_class() -> Any:
    """Make the class when it is first needed: ipywidgets and plotly are imported late."""
    import ipywidgets as widgets
    import plotly.graph_objects as go

    class Browser(widgets.VBox):  # type: ignore[misc]
        """Ladder, controls and message."""

        def __init__(self, messages: Messages, drawing: Drawing, sheet: Sheet) -> None:
            self._messages, self._drawing, self._sheet = messages, drawing, sheet
            hovers = [hover_text(arrow, messages, full=False) for arrow in drawing.arrows]  # the rest is in the pane
            self._figure = go.FigureWidget(sheet.figure(hovers), _validate=False)
            self._figure._config = {**self._figure._config, "responsive": True, "displaylogo": False}
            options: list[tuple[str, int | None]] = [("choose a message ...", None)]
            options += [(_option(arrow), place) for place, arrow in enumerate(drawing.arrows)]
            self._list = widgets.Dropdown(options=options, layout={"width": "auto", "flex": "1 1 auto"})
            self._list.observe(self._chosen, "value")
            before = widgets.Button(icon="chevron-left", tooltip="the message before", layout=_BUTTON)
            after = widgets.Button(icon="chevron-right", tooltip="the next message", layout=_BUTTON)
            before.on_click(lambda _button: self._move(-1))
            after.on_click(lambda _button: self._move(1))
            self._pane = widgets.HTML(_NOTHING)
            pane = widgets.Box([self._pane], layout=_pane_layout())
            picture = widgets.Box([self._figure], layout=_picture_layout(self._figure.layout.height))
            controls = widgets.HBox([before, after, self._list], layout={"width": "100%"})
            side = widgets.VBox([controls, pane], layout={"flex": "1 1 380px", "min_width": "300px"})
            both = widgets.HBox([picture, side], layout={"width": "100%", "flex_flow": "row wrap"})
            fitter = _fitter_class()()
            fitter.observe(self._clicked, "clicked")
            super().__init__([both, fitter])

        @property
        def selected(self) -> int | None:
            """Number of the message that is open; None when none is, or one that has no number."""
            place = self._list.value
            return None if place is None else self._drawing.arrows[place].number

        def select(self, number: int) -> None:
            """Open message `number`.

            Raises:
                LessonError: there is no such message.
            """
            from labkit.errors import LessonError

            places = [place for place, arrow in enumerate(self._drawing.arrows) if arrow.number == number]
            if not places:
                raise LessonError(f"This ladder has no message {number!r}.")
            self._list.value = places[0]

        def _clicked(self, change: Any) -> None:
            if change["new"]:
                self._list.value = int(change["new"][0])

        def _move(self, by: int) -> None:
            last = len(self._drawing.arrows) - 1
            place = self._list.value
            if last >= 0:
                self._list.value = (0 if by > 0 else last) if place is None else min(max(place + by, 0), last)

        def _chosen(self, change: Any) -> None:
            place = change["new"]
            if place is None:
                self._pane.value = _NOTHING
                self._figure.plotly_relayout({"shapes": []})
                return
            self._pane.value = _shown(self._drawing.arrows[place], self._messages)
            self._figure.plotly_relayout({"shapes": [self._sheet.band(self._sheet.row[place])]})

        def __repr__(self, **_options: Any) -> str:
            count = len(self._drawing.arrows)
            return f"A ladder of {count} messages; in a running notebook, click on one to read it."

    return Browser


@cache
def _fitter_class() -> Any:
    import anywidget
    import traitlets

    class Fitter(anywidget.AnyWidget):
        """Makes the figure take the width it has, and tells which arrow was clicked.

        Plotly's own widget is drawn before it has any width, and stays 700 wide; and when it was drawn while the kernel
        was busy (Run All), it never tells of a click.
        """

        _esm = _FITTER
        clicked: Any = traitlets.List().tag(sync=True)

    return Fitter


_FITTER = """
function render({ model, el }) {
  let timer = 0;
  const plot = () => el.closest(".widget-vbox")?.querySelector(".js-plotly-plot");
  const listen = () => {
    const drawn = plot();
    if (!drawn?.on) { timer = setTimeout(fit, 200); return; }
    if (drawn.labkitListens) return;
    drawn.labkitListens = true;
    drawn.on("plotly_click", event => {
      const last = drawn.data.length - 1;
      const point = event.points.find(one => one.curveNumber === last);
      if (point) { model.set("clicked", [point.pointNumber, Date.now()]); model.save_changes(); }
    });
  };
  const fit = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { window.dispatchEvent(new Event("resize")); listen(); }, 60);
  };
  const watch = new ResizeObserver(fit);
  watch.observe(el);
  el.style.width = "100%";
  fit();
  return () => watch.disconnect();
}
export default { render };
"""


def _shown(arrow: Arrow, messages: Messages) -> str:
    number = "" if arrow.number is None else f"{arrow.number} · "
    heading = f"<b>{number}{escape(arrow.source)} → {escape(arrow.target)}</b>, frame {arrow.frame}"
    return f"<div>{heading}</div>{explain(messages.raw[arrow.row], arrow.protocol)._repr_html_()}"


def _option(arrow: Arrow) -> str:
    number = "   " if arrow.number is None else f"{arrow.number:>3}"
    return f"{number}  {arrow.source} → {arrow.target}  {arrow.message}{' (sent again)' if arrow.again else ''}"


def _pane_layout() -> dict[str, str]:
    return {"max_height": f"{_PANE_PX}px", "overflow": "auto", "width": "100%", "display": "block"}


def _picture_layout(height: int) -> dict[str, str]:
    layout = {"flex": "3 1 520px", "min_width": "440px", "display": "block"}
    return layout | ({"max_height": f"{_MOST_ROWS_PX}px", "overflow": "auto"} if height > _MOST_ROWS_PX else {})
