"""Checks of answers against a table of this run: CDRs, costs, rows of a database. See labkit.lesson.check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError
from labkit.lesson.answers import CheckFailed, not_empty, same

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 6
"""So many columns of a row are cited."""


@dataclass(frozen=True, slots=True)
class TableResult:
    """A right answer and the rows that prove it."""

    proofs: tuple[str, ...]

    def __repr__(self) -> str:
        return (
            "Right. " + "; ".join(f"It stands in {proof}" for proof in self.proofs) + "." if self.proofs else "Right."
        )

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(proof)}</li>" for proof in self.proofs)
        return f"<b>Right.</b><ul>{items}</ul>" if items else "<b>Right.</b>"


class TableCheck:
    """Checks answers against one table."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def value(
        self,
        answer: Any,
        expected: Callable[[pd.DataFrame], Any],
        *,
        proof: Any = (),
        hint: str = "",
    ) -> TableResult:
        """Check that `answer` equals what `expected` finds in the table.

        Args:
            answer: what the learner says; an amount may be a text or a number.
            expected: takes the table and works the right answer out of it.
            proof: label of the row, or labels of the rows, that prove it.
            hint: what a learner who is wrong should look at.
        Raises:
            CheckFailed: the answer is empty or another one.
        """
        not_empty(answer)
        right = expected(self._table)
        if not same(_like(answer, right), right):
            raise CheckFailed(f"{answer!r} is not it. {hint}".strip())
        return TableResult(self._cited(proof))

    def row(self, answer: Any, *, hint: str = "", **where: Any) -> TableResult:
        """Check that `answer` is the label of a row whose columns are as in `where`.

        Raises:
            CheckFailed: the answer is empty, or is another row.
            LessonError: the lesson asks for what this table does not hold.
        """
        not_empty(answer)
        fitting = [
            label
            for label, row in self._table.iterrows()
            if all(same(_like(row[key], value), value) for key, value in where.items())
        ]
        if not fitting:
            raise LessonError(f"The table holds no row with {where}: run its cell again.")
        if not any(same(answer, label) for label in fitting):
            raise CheckFailed(f"{answer!r} is not it. {hint}".strip())
        return TableResult(self._cited(answer))

    def _cited(self, labels: Any) -> tuple[str, ...]:
        several = labels if isinstance(labels, Sequence) and not isinstance(labels, str) else [labels]
        return tuple(self._words(label) for label in several)

    def _words(self, label: Any) -> str:
        row = self._table.loc[label]
        cells = [f"{name} {value}" for name, value in row.items() if value is not None and str(value)]
        return f"row {label}: {', '.join(cells[:_SHOWN])}"


def _like(answer: Any, right: Any) -> Any:
    """The answer as Decimal where the right one is: 0.22 and "0.22" are the same amount."""
    if isinstance(right, dict) and isinstance(answer, dict) and answer.keys() == right.keys():
        return {key: _like(answer[key], right[key]) for key in right}
    if (
        not isinstance(right, Decimal)
        or isinstance(answer, bool)
        or not isinstance(answer, int | float | str | Decimal)
    ):
        return answer
    try:
        return Decimal(str(answer).strip())
    except InvalidOperation:
        return answer
