"""Colours and sizes of every picture, light and dark.

Line colours come from Okabe and Ito's palette, which people with any kind of colour blindness can tell apart; each
theme takes those of the eight that stand out on its paper. Nothing is told by colour alone: Diameter messages also
differ by their names, refusals carry a cross, retransmissions are dashed.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import LessonError

BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one kind of paper, each a CSS hex colour."""

    name: str
    """'light' or 'dark'."""
    paper: str
    """Background."""
    ink: str
    """Labels of messages and names of nodes."""
    faint_ink: str
    """Numbers, times, gaps."""
    lifeline: str
    """The vertical line of a node."""
    box: str
    """Background of a node's name."""
    highlight: str
    """Background of the row that is selected."""
    refusal: str
    """Labels of final responses and answers that say no."""
    diameter: str
    """Arrows of Diameter messages."""
    calls: tuple[str, ...]
    """Arrows of SIP messages, one colour a Call-ID, used in turn."""


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1a1a1a",
    faint_ink="#666666",
    lifeline="#c4c9cf",
    box="#eef1f4",
    highlight="#fff3c4",
    refusal="#a63c00",
    diameter=VERMILLION,
    calls=(BLUE, GREEN, PURPLE, SKY, ORANGE),
)
DARK = Theme(
    name="dark",
    paper="#111418",
    ink="#eceff2",
    faint_ink="#9aa4ae",
    lifeline="#48525c",
    box="#262d34",
    highlight="#3b3a1c",
    refusal="#ffb27a",
    diameter=ORANGE,
    calls=(SKY, GREEN, PURPLE, YELLOW, VERMILLION),
)

_chosen = [LIGHT]


def use_theme(name: str) -> None:
    """Choose the theme of all pictures drawn from now on: 'light' or 'dark'.

    Raises:
        LessonError: there is no theme of that name.
    """
    _chosen[0] = _theme_named(name)


def theme_for(dark: bool | None) -> Theme:
    """Return the dark or the light theme; None means the one chosen by `use_theme` (at first: light)."""
    if dark is None:
        return _chosen[0]
    return DARK if dark else LIGHT


def _theme_named(name: str) -> Theme:
    for theme in (LIGHT, DARK):
        if theme.name == name:
            return theme
    raise LessonError(f"There is no theme {name!r}: choose 'light' or 'dark'.")
