"""Answers of learners: whether there is one, and whether two are the same."""

from __future__ import annotations

from typing import Any

from labkit.errors import LessonError


class CheckFailed(LessonError):
    """An answer is missing or not right yet. Shown to a learner as one sentence, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """Tell IPython to show the sentence alone."""
        return [f"Not yet. {self}"]


def same(left: Any, right: Any) -> bool:
    """Whether two answers are the same to a learner: letter case does not count, True is not 1."""
    if type(left).__name__ == "NAType":
        return right is None
    if isinstance(left, bool) != isinstance(right, bool):
        return False  # True is no message number 1
    if isinstance(left, str) and isinstance(right, str):
        return left.strip().casefold() == right.strip().casefold()
    return bool(left == right)


def is_empty(answer: Any) -> bool:
    """Whether nobody has answered yet."""
    if answer is None or answer is ...:
        return True
    if isinstance(answer, str):
        return not answer.strip()
    if isinstance(answer, dict):
        return not answer or any(is_empty(item) for item in answer.values())
    return isinstance(answer, list | tuple | set) and len(answer) == 0


def not_empty(answer: Any) -> None:
    """CheckFailed where nobody has answered yet."""
    if is_empty(answer):
        raise CheckFailed("There is no answer yet: put yours in place of the three dots.")
