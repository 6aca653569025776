"""Choose increments with sliders and see the staircase that the charging engine answered for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError
from labkit.view.stairs import Stairs, stairs_svg

if TYPE_CHECKING:
    import pandas as pd

Answers = Mapping[tuple[int, int], Sequence[Decimal]]
"""(first increment, further increments) in seconds -> cost at each length."""

_CHOSEN, _BEFORE = "#0072B2", "#8a8f94"
"""Colours of what is chosen, and of what was chosen before."""


def try_increments(lengths_s: Sequence[int], answers: Answers, first: int = 60, then: int = 60) -> Any:
    """Show two sliders, and the staircase of what is chosen beside that of what was chosen before.

    Args:
        lengths_s: lengths in seconds, ascending.
        answers: what the engine said a call of these lengths costs, for each choice.
        first: what is chosen at first: length of the first increment.
        then: of all further ones.
    Returns:
        An ipywidgets box; `.table` holds what is chosen now.
    Raises:
        LessonError: nothing was asked for what is chosen.
    """
    if (first, then) not in answers:
        raise LessonError(f"The engine was not asked for {first}/{then}; it was for {', '.join(map(_name, answers))}.")
    return _widget_class()(list(lengths_s), dict(answers), first, then)


def _name(choice: tuple[int, int]) -> str:
    return f"{choice[0]}/{choice[1]}"


def _widget_class() -> Any:
    import ipywidgets as widgets

    class Increments(widgets.VBox):  # type: ignore[misc]
        """Two sliders above a staircase."""

        def __init__(self, lengths: list[int], answers: dict[Any, Any], first: int, then: int) -> None:
            self._lengths, self._answers = lengths, answers
            self._before: tuple[int, int] | None = None
            slider = {"continuous_update": True, "style": {"description_width": "130px"}, "layout": _WIDE}
            firsts, thens = (sorted({choice[at] for choice in answers}) for at in (0, 1))
            self._first = widgets.SelectionSlider(
                options=firsts, value=first, description="first increment, s", **slider
            )
            self._then = widgets.SelectionSlider(options=thens, value=then, description="further ones, s", **slider)
            self._shown = widgets.HTML()
            self._at = self.chosen
            for control in (self._first, self._then):
                control.observe(self._moved, "value")
            super().__init__([self._first, self._then, self._shown])
            self._draw()

        @property
        def chosen(self) -> tuple[int, int]:
            """First and further increments."""
            return self._first.value, self._then.value

        @property
        def table(self) -> pd.DataFrame:
            """The lengths at which the cost of what is chosen goes up, and what it is from there on."""
            import pandas as pd

            costs = self._answers[self.chosen]
            steps = [(self._lengths[0], costs[0])]
            for length, cost, before in zip(self._lengths[1:], costs[1:], costs, strict=False):
                if cost != before:
                    steps.append((length, cost))
            return pd.DataFrame(steps, columns=["length_s", "cost"]).set_index("length_s")

        def choose(self, first: int, then: int) -> None:
            """Choose as the sliders do."""
            self._first.value, self._then.value = first, then

        def _moved(self, _change: Any) -> None:
            if self.chosen != self._at:
                self._before, self._at = self._at, self.chosen
                self._draw()

        def _draw(self) -> None:
            lines = {} if self._before is None else {_name(self._before): self._answers[self._before]}
            self._shown.value = _svg(self._lengths, {**lines, _name(self.chosen): self._answers[self.chosen]})

        def __repr__(self, **_options: Any) -> str:
            return "Move the sliders in a running notebook: first and further increments, and the staircase they make."

    return Increments


_WIDE = {"width": "460px", "max_width": "100%"}


def _svg(lengths: Sequence[int], lines: Mapping[str, Sequence[Decimal]]) -> str:
    """Staircases as SVG; the last is the one that is chosen."""
    inks = [_BEFORE] * (len(lines) - 1) + [_CHOSEN]
    return stairs_svg(
        lengths,
        [
            Stairs(name, [float(cost) for cost in costs], ink, dashed=ink == _BEFORE)
            for (name, costs), ink in zip(lines.items(), inks, strict=True)
        ],
    )
