"""The DataFrame that canon gives: an ordinary one, which keeps two columns to itself when it is shown."""

from __future__ import annotations

from typing import Any

import pandas as pd

HIDDEN = ("frame", "row")
"""Columns that differ from run to run; they lead back to the packets and are not shown."""

MOST_ROWS = 100
"""Longer stories are shortened in the middle when they are shown; columns never are."""

_DTYPES = {
    "from": "string",
    "to": "string",
    "protocol": "string",
    "message": "string",
    "user": "string",
    "call": "string",
    "cseq": "Int64",
    "session": "string",
    "authorization": "string",
    "assignment": "string",
    "server_name": "string",
    "frame": "Int64",
    "row": "Int64",
}


class Story(pd.DataFrame):
    """A DataFrame whose text and HTML leave out `frame` and `row`."""

    @classmethod
    def of(cls, rows: list[dict[str, Any]]) -> Story:
        """Make one from rows; numbered from 1."""
        columns = {
            name: pd.array([row[name] for row in rows], dtype=dtype)  # type: ignore[call-overload]
            for name, dtype in _DTYPES.items()
        }
        return cls(columns, index=pd.RangeIndex(1, len(rows) + 1, name="n"))

    @property
    def _constructor(self) -> Any:
        return Story

    @property
    def shown(self) -> pd.DataFrame:
        """The columns that are the same in every run, as a plain DataFrame; what is absent is an empty cell."""
        visible = self.drop(columns=[name for name in HIDDEN if name in self.columns]).astype(object)
        return pd.DataFrame(visible.where(visible.notna(), ""))

    def __repr__(self) -> str:
        return self.shown.to_string(max_rows=MOST_ROWS)

    def _repr_html_(self) -> str | None:
        return self.shown._repr_html_()  # type: ignore[operator,no-any-return]
