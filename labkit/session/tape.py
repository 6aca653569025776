"""The calls of a lesson on a tape: written while the lab is live, played back when there is none.

A lesson asks the lab for things (`alice.register()`, `hss.subscriber("alice")`). Live, the question is put and the
answer is kept; in replay, the kept answer to the same question is given. A question is its name and its arguments,
and the n-th time it is asked it gets the n-th answer.

Only values of known types pass (see `values.py`): a tape is a file from elsewhere and must not run code.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import ReplayError


@dataclass(slots=True)
class Tape:
    """The calls made inside one capture, or outside of all of them."""

    name: str
    """Name of the capture; 'lesson' for what is asked outside of every capture."""
    lesson: str
    """The lesson this belongs to, for the sentence that names the command which records it."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """What was asked and answered, in the order in which it was asked."""
    repeat_last: bool = False
    """Whether a question asked more often than recorded gets the last answer again: so for cells outside a capture."""
    _played: Counter[str] = field(default_factory=Counter)

    def begin(self, call: str, args: dict[str, Any]) -> dict[str, Any]:
        """Note a question; the caller puts 'result' or 'error' into the returned entry when it is answered."""
        entry: dict[str, Any] = {"call": call, "args": args}
        self.calls.append(entry)
        return entry

    def play(self, call: str, args: dict[str, Any]) -> dict[str, Any]:
        """Return the recorded entry for this question.

        Raises:
            ReplayError: the tape holds no such call, or it was asked more often than recorded.
        """
        question = _question(call, args)
        same = [entry for entry in self.calls if _question(entry["call"], entry["args"]) == question]
        turn = self._played[question]
        self._played[question] += 1
        if turn < len(same):
            return same[turn]
        if same and self.repeat_last:
            return same[-1]
        raise ReplayError(self._missing(call, args, len(same)))

    def rewind(self) -> None:
        """Start again from the first answer: a cell was run once more."""
        self._played.clear()

    def _missing(self, call: str, args: dict[str, Any], recorded: int) -> str:
        shown = ", ".join(f"{key}={_short(value)}" for key, value in args.items())
        held = f"only {recorded} time{'s' * (recorded != 1)}" if recorded else "not at all"
        return (
            f"The recording {self.lesson}/{self.name} holds {call}({shown}) {held}; "
            f"run the lesson live (./lab up --engine auto) or record it anew with ./lab record {self.lesson}."
        )


def _short(value: Any) -> str:
    """An argument as the sentence shows it: of a long text, as a routing block is, the first line and its size."""
    first, *more = value.strip().splitlines() if isinstance(value, str) and value.strip() else [""]
    return f"{first[:60]!r} and {len(more)} more lines" if more else repr(value)


def _question(call: str, args: dict[str, Any]) -> str:
    return call + json.dumps(args, sort_keys=True)


def tape_from(lesson: str, name: str, calls: Sequence[dict[str, Any]], *, repeat_last: bool = False) -> Tape:
    """Return a tape to play, from the calls of a cassette."""
    return Tape(name=name, lesson=lesson, calls=list(calls), repeat_last=repeat_last)
