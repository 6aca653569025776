"""What a ladder shows, before it is drawn: nodes from left to right, and arrows from top to bottom.

The picture, the text and the browser all start from the same `Drawing`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING, Any, TypeVar

from labkit.capture.rpc_words import RPC_PROTOCOLS
from labkit.errors import LessonError
from labkit.view.arrow import Arrow
from labkit.view.words import detail_words, has_sms, is_refused, message_words, number_of, text_of

if TYPE_CHECKING:
    import pandas as pd

    from labkit.capture.table import Messages

_Kept = TypeVar("_Kept")

PATH_ORDER = ("pcscf", "proxy", "prepaid", "icscf", "scscf", "scscf2", "hss", "cgrates")
"""Where the nodes of the lab stand, from the phone inward; others follow in the order of their first message."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything that a ladder draws."""

    nodes: tuple[str, ...]
    """Lifelines from left to right."""
    arrows: tuple[Arrow, ...]
    """Arrows from top to bottom."""


def tell(
    messages: Messages,
    *,
    show: str = "story",
    retransmissions: bool = False,
    streams: bool = False,
    order: Sequence[str] = (),
) -> Drawing:
    """Turn a capture into the story that a ladder draws.

    Args:
        messages: what `read_capture` returned.
        show: 'story' for the canonical messages; 'all' for every message of DRAWN in the order of frames, also
            100 Trying, watchdogs and retransmissions.
        retransmissions: also show, in their place in time, what was sent again ('all' always does).
        streams: also show each RTP stream, as one row.
        order: names of nodes from left to right, where the usual order does not fit; others follow.
    Raises:
        LessonError: `show` is something else.
    """
    from labkit.capture.canon import canon
    from labkit.view.streams import stream_arrows

    if show not in ("story", "all"):
        raise LessonError(f"A ladder can show 'story' or 'all', not {show!r}.")
    canonical = canon(messages)
    drawer = _Drawer(messages, canonical)
    rows = list(canonical["row"])
    if show == "all":
        rows = drawer.drawable
    elif retransmissions:
        again = list(drawer.again)
        rows = _merge(rows, [drawer.times[row] for row in rows], again, [drawer.times[row] for row in again])
    start_s = min((drawer.times[row] for row in rows), default=0.0)
    arrows = [drawer.arrow(row, start_s) for row in rows]
    if streams:
        begun = stream_arrows(messages, start_s)
        arrows = _merge(
            arrows, [drawer.times[row] for row in rows], [arrow for _, arrow in begun], [s for s, _ in begun]
        )
    return Drawing(left_to_right(arrows, order), tuple(arrows))


def _merge(kept: list[_Kept], times: list[float], late: list[_Kept], late_times: list[float]) -> list[_Kept]:
    """Put each late one before the first one that came after it; both lists stay in their own order."""
    merged, merged_times = list(kept), list(times)
    for one, time in zip(late, late_times, strict=True):
        behind = (place for place, other in enumerate(merged_times) if other > time)
        place = next(behind, len(merged))
        merged.insert(place, one)
        merged_times.insert(place, time)
    return merged


class _Drawer:
    """Reads the columns once; pandas cell access in a loop costs more than the rest of a ladder."""

    def __init__(self, messages: Messages, canonical: pd.DataFrame) -> None:
        self._raw = messages.raw
        self._columns = {name: messages.table[name].tolist() for name in _COLUMNS}
        self._canonical: dict[int, dict[Any, Any]] = {
            int(values["row"]): {**values, "n": int(number)}
            for number, values in zip(canonical.index.tolist(), canonical.to_dict("records"), strict=True)
        }
        times = messages.table["time"].astype("int64").tolist()
        self.times = [time * 1e-9 for time in times]
        protocols = self._columns["protocol"]
        self.drawable = [row for row, protocol in enumerate(protocols) if protocol in DRAWN]
        self.again = self._find_again()
        self._names = self._find_names()
        self._calls = self._find_calls()
        self._cseqs = self._find_cseqs()

    def _find_again(self) -> dict[int, int]:
        """Row of a retransmission to the row of what it repeats."""
        first: dict[tuple[object, ...], int] = {}
        again = {}
        for row in self.drawable:
            key = (*(self._columns[name][row] for name in _SOCKETS), self._raw[row])
            if first.setdefault(key, row) != row and self._columns["transport"][row] == "udp":
                again[row] = first[key]
        return again

    def _find_names(self) -> dict[tuple[object, object], str]:
        """Name of each socket as the canonical story has it; of others the node's name or the address."""
        names: dict[tuple[object, object], str] = {}
        for row, arrow in self._canonical.items():
            names[self._socket("src", row)] = str(arrow["from"])
            names[self._socket("dst", row)] = str(arrow["to"])
        for row in self.drawable:
            for side in ("src", "dst"):
                name = text_of(self._columns[f"{side}_node"][row]) or text_of(self._columns[side][row])
                names.setdefault(self._socket(side, row), name)
        return names

    def _socket(self, side: str, row: int) -> tuple[object, object]:
        return self._columns[side][row], self._columns[f"{side}_port"][row]

    def _find_calls(self) -> dict[str, str]:
        calls = {
            text_of(self._columns["call_id"][row]): text_of(arrow.get("call")) for row, arrow in self._canonical.items()
        }
        for row in self.drawable:
            call_id = text_of(self._columns["call_id"][row])
            if call_id not in calls:
                calls[call_id] = f"call-{sum(1 for call in calls.values() if call) + 1}"
        return calls

    def _find_cseqs(self) -> dict[tuple[object, ...], int]:
        """CSeq numbers as the canonical story counts them, by Call-ID, From tag and true number."""
        shown = {row: number_of(step.get("cseq")) for row, step in self._canonical.items()}
        return {self._asked(row): cseq for row, cseq in shown.items() if cseq is not None}

    def _asked(self, row: int) -> tuple[object, ...]:
        return tuple(self._columns[name][row] for name in ("call_id", "from_tag", "cseq"))

    def _cseq(self, row: int) -> str:
        cseq = self._cseqs.get(self._asked(row), number_of(self._columns["cseq"][row]))
        return "" if cseq is None else f"CSeq {cseq}"

    def arrow(self, row: int, start_s: float) -> Arrow:
        """Draw one row. The same few words come again and again: interned, they are stored and compared once."""
        cells = {name: column[row] for name, column in self._columns.items()}
        canonical = self._canonical.get(row, {})
        words = self._canonical.get(self.again.get(row, row), {})
        protocol = intern(str(cells["protocol"]))
        sip = protocol == "sip"
        message = text_of(words.get("message")) or message_words(cells, self._raw[row])
        detail = ("" if has_sms(message) else self._cseq(row)) if sip else detail_words(cells, self._raw[row])
        return Arrow(
            number=canonical.get("n"),
            row=row,
            frame=int(cells["frame"]),
            time_s=round(self.times[row] - start_s, 6),
            source=self._names[self._socket("src", row)],
            target=self._names[self._socket("dst", row)],
            protocol=protocol,
            message=intern(message),
            detail=intern(detail),
            call=self._calls.get(text_of(cells["call_id"]), "") if sip else "",
            again=row in self.again,
            refused=is_refused(cells, self._raw[row]),
        )


DRAWN = ("sip", "diameter", *RPC_PROTOCOLS)
"""Protocols of which each message is an arrow."""
_SOCKETS = ("src", "src_port", "dst", "dst_port")
# fmt: off
_COLUMNS = (
    "frame", *_SOCKETS, "src_node", "dst_node", "transport", "protocol", "method", "status", "reason", "call_id",
    "cseq", "from_tag", "command", "command_code", "request", "result_code", "experimental_result_code", "user_name",
    "public_identity", "server_assignment_type", "user_authorization_type",
)
# fmt: on


def left_to_right(arrows: Sequence[Arrow], order: Sequence[str] = ()) -> tuple[str, ...]:
    """Callers, the core along the path of a call, callees, then everything that has no name."""
    present = list(dict.fromkeys(name for arrow in arrows for name in (arrow.source, arrow.target)))
    speaks_diameter = {
        name for arrow in arrows if arrow.protocol == "diameter" for name in (arrow.source, arrow.target)
    }
    core = {name for name in present if name in PATH_ORDER or name in speaks_diameter}
    callees = _callees(arrows, core)

    def place(name: str) -> tuple[int, int, int]:
        if name in order:
            return (-1, list(order).index(name), 0)
        if name in core:
            along = PATH_ORDER.index(name) if name in PATH_ORDER else len(PATH_ORDER)
            return (1, along, present.index(name))
        kind = 3 if name[:1].isdigit() or ":" in name else 2 if name in callees else 0
        return (kind, 0, present.index(name))

    return tuple(sorted(present, key=place))


def _callees(arrows: Sequence[Arrow], core: set[str]) -> set[str]:
    """Phones and servers whose first message of a call (not of a registration) was one that they received."""
    first: dict[str, bool] = {}
    for arrow in arrows:
        if arrow.protocol != "sip" or arrow.message == "REGISTER" or arrow.message[:1].isdigit():
            continue
        first.setdefault(arrow.source, False)
        first.setdefault(arrow.target, True)
    heard_only = {arrow.target for arrow in arrows} - {
        arrow.source for arrow in arrows if not arrow.message[:1].isdigit()
    }
    return ({name for name, received in first.items() if received} | heard_only) - core
