"""Thousands of frames to rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from labkit.capture.assembly import Assembly, flow_of, row_of
from labkit.capture.decode import text
from labkit.capture.decode.arrays import (
    Addresses,
    Array,
    Flags,
    Ints,
    Keys,
    Raw,
    at,
    bytes_of,
    constant,
    is_constant,
    picked,
)
from labkit.capture.decode.columns import array_of, coded, numbers, repeated, times
from labkit.capture.decode.diameter import diameter_columns
from labkit.capture.decode.fragments import reassemble
from labkit.capture.decode.layers import Bodies, Fragments, Peeler
from labkit.capture.decode.media import Candidates, LateMedia
from labkit.capture.decode.meta import TRANSPORTS, Meta
from labkit.capture.decode.plain import Frames, plain_media
from labkit.capture.decode.records import Columns, of_block, of_frames, of_run
from labkit.capture.decode.schema import batch_of_rows, in_order, names_of, schema_of
from labkit.capture.decode.sip import sip_columns
from labkit.capture.decode.tcp import Flows, reassembled, segments_of
from labkit.capture.fields import Row
from labkit.capture.packets import MOST_LAYERS, SCTP, TCP, UDP, Segment
from labkit.capture.ring import Block
from labkit.capture.streams import Message
from labkit.wire.pcap import Frame
from labkit.wire.pcap_records import Run

_UDP_HEAD = np.dtype([("src", ">u2"), ("dst", ">u2"), ("size", ">u2")])
_HEADER = np.zeros(256, np.int64)
_HEADER[[UDP, TCP, SCTP]] = 8, 14, 4
"""Of a packet with fewer bytes than these nothing can be told."""
_TOKEN = np.zeros(256, bool)
_TOKEN[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.!%*_+`'~-"]] = True
_LINE_END = np.zeros(256, bool)
_LINE_END[[10, 13]] = True

Many = tuple[list[Message], list[pa.RecordBatch]]
"""What was read one by one, and a batch for each protocol of what was read by arrays."""


class _Messages:
    """Messages of one protocol on their way to a batch: where they lie, and where they were seen."""

    def __init__(self) -> None:
        self._sources: list[Raw] = []
        self._places: list[tuple[Array | int, Ints, Ints]] = []
        self._metas: list[Meta] = []

    def __len__(self) -> int:
        return sum(len(meta.frame) for meta in self._metas)

    def add(self, source: Raw, starts: Ints, sizes: Ints, meta: Meta) -> None:
        """Add messages that lie in a buffer, with some padding behind them."""
        self._places.append((np.full(len(starts), len(self._sources)), starts, sizes))
        self._sources.append(source)
        self._metas.append(meta)

    def add_flows(self, flows: Flows) -> None:
        """Add messages out of TCP streams."""
        which, starts, sizes, meta = flows.columns()
        self._places.append((which + len(self._sources), starts, sizes))
        self._sources += flows.parts
        self._metas.append(meta)

    def together(self) -> tuple[Raw, Ints, Ints, Meta]:
        """Give bytes in which the messages lie in the order of their frames, where each lies, and where it was seen."""
        which, starts, sizes = (np.concatenate(column) for column in zip(*self._places, strict=True))
        meta = Meta.together(self._metas)
        if not in_order(meta.frame):
            order = np.argsort(meta.frame, kind="stable")
            which, starts, sizes, meta = which[order], starts[order], sizes[order], meta.take(order)
        raw, starts = text.gathered(self._sources, which, starts, sizes)
        return raw, starts, starts + sizes, meta


class Bulk:
    """Reads runs of records; what it must remember between them it shares with an `Assembly`."""

    def __init__(self, assembly: Assembly, protocols: frozenset[str], keep_raw: bool, few_frames: int) -> None:
        self._assembly = assembly
        self._protocols = protocols
        self._keep_raw = keep_raw
        self._few_frames = few_frames
        self._addresses = Addresses()
        self.late = LateMedia(assembly.book, self._addresses, keep_raw)

    def run(self, run: Run) -> Many:
        """Read a run."""
        return self._turn(run.raw, of_run(run), run.first_number)

    def frames(self, frames: Sequence[tuple[int, int, bytes]], first_number: int) -> Many:
        """Read live frames, given as (nanoseconds since 1970, link type, bytes)."""
        return self._turn(*of_frames(frames), first_number)

    def block(self, block: Block, first_number: int) -> Many:
        """Read live frames as the kernel gave them."""
        return self._turn(*of_block(block), first_number)

    def _turn(self, raw: Raw, columns: Columns, first_number: int) -> Many:
        turn = _Turn(self, raw, columns, first_number)
        turn.packets()
        batches = turn.batches()
        self.late.forget_addresses()
        return turn.alone, batches

    def late_batches(self) -> list[pa.RecordBatch]:
        """Give the RTP packets that came before their announcement."""
        return [self.rtp_batch(rows) for rows in self.late.announced()]

    def rtp_batch(self, rows: Candidates) -> pa.RecordBatch:
        """Make a batch of RTP packets."""
        columns = rows.columns()
        if self._keep_raw:
            columns["raw"] = rows.packets()
        return self.batch("rtp", rows.meta, columns)

    def batch(self, protocol: str, meta: Meta, columns: dict[str, pa.Array]) -> pa.RecordBatch:
        """Make a batch of what is common to all protocols and of a protocol's own columns, in the order of frames."""
        count = len(meta.frame)
        columns["frame"] = numbers(meta.frame.astype(np.uint32))
        columns["time"] = times(meta.time)
        for side, keys, ports in (("src", meta.src, meta.src_port), ("dst", meta.dst, meta.dst_port)):
            columns[side] = self._addresses_column(keys)
            columns[f"{side}_port"] = numbers(ports)
        if is_constant(meta.transport):
            columns["transport"] = repeated(TRANSPORTS[meta.transport[0]], count, np.int8)
        else:
            columns["transport"] = coded(meta.transport, TRANSPORTS)
        columns["protocol"] = repeated(protocol, count, np.int8)
        found = [columns[name] for name in names_of(protocol, self._keep_raw)]
        return pa.RecordBatch.from_arrays(found, schema=schema_of(protocol, self._keep_raw))

    def _addresses_column(self, keys: Keys) -> pa.DictionaryArray:
        text_of = self._addresses.text
        if is_constant(keys):
            return repeated(text_of(int(keys[0])), len(keys), np.int32)
        encoded = numbers(keys).dictionary_encode()
        return coded(array_of(encoded.indices), list(map(text_of, encoded.dictionary.to_pylist())))


def batches_of_messages(found: list[Message], keep_raw: bool) -> list[pa.RecordBatch]:
    """Make batches of messages that were found one by one."""
    rows: dict[str, list[Row]] = {}
    for message in found:
        row = row_of(message)
        if keep_raw:
            row["raw"] = message.raw
        rows.setdefault(message.protocol, []).append(row)
    return [batch_of_rows(protocol, some, keep_raw) for protocol, some in rows.items()]


class _Turn:
    """One run on its way from frames to batches."""

    def __init__(self, bulk: Bulk, raw: Raw, columns: Columns, first_number: int) -> None:
        self._bulk = bulk
        self._raw, self._first_number, self._columns = raw, first_number, columns
        self._assembly, self._addresses = bulk._assembly, bulk._addresses
        self._sip, self._diameter = _Messages(), _Messages()
        self.alone: list[Message] = []
        """What was read one by one."""
        self._candidates: list[Candidates] = []
        self._times = columns.time

    def packets(self) -> None:
        """Find messages in all frames."""
        columns, count, first = self._columns, len(self._times), self._first_number
        others: Ints | None = None
        if columns.all_ethernet:
            number = np.arange(first, first + count)
            media, told = plain_media(self._raw, Frames(number, columns.time, columns.start, columns.captured))
            if media is not None and "rtp" in self._bulk._protocols:
                self._candidates.append(media)
            if told is None:
                return
            if media is not None:
                others = np.flatnonzero(~told)
                columns = columns.take(others)
        index = np.arange(count) if others is None else others
        if len(index) < self._bulk._few_frames:
            self._one_by_one(index, columns)
        else:
            self._layers(index, columns)

    def _one_by_one(self, index: Ints, columns: Columns) -> None:
        """Read frames that are too few for arrays: what is left where all else is media."""
        fields = (index, columns.time, columns.linktype, columns.start, columns.captured, columns.on_wire)
        for number, time_ns, linktype, start, size, on_wire in zip(*(field.tolist() for field in fields), strict=True):
            raw = bytes(self._raw[start : start + size])
            frame = Frame(number + self._first_number, time_ns, linktype, raw, wire_size_bytes=on_wire)
            self.alone += self._assembly.frame(frame)

    def _layers(self, index: Ints, columns: Columns) -> None:
        """Peel frames down to datagrams and segments, and read those."""
        raw, addresses = self._raw, self._addresses
        end, cut = columns.start + columns.captured, columns.on_wire > columns.captured
        peeler = Peeler(raw, addresses)
        whole, fragments = peeler.frames(index, columns.linktype, columns.start, end, cut)
        self._assembly.packets.unread.update(peeler.unread)
        segments: list[tuple[Raw, Bodies]] = []
        for _ in range(MOST_LAYERS):
            if whole:
                bodies = Bodies.together(whole)
                told = bodies.cut & (bodies.start + _HEADER[bodies.protocol] <= bodies.end)
                self._assembly.packets.cut += int(np.count_nonzero(told))
                segments.append((raw, bodies))
            pieces = Fragments.together(fragments) if fragments else None
            if pieces is None:
                joined = None
            else:
                joined = reassemble(raw, pieces, self._times, self._assembly.fragments, addresses)
            if joined is None:
                break
            raw, bodies = joined
            whole, fragments = Peeler(raw, addresses).bodies(bodies)
        for raw, bodies in segments:
            for protocol, reader in ((UDP, self._udp), (SCTP, self._sctp)):
                mask = bodies.protocol == protocol
                if mask.any():
                    reader(raw, bodies if mask.all() else bodies.take(mask))
        self._tcp([(raw, bodies.take(bodies.protocol == TCP)) for raw, bodies in segments])

    # ------------------------------------------------------------ UDP

    def _udp(self, raw: Raw, bodies: Bodies) -> None:
        if not (fits := bodies.start + 8 <= bodies.end).all():
            bodies = bodies.take(fits)
        if not len(bodies.frame):
            return
        head = at(raw, _UDP_HEAD, bodies.start)
        size = head["size"].astype(np.int64)
        start = bodies.start + 8
        end = np.where(size >= 8, np.minimum(bodies.start + size, bodies.end), bodies.end)
        u8 = bytes_of(raw)
        first = u8[start]
        filled = end > start
        media = (first >> 6 == 2) & (end - start >= 8)
        words = np.flatnonzero(_TOKEN[first] & filled)
        words = words[self._worth_a_look(u8, start[words])]
        word = at(raw, "<u4", start[words])
        hep = word == 0x33504548  # "HEP3"
        if hep.any():
            for segment in self._segments(raw, bodies, head, start, end, words[hep]):
                self.alone += self._assembly.copy(segment.frame, segment.payload)
            words = words[~hep]
        blank = np.flatnonzero(_LINE_END[first] & filled)
        skip = np.zeros(len(start), np.int64)
        if len(blank):
            words = np.sort(np.concatenate((words, self._behind_line_ends(u8, start, end, blank, skip))))
        if len(words):
            begin = start[words] + skip[words]
            self._sip.add(raw, begin, end[words] - begin, self._meta(bodies, head, words))
        if media.any():
            self._media(raw, bodies, head, start, end, np.flatnonzero(media))

    @staticmethod
    def _worth_a_look(u8: Array, start: Ints) -> Flags:
        """A start line is text: no control character among its first bytes."""
        return (u8[start + 1] >= 0x20) & (u8[start + 2] >= 0x20) & (u8[start + 3] >= 0x20)

    @staticmethod
    def _behind_line_ends(u8: Array, start: Ints, end: Ints, blank: Ints, skip: Ints) -> Ints:
        """Of the datagrams that begin with line ends, those in which more follows; notes how much to skip."""
        while True:
            more = blank[(start[blank] + skip[blank] < end[blank]) & _LINE_END[u8[start[blank] + skip[blank]]]]
            if not len(more):
                return blank[start[blank] + skip[blank] < end[blank]]
            skip[more] += 1

    def _media(self, raw: Raw, bodies: Bodies, head: Array, start: Ints, end: Ints, which: Ints) -> None:
        second = bytes_of(raw)[start[which] + 1]
        control = (second >= 192) & (second <= 223)
        if control.any():
            for segment in self._segments(raw, bodies, head, start, end, which[control]):
                messages, decided = self._assembly.media(segment)
                self.alone += messages
                if not decided:
                    self._assembly.wait(segment)
            which = which[~control]
        which = which[end[which] - start[which] >= 12]
        if len(which) and "rtp" in self._bulk._protocols:
            if not in_order(bodies.frame[which]):  # tunnels and fragments come behind the others
                which = which[np.argsort(bodies.frame[which], kind="stable")]
            start, end = start[which], end[which]
            self._candidates.append(Candidates.read(raw, start, end - start, self._meta(bodies, head, which)))

    def _meta(self, bodies: Bodies, head: Array, which: Ints, transport: int = 0) -> Meta:
        frame = bodies.frame[which]
        head = picked(head, which)
        return Meta(
            frame + self._first_number,
            self._times[frame],
            bodies.src[which],
            head["src"].astype(np.uint16),
            bodies.dst[which],
            head["dst"].astype(np.uint16),
            constant(np.array([transport], np.int8), len(frame)),
        )

    def _segments(
        self, raw: Raw, bodies: Bodies, head: Array, start: Ints, end: Ints, which: Ints
    ) -> Iterator[Segment]:
        """Datagrams as values, for what is rare."""
        text_of = self._addresses.text
        for index in which.tolist():
            frame = int(bodies.frame[index])
            yield Segment(
                frame + self._first_number,
                int(self._times[frame]),
                int(bodies.protocol[index]),
                text_of(int(bodies.src[index])),
                int(head["src"][index]),
                text_of(int(bodies.dst[index])),
                int(head["dst"][index]),
                bytes(raw[start[index] : end[index]]),
            )

    # ------------------------------------------------------------ SCTP, TCP

    def _sctp(self, raw: Raw, bodies: Bodies) -> None:
        bodies = bodies.take(bodies.start + 4 <= bodies.end)
        head = at(raw, _UDP_HEAD, bodies.start)
        start = np.minimum(bodies.start + 12, bodies.end)
        for segment in self._segments(raw, bodies, head, start, bodies.end, np.arange(len(start))):
            self.alone += self._assembly.noted(self._assembly.sctp.feed(segment))

    def _tcp(self, parts: list[tuple[Raw, Bodies]]) -> None:
        segments = segments_of(parts, self._first_number, self._times)
        if segments is None:
            return
        found = {"sip": Flows(), "diameter": Flows()}
        for source, target, some in reassembled(segments, self._assembly.streams, self._addresses):
            if some.protocol in found:
                found[some.protocol].add(source, target, some)
            else:  # JSON-RPC, evapi, HEP3: few of these, and each is to be read by itself
                self.alone += self._assembly.of_stream(some)
        for messages, flows in ((self._sip, found["sip"]), (self._diameter, found["diameter"])):
            if flows.parts:
                messages.add_flows(flows)

    # ------------------------------------------------------------ batches

    def batches(self) -> list[pa.RecordBatch]:
        """Give what was found."""
        bulk, found = self._bulk, []
        if len(self._sip):
            found += self._sip_batch()
        if len(self._diameter) and "diameter" in bulk._protocols:
            raw, starts, ends, meta = self._diameter.together()
            columns = diameter_columns(raw, starts, ends)
            found.append(self._finished("diameter", meta, columns, raw, starts, ends))
        for candidates in self._candidates:
            rows = bulk.late.sift(candidates)
            if len(rows.header):
                found.append(bulk.rtp_batch(rows))
        return found

    def _sip_batch(self) -> list[pa.RecordBatch]:
        raw, starts, ends, meta = self._sip.together()
        result = sip_columns(raw, starts, ends)
        for body in result.bodies:
            self._assembly.book.learn(body)
        if not result.columns or "sip" not in self._bulk._protocols:
            return []
        which = result.which
        return [self._finished("sip", meta.take(which), result.columns, raw, starts[which], ends[which])]

    def _note_flows(self, meta: Meta) -> None:
        source, target = (meta.src << np.uint64(16)) | meta.src_port, (meta.dst << np.uint64(16)) | meta.dst_port
        small, big = np.minimum(source, target), np.maximum(source, target)
        _, some = np.unique(small * np.uint64(0x9E3779B97F4A7C15) + big, return_index=True)
        text_of = self._addresses.text
        for one, other in zip(small[some].tolist(), big[some].tolist(), strict=True):
            ends = (text_of(one >> 16), one & 0xFFFF, text_of(other >> 16), other & 0xFFFF)
            self._assembly.note_flow(flow_of(ends))

    def _finished(
        self, protocol: str, meta: Meta, columns: dict[str, pa.Array], raw: Raw, starts: Ints, ends: Ints
    ) -> pa.RecordBatch:
        if self._assembly.copied:
            self._note_flows(meta)
        if self._bulk._keep_raw:
            columns["raw"] = text.views(raw, starts, ends - starts).cast(pa.large_binary())
        return self._bulk.batch(protocol, meta, columns)
