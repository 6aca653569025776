"""`./lab wipe`: take away everything that any lab of this user ever left."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence

from labkit.cli import exits


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `wipe`."""
    parser = commands.add_parser(
        "wipe",
        help="remove all that any lab of this user left behind",
        description="Stop every lab of this user and remove what crashed ones left: containers, networks, processes, "
        "files. Images, fetched programs and your notebooks stay. Exit code 1: something could not be removed.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Stop what runs, then let each engine that is here look for left-overs."""
    from labkit.lab.lab import wipe_all

    removed = wipe_all()
    for line in in_short(removed):
        print(f"removed {line}")
    if not removed:
        print("nothing was left")
    return exits.OK


def in_short(lines: Sequence[str]) -> list[str]:
    """Return the lines with the many processes of one lab put into one line."""
    found = [re.match(r"process .* in (\S+)$", line) for line in lines]
    counts = Counter(match[1] for match in found if match)
    processes = [f"{count} processes of {lab}" for lab, count in counts.items()]
    return processes + [line for line, match in zip(lines, found, strict=True) if not match]
