"""A staircase as SVG, for pictures that change while somebody looks at them.

JupyterLab draws a plotly figure once: an output that is brought up to date keeps the first picture. SVG is drawn anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _LOW, _HIGH = 560, 240, 48, 12, 208, 24
"""Size of the picture, and where its axes stand."""


@dataclass(frozen=True, slots=True)
class Stairs:
    """One line."""

    name: str
    """Stands in the picture, in the line's colour."""
    values: Sequence[float]
    """One a place."""
    ink: str
    """Its colour."""
    dashed: bool = False


def stairs_svg(
    places: Sequence[float], lines: Sequence[Stairs], *, tick_s: int = 60, decimals: int = 2, onwards: bool = False
) -> str:
    """Draw staircases over seconds.

    Args:
        places: where the values belong, in seconds, ascending.
        lines: what is drawn; the last one on top, and its name first.
        tick_s: distance of the marks on the axis.
        decimals: of the values at the side.
        onwards: a value holds from its place to the next one; otherwise from the last place to its own.
    """
    top = max((value for line in lines for value in line.values), default=0.0) or 1.0
    end = max([*places, tick_s])
    across, up = (_WIDTH - _LEFT - _RIGHT) / end, (_LOW - _HIGH) / top
    marks = "".join(
        f'<text x="{_LEFT - 6}" y="{_LOW - value * up + 4:.0f}" text-anchor="end">{value:.{decimals}f}</text>'
        f'<path d="M{_LEFT} {_LOW - value * up:.1f} H{_WIDTH - _RIGHT}" stroke-width="1" stroke-opacity=".25"/>'
        for value in (top * part / 4 for part in range(5))
    )
    marks += "".join(
        f'<text x="{_LEFT + second * across:.0f}" y="{_LOW + 18}" text-anchor="middle">{second}</text>'
        for second in range(0, int(end) + 1, tick_s)
    )
    drawn = ""
    for number, line in enumerate(reversed(lines)):
        points = [(_LEFT + x * across, _LOW - y * up) for x, y in zip(places, line.values, strict=True)]
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        drawn += f'<path d="{_path(points, onwards)}" fill="none" stroke="{line.ink}" stroke-width="2.5"{dash}/>'
        style = f"fill:{line.ink};font-weight:bold"
        drawn += f'<text x="{_LEFT + 8}" y="{14 + 16 * number}" style="{style}">{escape(line.name)}</text>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width:{_WIDTH}px;width:100%;font:12px sans-serif;'
        f'fill:currentColor;stroke:none"><g stroke="currentColor" stroke-width="0">{marks}</g>'
        f'{drawn}<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" text-anchor="end">seconds</text></svg>'
    )


def _path(points: Sequence[tuple[float, float]], onwards: bool) -> str:
    if not points:
        return ""
    (x, y), *rest = points
    steps = (f"H{x:.1f} V{y:.1f}" if onwards else f"V{y:.1f} H{x:.1f}" for x, y in rest)
    return f"M{x:.1f} {y:.1f} " + " ".join(steps)
