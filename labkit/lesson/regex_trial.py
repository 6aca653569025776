"""`lk.try_regex(...)`: an expression against thirty SDP bodies, with the right answers beside its own.

The right answers are worked out by the rules (labkit.wire.sdp), the expression runs in a process of its own that is
ended after a while: some expressions would run for years.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from labkit.errors import LessonError
from labkit.lesson.sdp_bodies import TRUTHS, SdpBody, sdp_bodies
from labkit.wire.ere import python_from_ere
from labkit.wire.pcre import python_from_pcre

if TYPE_CHECKING:
    import pandas as pd

LONGEST_RESULT: Final = 126
"""Letters that a dialplan rule can give out: Kamailio's buffer for it was made for telephone numbers."""
_MOST_KILLED: Final = 3
"""So many bodies may run out of time; the rest are not tried then."""
_OUT_OF_TIME: Final = "out of time"
_REFERENCE: Final = re.compile(r"\\(\d)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one body."""

    body: str
    """Its name."""
    given: str | None
    """What the expression was given to search."""
    expected: str | None
    """The right answer; None where there is none to be found."""
    found: str | None
    """What the expression found; None for no match."""
    verdict: str
    """"right", "wrong", "missed", "out of time" or "not tried"."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An expression and what it made of every body."""

    finds: str
    """What was looked for."""
    outcomes: tuple[Outcome, ...]
    """One for each body."""

    @property
    def right(self) -> int:
        """How many bodies it got right."""
        return sum(outcome.verdict == "right" for outcome in self.outcomes)

    @property
    def table(self) -> pd.DataFrame:
        """One row a body: what was given, expected, found, and the verdict."""
        import pandas as pd

        rows = [(_shown(o.given), _shown(o.expected), _shown(o.found), o.verdict) for o in self.outcomes]
        names = pd.Index([outcome.body for outcome in self.outcomes], name="body")
        return pd.DataFrame(rows, columns=["given", "expected", "found", "verdict"], index=names)

    @property
    def failures(self) -> pd.DataFrame:
        """The rows of `table` that are not right."""
        table = self.table
        return table[table.verdict != "right"].drop(columns="given")

    def __str__(self) -> str:
        others = [v for v in ("wrong", "missed", _OUT_OF_TIME, "not tried") if self._count(v)]
        rest = ", ".join(f"{self._count(verdict)} {verdict}" for verdict in others)
        return f"{self.finds}: {self.right} of {len(self.outcomes)} right" + (f", {rest}" if rest else "")

    def __repr__(self) -> str:
        if self.right == len(self.outcomes):
            return str(self)
        return f"{self}\n{self.failures.to_string()}"

    def _repr_html_(self) -> str:
        if self.right == len(self.outcomes):
            return f"<b>{escape(str(self))}</b>"
        return f"<b>{escape(str(self))}</b>{self.failures.to_html()}"

    def _count(self, verdict: str) -> int:
        return sum(outcome.verdict == verdict for outcome in self.outcomes)


def _shown(text: str | None) -> str:
    """A cell's text in one line; nothing for nothing."""
    return (text or "").replace("\r", "\\r").replace("\n", "\\n")


def try_regex(
    *rows: str | tuple[str, str],
    finds: str = "address",
    line: str = "",
    engine: str = "pcre",
    bodies: Mapping[str, str] | None = None,
    limit_s: float = 1.0,
) -> Trial:
    """Try an expression, or several in order of priority, against thirty SDP bodies.

    Args:
        rows: an expression whose first group is the answer, or (expression, replacement) as in a dialplan row; of
            several the first that matches counts.
        finds: what it should find of the body's first audio stream: "address", "port" or "rtcp_port"; or
            "session_version", which is not of a stream.
        line: how the line begins that the expression is given, for example "c=": the first such line of the body, as
            sdp_get_line_startswith() has it. Without it the expression is given the whole body.
        engine: "pcre" as in the modules dialplan and regex, "posix" as in =~ and the re.subst transformation.
        bodies: others to try instead of the thirty, by name.
        limit_s: seconds after which an expression that is still searching is ended.
    Raises:
        LessonError: an expression is none, or something else is asked for than the above.
    """
    if finds not in TRUTHS:
        raise LessonError(f"finds={finds!r} is nothing that can be looked for; there are {', '.join(TRUTHS)}.")
    if not rows or not all(isinstance(row, str) or _is_pair(row) for row in rows):
        raise LessonError("There is no expression to try: give one as a text, or as a pair with its replacement.")
    given = sdp_bodies() if bodies is None else {name: SdpBody(name, "", text) for name, text in bodies.items()}
    pairs = [(row, "") if isinstance(row, str) else row for row in rows]
    texts = [body.first_line(line) if line else body.text for body in given.values()]
    answers = _searched([_compiled(pattern, engine) for pattern, _ in pairs], texts, limit_s)
    outcomes = [
        _outcome(body, text, body.truth[finds], answer, [replacement for _, replacement in pairs])
        for body, text, answer in zip(given.values(), texts, answers, strict=True)
    ]
    return Trial(finds, tuple(outcomes))


def _is_pair(row: Any) -> bool:
    return isinstance(row, tuple) and len(row) == 2 and all(isinstance(part, str) for part in row)


def _outcome(body: SdpBody, given: str | None, expected: str | None, answer: Any, replacements: list[str]) -> Outcome:
    if isinstance(answer, str):
        return Outcome(body.name, given, expected, None, answer)
    found = None if answer is None else _replaced(answer["groups"], replacements[answer["row"]])
    verdict = "right" if found == expected else "missed" if found is None else "wrong"
    return Outcome(body.name, given, expected, found, verdict)


def _replaced(groups: list[str], replacement: str) -> str | None:
    """Return what the row gives out; None where that is too long for it."""
    if not replacement:
        result = groups[1] if len(groups) > 1 else groups[0]
    else:
        result = _REFERENCE.sub(lambda reference: _group(groups, int(reference[1])), replacement)
    return result if len(result) <= LONGEST_RESULT else None


def _group(groups: list[str], number: int) -> str:
    if number >= len(groups):
        raise LessonError(f"The replacement asks for group {number}, and the expression has {len(groups) - 1}.")
    return groups[number]


# ---- the search -----------------------------------------------------------------------------------------------------
def _compiled(pattern: str, engine: str) -> tuple[str, int]:
    """Return the expression as Python has it, and its flags."""
    try:
        if engine == "pcre":
            return python_from_pcre(pattern), int(re.ASCII)
        if engine == "posix":
            return python_from_ere(pattern, ignore_case=False), int(re.ASCII | re.DOTALL)
    except re.error as refused:
        raise LessonError(f"{pattern!r} is no expression for {engine}: {refused}.") from refused
    raise LessonError(f"engine={engine!r} is none: say 'pcre' or 'posix'.")


def _searched(rows: Sequence[tuple[str, int]], texts: Sequence[str | None], limit_s: float) -> list[Any]:
    """Return for each text the match, None, or why there is neither."""
    answers: list[Any] = []
    killed = 0
    while len(answers) < len(texts) and killed < _MOST_KILLED:
        lines, ended = _run_child(rows, texts[len(answers) :], limit_s)
        answers += lines
        if ended:
            answers.append(_OUT_OF_TIME)
            killed += 1
    return answers + ["not tried"] * (len(texts) - len(answers))


def _run_child(rows: Sequence[tuple[str, int]], texts: Sequence[str | None], limit_s: float) -> tuple[list[Any], bool]:
    """Return the answers that came in time, and whether one did not."""
    question = json.dumps({"rows": rows, "texts": texts}).encode()
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("regex_child.py"))]
    ended = False
    try:
        output = subprocess.run(command, input=question, capture_output=True, timeout=limit_s).stdout
    except subprocess.TimeoutExpired as late:
        output, ended = late.stdout or b"", True
    lines = [json.loads(line) for line in output.splitlines() if line.strip()]
    if lines and lines[0] and "error" in lines[0]:
        raise LessonError(f"Expression {lines[0]['row'] + 1} is none: {lines[0]['error']}.")
    if not ended and len(lines) < len(texts):
        raise LessonError("The process that searches ended before it was done; try a shorter expression.")
    return lines[: len(texts)], ended and len(lines) < len(texts)
