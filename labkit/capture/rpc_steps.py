"""The part of JSON-RPC and evapi in the story: which of their messages belong into it, and what brought them about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labkit.capture.rpc_words import RPC_PROTOCOLS, gives_cdrs, only_looks, rpc_words
from labkit.capture.step import Step

_LISTS = "CGR_DLG_LIST"
"""The engine asks now and then which calls there are, as a watchdog does."""
_FIRST, _LAST = 0, 6
"""Places among the children of a message: before all others, and behind them."""


def left_out(rows: Sequence[dict[str, Any]], raw: Sequence[bytes], *, keep_watchdogs: bool) -> set[int]:
    """Rows that tell nothing of what happened: questions that change nothing, with their answers.

    They come from somebody who watches, as often as he likes. Charging records are an exception: what the engine wrote
    down of a call is part of its story, once.
    """
    dropped: set[int] = set()
    asked: dict[tuple[Any, ...], tuple[int, bool]] = {}
    told: set[str] = set()
    for number, row in enumerate(rows):
        if row["protocol"] not in RPC_PROTOCOLS:
            continue
        if row["request"] is None or (row["method"] == _LISTS and not keep_watchdogs):
            dropped.add(number)
        elif row["protocol"] == "jsonrpc" and row["request"]:
            looks = only_looks(row["method"] or "")
            asked[_connection(row)] = (number, looks)
            if looks:
                dropped.add(number)
        elif row["protocol"] == "jsonrpc":
            question, looks = asked.pop(_connection(row), (-1, False))
            record = row["call_id"] if looks and gives_cdrs(raw[number]) else None
            if record and record not in told:
                told.add(record)
                dropped.discard(question)
            elif looks:
                dropped.add(number)
    return dropped


def _connection(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a question and its answer have in common: who asked from which port, whom, under which id."""
    ends = (row["src"], row["src_port"], row["dst"], row["dst_port"])
    return (*(ends if row["request"] else ends[2:] + ends[:2]), row["session_id"])


def rpc_step(number: int, row: dict[str, Any], raw: bytes, src: str, dst: str) -> Step:
    """The step of a row."""
    account = rpc_words(row["protocol"], raw).account
    evapi = row["protocol"] == "evapi"
    return Step(
        row=number,
        frame=row["frame"],
        time_ns=row["time"],
        src=src,
        dst=dst,
        sip=False,
        request=bool(row["request"]),
        name=row["method"] or "",
        call_id=row["call_id"] or "",
        ids=(row["protocol"], row["session_id"] or row["call_id"]) if evapi else _connection(row),
        users=frozenset([account] if account else ()),
        protocol=row["protocol"],
        about=account,
    )


def name_calls(steps: Iterable[Step]) -> None:
    """Say which call evapi messages are about that name the dialog alone, by the one that named both."""
    calls: dict[Any, str] = {}
    for step in steps:
        if step.protocol == "evapi":
            if step.call_id:
                calls.setdefault(step.ids, step.call_id)
            else:
                step.call_id = calls.get(step.ids, "")


def join_evapi(
    steps: Sequence[Step], in_call: Mapping[str, Sequence[Step]], told: Mapping[str, Sequence[Step]]
) -> None:
    """Hang what the proxy tells the engine below the SIP message that made it speak.

    Args:
        steps: all steps.
        in_call: SIP messages by Call-ID.
        told: evapi messages by the call that they are about.
    """
    for step in steps:
        if step.protocol != "evapi" or not step.request or not step.call_id:
            continue
        came = [other for other in in_call.get(step.call_id, ()) if other.sip and other.dst == step.src]
        if step.name == "CGR_AUTH_REQUEST":
            _below(step, [other for other in came if other.request and other.name == "INVITE"], _FIRST)
        elif step.name == "CGR_CALL_START":
            _below(step, [other for other in came if other.name == "INVITE" and 200 <= other.status < 300], _FIRST)
        elif step.name == "CGR_CALL_END":
            cut = [other for other in told.get(step.call_id, ()) if other.name == "CGR_SESSION_DISCONNECT"]
            ended = [other for other in came if other.request and other.name == "BYE"]
            _below(step, cut or ended, _LAST if cut else _FIRST)


def _below(step: Step, reasons: list[Step], place: int) -> None:
    if reasons:
        step.parent, step.place = min(reasons, key=lambda other: (other.time_ns, other.row)), (place,)
