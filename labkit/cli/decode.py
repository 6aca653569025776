"""`./lab decode FILE --to OUT`: a capture file as a table for other tools."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from labkit.cli import exits
from labkit.cli.signals import stop_signals
from labkit.cli.table import text_table
from labkit.errors import CaptureError

if TYPE_CHECKING:
    from labkit.capture.table import Messages


ENDINGS = (".parquet", ".arrow", ".csv")
PROTOCOLS = ("sip", "diameter", "rtp", "rtcp", "evapi", "jsonrpc")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `decode`."""
    parser = commands.add_parser(
        "decode",
        help="turn a capture file into a table (Parquet, Arrow or CSV)",
        description="Decode a capture (pcap or pcapng, also .gz): SIP, Diameter, RTP, RTCP, one row a message. It is "
        "read and written in pieces, so its size does not matter. A folder or a tar archive gives a Parquet file for "
        "each capture in it; started again it goes on where it was.",
    )
    parser.add_argument("file", help="a .pcap or .pcapng file, a folder or .tar of them; - reads a pipe")
    parser.add_argument(
        "--to", type=target(*ENDINGS, ""), metavar="OUT", help="OUT.parquet, OUT.arrow or OUT.csv; for many, a folder"
    )
    parser.add_argument("--only", type=protocols, default=PROTOCOLS, metavar="NAMES", help="for example sip,diameter")
    parser.add_argument("--guess-rtp", action="store_true", help="find RTP that no SDP announced")
    parser.add_argument("--stats", action="store_true", help="say what the capture holds (so too without --to)")
    parser.set_defaults(run=run_politely)


def spare_the_machine() -> None:
    """Keep numpy and Arrow from taking what a decoding process does not need; before they are imported."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads for linear algebra spin for 0.1 s when they start
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the usual one keeps 40 MiB that are free


def protocols(words: str) -> tuple[str, ...]:
    """Return the protocols that a comma-separated list names."""
    wanted = tuple(word.strip() for word in words.split(","))
    for word in wanted:
        if word not in PROTOCOLS:
            raise argparse.ArgumentTypeError(f"{word!r} is not decoded; known are {', '.join(PROTOCOLS)}")
    return wanted


def target(*endings: str) -> Callable[[str], Path]:
    """Return what argparse calls for a file name that must have one of these endings."""

    def check(name: str) -> Path:
        if Path(name).suffix not in endings:
            wanted = " or ".join(filter(None, endings))
            raise argparse.ArgumentTypeError(f"{name}: the name must end in {wanted}")
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
    for sentence in filter(None, (messages.warning, *messages.notes)):
        print(f"lab: {sentence}", file=sys.stderr)
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


def run_politely(args: argparse.Namespace) -> int:
    """Run; a kill ends it as Ctrl-C does, so that it leaves no half of a table behind."""
    with stop_signals():
        return run(args)


def run(args: argparse.Namespace) -> int:
    """Write the table in the format that the name of the target says."""
    spare_the_machine()
    from labkit.capture.export import export_capture
    from labkit.capture.folder import ARCHIVE

    if Path(args.file).is_dir() or ARCHIVE.search(args.file):
        return _many(args)
    with _opened(args.file) as source:
        if args.to is not None and not args.to.suffix:
            raise CaptureError(f"{args.to}: the name of the table must end in {' or '.join(ENDINGS)}.")
        done = export_capture(source, args.to, protocols=args.only, guess_rtp=args.guess_rtp)
    for sentence in filter(None, (done.warning, *done.notes)):
        print(f"lab: {sentence}", file=sys.stderr)
    if args.to is not None:
        print(f"{done.rows} messages of {done.frames} packets in {args.to}")
    if args.stats or args.to is None:
        rows = [(name, what, count) for name, counts in done.counts.items() for what, count in counts.most_common()]
        print(text_table(("protocol", "message", "how often"), rows))
        print(f"{done.rows} messages in {done.frames} packets")
    return exits.OK


def _many(args: argparse.Namespace) -> int:
    """Decode a folder or an archive to a folder of Parquet files."""
    from labkit.capture.folder import decode_folder

    if args.to is None or args.to.suffix:
        raise CaptureError(f"{args.file} holds many captures: say --to FOLDER, where their tables belong.")
    try:
        done = decode_folder(args.file, args.to, protocols=args.only, guess_rtp=args.guess_rtp)
    except KeyboardInterrupt:
        print(f"lab: the tables in {args.to} are whole; the same command goes on from there.", file=sys.stderr)
        raise
    rows = [
        (row.file, *("-" if n is None else str(n) for n in (row.frames, row.rows)), row.note)
        for row in done.astype(object).where(done.notna(), None).itertuples()
    ]
    print(text_table(("capture", "packets", "messages", "notes"), rows))
    failed = done["frames"].isna() & (done["note"] != "was there already")
    return exits.FAILED if failed.any() else exits.OK


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        source = open(name, "rb")  # noqa: SIM115 - closed below; the error is only of the opening
    except OSError as error:
        raise CaptureError(f"Cannot read the capture {name}: {error.strerror}.") from error
    with source:
        yield source
