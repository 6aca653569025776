"""`./lab decode FILE --to OUT`: a capture file as a table for other tools."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.cli import exits

if TYPE_CHECKING:
    from labkit.capture.table import Messages


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `decode`."""
    parser = commands.add_parser(
        "decode",
        help="turn a capture file into a table (Parquet or CSV)",
        description="Decode a pcap or pcapng file (also .gz): SIP, Diameter, RTP and RTCP, one row a message.",
    )
    parser.add_argument("file", type=Path, help="a .pcap or .pcapng file, from labkit, Wireshark or tcpdump")
    parser.add_argument(
        "--to", type=target(".parquet", ".csv"), required=True, metavar="OUT", help="OUT.parquet or OUT.csv"
    )
    parser.set_defaults(run=run)


def target(*endings: str) -> Callable[[str], Path]:
    """Return what argparse calls for a file name that must have one of these endings."""

    def check(name: str) -> Path:
        if Path(name).suffix not in endings:
            raise argparse.ArgumentTypeError(f"{name}: the name must end in {' or '.join(endings)}")
        return Path(name)

    return check


def read_file(path: Path) -> Messages:
    """Return the decoded messages of a capture file; what is wrong with a readable one is said on stderr.

    Raises:
        CaptureError: there is no such file, or it is no capture.
    """
    from labkit.capture.table import read_capture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        messages = read_capture(path, names=names_beside(path))
    if messages.warning:
        print(f"lab: {messages.warning}", file=sys.stderr)
    return messages


def names_beside(path: Path) -> dict[str, str]:
    """Return the node names that a recording's .json file holds; none where there is no such file beside a capture.

    A pcapng can name addresses only; in a recording the phones share one address and are told apart by their ports.
    """
    try:
        names = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["names"]
        return {str(address): str(name) for address, name in names.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def run(args: argparse.Namespace) -> int:
    """Write the table in the format that the name of the target says."""
    table = read_file(args.file).table
    if args.to.suffix == ".parquet":
        table.to_parquet(args.to, index=False)
    else:
        table.to_csv(args.to, index=False)
    print(f"{len(table)} messages in {args.to}")
    return exits.OK
