"""The rows of a ladder that grows: what the widget draws of each message as it comes, and counters.

Messages stand in the order in which they came and have no numbers: the story with its numbers can be told only when it
is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labkit.capture.live import StreamMeter
from labkit.capture.naming import EndpointNames
from labkit.capture.owners import MediaEnds
from labkit.capture.rpc_words import only_looks
from labkit.view.arrow import Arrow
from labkit.view.drawing import DRAWN, left_to_right
from labkit.view.layout import GAP_S
from labkit.view.message_rtp import PAYLOADS
from labkit.view.widget_rows import WidgetRow, widget_row
from labkit.view.words import detail_words, has_sms, is_refused, message_words, text_of

_WATCHDOG = 280
"""DWR and DWA come for ever, also when nothing happens; they are left out."""
_ORDERED_BY = 400
"""So many arrows say where a node stands; looking at all of them each time would cost more with every message."""

Cells = dict[str, Any]


class _Cells(dict[str, Any]):
    """A row of which only the columns of its protocol are there."""

    def __missing__(self, _name: str) -> None:
        return None


class LiveRows:
    """Turns decoded rows into rows of the widget, and remembers what can be asked about them."""

    def __init__(self) -> None:
        self.arrows: list[Arrow] = []
        """Every message so far, and every stream once."""
        self.raw: list[bytes] = []
        """The message of each arrow; of a stream its first packet."""
        self.cells: list[Cells] = []
        """The decoded row of each arrow."""
        self.rows: list[WidgetRow] = []
        """What the page draws."""
        self.nodes: dict[str, int] = {}
        """Node to its number, in the order in which they were first seen."""
        self.order: tuple[str, ...] = ()
        """Nodes from left to right."""
        self.groups: dict[str, int] = {}
        """Group to its number."""
        self.calls: dict[str, str] = {}
        """Call to its true Call-ID."""
        self.messages = 0
        """Messages, media apart."""
        self.again = 0
        """How many of them were retransmissions."""
        self._call_of: dict[str, str] = {}
        self._seen: dict[tuple[Any, ...], int] = {}
        self._meters: dict[tuple[Any, ...], tuple[str, StreamMeter]] = {}
        self._media = MediaEnds()
        self._looks: set[tuple[Any, ...]] = set()
        self._start_ns = 0
        self._before_s = 0.0
        self._names = EndpointNames({})
        self._known: Mapping[str, str] = {}

    def name(self, names: Mapping[str, str]) -> None:
        """Use these names of nodes from now on."""
        if dict(names) != self._known:
            self._known = dict(names)
            self._names = EndpointNames(self._known)

    def feed(self, found: Iterable[Cells]) -> None:
        """Take decoded rows, in the order in which they came."""
        for row in found:
            cells = _Cells(row)
            if cells["protocol"] == "rtp":
                self._packet(cells)
            elif cells["protocol"] in DRAWN and cells["command_code"] != _WATCHDOG and not self._only_looks(cells):
                self._message(cells)

    def _only_looks(self, cells: Cells) -> bool:
        """Whether it is a JSON-RPC question that changes nothing, or the answer to one: a notebook that watches."""
        if cells["protocol"] != "jsonrpc":
            return False
        ends = (cells["src"], cells["src_port"], cells["dst"], cells["dst_port"])
        key = (*(ends if cells["request"] else ends[2:] + ends[:2]), cells["session_id"])
        if not cells["request"]:
            looks = key in self._looks
            self._looks.discard(key)
            return looks
        if only_looks(text_of(cells["method"])):
            self._looks.add(key)
        return key in self._looks

    def streams(self, now_ns: int) -> list[dict[str, Any]]:
        """Return what moves in each stream: name, rate, packets, lost, jitter_ms."""
        shown = []
        for name, meter in self._meters.values():
            meter.measure(now_ns)
            about = {"rate": meter.rate, "packets": meter.packets, "lost": meter.lost, "jitter_ms": meter.jitter_ms}
            shown.append({"name": name, **about})
        return shown

    def _packet(self, cells: Cells) -> None:
        key = (cells["src"], cells["src_port"], cells["dst"], cells["dst_port"], cells["ssrc"])
        known = self._meters.get(key)
        if known is None:
            source, target = (
                known or name for known, name in zip(self._media.ends(cells), self._ends(cells), strict=True)
            )
            codec = str(PAYLOADS.get(cells["payload_type"], cells["payload_type"]))
            known = self._meters[key] = (f"{source} → {target} {codec}", StreamMeter())
            self._arrow(cells, source, target, protocol="rtp", message=f"RTP {codec}", detail="")
        known[1].add(cells["time"], cells["sequence"], cells["rtp_timestamp"])

    def _message(self, cells: Cells) -> None:
        sip, raw = cells["protocol"] == "sip", bytes(cells["raw"])
        if sip and cells["method"]:
            self._names.learn([cells["method"]], [(cells["src"], cells["src_port"])], [raw])
        source, target = self._ends(cells)
        if sip:
            self._media.learn(raw, source)
        again = cells["transport"] == "udp" and self._repeats(cells, raw)
        self.messages += 1
        self.again += again
        message = message_words(cells, raw)
        cseq = f"CSeq {cells['cseq']}" if cells["cseq"] is not None and not has_sms(message) else ""
        self._arrow(
            cells, source, target, protocol=str(cells["protocol"]), message=message,
            detail=cseq if sip else detail_words(cells, raw),
            call=self._call(text_of(cells["call_id"])) if sip else "", again=again, refused=is_refused(cells, raw),
        )  # fmt: skip

    def _arrow(self, cells: Cells, source: str, target: str, **about: Any) -> None:
        place, time_ns = len(self.arrows), int(cells["time"])
        self._start_ns = self._start_ns or time_ns
        time_s = max(time_ns - self._start_ns, 0) / 1e9
        arrow = Arrow(
            number=None, row=place, frame=int(cells["frame"]), time_s=time_s, source=source, target=target, **about
        )
        self.arrows.append(arrow)
        self.raw.append(bytes(cells["raw"]))
        self.cells.append(cells)
        if time_s - self._before_s >= GAP_S:
            self.rows.append([round(time_s - self._before_s, 3)])
        self._before_s = max(self._before_s, time_s)
        fresh = source not in self.nodes or target not in self.nodes
        for name in (source, target):
            self.nodes.setdefault(name, len(self.nodes))
        group = self.groups.setdefault(arrow.call or arrow.protocol, len(self.groups))
        self.rows.append(widget_row(arrow, place, self.nodes, group))
        if fresh or place < _ORDERED_BY:
            self.order = ()  # to be found when it is asked for

    def columns(self) -> list[int]:
        """Return the numbers of the nodes from left to right."""
        if not self.order:
            self.order = left_to_right(self.arrows[:_ORDERED_BY])
            self.order += tuple(name for name in self.nodes if name not in self.order)
        return [self.nodes[name] for name in self.order]

    def _ends(self, cells: Cells) -> tuple[str, str]:
        source = self._names.of(cells["src"], cells["src_port"]) or str(cells["src"])
        return source, self._names.of(cells["dst"], cells["dst_port"]) or str(cells["dst"])

    def _repeats(self, cells: Cells, raw: bytes) -> bool:
        key = (cells["src"], cells["src_port"], cells["dst"], cells["dst_port"], hash(raw))
        seen = key in self._seen
        self._seen[key] = 1
        return seen

    def _call(self, call_id: str) -> str:
        if not call_id:
            return ""
        if call_id not in self._call_of:
            name = self._call_of[call_id] = f"call-{len(self._call_of) + 1}"
            self.calls[name] = call_id
        return self._call_of[call_id]
