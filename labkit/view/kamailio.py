"""Kamailio configuration as a notebook shows it: lines with their numbers, and colours that tell what is what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from labkit.view.theme import theme_for

_TOKEN = re.compile(
    r"""(?P<directive>^[ \t]*\#![^\n]*)
    |(?P<comment>/\*.*?(?:\*/|\Z)|//[^\n]*|\#[^\n]*)
    |(?P<string>"(?:[^"\\]|\\.)*"?|'[^']*'?)
    |(?P<variable>\$(?:\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|[\w*]+(?:\((?:[^()]|\([^()]*\))*\))?))
    |(?P<block>\b(?:request_route|(?:branch|onreply|reply|failure|onsend|event)_route|route)\b(?:\[[\w:.-]*\])?)
    |(?P<keyword>\b(?:if|else|while|switch|case|default|break|exit|return|drop|loadmodule|modparam|and|or|not)\b)
    |(?P<function>\b[A-Za-z_]\w*(?=\())
    |(?P<number>\b\d+\b)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_IN_TEXT = re.compile(r"\$(?:\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|\w+(?:\([^()]*\))?)")
_MONO = "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px);line-height:1.35"


def highlighted(text: str, *, first: int = 1) -> str:
    """Return a block as HTML, every line with its number.

    Args:
        first: number of the first line.
    """
    theme = theme_for(None)
    styles = {
        "directive": f"color:{theme.diameter}",
        "comment": f"color:{theme.page_faint_ink or theme.faint_ink};font-style:italic",
        "string": f"color:{theme.calls[1]}",
        "variable": f"color:{theme.calls[2]}",
        "block": f"color:{theme.calls[0]};font-weight:bold",
        "keyword": "font-weight:bold",
        "function": f"color:{theme.calls[0]}",
        "number": f"color:{theme.calls[3]}",
    }
    coloured = "".join(_spans(piece, styles.get(kind, "")) for kind, piece in _pieces(text.rstrip("\n")))
    rows = coloured.split("\n")
    width = len(str(first + len(rows) - 1))
    number = f'<span style="color:{theme.page_faint_ink or theme.faint_ink};user-select:none">{{:>{width}}}  </span>'
    lines = "\n".join(number.format(first + at) + row for at, row in enumerate(rows))
    return f'<pre style="{_MONO};margin:4px 0;overflow-x:auto">{lines}</pre>'


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """The text cut up: what each piece is, and the piece; variables inside texts are pieces of their own."""
    at = 0
    for found in _TOKEN.finditer(text):
        yield "", text[at : found.start()]
        at = found.end()
        kind = found.lastgroup or ""
        if kind != "string":
            yield kind, found[0]
            continue
        inside = 0
        for variable in _IN_TEXT.finditer(found[0]):
            yield "string", found[0][inside : variable.start()]
            yield "variable", variable[0]
            inside = variable.end()
        yield "string", found[0][inside:]
    yield "", text[at:]


def _spans(piece: str, style: str) -> str:
    """A piece as HTML; a span ends with its line, so that every line stands for itself."""
    if not style:
        return escape(piece)
    return "\n".join(f'<span style="{style}">{escape(row)}</span>' if row else "" for row in piece.split("\n"))
