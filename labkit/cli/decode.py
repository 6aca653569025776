"""`./lab decode FILE --to OUT`: a capture file as a table for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.cli import exits
from labkit.errors import CaptureError, LessonError

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
    parser.add_argument("--to", type=Path, required=True, metavar="OUT", help="OUT.parquet or OUT.csv")
    parser.set_defaults(run=run)


def read_file(path: Path) -> Messages:
    """Return the decoded messages of a capture file.

    Raises:
        CaptureError: there is no such file, or it is no capture.
    """
    from labkit.capture.table import read_capture

    if not path.is_file():
        raise CaptureError(f"There is no file {path}. Recordings of the lessons are in data/cassettes/.")
    return read_capture(path)


def run(args: argparse.Namespace) -> int:
    """Write the table in the format that the name of the target says."""
    target: Path = args.to
    if target.suffix not in (".parquet", ".csv"):
        raise LessonError(f"--to {target}: the name must end in .parquet or .csv.")
    table = read_file(args.file).table
    if target.suffix == ".parquet":
        table.to_parquet(target, index=False)
    else:
        table.to_csv(target, index=False)
    print(f"{len(table)} messages in {target}")
    return exits.OK
