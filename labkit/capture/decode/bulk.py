"""Thousands of frames to rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from labkit.capture.assembly import Assembly, flow_of, row_of
from labkit.capture.decode import text
from labkit.capture.decode.arrays import Addresses, Array, Flags, Ints, Raw, at, bytes_of, picked
from labkit.capture.decode.columns import array_of, coded, column, numbers, times
from labkit.capture.decode.diameter import diameter_columns
from labkit.capture.decode.fragments import reassemble
from labkit.capture.decode.layers import Bodies, Fragments, Peeler
from labkit.capture.decode.media import Candidates, LateMedia
from labkit.capture.decode.meta import TRANSPORTS, Meta
from labkit.capture.decode.schema import batch_of_rows, in_order, schema_of
from labkit.capture.decode.sip import sip_columns
from labkit.capture.decode.tcp import Flows, reassembled, segments_of
from labkit.capture.fields import Row
from labkit.capture.packets import MOST_LAYERS, SCTP, TCP, UDP, Segment
from labkit.capture.streams import Message
from labkit.wire.pcap_records import ENHANCED_PACKET, PADDING, Run

_UDP_HEAD = np.dtype([("src", ">u2"), ("dst", ">u2"), ("size", ">u2")])
_PCAP_RECORD = [("seconds", "u4"), ("fraction", "u4"), ("captured", "u4"), ("on_wire", "u4")]
_PACKET_BLOCK = [
    ("interface", "u4"),
    ("high", "u4"),
    ("low", "u4"),
    ("captured", "u4"),
    ("on_wire", "u4"),
]
_TOKEN = np.zeros(256, bool)
_TOKEN[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.!%*_+`'~-"]] = True
Columns = tuple[Ints, Array, Ints, Ints, Ints]
"""Time, link type, start, captured size and size on the wire of some frames."""
_LINE_END = np.zeros(256, bool)
_LINE_END[[10, 13]] = True


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

    def __init__(self, assembly: Assembly, protocols: frozenset[str], keep_raw: bool) -> None:
        self._assembly = assembly
        self._protocols = protocols
        self._keep_raw = keep_raw
        self._addresses = Addresses()
        self.late = LateMedia(assembly.book, self._addresses)

    def run(self, run: Run) -> list[pa.RecordBatch]:
        """Read a run and give a batch for each protocol that was met."""
        return self._turn(run.raw, run.first_number, times_of(run))

    def frames(self, frames: Sequence[tuple[int, int, bytes]], first_number: int) -> list[pa.RecordBatch]:
        """Read live frames, given as (nanoseconds since 1970, link type, bytes)."""
        times, linktypes, parts = zip(*frames, strict=True)
        size = np.fromiter(map(len, parts), np.int64, len(parts))
        end = np.cumsum(size)
        columns = (np.array(times, np.int64), np.array(linktypes, np.int64), end - size, size, size)
        return self._turn(b"".join((*parts, PADDING)), first_number, columns)

    def _turn(self, raw: Raw, first_number: int, columns: Columns) -> list[pa.RecordBatch]:
        turn = _Turn(self, raw, first_number, columns)
        turn.packets()
        batches = turn.batches()
        self.late.forget_addresses()
        return batches

    def late_batches(self) -> list[pa.RecordBatch]:
        """Give the RTP packets that came before their announcement."""
        return [self.rtp_batch(rows) for rows in self.late.announced()]

    def rtp_batch(self, rows: Candidates) -> pa.RecordBatch:
        """Make a batch of RTP packets."""
        columns = rows.columns()
        if rows.payload is not None:
            columns["raw"] = column(rows.payload.tolist(), pa.large_binary())
        return self.batch("rtp", rows.meta, columns)

    def batch(self, protocol: str, meta: Meta, columns: dict[str, pa.Array]) -> pa.RecordBatch:
        """Make a batch of what is common to all protocols and of a protocol's own columns."""
        columns["frame"] = numbers(meta.frame.astype(np.uint32))
        columns["time"] = times(meta.time)
        for side, keys, ports in (("src", meta.src, meta.src_port), ("dst", meta.dst, meta.dst_port)):
            encoded = numbers(keys).dictionary_encode()
            words = [self._addresses.text(key) for key in encoded.dictionary.to_pylist()]
            columns[side] = coded(array_of(encoded.indices), words)
            columns[f"{side}_port"] = numbers(ports)
        columns["transport"] = coded(meta.transport, TRANSPORTS)
        columns["protocol"] = coded(np.zeros(len(meta.frame), np.int8), [protocol])
        schema = schema_of(protocol, self._keep_raw)
        batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        if in_order(meta.frame):
            return batch
        return batch.take(numbers(np.argsort(meta.frame, kind="stable")))


def batches_of_messages(found: list[Message], keep_raw: bool) -> list[pa.RecordBatch]:
    """Make batches of messages that were found one by one."""
    rows: dict[str, list[Row]] = {}
    for message in found:
        row = row_of(message)
        if keep_raw:
            row["raw"] = message.raw
        rows.setdefault(message.protocol, []).append(row)
    return [batch_of_rows(protocol, some, keep_raw) for protocol, some in rows.items()]


def times_of(run: Run) -> Columns:
    """Time, link type, start, captured size and size on the wire of the frames of a run."""
    if run.kind not in (0, ENHANCED_PACKET):
        packets = list(run.packets())
        columns = [(p.time_ns, p.linktype, p.start, p.captured, p.on_wire) for p in packets]
        time, linktype, start, captured, on_wire = np.array(columns, np.int64).reshape(-1, 5).T
        return time, linktype, start, captured, on_wire
    offsets = np.array(run.offsets, np.int64)
    if run.kind == 0:
        record = at(run.raw, np.dtype([(name, run.order + kind) for name, kind in _PCAP_RECORD]), offsets)
        interface = run.interfaces[0]
        time = record["seconds"].astype(np.int64) * 10**9
        time += record["fraction"].astype(np.int64) * (10**9 // interface.units_per_s)
        start, linktype = offsets + 16, np.full(len(offsets), interface.linktype)
    else:
        record = at(run.raw, np.dtype([(name, run.order + kind) for name, kind in _PACKET_BLOCK]), offsets + 8)
        time = _block_times(run, record)
        start = offsets + 28
        linktype = np.array([interface.linktype for interface in run.interfaces])[record["interface"]]
    return time, linktype, start, record["captured"].astype(np.int64), record["on_wire"].astype(np.int64)


def _block_times(run: Run, record: Array) -> Ints:
    number = record["interface"].astype(np.int64)
    ticks = (record["high"].astype(np.uint64) << np.uint64(32)) | record["low"].astype(np.uint64)
    time = np.zeros(len(number), np.int64)
    for index, interface in enumerate(run.interfaces):
        mask = number == index
        if not mask.any():
            continue
        units, offset = interface.units_per_s, interface.offset_s * 10**9
        if 10**9 % units == 0:
            time[mask] = (ticks[mask] * np.uint64(10**9 // units)).astype(np.int64) + offset
        else:
            time[mask] = [(tick * 10**9 // units + offset + 2**63) % 2**64 - 2**63 for tick in ticks[mask].tolist()]
    return time


class _Turn:
    """One run on its way from frames to batches."""

    def __init__(self, bulk: Bulk, raw: Raw, first_number: int, columns: Columns) -> None:
        self._bulk = bulk
        self._raw, self._first_number, self._columns = raw, first_number, columns
        self._assembly, self._addresses = bulk._assembly, bulk._addresses
        self._sip, self._diameter = _Messages(), _Messages()
        self._alone: list[Message] = []
        self._candidates: list[Candidates] = []
        self._times = columns[0]

    def packets(self) -> None:
        """Take all frames apart down to datagrams and segments."""
        raw, addresses = self._raw, self._addresses
        _times, linktype, start, captured, on_wire = self._columns
        whole, fragments = Peeler(raw, addresses).frames(linktype, start, start + captured, on_wire > captured)
        segments: list[tuple[Raw, Bodies]] = []
        for _ in range(MOST_LAYERS):
            if whole:
                bodies = Bodies.together(whole)
                self._assembly.packets.cut += int(np.count_nonzero(bodies.cut))
                segments.append((raw, bodies))
            pieces = Fragments.together(fragments) if fragments else None
            joined = reassemble(raw, pieces, self._assembly.fragments, addresses) if pieces is not None else None
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
                self._alone += self._assembly.copy(segment)
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
                self._alone += messages
                if not decided:
                    self._assembly.wait(segment)
            which = which[~control]
        which = which[end[which] - start[which] >= 12]
        if len(which) and "rtp" in self._bulk._protocols:
            payloads = None
            if self._bulk._keep_raw:
                listed = zip(start[which].tolist(), end[which].tolist(), strict=True)
                payloads = np.array([bytes(raw[a:b]) for a, b in listed] + [b""], object)[:-1]
            self._candidates.append(Candidates.read(raw, start[which], self._meta(bodies, head, which), payloads))

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
            np.full(len(frame), transport, np.int8),
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
            self._alone += self._assembly.noted(self._assembly.sctp.feed(segment))

    def _tcp(self, parts: list[tuple[Raw, Bodies]]) -> None:
        segments = segments_of(parts, self._first_number, self._times)
        if segments is None:
            return
        found = {"sip": Flows(), "diameter": Flows()}
        for source, target, some in reassembled(segments, self._assembly.streams, self._addresses):
            if some.protocol in found:
                found[some.protocol].add(source, target, some)
            else:  # JSON-RPC, evapi: few of these, and each is JSON to be read by itself
                self._alone += self._assembly.noted(some.messages())
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
        wanted = [message for message in self._alone if message.protocol in bulk._protocols]
        found += batches_of_messages(wanted, bulk._keep_raw)
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
