"""`./lab logs NODE`: what a node says."""

from __future__ import annotations

import argparse

from labkit.cli import exits
from labkit.cli.labs import add_name, running_lab


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `logs`."""
    parser = commands.add_parser("logs", help="show what a node logged", description="Show what a node logged.")
    parser.add_argument("node", help="a node as in `./lab status`, for example scscf")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as new lines come, until Ctrl-C")
    add_name(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the log line by line."""
    for line in running_lab(args.name).logs(args.node, follow=args.follow):
        print(line.rstrip("\n"), flush=args.follow)
    return exits.OK
