"""Finding the lab that a command is about."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from labkit.errors import StackError

if TYPE_CHECKING:
    from labkit.lab.lab import RunningLab

DEFAULT_NAME = "lab"


def add_name(parser: argparse.ArgumentParser) -> None:
    """Give a command the option that picks one of several labs."""
    parser.add_argument(
        "--name",
        default=os.environ.get("LABKIT_NAME", DEFAULT_NAME),
        help="which lab, where several run at once (default: %(default)s)",
    )


def running_lab(name: str) -> RunningLab:
    """Return the lab of that name.

    Raises:
        StackError: none of that name runs; the message lists those that do.
    """
    from labkit.lab.lab import attach, list_labs

    found = attach(name)
    if found is not None:
        return found
    others = [lab.name for lab in list_labs()]
    running = f"Running: {', '.join(others)} (choose one with --name)." if others else "None runs on this machine."
    raise StackError(f"No lab named {name!r} runs. {running} Start it with: ./lab up --name {name}")
