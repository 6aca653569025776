"""What a ladder shows, before it is drawn: nodes from left to right, and arrows from top to bottom.

The picture, the text and the browser all start from the same `Drawing`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError
from labkit.wire.sip import REASONS

if TYPE_CHECKING:
    import pandas as pd

    from labkit.capture.table import Messages

PATH_ORDER = ("pcscf", "proxy", "icscf", "scscf", "hss")
"""Where the nodes of the lab stand, from the phone inward; others follow in the order of their first message."""

CHALLENGES = (401, 407)
"""Responses from 400 on that are no refusal: they ask for a password, the normal course of things."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """One message as an arrow."""

    number: int | None
    """Number in the canonical story, from 1; None for a message that the story leaves out."""
    row: int
    """Row in `Messages.table`."""
    frame: int
    """Frame number in the capture file, from 1."""
    time_s: float
    """Seconds since the first message of the capture that is drawn."""
    source: str
    """Name of the node that sent it."""
    target: str
    """Name of the node that it was sent to."""
    protocol: str
    """'sip' or 'diameter'."""
    message: str
    """'REGISTER', '401 Unauthorized', 'UAR', 'UAA DIAMETER_FIRST_REGISTRATION'."""
    detail: str
    """What an engineer looks for next: 'CSeq 1' of SIP, the user of a Diameter request. May be empty."""
    call: str
    """'call-1' for the first Call-ID, and so on; empty for Diameter."""
    again: bool
    """A retransmission: the same bytes between the same sockets were seen before."""
    refused: bool
    """A final response or answer that says no (a challenge is none)."""

    @property
    def label(self) -> str:
        """The message and its detail in one line."""
        return f"{self.message}  {self.detail}" if self.detail else self.message

    @property
    def short_message(self) -> tuple[str, str]:
        """The message in two parts for a narrow place: 'UAA' and 'DIAMETER_SUCCESS', '403 Forbidden' and why.

        What a server adds to a reason phrase after a dash is left out where nothing was refused.
        """
        if self.protocol == "diameter":
            command, _, result = self.message.partition(" ")
            return command, result
        phrase, _, why = self.message.partition(" - ")
        return phrase, why if self.refused else ""

    @property
    def short_label(self) -> str:
        """`short_message` and the detail in one line."""
        return "  ".join(part for part in (*self.short_message, self.short_detail) if part)

    @property
    def short_detail(self) -> str:
        """The detail without the type that every UAR of a first REGISTER has in this core."""
        return self.detail.removesuffix(" REGISTRATION_AND_CAPABILITIES")

    @property
    def sentence(self) -> str:
        """The arrow without a picture: 'alice -> pcscf: REGISTER (call-1, CSeq 1)'."""
        extra = ", ".join(part for part in (self.call, self.detail) if part)
        return f"{self.source} -> {self.target}: {self.message}" + (f" ({extra})" if extra else "")


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
    order: Sequence[str] = (),
) -> Drawing:
    """Turn a capture into the story that a ladder draws.

    Args:
        messages: what `read_capture` returned.
        show: 'story' for the canonical messages; 'all' for every SIP and Diameter message in the order of frames, also
            100 Trying, watchdogs and retransmissions.
        retransmissions: also show, in their place in time, what was sent again ('all' always does).
        order: names of nodes from left to right, where the usual order does not fit; others follow.
    Raises:
        LessonError: `show` is something else.
    """
    from labkit.capture.canon import canon

    if show not in ("story", "all"):
        raise LessonError(f"A ladder can show 'story' or 'all', not {show!r}.")
    canonical = canon(messages)
    drawer = _Drawer(messages, canonical)
    rows = list(canonical["row"])
    if show == "all":
        rows = drawer.drawable
    elif retransmissions:
        rows = _merge(rows, [row for row in drawer.drawable if row in drawer.again], drawer.times)
    arrows = drawer.arrows(rows)
    return Drawing(_left_to_right(arrows, order), arrows)


def _merge(rows: list[int], late: list[int], times: list[float]) -> list[int]:
    """Put each retransmission before the first arrow that came after it."""
    merged = list(rows)
    for row in late:
        behind = (place for place, other in enumerate(merged) if times[other] > times[row])
        merged.insert(next(behind, len(merged)), row)
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
        self.drawable = [row for row, protocol in enumerate(protocols) if protocol in ("sip", "diameter")]
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
                name = _text(self._columns[f"{side}_node"][row]) or _text(self._columns[side][row])
                names.setdefault(self._socket(side, row), name)
        return names

    def _socket(self, side: str, row: int) -> tuple[object, object]:
        return self._columns[side][row], self._columns[f"{side}_port"][row]

    def _find_calls(self) -> dict[str, str]:
        calls = {
            _text(self._columns["call_id"][row]): _text(arrow.get("call")) for row, arrow in self._canonical.items()
        }
        for row in self.drawable:
            call_id = _text(self._columns["call_id"][row])
            if call_id not in calls:
                calls[call_id] = f"call-{sum(1 for call in calls.values() if call) + 1}"
        return calls

    def _find_cseqs(self) -> dict[tuple[object, ...], int]:
        """CSeq numbers as the canonical story counts them, by Call-ID, From tag and true number."""
        shown = {row: _number(step.get("cseq")) for row, step in self._canonical.items()}
        return {self._asked(row): cseq for row, cseq in shown.items() if cseq is not None}

    def _asked(self, row: int) -> tuple[object, ...]:
        return tuple(self._columns[name][row] for name in ("call_id", "from_tag", "cseq"))

    def _cseq(self, row: int) -> str:
        cseq = self._cseqs.get(self._asked(row), _number(self._columns["cseq"][row]))
        return "" if cseq is None else f"CSeq {cseq}"

    def arrows(self, rows: Iterable[int]) -> tuple[Arrow, ...]:
        chosen = list(rows)
        start = min((self.times[row] for row in chosen), default=0.0)
        return tuple(self._step(row, start) for row in chosen)

    def _step(self, row: int, start: float) -> Arrow:
        cells = {name: column[row] for name, column in self._columns.items()}
        canonical = self._canonical.get(row, {})
        words = self._canonical.get(self.again.get(row, row), {})
        sip = cells["protocol"] == "sip"
        return Arrow(
            number=canonical.get("n"),
            row=row,
            frame=int(cells["frame"]),
            time_s=round(self.times[row] - start, 6),
            source=self._names[self._socket("src", row)],
            target=self._names[self._socket("dst", row)],
            protocol=str(cells["protocol"]),
            message=_text(words.get("message")) or _message(cells),
            detail=self._cseq(row) if sip else _diameter_detail(cells),
            call=self._calls.get(_text(cells["call_id"]), "") if sip else "",
            again=row in self.again,
            refused=_refused(cells),
        )


_SOCKETS = ("src", "src_port", "dst", "dst_port")
# fmt: off
_COLUMNS = (
    "frame", *_SOCKETS, "src_node", "dst_node", "transport", "protocol", "method", "status", "reason", "call_id",
    "cseq", "from_tag", "command", "request", "result_code", "experimental_result_code", "user_name",
    "public_identity", "server_assignment_type", "user_authorization_type",
)
# fmt: on


def _message(cells: Mapping[str, Any]) -> str:
    """Name a message that the canonical story leaves out."""
    if cells["protocol"] == "sip":
        status = _number(cells["status"])
        if status is None:
            return _text(cells["method"])
        reason = _text(cells["reason"])
        return f"{status} {REASONS.get(status, reason) if status < 300 else reason}".strip()
    from labkit.wire.diameter import result_name

    command = _text(cells["command"])
    code, experimental = _result(cells)
    return command if code is None else f"{command} {result_name(code, experimental=experimental)}"


def _result(cells: Mapping[str, Any]) -> tuple[int | None, bool]:
    experimental = _number(cells["experimental_result_code"])
    return (experimental, True) if experimental is not None else (_number(cells["result_code"]), False)


def _diameter_detail(cells: Mapping[str, Any]) -> str:
    if cells["request"] is not True and cells["request"] != 1:
        return ""
    user = _user(_text(cells["user_name"]) or _text(cells["public_identity"]))
    return " ".join(part for part in (user, _purpose(cells)) if part)


def _purpose(cells: Mapping[str, Any]) -> str:
    """What a SAR or an unusual UAR wants: the name of its type (TS 29.229 sections 6.3.15 and 6.3.24)."""
    from labkit.wire import cx

    assignment = _number(cells["server_assignment_type"])
    authorization = _number(cells["user_authorization_type"])
    try:
        if assignment is not None:
            return cx.ServerAssignmentType(assignment).name
        if authorization:
            return cx.UserAuthorizationType(authorization).name
    except ValueError:
        return ""
    return ""


def _user(identity: str) -> str:
    """The user part alone: a ladder's realm is the same everywhere."""
    return identity.removeprefix("sip:").removeprefix("tel:").partition("@")[0]


def _refused(cells: Mapping[str, Any]) -> bool:
    status = _number(cells["status"])
    if status is not None:
        return status >= 400 and status not in CHALLENGES
    code, _experimental = _result(cells)
    return code is not None and code >= 3000


def _left_to_right(arrows: Sequence[Arrow], order: Sequence[str]) -> tuple[str, ...]:
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


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    """Absent cells are <NA> or NaN, which equal nothing, not even themselves."""
    return int(value) if isinstance(value, int | float) and value == value else None
