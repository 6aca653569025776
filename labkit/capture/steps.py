"""The messages of a capture as steps of a story: what canon needs to know of each, without pandas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labkit.capture.credit_words import CREDIT_CONTROL, credit_words
from labkit.capture.fields import uri_user, via_branches
from labkit.capture.rows import plain_rows
from labkit.capture.rpc_steps import left_out, rpc_step
from labkit.capture.rpc_words import RPC_PROTOCOLS
from labkit.capture.sms_words import carries_sms, reply_to
from labkit.capture.step import Step

if TYPE_CHECKING:
    from labkit.capture.table import Messages

_WATCHDOGS = {257, 280, 282}
"""CER/CEA, DWR/DWA, DPR/DPA: they keep connections and say nothing about subscribers (RFC 6733 section 5)."""
_AUTHORIZATION_USER = re.compile(rb'\nauthorization\s*:[^\r\n]*username="([^"@]+)', re.IGNORECASE)
_ASSOCIATED = re.compile(rb"\np-associated-uri\s*:([^\r\n]*)", re.IGNORECASE)
_PROFILE_IDENTITY = re.compile(rb"<(?:PrivateID|Identity)>([^<@]+)")
_URI = re.compile(r"(?:sips?|tel):[^>,\s]+", re.IGNORECASE)


def steps_of(messages: Messages, *, keep_trying: bool, keep_watchdogs: bool, keep_inner: bool) -> list[Step]:
    """Give the messages in order of time, without retransmissions and without media.

    Args:
        keep_trying: keep 100 responses.
        keep_watchdogs: keep CER, DWR, DPR and their answers.
        keep_inner: keep what a node sends to itself.
    """
    rows = plain_rows(messages.table)
    alias = _Aliases()
    for row, raw in zip(rows, messages.raw, strict=True):
        alias.learn(_same_person(row, raw))
    dropped = left_out(rows, messages.raw, keep_watchdogs=keep_watchdogs)
    steps: list[Step] = []
    seen: set[tuple[Any, ...]] = set()
    for number in sorted(range(len(rows)), key=lambda index: (rows[index]["time"], index)):
        row = rows[number]
        if row["protocol"] not in ("sip", "diameter", *RPC_PROTOCOLS) or number in dropped:
            continue
        if (row["status"] == 100 and not keep_trying) or (row["command_code"] in _WATCHDOGS and not keep_watchdogs):
            continue
        step = _step(number, row, messages.raw[number], alias)
        identity = _identity(step)
        if identity not in seen and (keep_inner or step.src != step.dst):
            seen.add(identity)
            steps.append(step)
    return steps


def _step(number: int, row: dict[str, Any], raw: bytes, alias: _Aliases) -> Step:
    src = row["src_node"] or row["src"]
    dst = row["dst_node"] or row["dst"]
    if row["protocol"] in RPC_PROTOCOLS:
        return rpc_step(number, row, raw, src, dst)
    users = frozenset(alias.of(user) for user in _users(row, raw))
    if row["protocol"] == "diameter":
        return Step(
            row=number,
            frame=row["frame"],
            time_ns=row["time"],
            src=src,
            dst=dst,
            sip=False,
            request=bool(row["request"]),
            name=row["command"],
            ids=(row["hop_by_hop_id"], row["end_to_end_id"]),
            users=users,
            protocol="diameter",
            about=credit_words(raw).user if row["command_code"] == CREDIT_CONTROL else "",
        )
    sms = row["method"] == "MESSAGE" and carries_sms(raw)
    return Step(
        row=number,
        frame=row["frame"],
        time_ns=row["time"],
        src=src,
        dst=dst,
        sip=True,
        request=row["method"] is not None,
        name=row["method"] or row["cseq_method"] or "",
        status=row["status"] or 0,
        call_id=row["call_id"] or "",
        cseq=row["cseq"] or 0,
        from_tag=row["from_tag"] or "",
        to_tag=row["to_tag"] or "",
        branches=via_branches(raw),
        users=users,
        sms=sms,
        reply_to=reply_to(raw) if sms else "",
    )


def _identity(step: Step) -> tuple[Any, ...]:
    """What a retransmission has in common with the first copy."""
    if step.protocol in RPC_PROTOCOLS:
        return (step.row,)  # over TCP nothing comes twice
    if not step.sip:
        return (step.src, step.dst, step.name, *step.ids)
    return (
        step.src,
        step.dst,
        step.name,
        step.status,
        step.call_id,
        step.cseq,
        step.branch or step.row,
        step.to_tag if step.status else "",
    )


def _users(row: dict[str, Any], raw: bytes) -> set[str]:
    found = {row["from_user"], row["to_user"], _before_at(row["user_name"])}
    found.add(uri_user(row["public_identity"] or ""))
    if row["method"] and row["method"] != "REGISTER":
        request_uri = raw.split(b" ", 2)[1:2]
        found.add(uri_user(request_uri[0].decode("utf-8", "replace")) if request_uri else None)
    return {user for user in found if user}


def _same_person(row: dict[str, Any], raw: bytes) -> set[str]:
    """Names that this message says are one subscriber: IMPI, IMPUs, implicit registration set."""
    found: set[str | None] = set()
    if row["protocol"] == "diameter":
        found |= {_before_at(row["user_name"]), uri_user(row["public_identity"] or "")}
        found |= {_identity_user(match.decode("utf-8", "replace")) for match in _PROFILE_IDENTITY.findall(raw)}
    elif row["method"] == "REGISTER" and row["from_user"] == row["to_user"]:
        authorization = _AUTHORIZATION_USER.search(raw)
        found |= {row["to_user"], authorization.group(1).decode("utf-8", "replace") if authorization else None}
    elif row["cseq_method"] == "REGISTER" and row["from_user"] == row["to_user"]:
        associated = _ASSOCIATED.search(raw)
        listed = associated.group(1).decode("utf-8", "replace") if associated else ""
        found |= {row["to_user"], *(uri_user(uri) for uri in _URI.findall(listed))}
    return {user for user in found if user}


def _before_at(text: str | None) -> str | None:
    return text.partition("@")[0] if text else None


def _identity_user(text: str) -> str:
    return text.partition(":")[2].partition(";")[0] if ":" in text else text


class _Aliases:
    """Which user parts name the same subscriber."""

    def __init__(self) -> None:
        self._head: dict[str, str] = {}

    def of(self, user: str) -> str:
        head = user
        while self._head.get(head, head) != head:
            head = self._head[head]
        return head

    def learn(self, users: Iterable[str]) -> None:
        heads = sorted(self.of(user) for user in users)
        for head in heads:
            self._head[head] = heads[0]
