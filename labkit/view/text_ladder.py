"""A ladder as text: for terminals, for tests, and for people who read with their ears.

The text holds only what is the same in every run (canonical numbers and names), unless times are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.errors import LessonError
from labkit.view.arrow import Arrow
from labkit.view.drawing import tell
from labkit.view.layout import Layout, lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labkit.capture.table import Messages

_LINES = {True: ("─", "│"), False: ("-", "|")}


class TextLadder(str):
    """A str that a notebook shows as it is, line by line, and not as one long quoted line."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def text_ladder(
    messages: Messages,
    *,
    width: int = 110,
    ascii_only: bool = False,
    arrows: bool = True,
    times: bool = False,
    show: str = "story",
    streams: bool = False,
    order: Sequence[str] = (),
) -> str:
    """Draw a capture as text.

    Args:
        messages: what `read_capture` returned.
        width: columns of the terminal, at least 60; labels that do not fit are cut.
        ascii_only: use - and | for terminals that have no line-drawing characters.
        arrows: False gives one sentence a message instead, which a screen reader reads well.
        times: also show milliseconds since the first message, and silences (both differ from run to run).
        show: 'story', or 'all' for every message; see `labkit.view.drawing.tell`.
        streams: also show each RTP stream, as one line (its figures differ from run to run).
        order: names of nodes from left to right, where the usual order does not fit.
    Raises:
        LessonError: the width is below 60.
    """
    if width < 60:
        raise LessonError(f"A ladder needs at least 60 columns, not {width}; arrows=False needs fewer.")
    drawing = tell(messages, show=show, streams=streams, order=order)
    if not drawing.arrows:
        return TextLadder("(no SIP or Diameter message in this capture)")
    if not arrows:
        return TextLadder("\n".join(sentence(arrow) for arrow in drawing.arrows))
    return TextLadder("\n".join(TextSheet(lay_out(drawing), width, not ascii_only, times).lines()))


def sentence(arrow: Arrow) -> str:
    """Return an arrow as a sentence, for people who read with their ears."""
    number = "" if arrow.number is None else f"{arrow.number}. "
    return f"{number}{arrow.sentence}{', sent again' if arrow.again else ''}"


class TextSheet:
    """Where everything stands, in characters from the left."""

    def __init__(self, layout: Layout, width: int, drawn: bool, times: bool) -> None:
        """Give every node its column.

        Args:
            layout: the nodes, and as many arrows as there are by now.
            width: columns of the terminal.
            drawn: use line-drawing characters.
            times: leave room for times.
        """
        drawing = layout.drawing
        self._layout, self._width, self._times = layout, width, times
        self._dash, self._bar = _LINES[drawn]
        last = max(((arrow.number or 0) for arrow in drawing.arrows), default=0)
        self._numbers = max(2, len(str(last)))
        self._clock = 9 if times else 0
        margin = self._numbers + 1 + self._clock
        nodes = drawing.nodes
        room = (width - margin) * 3 // 5
        widest = max(len(name) for name in nodes)
        pitch = max(5, min(max(widest + 2, 9), room // max(len(nodes), 1)))
        first = margin + min(max(len(nodes[0]) // 2, 1), pitch // 2 + 1)
        self._column = {name: first + pitch * place for place, name in enumerate(nodes)}
        self._pitch = pitch
        self._label_column = first + pitch * (len(nodes) - 1) + max(3, (len(nodes[-1]) + 1) // 2 + 2)

    def lines(self) -> list[str]:
        """Return the whole ladder."""
        lines = [self.header()]
        silent = dict(self._layout.gaps)
        for arrow, row in zip(self._layout.drawing.arrows, self._layout.row, strict=True):
            if self._times and row - 1 in silent:
                lines.append(self._silence(silent[row - 1]))
            lines.append(self.line(arrow))
        return lines

    def header(self) -> str:
        """Return the names of the nodes above their lifelines."""
        cells = [" "] * self._width
        for name, column in self._column.items():
            text = name if len(name) < self._pitch else name[: self._pitch - 2] + "…"
            start = max(column - len(text) // 2, 0)
            cells[start : start + len(text)] = text
        cells[self._label_column : self._label_column + 7] = "message"
        return "".join(cells)[: self._width].rstrip()

    def _blank(self, margin: str) -> list[str]:
        cells = list(margin.ljust(self._label_column))
        for column in self._column.values():
            cells[column] = self._bar
        return cells

    def line(self, arrow: Arrow) -> str:
        """Return one row."""
        number = "" if arrow.number is None else str(arrow.number)
        clock = f"{arrow.time_s * 1000:8.1f} " if self._times else ""
        cells = self._blank(f"{number:>{self._numbers}} {clock}")
        start, end = self._column[arrow.source], self._column[arrow.target]
        dash = "." if arrow.again else "=" if arrow.lasts_s else self._dash
        if start == end:
            cells[start + 1 : start + 3] = [dash, "<"]
        for column in range(min(start, end) + 1, max(start, end)):
            cells[column] = dash
        if start < end:
            cells[end - 1] = ">"
        elif end < start:
            cells[end + 1] = "<"
        label = ("✗ " if self._dash == "─" else "x ") * arrow.refused + arrow.label
        return _cut("".join(cells) + label, self._width)

    def _silence(self, silence_s: float) -> str:
        dots = ["." if cell == self._bar else cell for cell in self._blank("")]
        return "".join(dots) + f"... {silence_s:.1f} s later"


def _cut(line: str, width: int) -> str:
    return line.rstrip() if len(line) <= width else line[: width - 1].rstrip() + "…"
