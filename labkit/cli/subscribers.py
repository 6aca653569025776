"""`./lab subscribers`: the test subscribers with their identities and keys."""

from __future__ import annotations

import argparse
import json
from typing import Any

from labkit.cli import exits
from labkit.cli.table import text_table


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `subscribers`."""
    parser = commands.add_parser(
        "subscribers",
        help="list the test subscribers",
        description="List the test subscribers of data/subscribers.toml. Their keys are made up, for this lab only: "
        "use them with a phone or a test tool of your own.",
    )
    parser.add_argument("--json", action="store_true", help="with K, OPc and AMF, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print all subscribers."""
    from labkit.paths import subscribers_file
    from labkit.peers.hss.subscribers import load_subscribers

    rows = [_row(subscriber) for subscriber in load_subscribers(subscribers_file())]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print(text_table(("name", "auth", "impi", "impus"), [_short(row) for row in rows]))
    return exits.OK


def _row(subscriber: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": subscriber.name,
        "impi": subscriber.impi,
        "impus": list(subscriber.impus),
        "auth": subscriber.auth,
    }
    if subscriber.auth == "aka":
        return row | {"k": subscriber.k.hex(), "opc": subscriber.opc.hex(), "amf": subscriber.amf.hex()}
    return row | {"password": subscriber.password}


def _short(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["name"], row["auth"], row["impi"], " ".join(row["impus"])
