"""`./lab down`: stop the lab and take away all that it made."""

from __future__ import annotations

import argparse

from labkit.cli import exits
from labkit.cli.labs import add_name


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `down`."""
    parser = commands.add_parser(
        "down",
        help="stop the lab",
        description="Stop the lab: its nodes, its network or addresses, its files. No lab of that name "
        "running is a success too.",
    )
    add_name(parser)
    parser.add_argument("--all", action="store_true", help="every lab of this user")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Stop one lab, or all."""
    from labkit.lab.lab import attach, list_labs

    labs = list_labs() if args.all else [lab for lab in [attach(args.name)] if lab is not None]
    for lab in labs:
        lab.stop()
        print(f"stopped {lab.name} ({lab.id})")
    if not labs:
        print("no lab runs" if args.all else f"no lab named {args.name!r} runs")
    return exits.OK
