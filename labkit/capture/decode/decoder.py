"""The decoder: bytes of a capture, or live frames, to rows."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from labkit.capture.assembly import Assembly, row_of
from labkit.capture.decode.gunzip import Gunzip
from labkit.capture.decode.schema import PROTOCOLS, rows_of_batches
from labkit.capture.fields import Row
from labkit.capture.streams import Message
from labkit.errors import CaptureError
from labkit.wire import pcap
from labkit.wire.pcap_records import RecordWalker, Run

if TYPE_CHECKING:
    import pyarrow as pa

    from labkit.capture.decode.bulk import Bulk, Many
    from labkit.capture.ring import Block

FEW_FRAMES = 64
"""So many frames at once are worth the fixed cost of arrays."""
_MEDIA_EARLIER = 4
"""Of media a quarter of that: they have little in them."""
PIECE_BYTES = 8 << 20
"""So much at once: less shows the fixed cost of a piece, more falls out of the processor's cache."""


@dataclass(slots=True)
class Found:
    """The messages that one feed completed."""

    messages: list[Message] = field(default_factory=list)
    """Those that were read one by one."""
    arrow: list[pa.RecordBatch] = field(default_factory=list)
    """Those that were read many at once."""
    keep_raw: bool = True
    """Whether the messages' bytes go into batches."""

    def __len__(self) -> int:
        return sum((len(batch) for batch in self.arrow), len(self.messages))

    def rows(self) -> list[Row]:
        """Give them as dicts in the order of frames: the COLUMNS that are present, and "raw" where it is kept."""
        rows = []
        for message in self.messages:
            row = row_of(message)
            row["raw"] = message.raw
            rows.append(row)
        rows.sort(key=lambda row: row["frame"])  # type: ignore[arg-type, return-value]
        if not self.arrow:
            return rows
        rows += rows_of_batches(self.arrow)
        rows.sort(key=lambda row: row["frame"])  # type: ignore[arg-type, return-value]
        return rows

    def batches(self) -> list[pa.RecordBatch]:
        """Give them as Arrow batches, each of one protocol, see `schema.schema_of`."""
        if not self.messages:
            return self.arrow
        from labkit.capture.decode.bulk import batches_of_messages

        return self.arrow + batches_of_messages(self.messages, self.keep_raw)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from going through thousands of short-lived slices, none of them in a cycle.

    It rests for the whole process meanwhile, for a piece of a capture at a time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Decoder:
    """Decodes one capture, whole or piece by piece.

    Feed it bytes of a file or a pipe, or frames; each feed gives the messages that it completes.
    """

    def __init__(
        self,
        *,
        protocols: Collection[str] = PROTOCOLS,
        keep_raw: bool = False,
        guess_rtp: bool = False,
        few_frames: int = FEW_FRAMES,
    ) -> None:
        """Prepare.

        Args:
            protocols: those to give rows for, of PROTOCOLS.
            keep_raw: give the bytes of the messages too.
            guess_rtp: at the end, take for RTP what behaves like it although no SDP announced it.
            few_frames: below this many frames in a feed they are read one by one, else by arrays; 0 for always
                arrays. Both give the same. Live media are read by arrays from a quarter of that on.
        """
        self._protocols = frozenset(protocols)
        self._keep_raw = keep_raw
        self._guess_rtp = guess_rtp
        self._few_frames = few_frames
        self._assembly = Assembly()
        self._walker = RecordWalker()
        self._gzip = Gunzip()
        self._bulk: Bulk | None = None
        self._frames = 0
        self._first = b""
        self._earlier: list[str] = []
        self._names: dict[str, str] = {}

    @property
    def names(self) -> dict[str, str]:
        """Address to name, as the capture itself says."""
        return {**self._names, **self._walker.names}

    @property
    def frames(self) -> int:
        """Whole frames so far."""
        return self._walker.count + self._frames

    @property
    def warning(self) -> str:
        """After `finish`: empty, or a sentence on where the capture ends early or is damaged."""
        return " ".join(filter(None, (*self._earlier, pcap.ending(self._walker, self._gzip.warning()))))

    @property
    def notes(self) -> list[str]:
        """After `finish`: a sentence for each kind of thing that the capture lacks or that had to be dropped."""
        notes = self._assembly.notes()
        if self._bulk is not None and (dropped := self._bulk.late.dropped):
            notes.append(f"{dropped} packets that may be RTP were dropped: no SDP spoke of them in time.")
        return notes

    def next_file(self) -> None:
        """Go on with another file of the same capture, as ring buffers write them: streams and frame numbers go on."""
        if ending := pcap.ending(self._walker, self._gzip.warning()):
            self._earlier.append(ending)
        self._names.update(self._walker.names)
        count, self._walker, self._gzip = self._walker.count, RecordWalker(), Gunzip()
        self._walker.count, self._first = count, b""

    def feed(self, raw: bytes) -> Found:
        """Take the next bytes of a capture, any number of them.

        Raises:
            CaptureError: the bytes are no capture.
        """
        found = Found(keep_raw=self._keep_raw)
        self._first = self._first or raw[:8]
        for start in range(0, len(raw), PIECE_BYTES):
            for piece in self._gzip.feed(raw[start : start + PIECE_BYTES] if len(raw) > PIECE_BYTES else raw):
                for run in self._walker.feed(piece):
                    self._run(run, found)
                self._refuse_others(len(raw))
        return found

    def feed_frames(self, frames: Iterable[tuple[int, int, bytes]]) -> Found:
        """Take live frames: (nanoseconds since 1970, link type, bytes), numbered on from those before."""
        found = Found(keep_raw=self._keep_raw)
        listed = list(frames)
        if self._are_few(len(listed)):
            numbered = enumerate(listed, self._frames + 1)
            self._one_by_one((pcap.Frame(n, time, link, raw) for n, (time, link, raw) in numbered), found)
        else:
            self._take(self._arrays().frames(listed, self._frames + 1), found)
        self._frames += len(listed)
        return found

    def feed_block(self, block: Block) -> Found:
        """Take live frames as the kernel gave them, numbered on from those before."""
        if self._are_few(len(block)):
            return self.feed_frames([(time_ns, pcap.LINKTYPE_ETHERNET, raw) for time_ns, raw in block.frames()])
        found = Found(keep_raw=self._keep_raw)
        self._take(self._arrays().block(block, self._frames + 1), found)
        self._frames += len(block)
        return found

    def finish(self) -> Found:
        """Give what was waiting for bytes that did not come.

        Raises:
            CaptureError: what was fed is no capture.
        """
        found = Found(keep_raw=self._keep_raw)
        if not self._frames and self._walker.kind not in ("pcap", "pcapng"):
            self._refuse(self._walker.left_over)
        self._keep(self._assembly.finish(), found)
        self._late(found)
        if self._guess_rtp:
            headers = self._assembly.waiting_headers()
            self._assembly.book.guess(chain(headers, self._bulk.late.headers() if self._bulk else ()))
            self._late(found)
        return found

    def _run(self, run: Run, found: Found) -> None:
        if len(run.offsets) < self._few_frames:
            self._one_by_one(pcap.frames_of_run(run), found)
        else:
            self._many(run, found)

    def _one_by_one(self, frames: Iterable[pcap.Frame], found: Found) -> None:
        for frame in frames:
            self._keep(self._assembly.frame(frame), found)
        self._late(found)

    def _many(self, run: Run, found: Found) -> None:
        with _no_collection():
            self._take(self._arrays().run(run), found)

    def _are_few(self, count: int) -> bool:
        """Whether live frames are to be read one by one; among those that are not, media are told at once."""
        return count < max(self._few_frames // _MEDIA_EARLIER, 1)

    def _take(self, many: Many, found: Found) -> None:
        messages, batches = many
        self._keep(messages, found)
        found.arrow += batches
        self._late(found)

    def _arrays(self) -> Bulk:
        if self._bulk is None:
            from labkit.capture.decode.bulk import Bulk

            self._bulk = Bulk(self._assembly, self._protocols, self._keep_raw, self._few_frames)
        return self._bulk

    def _keep(self, messages: Iterable[Message], found: Found) -> None:
        found.messages += [message for message in messages if message.protocol in self._protocols]

    def _late(self, found: Found) -> None:
        """What SDP has announced now of what came before it."""
        if self._assembly.book.fresh:
            self._keep(self._assembly.late_media(), found)
            if self._bulk is not None:
                found.arrow += self._bulk.late_batches()
            self._assembly.book.fresh.clear()

    def _refuse_others(self, size: int) -> None:
        if self._walker.kind == "unknown":
            self._refuse(size)

    def _refuse(self, size: int) -> None:
        raise CaptureError(
            f"This is no capture file ({size} bytes, first ones {self._first.hex(' ') or 'none'}): "
            "expected pcap or pcapng, plain or gzip."
        )
