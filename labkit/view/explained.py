"""One message with its parts explained: SIP headers and SDP lines, the tree of Diameter AVPs, an RTP header.

Three ways to see the same: a notebook shows HTML with every value; `print(message)` the same as text; and
`repr(message)` an outline that holds only what is the same in every run, so that a stored lesson can be compared.

Everything that stands in a message came over a network and is escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import wrap

_WIDTH = 100
_INDENT = 4


@dataclass(frozen=True, slots=True)
class Part:
    """One header, line or AVP."""

    name: str
    """'Via', 'Result-Code (268)', 'm=', 'a=rtpmap'; empty for a line that only continues."""
    value: str
    """The value as text; empty for a group, whose parts follow one level deeper."""
    about: str = ""
    """What it is, in a sentence."""
    spec: str = ""
    """Where it is defined, for example 'RFC 3261 20.42'."""
    depth: int = 0
    """Level in the tree, 0 at the top."""
    flags: str = ""
    """Flags of an AVP: V (vendor), M (mandatory) and P (protected), '-' where one is not set."""
    lines: tuple[str, ...] = ()
    """Further lines of a long value: XML laid out, RAND and AUTN."""
    stable: bool = False
    """The value is the same in every run of a lesson."""


@dataclass(frozen=True, slots=True, repr=False)
class Explained:
    """A message taken apart."""

    title: str
    """'SIP request REGISTER', 'Diameter answer UAA'."""
    about: str
    """What such a message says."""
    first_line: str
    """Start line of SIP, fields of the header of Diameter and RTP."""
    parts: tuple[Part, ...]
    """Its parts in the order of the wire."""
    raw: bytes
    """The message itself."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts at the top level, in order."""
        return tuple(part.name for part in self.parts if part.name and part.depth == 0)

    def __repr__(self) -> str:
        lines = _headline(self)
        for part in self.parts:
            if part.name:
                lines += _outline(part)
        return "\n".join(lines)

    def __str__(self) -> str:
        lines = [*_headline(self), *wrap(_printable(self.first_line), _WIDTH, subsequent_indent="  ")]
        for part in self.parts:
            lines += _full(part)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(_row(part) for part in self.parts)
        return (
            '<div style="max-width:1100px;text-align:left;line-height:1.4;font-size:13px">'
            f"<div><b>{_shown(self.title)}</b> {_shown(self.about)}</div>"
            f'<div style="{_MONO};margin:6px 0">{_shown(self.first_line)}</div>{rows}'
            f'<details style="margin-top:6px"><summary>{len(self.raw)} bytes as they were on the wire</summary>'
            f'<pre style="{_MONO};white-space:pre-wrap">{_shown(_wire_text(self.raw))}</pre></details></div>'
        )


def readable(raw: bytes) -> str:
    """Show bytes as text where they are text, as hexadecimal digits otherwise."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.hex()
    return text if text.isprintable() else raw.hex()


def xml_lines(text: str) -> tuple[str, ...]:
    """Lay out XML one element a line. Purely by its tags: nothing in it is resolved, fetched or run."""
    import re

    tokens = re.findall(r"<[^>]*>|[^<]+", text)
    tokens = [token.strip() for token in tokens if token.strip()]
    lines: list[str] = []
    depth = at = 0
    while at < len(tokens):
        token = tokens[at]
        size = _leaf_size(tokens, at)
        if token.startswith("</"):
            depth = max(depth - 1, 0)
        lines.append("  " * depth + "".join(tokens[at : at + size]))
        if size == 1 and _opens(token):
            depth += 1
        at += size
    return tuple(lines)


def _opens(token: str) -> bool:
    return token.startswith("<") and not token.startswith(("</", "<?", "<!")) and not token.endswith("/>")


def _leaf_size(tokens: list[str], at: int) -> int:
    """How many tokens from here are an element without elements inside: <a></a> is 2, <a>text</a> is 3; else 1."""
    if not _opens(tokens[at]):
        return 1
    for size in (2, 3):
        between, last = tokens[at + 1 : at + size - 1], tokens[at + size - 1 : at + size]
        if last and last[0].startswith("</") and not any(token.startswith("<") for token in between):
            return size
    return 1


# ---- text -----------------------------------------------------------------------------------------------------------


def _headline(message: Explained) -> list[str]:
    return wrap(f"{message.title}: {message.about}" if message.about else message.title, _WIDTH)


def _outline(part: Part) -> list[str]:
    """Name and meaning; the value only where it is the same in every run."""
    indent = " " * _INDENT * (part.depth + 1)
    flags = f" [{part.flags}]" if part.flags else ""
    value = f" = {_printable(part.value)}" if part.stable and part.value else ""
    about = f"  # {part.about}" if part.about else ""
    return wrap(f"{part.name}{flags}{value}{about}", _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _full(part: Part) -> list[str]:
    indent = " " * _INDENT * part.depth
    flags = f" [{part.flags}]" if part.flags else ""
    colon = ": " if part.name and "=" not in part.name else ""
    lines = _wrapped(f"{part.name}{flags}{colon}{part.value}".rstrip(), _INDENT * part.depth)
    lines += [wrapped for line in part.lines for wrapped in _wrapped(line, _INDENT * (part.depth + 1))]
    about = " ".join(words for words in (part.about, f"[{part.spec}]" if part.spec else "") if words)
    deeper = indent + " " * _INDENT + "# "
    return lines + (wrap(about, _WIDTH, initial_indent=deeper, subsequent_indent=deeper) if about else [])


def _wrapped(text: str, indent: int) -> list[str]:
    """Cut a line where it is too long: values have no spaces to break at."""
    text = _printable(text)
    own = len(text) - len(text.lstrip(" "))
    first, later = " " * indent, " " * (indent + own + 2)
    lines = [first + text[: _WIDTH - indent]]
    rest = text[_WIDTH - indent :]
    room = max(_WIDTH - len(later), 20)
    return lines + [later + rest[at : at + room] for at in range(0, len(rest), room)]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "·" for letter in text)


# ---- HTML -----------------------------------------------------------------------------------------------------------

_MONO = "font-family:var(--jp-code-font-family,monospace);font-size:12px;overflow-wrap:anywhere"
_ROW = "display:flex;flex-wrap:wrap;column-gap:16px;padding:2px 0;border-top:1px solid rgba(128,128,128,.22)"
"""Value and meaning side by side; where that would be narrow, one below the other."""


def _shown(text: str) -> str:
    return escape("".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text), quote=True)


def _row(part: Part) -> str:
    flags = f' <span style="opacity:.6">{_shown(part.flags)}</span>' if part.flags else ""
    further = "".join(f"<br>{_shown(line).replace('  ', '&nbsp;&nbsp;')}" for line in part.lines)
    value = f" {_shown(part.value)}" if part.name and "=" not in part.name else _shown(part.value)
    about = _shown(part.about)
    spec = f' <span style="opacity:.7;white-space:nowrap">{_shown(part.spec)}</span>' if part.spec else ""
    indent = f"padding-left:{18 * part.depth}px"
    return (
        f'<div style="{_ROW}"><div style="flex:3 1 300px;min-width:0;{_MONO};{indent}">'
        f"<b>{_shown(part.name)}</b>{flags}{value}{further}</div>"
        f'<div style="flex:2 1 240px;min-width:0;{indent}">{about}{spec}</div></div>'
    )


def _wire_text(raw: bytes) -> str:
    """Text as text; anything else as lines of 16 bytes."""
    try:
        return raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        rows = [raw[at : at + 16] for at in range(0, len(raw), 16)]
        return "\n".join(f"{place * 16:04x}  {row.hex(' '):<47}  {_ascii(row)}" for place, row in enumerate(rows))


def _ascii(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
