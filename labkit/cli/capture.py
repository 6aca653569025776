"""`./lab capture`: watch a running lab's packets in the terminal, and keep them in a file."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from labkit.cli import exits
from labkit.cli.decode import target
from labkit.cli.labs import add_name
from labkit.cli.signals import noted_signals, stop_signals
from labkit.errors import CaptureError, LessonError
from labkit.paths import subscribers_file

if TYPE_CHECKING:
    from labkit.capture.source import Sniffer
    from labkit.lab.lab import RunningLab
    from labkit.view.live_rows import LiveRows

_TURN_S = 0.05


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe `capture`."""
    parser = commands.add_parser(
        "capture",
        help="watch the packets of a running lab, and keep them in a file",
        description="Show every SIP and Diameter message of a running lab as it comes, one line each; RTP is one line "
        "a stream. Ctrl-C ends it, and leaves a whole file. Where no lab runs, --engine starts one for the length of "
        "the capture.",
    )
    parser.add_argument("--engine", choices=("docker", "local"), help="what runs the nodes, where no lab runs yet")
    parser.add_argument(
        "--to",
        type=target(".pcapng"),
        metavar="FILE.pcapng",
        help="also write all packets, for Wireshark or ./lab ladder",
    )
    parser.add_argument("--ladder", action="store_true", help="draw the lines as a ladder that grows")
    parser.add_argument("--seconds", type=float, help="end by itself after so long")
    add_name(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Watch until Ctrl-C, or as long as was asked for; then say what was seen."""
    with stop_signals() as signals, _lab(args) as lab:
        sniffer = lab.sniffer()
        sniffer.start()
        try:
            with _file(args.to, lab) as kept:
                watch = _Watch(lab, sniffer, kept, ladder=args.ladder)
                with noted_signals() as noted:
                    _say(f"Watching the lab {lab.name!r} on {lab.engine_name}; Ctrl-C ends.")
                    watch.until(args.seconds, lambda: noted.seen > 0)
                    watch.rest()
                signals.ignore_from_now()
        finally:
            sniffer.stop()
    _say(watch.summary(args.to))
    return exits.OK


@contextmanager
def _lab(args: argparse.Namespace) -> Iterator[RunningLab]:
    """Give the lab that runs, else one of our own for the length of the block."""
    from labkit.cli.labs import running_lab
    from labkit.lab.lab import attach, start_lab

    found = attach(args.name)
    if found is not None and args.engine not in (None, found.engine_name):
        raise LessonError(f"The lab {args.name!r} runs on {found.engine_name}; stop it first, or leave --engine out.")
    if found is not None or args.engine is None:
        yield running_lab(args.name)
        return
    lab = start_lab(name=args.name, engine=args.engine, progress=_say)
    try:
        yield lab
    finally:
        lab.stop()


@contextmanager
def _file(path: Path | None, lab: RunningLab) -> Iterator[IO[bytes] | None]:
    """Give the file to write to, with its beginning already in it."""
    if path is None:
        yield None
        return
    from labkit.wire.pcap import pcapng_start

    try:
        kept = path.open("wb")
    except OSError as error:
        raise CaptureError(f"Cannot write {path}: {error.strerror}.") from error
    with kept:
        kept.write(pcapng_start(lab.names()))
        yield kept


class _Watch:
    """What goes on while packets are watched."""

    def __init__(self, lab: RunningLab, sniffer: Sniffer, kept: IO[bytes] | None, *, ladder: bool) -> None:
        from labkit.capture.decode import Decoder
        from labkit.view.live_rows import LiveRows

        self._sniffer, self._kept = sniffer, kept
        self._decoder = Decoder(keep_raw=True)
        self._story = LiveRows()
        self._story.name(lab.names() | phone_names(lab))
        self._printer = _Printer(self._story, ladder=ladder)
        self._at = sniffer.mark()
        self._packets = 0

    def until(self, seconds: float | None, ended: Callable[[], bool]) -> None:
        """Show what comes, for so many seconds or for ever, or until it is ended."""
        end_s = None if seconds is None else time.monotonic() + seconds
        while not ended() and (end_s is None or time.monotonic() < end_s):
            self._turn(*self._sniffer.since(self._at))
            time.sleep(_TURN_S)

    def rest(self) -> None:
        """Show and keep what was sent before now."""
        mark = self._sniffer.mark()
        self._turn(self._sniffer.frames(self._at, mark), mark)

    def _turn(self, frames: list[tuple[int, int, bytes]], until: int) -> None:
        from labkit.wire.pcap import Frame, pcapng_packet

        self._at = until
        if not frames:
            return
        self._packets += len(frames)
        if self._kept is not None:
            packets = [pcapng_packet(Frame(0, time_ns, linktype, raw)) for time_ns, linktype, raw in frames]
            self._kept.write(b"".join(packets))
            self._kept.flush()
        self._story.feed(self._decoder.feed_frames(frames).rows())
        self._printer.show()

    def summary(self, path: Path | None) -> str:
        """Return what was seen, in a few lines."""
        lost = self._sniffer.dropped
        where = f" in {path}" if path else ""
        lines = [
            f"{self._packets} packets{where}, {self._story.messages} messages, {self._story.again} retransmissions, "
            + (f"{lost} packets LOST: the machine was too slow." if lost else "no packet lost.")
        ]
        for stream in self._story.streams(time.time_ns()):
            about = f"{stream['packets']} packets, {stream['lost']} lost, jitter {stream['jitter_ms']:.2f} ms"
            lines.append(f"RTP {stream['name']}: {about}")
        return "\n".join(lines)


class _Printer:
    """Prints each arrow once; names of nodes whenever there is a new one."""

    def __init__(self, story: LiveRows, *, ladder: bool) -> None:
        self._story, self._ladder = story, ladder
        self._printed = 0
        self._nodes: tuple[str, ...] = ()

    def show(self) -> None:
        """Print what is new."""
        from labkit.view.drawing import Drawing
        from labkit.view.layout import lay_out
        from labkit.view.text_ladder import TextSheet, sentence

        fresh = self._story.arrows[self._printed :]
        self._printed += len(fresh)
        if not fresh:
            return
        if not self._ladder:
            print("\n".join(f"{arrow.time_s:9.3f} s  {sentence(arrow)}" for arrow in fresh), flush=True)
            return
        names = list(self._story.nodes)
        nodes = tuple(names[number] for number in self._story.columns())
        width = max(shutil.get_terminal_size((120, 40)).columns, 60)
        sheet = TextSheet(lay_out(Drawing(nodes, ())), width, _draws_lines(), True)
        heading = [sheet.header()] if nodes != self._nodes else []
        self._nodes = nodes
        print("\n".join([*heading, *(sheet.line(arrow) for arrow in fresh)]), flush=True)


def phone_names(lab: RunningLab) -> dict[str, str]:
    """Return the names of the test subscribers' phones by "address:port", where lessons switch them on."""
    from labkit.peers.hss.subscribers import load_subscribers

    people = load_subscribers(subscribers_file())
    ends = [lab.phone_address(index) for index in range(len(people))]
    return {f"{address}:{port}": person.name for (address, port), person in zip(ends, people, strict=True)}


def _say(line: str) -> None:
    """To the person, and not into what is printed for a program to read."""
    print(line, file=sys.stderr, flush=True)


def _draws_lines() -> bool:
    return (sys.stdout.encoding or "ascii").lower().replace("-", "") in ("utf8", "utf16", "utf32")
