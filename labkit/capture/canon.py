"""Canon: the story of a capture with stable names and in a stable order, the same live and replayed, on every engine.

No clock, no port, no size, no random identifier is in it; Call-IDs and Diameter sessions are numbered as they appear.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from labkit.capture.causes import find_causes
from labkit.capture.credit_words import diameter_name
from labkit.capture.fields import uri_user
from labkit.capture.order import in_order
from labkit.capture.rows import plain_rows
from labkit.capture.rpc_words import RPC_PROTOCOLS, rpc_words
from labkit.capture.sms_words import sms_words
from labkit.capture.step import Step
from labkit.capture.steps import steps_of
from labkit.wire.cx import ServerAssignmentType, UserAuthorizationType
from labkit.wire.diameter import result_name
from labkit.wire.sip import REASONS

if TYPE_CHECKING:
    import pandas as pd

    from labkit.capture.table import Messages

_STANDARD_PHRASE = (401, 407)
"""Of these the phrase is the RFC's; other failures keep their own, since it often says what is wrong."""


def canon(
    messages: Messages, *, keep_trying: bool = False, keep_watchdogs: bool = False, keep_inner: bool = False
) -> pd.DataFrame:
    """Tell the story of a capture: what happened, in the order of cause and effect.

    Left out are RTP and RTCP, retransmissions, 100 Trying, Diameter's CER, DWR, DPR and their answers, JSON-RPC that
    only looks (except for charging records), and what a node sends to itself (a capture on the network between
    containers cannot see it).

    Args:
        messages: a capture as `read_capture` gives it, with names of nodes.
        keep_trying: keep 100 Trying (two of them may swap places between runs).
        keep_watchdogs: keep CER, DWR, DPR and their answers.
        keep_inner: keep what a node sends to itself.
    Returns:
        One row a message, index `n` = 1.. (message number). Shown: from, to, protocol, message, user, call, cseq,
        session, authorization (of UAR), assignment (of SAR), server_name (the first label of its host). There but
        not shown: `frame` (true frame number) and `row` (row of `messages.table`).
    """
    from labkit.capture.story import Story

    steps = steps_of(messages, keep_trying=keep_trying, keep_watchdogs=keep_watchdogs, keep_inner=keep_inner)
    find_causes(steps)
    ordered = in_order(steps)
    calls, sessions = _Numbering("call"), _Numbering("session")
    ranks = _cseq_ranks(ordered)
    table = plain_rows(messages.table)
    rows = []
    for step in ordered:
        row = table[step.row]
        rows.append(
            {
                "from": step.src,
                "to": step.dst,
                "protocol": step.protocol,
                "message": _label(step, row, messages.raw[step.row]),
                "user": step.about or _user(row),
                "call": calls.name(step.call_id),
                "cseq": ranks.get((step.call_id, step.from_tag, step.cseq)) if step.sip else None,
                "session": sessions.name(row["session_id"]) if step.protocol == "diameter" else None,
                "authorization": _enum_name(UserAuthorizationType, row["user_authorization_type"]),
                "assignment": _enum_name(ServerAssignmentType, row["server_assignment_type"]),
                "server_name": _server(row["server_name"] or ""),
                "frame": step.frame,
                "row": step.row,
            }
        )
    return Story.of(rows)


def _label(step: Step, row: dict[str, Any], raw: bytes) -> str:
    if step.sip and step.request:
        return f"{step.name} {sms_words(raw)}" if step.sms else step.name
    if step.sip:
        reason = row["reason"] or ""
        if step.status < 300 or step.status in _STANDARD_PHRASE:
            reason = REASONS.get(step.status, reason)
        return f"{step.status} {reason}".strip()
    if step.protocol in RPC_PROTOCOLS:
        return rpc_words(step.protocol, raw).message
    name = diameter_name(row, raw)
    if step.request:
        return name
    experimental = row["experimental_result_code"]
    code = experimental or row["result_code"]
    return f"{name} {result_name(code, experimental=bool(experimental))}" if code else name


def _user(row: dict[str, Any]) -> str | None:
    """The subscriber a message is about: of SIP who asks, of Diameter the private or else the public identity."""
    if row["protocol"] == "sip":
        user: str | None = row["to_user"] if row["cseq_method"] == "REGISTER" else row["from_user"]
        return user
    if row["protocol"] != "diameter":
        return None
    if row["user_name"]:
        return str(row["user_name"]).partition("@")[0]
    return uri_user(row["public_identity"] or "")


def _enum_name(kind: type[IntEnum], value: int | None) -> str | None:
    """Name of a value by its specification; of one that is not in it, the number."""
    if value is None:
        return None
    return kind(value).name if value in kind._value2member_map_ else str(value)


def _server(uri: str) -> str | None:
    """The machine in a SIP URI: what is left when scheme, domain and port are taken off."""
    return re.sub(r"^sips?:(?:[^@]*@)?", "", uri).partition(".")[0].partition(":")[0] or None


def _cseq_ranks(steps: list[Step]) -> dict[tuple[str, str, int], int]:
    """CSeq numbers counted from 1 for each asker in each call: where they start is up to chance."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for step in steps:
        if step.sip:
            numbers.setdefault((step.call_id, step.from_tag), set()).add(step.cseq)
    return {
        (*asker, number): rank for asker, seen in numbers.items() for rank, number in enumerate(sorted(seen), start=1)
    }


class _Numbering:
    def __init__(self, word: str) -> None:
        self._word = word
        self._names: dict[str, str] = {}

    def name(self, identifier: str | None) -> str | None:
        if not identifier:
            return None
        return self._names.setdefault(identifier, f"{self._word}-{len(self._names) + 1}")
