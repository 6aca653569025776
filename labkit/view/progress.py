"""A bar for what takes a while, in a notebook; elsewhere nothing is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Hand out the items one by one, and show how many are done.

    Args:
        items: for example the days of a month.
        what: stands beside the bar.
    """
    from IPython.display import display

    bar, words = _bar(len(items), what)
    display(bar)  # type: ignore[no-untyped-call]
    for done, item in enumerate(items):
        words.value = f"{what}: {done} of {len(items)}"
        yield item
        bar.children[0].value = done + 1
    words.value = f"{what}: all {len(items)}"


def _bar(count: int, what: str) -> tuple[Any, Any]:
    import ipywidgets as widgets

    class Bar(widgets.HBox):  # type: ignore[misc]
        """A bar beside its words."""

        def __repr__(self, **_options: Any) -> str:
            return f"[{what}: a progress bar in a running notebook]"

    words = widgets.Label(what)
    return Bar([widgets.IntProgress(max=count), words]), words
