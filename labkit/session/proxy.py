"""`lab.proxy`: the plain proxy as a lesson holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

from labkit.lab.learner.proxy import LearnersProxy, Started, contents, digest
from labkit.session.taped import Switchboard, Taped
from labkit.view.kamailio import highlighted


class Running(Started):
    """A proxy that runs with blocks of one's own, as a notebook shows it."""

    __slots__ = ()
    unfolded = False
    """Whether the block is shown at once."""

    def _repr_html_(self) -> str:
        head, *rest = repr(self).splitlines()
        told = "".join(f"<div>{escape(line.strip())}</div>" for line in rest)
        opened = " open" if self.unfolded else ""
        block = highlighted(self.text)
        return f"<details{opened}><summary>{escape(head)} ({self.took_s:.1f} s)</summary>{block}</details>{told}"


class Unfolded(Running):
    """The same, for a cell that holds nothing but the block."""

    __slots__ = ()
    unfolded = True


class Proxy(Taped):
    """The plain proxy: `lab.proxy.route('''...''')` starts it with blocks of one's own."""

    def __init__(self, board: Switchboard, prepare: Callable[[], Any]) -> None:
        super().__init__(board, "proxy", LearnersProxy, None, in_loop=False, prepare=prepare)

    def route(self, text: str, *, files: Mapping[str, bytes | str | Path] | None = None) -> Running:
        """Start the proxy with routing blocks of one's own; blocks that are not among them stay the plain proxy's.

        Args:
            text: Kamailio configuration: blocks, and above them the modules and parameters that they need.
            files: files that it reads, for example a SQLite database: name -> bytes, text, or the path of a file here.
                The text finds them in the folder LESSON_FILES: "sqlite:///LESSON_FILES/rules.sqlite".
        Returns:
            What runs now.
        Raises:
            BlockRefused: Kamailio does not start with it; says line and column of `text`.
        """
        given = contents(files or {})
        if self._board.live:
            self._real().files = given
        told: Started = self.start(text, {name: digest(content) for name, content in sorted(given.items())})
        return Running(**{each.name: getattr(told, each.name) for each in fields(Started)})
