"""Many rows as one text, for the tape: thousands of CDRs stay readable, and do not make a cassette of megabytes.

The first line holds the columns, each with its kind ("cost:decimal"), every further line a row, as CSV; \\N is nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from labkit.clients.rows import Rows
from labkit.errors import ReplayError

_NOTHING = "\\N"
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\0": "\\0"}
"""As PostgreSQL's COPY writes them: one row is one line, and a text is never taken for nothing."""
_KINDS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "bool": (bool, lambda value: "yes" if value else "no", lambda text: text == "yes"),
    "int": (int, str, int),
    "decimal": (Decimal, str, Decimal),
    "float": (float, repr, float),
    "time": (datetime, datetime.isoformat, datetime.fromisoformat),
    "microseconds": (
        timedelta,
        lambda value: str(value // timedelta(microseconds=1)),
        lambda text: timedelta(microseconds=int(text)),
    ),
    "text": (str, lambda value: "".join(_ESCAPES.get(char, char) for char in value), lambda text: _unescaped(text)),
    "json": (object, lambda value: json.dumps(value, sort_keys=True), json.loads),
}
"""Kind -> its type, value to text, text to value. A column has the first kind whose type all its values are."""


def rows_to_text(rows: Rows) -> str:
    """Return rows as text."""
    kinds = [_kind([row[at] for row in rows.rows]) for at in range(len(rows.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(f"{name}:{kind}" for name, kind in zip(rows.columns, kinds, strict=True))
    for row in rows.rows:
        writer.writerow(
            _NOTHING if value is None else _KINDS[kind][1](value) for value, kind in zip(row, kinds, strict=True)
        )
    return out.getvalue()


def rows_from_text(text: str) -> Rows:
    """Return the rows again.

    Raises:
        ReplayError: the text names a kind that this labkit does not know.
    """
    lines = csv.reader(io.StringIO(text, newline=""))
    names, kinds = zip(*(head.rpartition(":")[::2] for head in next(lines)), strict=True)
    unknown = set(kinds) - set(_KINDS)
    if unknown:
        raise ReplayError(f"A recording holds a column of the kind {unknown.pop()!r}, which this labkit does not know.")
    readers = [_KINDS[kind][2] for kind in kinds]
    rows = tuple(
        tuple(None if cell == _NOTHING else read(cell) for cell, read in zip(line, readers, strict=True))
        for line in lines
    )
    return Rows(names, rows)


def _unescaped(text: str) -> str:
    meant = {written[1]: char for char, written in _ESCAPES.items()}
    return re.sub(r"\\(.)", lambda found: meant.get(found[1], found[1]), text)


def _kind(values: list[Any]) -> str:
    held = [value for value in values if value is not None]
    return next(
        name
        for name, (cls, _, _) in _KINDS.items()
        if all(isinstance(value, cls) and (isinstance(value, bool) == (cls is bool) or cls is object) for value in held)
    )
