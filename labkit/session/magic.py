"""`%%kamailio`: a cell that holds nothing but a routing block.

    %%kamailio
    request_route {
        ...

The lines are counted as JupyterLab counts those of the cell, the first one included. A word behind the name is the
name of a dictionary with files for the proxy (`lab.proxy.route(text, files=...)`): `%%kamailio rules`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

from labkit.errors import LessonError
from labkit.session.proxy import Proxy, Running, Unfolded

NAME = "kamailio"
"""What the cell begins with, after two per cent signs."""


class Session(Protocol):
    """As much of a session as a cell needs."""

    @property
    def proxy(self) -> Proxy:
        """What the cell starts."""


def run_cell(session: Session, line: str, cell: str, names: Mapping[str, Any]) -> Running:
    """Start the proxy with the text of a cell.

    Args:
        line: what stands behind the name of the magic.
        cell: the lines below.
        names: the notebook's variables.
    Raises:
        BlockRefused: it does not start; lines are those of the cell.
        LessonError: no variable of that name, or it holds no files.
    """
    wanted = line.strip()
    files = names.get(wanted, {}) if wanted else {}
    if wanted and not (wanted in names and isinstance(files, Mapping)):
        raise LessonError(f"%%{NAME} {wanted}: write the name of a dictionary with files there, or nothing.")
    running = session.proxy.route("\n" + cell.rstrip("\n") + "\n", files=files)
    return Unfolded(**{each.name: getattr(running, each.name) for each in fields(running)})


def offer(session: Session) -> None:
    """Make the magic known to the notebook that opened the session; nothing where there is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        shell.register_magic_function(
            lambda line, cell: run_cell(session, line, cell, shell.user_ns), magic_kind="cell", magic_name=NAME
        )
