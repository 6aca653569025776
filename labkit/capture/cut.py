"""Some frames of a capture as a capture of its own, with the pieces that complete their messages."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from labkit.capture.packets import TCP, FragmentKey, FragmentStore, PacketReader, Segment
from labkit.wire import pcap
from labkit.wire.pcap_records import RecordWalker

if TYPE_CHECKING:
    from labkit.capture.messages import Messages

_MOST_PIECES = 64
"""A message has no more segments behind it than these; older ones of a direction are other messages' or nobody's."""
_FRAMES_BEFORE = 10_000
"""So many frames before the first one wanted are looked at for pieces of it."""
_STEP_BYTES = 1 << 20


class _Noting(FragmentStore):
    """A store of fragments that remembers which packet the last piece was of."""

    def __init__(self) -> None:
        super().__init__()
        self.last: FragmentKey | None = None

    def add(self, key: FragmentKey, offset: int, more: bool, body: bytes, time_ns: int) -> bytes | None:
        self.last = key
        return super().add(key, offset, more, body, time_ns)


def cut(
    pieces: Iterable[bytes], wanted: Collection[int], messages: Messages, names: Mapping[str, str] | None = None
) -> bytes:
    """Give frames of a capture as a pcapng file that Wireshark opens.

    Args:
        pieces: the capture's bytes, plain (not gzip), in pieces of any size.
        wanted: numbers of the frames, each of which completes a message.
        messages: all messages of the capture: where one ends in a TCP stream, the next begins.
        names: node names by address, for Wireshark to show.
    Returns:
        The frames in file order. Besides those wanted: IP fragments of their packets, and the TCP segments in which
        their messages begin. (Pieces of a message in several SCTP chunks are not looked for. Segments that had
        overtaken each other still have: where a stream begins with such a pair, nobody can tell that from a gap.)
    """
    wanted = frozenset(wanted)
    kept: dict[int, pcap.Frame] = {}
    collector = _Collector(_bytes_on_tcp(messages))
    for frame in _frames(pieces, min(wanted, default=1) - _FRAMES_BEFORE, max(wanted, default=0)):
        parts = collector.parts(frame)
        if frame.number in wanted:
            kept.update((part.number, part) for part in parts)
            kept[frame.number] = frame
    return pcap.pcapng((kept[number] for number in sorted(kept)), names)


def _bytes_on_tcp(messages: Messages) -> Counter[int]:
    """Size of the messages that each frame completes on TCP."""
    from labkit.capture.relations import truth

    sizes: Counter[int] = Counter()
    rows = truth(messages.table["transport"] == "tcp").nonzero()[0].tolist()
    for row, frame in zip(rows, messages.table["frame"].iloc[rows], strict=True):
        sizes[int(frame)] += len(messages.raw[row])
    return sizes


def _frames(pieces: Iterable[bytes], first: int, last: int) -> Iterator[pcap.Frame]:
    """Frames of the part of the capture that matters; what lies before it is passed over unread."""
    walker = RecordWalker()
    for piece in pieces:
        for start in range(0, len(piece), _STEP_BYTES):
            for run in walker.feed(piece[start : start + _STEP_BYTES]):
                if run.first_number > last:
                    return
                if run.first_number + len(run.offsets) > first:
                    yield from (frame for frame in pcap.frames_of_run(run) if frame.number <= last)


class _Direction:
    """What is open in one direction of a TCP connection."""

    def __init__(self) -> None:
        self.open: deque[pcap.Frame] = deque(maxlen=_MOST_PIECES)
        """Frames with bytes of a message that is not whole."""
        self._end: int | None = None
        self._waiting = 0

    def take(self, frame: pcap.Frame, segment: Segment, completed_bytes: int) -> None:
        """Follow the stream by a segment that completes messages of so many bytes."""
        end = segment.sequence + len(segment.payload)
        fresh = len(segment.payload) if self._end is None else _ahead(end, self._end)
        if self._end is None or fresh > 0:
            self._end = end
            self._waiting += fresh
        self._waiting -= completed_bytes
        if completed_bytes and self._waiting <= 0:  # else the frame holds the beginning of the next message
            self.open.clear()
            self._waiting = 0
            return
        if completed_bytes:
            self.open.clear()
        self.open.append(frame)


def _ahead(one: int, other: int) -> int:
    """How far a sequence number is ahead of another (RFC 9293 section 3.4)."""
    return ((one - other + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


class _Collector:
    """Follows fragments and TCP directions, to know which earlier frames a frame completes."""

    def __init__(self, completed: Counter[int]) -> None:
        self._completed = completed
        self._store = _Noting()
        self._reader = PacketReader(self._store)
        self._fragments: dict[FragmentKey, list[pcap.Frame]] = {}
        self._directions: dict[tuple[str, int, str, int], _Direction] = {}

    def parts(self, frame: pcap.Frame) -> list[pcap.Frame]:
        """Take the next frame; give the earlier ones that belong to what it completes."""
        self._store.last = None
        found = next(self._reader.segments(frame), None)
        parts = self._pieces(frame, found)
        if found is not None and found.protocol == TCP:
            parts += self._stream(frame, found)
        return parts

    def _pieces(self, frame: pcap.Frame, found: Segment | None) -> list[pcap.Frame]:
        key = self._store.last
        if key is None:
            return []
        pieces = self._fragments.setdefault(key, [])
        if found is not None:
            return self._fragments.pop(key)
        pieces.append(frame)
        while len(self._fragments) > len(self._store.pending) + 1:  # those that the store gave up
            self._fragments.pop(next(key for key in self._fragments if key not in self._store.pending))
        return []

    def _stream(self, frame: pcap.Frame, segment: Segment) -> list[pcap.Frame]:
        if not segment.payload:
            return []
        ends = (segment.src, segment.src_port, segment.dst, segment.dst_port)
        direction = self._directions.setdefault(ends, _Direction())
        parts = list(direction.open)
        direction.take(frame, segment, self._completed[frame.number])
        return parts
