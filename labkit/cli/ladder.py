"""`./lab ladder FILE`: the ladder of a capture file, in the terminal or as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.cli import exits
from labkit.cli.decode import read_file, target


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `ladder`."""
    parser = commands.add_parser(
        "ladder",
        help="draw a capture file as a ladder",
        description="Draw the SIP and Diameter messages of a capture file as a ladder: as text, or as a page.",
    )
    parser.add_argument("file", type=Path, help="a .pcap or .pcapng file")
    parser.add_argument(
        "--to", type=target(".html"), metavar="OUT.html", help="write a page that needs no network, instead of text"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write the ladder."""
    messages = read_file(args.file)
    if args.to is None:
        from labkit.view.text_ladder import text_ladder

        print(text_ladder(messages))
        return exits.OK
    from labkit.view.ladder import ladder

    ladder(messages, title=args.file.stem, dark=False).write_html(args.to, include_plotlyjs=True)
    print(f"{len(messages.table)} messages in {args.to}")
    return exits.OK
