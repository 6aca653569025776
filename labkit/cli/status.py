"""`./lab status`: which labs run, and how each node is."""

from __future__ import annotations

import argparse
import json
from typing import Any

from labkit.cli import exits
from labkit.cli.faults import left_s
from labkit.cli.labs import add_name
from labkit.cli.table import text_table


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `status`."""
    parser = commands.add_parser(
        "status",
        help="show the lab and its nodes",
        description="Show the lab and, for each node, its engine, state, version, addresses and ports. "
        "Exit code 0: every node runs; 1: no such lab, or a node does not run.",
    )
    add_name(parser)
    parser.add_argument("--json", action="store_true", help="the same for programs; without a lab: null")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the state of one lab."""
    from labkit.lab.lab import attach, list_labs

    lab = attach(args.name)
    if lab is None:
        if args.json:
            print("null")
            return exits.FAILED
        print(f"no lab named {args.name!r} runs; start it with: ./lab up")
        for other in list_labs():
            print(f"running: {other.name} ({other.id}); see it with: ./lab status --name {other.name}")
        return exits.FAILED
    status = lab.status()
    print(json.dumps(status, indent=2) if args.json else describe(status))
    return exits.OK if all(node["state"] in ("running", "external") for node in status["nodes"]) else exits.FAILED


def describe(status: dict[str, Any]) -> str:
    """Return a lab's status as a sentence and a table."""
    rows = [
        (
            node["name"],
            node["state"],
            node["version"],
            ", ".join(node["addresses"]),
            ", ".join(f"{name} {port}" for name, port in node["ports"].items()),
        )
        for node in status["nodes"]
    ]
    head = (
        f"lab {status['name']} ({status['id']}) on engine {status['engine']}, started {status['started']}; "
        f"packets are {status['capture']}"
    )
    table = text_table(("node", "state", "version", "addresses", "ports"), rows)
    return "\n".join([head, table, *(_fault_line(fault) for fault in status["faults"])])


def _fault_line(fault: dict[str, Any]) -> str:
    return (
        f"FAULT {fault['name']}: {fault['title']}; heals itself in {left_s(fault['until']):.0f} s, "
        f"sooner with ./lab heal {fault['name']}"
    )
