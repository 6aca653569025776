"""The command line: find the command, run it, say what went wrong in words, return a meaningful exit code."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from labkit.cli import exits
from labkit.errors import DockerNotRunning, EngineMissing, LabkitError, PortBusy

COMMANDS = (
    "up",
    "down",
    "status",
    "doctor",
    "wipe",
    "test",
    "execute",
    "record",
    "subscribers",
    "logs",
    "faults",
    "decode",
    "ladder",
    "capture",
    "images",
)
"""Modules of this package that hold commands, in the order in which the help shows them."""

DESCRIPTION = """\
labkit: a real IMS core on your own machine, phones that you drive, and every packet as a table and a picture.

New here?    ./lab up         starts the lab and opens the lessons
Trouble?     ./lab doctor     says what is missing and how to get it
"""

EPILOG = """\
exit codes: 0 done; 1 tried, and it failed; 2 the command line is wrong; 3 something is missing on this machine
(./lab doctor says what); 130 stopped by Ctrl-C.

`./lab COMMAND --help` explains one command.
"""

Command = Callable[[argparse.Namespace], int]


def make_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; every command module named adds its own part."""
    parser = argparse.ArgumentParser(
        prog="./lab",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose (for a report)")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        import_module(f"labkit.cli.{name}").add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    first = (sys.argv[1:] if argv is None else argv)[:1]
    # What all the other commands import takes as long as to decode ten thousand packets.
    args = make_parser(first if set(first) & set(COMMANDS) else COMMANDS).parse_args(argv)
    command: Command = args.run
    try:
        return command(args)
    except (EngineMissing, DockerNotRunning, PortBusy) as error:
        return _say(error, args, exits.MISSING)
    except LabkitError as error:
        return _say(error, args, exits.FAILED)
    except BrokenPipeError:  # `./lab logs hss | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise  # a fault of ours: whoever writes a file says what is wrong with it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _say(LabkitError("Nothing more can be written: there is no space left."), args, exits.FAILED)
    except KeyboardInterrupt:
        print("lab: stopped.", file=sys.stderr)
        return exits.INTERRUPTED


def _say(error: LabkitError, args: argparse.Namespace, code: int) -> int:
    if args.traceback:
        raise error
    print(f"lab: {error}", file=sys.stderr)
    return code
