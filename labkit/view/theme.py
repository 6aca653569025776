"""Colours of every picture: one set that reads on light and dark paper alike, and one for each of the two.

A picture in a notebook has no paper of its own, so that it takes that of the page; where the page has a theme
(JupyterLab, VS Code), its words take the page's colour too, through CSS variables.

Line colours come from Okabe and Ito's palette, which people with any kind of colour blindness can tell apart; each
theme takes those of the eight that stand out on its paper (AUTO darkens some until they stand out on both). Nothing is
told by colour alone: Diameter messages also differ by their names, refusals carry a cross, retransmissions are dashed.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import LessonError

BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one kind of paper, each a CSS colour."""

    name: str
    """'auto', 'light' or 'dark'."""
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
    media: str
    """Bands of RTP streams."""
    hover: tuple[str, str]
    """Paper and ink of what the pointer shows."""
    page_ink: str = ""
    """The page's own colour for text, as CSS; empty where the picture has paper of its own."""
    page_faint_ink: str = ""
    """The same for what stands back."""
    halo: str = ""
    """Paper around labels, as CSS, so that they stay readable where they cross a lifeline."""


AUTO = Theme(
    name="auto",
    paper="rgba(0,0,0,0)",
    ink="#757575",
    faint_ink="#787878",
    lifeline="rgba(128,134,140,0.5)",
    box="rgba(128,134,140,0.16)",
    highlight="rgba(240,190,0,0.22)",
    refusal="#d2502b",
    diameter=VERMILLION,
    calls=(BLUE, GREEN, PURPLE, "#a88400", "#8b6fc9"),
    media="#6f7a85",
    hover=("#2b3138", "#f2f4f6"),
    page_ink="var(--jp-content-font-color1,var(--vscode-editor-foreground,#757575))",
    page_faint_ink="var(--jp-content-font-color2,var(--vscode-descriptionForeground,#787878))",
    halo="var(--jp-layout-color0,var(--vscode-editor-background,transparent))",
)
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
    media="#6f7a85",
    hover=("#eef1f4", "#1a1a1a"),
    halo="#ffffff",
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
    media="#9aa4ae",
    hover=("#262d34", "#eceff2"),
    halo="#111418",
)

_chosen = [AUTO]


def use_theme(name: str) -> None:
    """Choose the theme of all pictures drawn from now on.

    Args:
        name: 'auto' (at first) for pictures that fit the page that they stand on; 'light' or 'dark' for pictures with
            paper of their own, for example for slides.

    Raises:
        LessonError: there is no theme of that name.
    """
    _chosen[0] = _theme_named(name)


def theme_for(dark: bool | None) -> Theme:
    """Return the dark or the light theme; None means the one chosen by `use_theme` (at first: AUTO)."""
    if dark is None:
        return _chosen[0]
    return DARK if dark else LIGHT


def _theme_named(name: str) -> Theme:
    for theme in (AUTO, LIGHT, DARK):
        if theme.name == name:
            return theme
    raise LessonError(f"There is no theme {name!r}: choose 'auto', 'light' or 'dark'.")
