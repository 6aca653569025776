"""A short message octet by octet, beside its hex: point at an octet to see its field, or at a field to see its octets.

Without a page that can do that, every octet still has its field as a tool tip; `repr` is the same as a table of text.
"""

from __future__ import annotations

from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

from labkit.errors import LessonError
from labkit.wire.sms import Field, RpMessage, Tpdu, dissect, label

if TYPE_CHECKING:
    import pandas as pd

_IN_A_ROW = 16
_IN_A_LINE = 8
_WIDTH = 118


class SmsBytes:
    """An RP message with its octets explained."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The octets."""
        self._found = dissect(raw)

    @property
    def fields(self) -> tuple[Field, ...]:
        """What the octets are, in order."""
        return self._found.fields

    @property
    def rp(self) -> RpMessage:
        """The message, read.

        Raises:
            LessonError: it is damaged.
        """
        if self._found.message is None:
            raise LessonError(f"This short message is damaged: {self._found.problem}")
        return self._found.message

    @property
    def tpdu(self) -> Tpdu:
        """The TPDU in it.

        Raises:
            LessonError: it is damaged, or carries none.
        """
        if self.rp.tpdu is None:
            raise LessonError(f"This {self.rp.name} carries no TPDU.")
        return self.rp.tpdu

    @property
    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        return self._found.problem

    @property
    def text(self) -> str:
        """What is written in it; empty where it carries no text."""
        data = getattr(self._found.message.tpdu, "user_data", None) if self._found.message else None
        return data.text if data is not None else ""

    def __getitem__(self, name: str) -> str:
        """The value of the field of that name, in words; the first one where there are several."""
        for field in self.fields:
            if field.name == name:
                return field.value
        raise LessonError(f"This {label(self.raw)} has no {name!r}; it has {', '.join(f.name for f in self.fields)}.")

    @property
    def table(self) -> pd.DataFrame:
        """One row a field: where it begins, its octets in hex, its bits where it is a part of one, its value."""
        import pandas as pd

        rows = [
            {
                "at": field.start,
                "octets": self._octets(field).hex(" "),
                "bits": self._bits(field),
                "field": field.name,
                "value": field.value,
            }
            for field in self.fields
        ]
        return pd.DataFrame(rows, columns=["at", "octets", "bits", "field", "value"])

    def _octets(self, field: Field) -> bytes:
        return self.raw[field.start : field.start + field.size]

    def _bits(self, field: Field) -> str:
        """The bits of a part of an octet in their places: ".....001"."""
        if field.mask == 0xFF:
            return ""
        octet = self.raw[field.start]
        return "".join(str(octet >> place & 1) if field.mask >> place & 1 else "." for place in range(7, -1, -1))

    # ---- text -------------------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        lines = [f"{label(self.raw)}, {len(self.raw)} octets"]
        before = -1
        for field in self.fields:
            lines += self._lines(field, again=field.start == before)
            before = field.start
        if self.problem:
            lines += wrap(f"DAMAGED: {self.problem}", _WIDTH, subsequent_indent="  ")
        return "\n".join(lines)

    def _lines(self, field: Field, *, again: bool) -> list[str]:
        """One field; a further part of the same octet does not repeat it."""
        octets = self._octets(field)
        rows = [octets[at : at + _IN_A_LINE].hex(" ") for at in range(0, len(octets), _IN_A_LINE)]
        if again:
            rows = [""]
        place = "" if again else str(field.start)
        first = f"{place:>3}  {rows[0]:<23}  {self._bits(field):<8}  {field.name} = {field.value}  # {field.about}"
        indent = " " * 40
        return wrap(first, _WIDTH, subsequent_indent=indent, drop_whitespace=True) + [f"     {row}" for row in rows[1:]]

    # ---- HTML -------------------------------------------------------------------------------------------------------
    def _repr_html_(self) -> str:
        rules = "".join(f".lk-sms:has(.k{place}:hover) .k{place}," for place in range(len(self.fields)))
        style = f"<style>{rules[:-1]}{{{_MARKED}}}</style>" if rules else ""
        damage = f'<div style="margin-top:6px"><b>Damaged:</b> {escape(self.problem)}</div>' if self.problem else ""
        return (
            f'{style}<div class="lk-sms" style="{_BOX}">'
            f'<div style="{_MONO};flex:0 0 auto"><b>{escape(label(self.raw))}</b>, {len(self.raw)} octets{self._grid()}'
            f'{damage}</div><div style="flex:1 1 460px;min-width:0">{self._rows()}</div></div>'
        )

    def _grid(self) -> str:
        return "".join(
            f'<div style="white-space:pre"><span style="opacity:.6">{start:>3}  </span>'
            + "".join(self._octet(at) for at in range(start, min(start + _IN_A_ROW, len(self.raw))))
            + "</div>"
            for start in range(0, len(self.raw), _IN_A_ROW)
        )

    def _octet(self, at: int) -> str:
        here = [place for place, field in enumerate(self.fields) if field.start <= at < field.start + field.size]
        names = "; ".join(f"{self.fields[place].name} = {self.fields[place].value}" for place in here)
        title = f' title="{escape(names, quote=True)}"' if names else ""
        classes = " ".join(f"k{place}" for place in here)
        return f'<span class="{classes}"{title} style="{_OCTET}">{self.raw[at]:02x}</span>'

    def _rows(self) -> str:
        return "".join(
            f'<div class="k{place}" style="{_ROW}"><span style="{_PLACE}">{self._place(field)}</span>'
            f'<span style="flex:1 1 auto;min-width:0;overflow-wrap:anywhere"><b>{escape(field.name)}</b> '
            f'{escape(field.value)} <span style="opacity:.75">{escape(field.about)}</span> '
            f'<span style="opacity:.6;white-space:nowrap">{escape(field.spec)}</span></span></div>'
            for place, field in enumerate(self.fields)
        )

    def _place(self, field: Field) -> str:
        bits = self._bits(field)
        last = f"–{field.start + field.size - 1}" if field.size > 1 else ""
        return f"{field.start}{last}" + (f"&ensp;{bits[:4]}&thinsp;{bits[4:]}" if bits else "")


_MONO = "font-family:var(--jp-code-font-family,monospace);font-size:12px"
_BOX = "display:flex;flex-wrap:wrap;gap:8px 24px;max-width:1100px;text-align:left;line-height:1.45;font-size:13px"
_OCTET = "padding:1px 3px;border-radius:2px"
_ROW = "display:flex;gap:10px;padding:1px 4px;border-top:1px solid rgba(128,128,128,.22)"
_PLACE = f"{_MONO};flex:0 0 112px;white-space:nowrap"
_MARKED = "background:rgba(230,159,0,.38)"
