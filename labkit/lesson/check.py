"""Checks of a lesson: is the answer right, in *this* capture, and which messages prove it?

    check = lk.check(first)
    check.message(my_guess, command="MAR")               # a message number of first.steps
    check.value(my_code, lambda cap: 298, proof=4)       # anything that can be worked out of the capture

A check reads the capture it was made for and nothing else, so an answer from somebody else's run does not pass where
runs differ. It gives a `CheckResult` that cites its proof, or raises `CheckFailed` with a hint. Plain text uses message
numbers, which are the same in every run; the frame numbers of this very capture stand beside them in HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral
from typing import TYPE_CHECKING, Any, overload

from labkit.errors import LessonError
from labkit.lesson.answers import CheckFailed as CheckFailed
from labkit.lesson.answers import is_empty, not_empty, same
from labkit.lesson.table_check import TableCheck

if TYPE_CHECKING:
    from typing import Protocol

    import pandas as pd

    class Checkable(Protocol):
        """What a check needs of a capture."""

        @property
        def name(self) -> str:
            """Its name."""

        @property
        def table(self) -> Any:
            """The table of `labkit.capture.table`, a DataFrame."""

        @property
        def steps(self) -> Any:
            """The canonical story, index n, column row."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One message that proves an answer."""

    number: int | None
    """Its number in `steps`; None where only its frame is known."""
    frame: int
    """The frame of this capture that completes it, as Wireshark counts."""
    text: str
    """Who said what to whom."""

    @property
    def plain(self) -> str:
        """The message by what is the same in every run."""
        return f"Frame {self.frame}" if self.number is None else f"Message {self.number}"

    @property
    def page(self) -> str:
        """The message with its frame."""
        return (
            f"frame {self.frame}"
            if self.number is None
            else f"message {self.number} (frame {self.frame} of this capture)"
        )


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A right answer and what proves it."""

    proofs: tuple[Proof, ...]
    """The messages that prove it; empty where the whole capture does."""

    def __repr__(self) -> str:
        if not self.proofs:
            return "Right."
        return "Right. " + "; ".join(f"{proof.plain} shows it: {proof.text}" for proof in self.proofs) + "."

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{proof.page}: {escape(proof.text)}</li>" for proof in self.proofs)
        return f"<b>Right.</b><ul>{items}</ul>" if items else "<b>Right.</b>"


class Check:
    """Checks answers against one capture."""

    def __init__(self, capture: Checkable) -> None:
        self._capture = capture

    def message(self, answer: Any, *, which: str = "any", hint: str = "", **where: Any) -> CheckResult:
        """Check that `answer` is the number of a message with these properties.

        Args:
            answer: number of a message of `steps`, or several of them where `which` is "all".
            which: "any" of the messages that fit, the "first" of them, the "last", or "all".
            hint: what a learner who is wrong should look at.
            where: columns of `table` or `steps` and the values they must have, for example command="MAR".
        Raises:
            CheckFailed: the answer is empty, or is another message.
            LessonError: the lesson asks for what this capture does not hold.
        """
        fitting = self._fitting(where)
        wanted = {"any": fitting, "first": fitting[:1], "last": fitting[-1:], "all": fitting}[which]
        given = self._numbers(answer, several=which == "all")
        right = sorted(given) == wanted if which == "all" else len(given) == 1 and given[0] in wanted
        if not right:
            raise CheckFailed(f"{self._told(given)} {hint}".strip())
        return CheckResult(tuple(self._proof(number) for number in sorted(given)))

    def value(
        self,
        answer: Any,
        expected: Callable[[Any], Any],
        *,
        proof: int | Sequence[int] = (),
        frames: Sequence[int] = (),
        hint: str = "",
    ) -> CheckResult:
        """Check that `answer` equals what `expected` finds in the capture.

        Args:
            answer: what the learner says.
            expected: takes the capture and works the right answer out of its fields.
            proof: numbers of the messages that prove it.
            frames: the same by number of frame, for a capture from a file: it has the same frames in every run.
            hint: what a learner who is wrong should look at.
        Raises:
            CheckFailed: the answer is empty or another one.
        """
        not_empty(answer)
        if not same(answer, expected(self._capture)):
            raise CheckFailed(f"{answer!r} is not it. {hint}".strip())
        numbers = [proof] if isinstance(proof, int) else list(proof)
        return CheckResult((*map(self._proof, numbers), *map(self._proof_frame, frames)))

    # ---- looking into the capture -----------------------------------------------------------------------------------
    def _fitting(self, where: dict[str, Any]) -> list[int]:
        steps, table = self._capture.steps, self._capture.table
        fitting = []
        for number in steps.index:
            row = table.loc[int(steps.at[number, "row"])]
            if all(same(_cell(steps.loc[number], row, key), value) for key, value in where.items()):
                fitting.append(int(number))
        if not fitting:
            asked = ", ".join(f"{key}={value!r}" for key, value in where.items())
            raise LessonError(f"The capture {self._capture.name!r} holds no message with {asked}: run its cell again.")
        return fitting

    def _numbers(self, answer: Any, *, several: bool) -> list[int]:
        not_empty(answer)
        items = list(answer) if several and isinstance(answer, Iterable) and not isinstance(answer, str) else [answer]
        if not items:
            raise CheckFailed("There is no answer yet.")
        for item in items:
            if isinstance(item, bool) or not isinstance(item, Integral):  # numpy's too: an index gives those
                raise CheckFailed(f"{item!r} is no message number; the numbers stand at the left of `steps`.")
            if item not in self._capture.steps.index:
                last = len(self._capture.steps)
                raise CheckFailed(f"There is no message {item} in {self._capture.name!r}, which has 1 to {last}.")
        return [int(item) for item in items]

    def _proof(self, number: int) -> Proof:
        step = self._capture.steps.loc[number]
        return Proof(number, int(step["frame"]), f"{step['from']} -> {step['to']} {step['message']}")

    def _proof_frame(self, frame: int) -> Proof:
        table = self._capture.table
        rows = table[table["frame"] == frame]
        if not len(rows):
            raise LessonError(f"Frame {frame} of the capture {self._capture.name!r} completes no message.")
        row = rows.iloc[0].astype(object).where(rows.iloc[0].notna(), None)
        here, there = row["src_node"] or row["src"], row["dst_node"] or row["dst"]
        status = f"{row['status']} {row['reason']}" if row["status"] else None
        return Proof(
            None,
            int(frame),
            f"{here} -> {there} {row['method'] or status or row['command'] or row['protocol'].upper()}",
        )

    def _told(self, numbers: list[int]) -> str:
        return " ".join(
            f"Message {proof.number} is {proof.text}: that is not it."
            if len(numbers) == 1
            else f"Message {proof.number} is {proof.text}."
            for proof in map(self._proof, numbers)
        )


@overload
def check(what: pd.DataFrame) -> TableCheck: ...
@overload
def check(what: Checkable) -> Check: ...
def check(what: Any) -> Any:
    """Return the checks for one capture, or for one table of this run."""
    # Asked of the class: the steps of a large capture are work, and of a very large one there are none.
    return Check(what) if hasattr(type(what), "steps") else TableCheck(what)


def solution(answer: Any, right: Any) -> Any:
    """Return the learner's own answer, or `right` where there is none yet: the cell of a folded solution."""
    return right if is_empty(answer) else answer


def _cell(step: Any, row: Any, key: str) -> Any:
    if key in row.index:
        return row[key]
    if key in step.index:
        return step[key]
    raise LessonError(f"Neither the table nor the steps of a capture have a column {key!r}.")
