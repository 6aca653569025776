"""Turn one bit of what goes into Milenage, and see which of the values that come out change (TS 35.206).

For the lesson on AKA: the table of `turned` says which values an input reaches, the widget of `turn_a_bit` lets the
reader choose the bit. Values that change do so in about half of their bits: that is what makes them useless to guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from labkit.errors import LessonError
from labkit.wire.aka import Milenage

if TYPE_CHECKING:
    import pandas as pd

INPUTS: Final = ("RAND", "K", "OPc", "SQN", "AMF")
"""What can be turned, in the order of the list."""


def milenage_values(values: Mapping[str, bytes]) -> dict[str, bytes]:
    """Compute all that Milenage makes of RAND, K, OPc, SQN and AMF: MAC-A, RES, CK, IK, AK, AUTN.

    Args:
        values: the five inputs by name; 16, 16, 16, 6 and 2 bytes.
    Raises:
        AkaError: one has the wrong size.
    Spec:
        TS 33.102 section 6.3.2, TS 35.206 section 4.1
    """
    milenage = Milenage(values["K"], values["OPc"])
    sqn = int.from_bytes(values["SQN"], "big")
    res, ck, ik, ak = milenage.f2345(values["RAND"])
    mac = milenage.f1(values["RAND"], sqn, values["AMF"])
    hidden = (sqn ^ int.from_bytes(ak, "big")).to_bytes(6, "big")
    return {"MAC-A": mac, "RES": res, "CK": ck, "IK": ik, "AK": ak, "AUTN": hidden + values["AMF"] + mac}


def turn(value: bytes, bit: int) -> bytes:
    """Return `value` with one bit turned; bit 0 is the leftmost, as 3GPP counts (TS 35.206 section 2.3)."""
    number = int.from_bytes(value, "big") ^ 1 << (len(value) * 8 - 1 - bit)
    return number.to_bytes(len(value), "big")


def turned(values: Mapping[str, bytes], name: str, bit: int) -> pd.DataFrame:
    """Compare what Milenage makes of the values with what it makes when one bit of `name` is turned.

    Returns:
        One row a value that comes out: before and after in hex, how many bits changed, and of how many.
    Raises:
        LessonError: there is no such input, or no such bit in it.
    """
    import pandas as pd

    if name not in INPUTS:
        raise LessonError(f"There is no input {name!r}; there are {', '.join(INPUTS)}.")
    if not 0 <= bit < len(values[name]) * 8:
        raise LessonError(f"{name} has no bit {bit}: its bits are 0 to {len(values[name]) * 8 - 1}.")
    before = milenage_values(values)
    after = milenage_values({**values, name: turn(values[name], bit)})
    rows = [
        {
            "value": key,
            "before": before[key].hex(),
            "after": after[key].hex(),
            "bits changed": _distance(before[key], after[key]),
            "of": len(before[key]) * 8,
        }
        for key in before
    ]
    return pd.DataFrame(rows).set_index("value")


def turn_a_bit(values: Mapping[str, bytes], name: str = "RAND", bit: int = 0) -> Any:
    """Show a widget to turn one bit of RAND, K, OPc, SQN or AMF, and what changes.

    Args:
        values: the five inputs by name, as for `milenage_values`.
        name: input that is chosen at first.
        bit: its bit, 0 is the leftmost.
    Returns:
        An ipywidgets box; `.table` is the table of what is chosen now.
    """
    return _widget_class()(dict(values), name, bit)


def _distance(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_count()


def _widget_class() -> Any:
    import ipywidgets as widgets

    class BitTurner(widgets.VBox):  # type: ignore[misc]
        """A list of inputs, a slider for the bit, and the values before and after."""

        def __init__(self, values: dict[str, bytes], name: str, bit: int) -> None:
            self._values = values
            self._name = widgets.Dropdown(options=INPUTS, value=name, description="turn in")
            self._bit = widgets.IntSlider(value=bit, min=0, max=self._last(name), description="bit", layout=_WIDE)
            self._shown = widgets.HTML()
            self._name.observe(self._chosen, "value")
            self._bit.observe(self._draw, "value")
            super().__init__([widgets.HBox([self._name, self._bit], layout=_WRAPPING), self._shown])
            self._draw()

        @property
        def table(self) -> pd.DataFrame:
            """What comes out before and after, for the bit that is chosen."""
            return turned(self._values, self._name.value, self._bit.value)

        def choose(self, name: str, bit: int) -> None:
            """Choose input and bit, as the list and the slider do."""
            self._name.value = name
            self._bit.value = bit

        def _last(self, name: str) -> int:
            return len(self._values[name]) * 8 - 1

        def _chosen(self, change: Any) -> None:
            self._bit.max = self._last(change["new"])
            self._draw()

        def _draw(self, _change: Any = None) -> None:
            self._shown.value = _html(self._values, self._name.value, self._bit.value, self.table)

        def __repr__(self, **_options: Any) -> str:
            return "Choose a value and one of its bits; in a running notebook, what changes is shown below."

    return BitTurner


_WIDE = {"width": "420px", "max_width": "100%"}
_WRAPPING = {"flex_flow": "row wrap"}
_CELL = "padding:2px 10px;text-align:left;font-family:var(--jp-code-font-family,monospace)"
_CHANGED = "background:rgba(213,94,0,.28)"


def _html(values: Mapping[str, bytes], name: str, bit: int, table: pd.DataFrame) -> str:
    """Lay the table out with every hex digit that changed marked."""
    rows = [(f"{name} in", values[name].hex(), turn(values[name], bit).hex(), "1 bit")]
    rows += [
        (
            str(key),
            row["before"],
            row["after"],
            f"{row['bits changed']} of {row['of']} bits" if row["bits changed"] else "the same",
        )
        for key, row in table.iterrows()
    ]
    body = "".join(
        f'<tr><td style="{_CELL}"><b>{label}</b></td><td style="{_CELL}">{before}<br>{_marked(before, after)}</td>'
        f'<td style="{_CELL}">{change}</td></tr>'
        for label, before, after, change in rows
    )
    return f'<table style="border-collapse:collapse;line-height:1.3">{body}</table>'


def _marked(before: str, after: str) -> str:
    return "".join(
        new if old == new else f'<span style="{_CHANGED}">{new}</span>' for old, new in zip(before, after, strict=True)
    )
