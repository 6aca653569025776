"""Staircases as SVG: each step where the numbers say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from labkit.view.balance import balance_svg
from labkit.view.stairs import Stairs, stairs_svg


def paths(svg: str) -> list[str]:
    """The lines of a picture, without those of its axes."""
    root = ET.fromstring(svg)
    return [path.attrib["d"] for path in root.findall("path")]


def test_a_value_holds_until_its_place_or_from_it() -> None:
    """A price holds until the next length that costs more; a balance from the look that saw it."""
    line = [Stairs("one", [2.0, 1.0], "red")]
    (until,) = paths(stairs_svg([0, 10], line, tick_s=10))
    (onwards,) = paths(stairs_svg([0, 10], line, tick_s=10, onwards=True))
    assert re.sub(r"[\d.]+", "", until) == "M  V H"
    assert re.sub(r"[\d.]+", "", onwards) == "M  H V"
    assert set(until.split()[-2:]) == {word for word in onwards.split()[-2:]} - {""}


def test_names_are_text_and_an_empty_picture_has_axes() -> None:
    """Whatever is written in a name; and before anything was seen."""
    assert "&lt;b&gt;" in stairs_svg([0], [Stairs("<b>", [1.0], "red")])
    assert len(paths(balance_svg([], [], []))) == 1
    assert paths(balance_svg([], [], [])) == [""]


def test_a_balance_shows_what_open_calls_have_taken_where_there_is_any() -> None:
    """Two lines then, with their names."""
    assert "taken by open calls" in balance_svg([0, 1], [0.03, 0.02], [0, 0.01])
    assert "taken by open calls" not in balance_svg([0, 1], [0.03, 0.02], [0, 0])
