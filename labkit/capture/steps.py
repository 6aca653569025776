"""The messages of a capture as steps of a story: what canon needs to know of each, without pandas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.capture.fields import uri_user, via_branches
from labkit.capture.rows import plain_rows

if TYPE_CHECKING:
    from labkit.capture.table import Messages

_WATCHDOGS = {257, 280, 282}
"""CER/CEA, DWR/DWA, DPR/DPA: they keep connections and say nothing about subscribers (RFC 6733 section 5)."""
_AUTHORIZATION_USER = re.compile(rb'\nauthorization\s*:[^\r\n]*username="([^"@]+)', re.IGNORECASE)
_ASSOCIATED = re.compile(rb"\np-associated-uri\s*:([^\r\n]*)", re.IGNORECASE)
_PROFILE_IDENTITY = re.compile(rb"<(?:PrivateID|Identity)>([^<@]+)")
_URI = re.compile(r"(?:sips?|tel):[^>,\s]+", re.IGNORECASE)


@dataclass(eq=False, slots=True)
class Step:
    """One message and its place in the story."""

    row: int
    """Row of the table."""
    frame: int
    """Frame number."""
    time_ns: int
    """When it was seen."""
    src: str
    """Node that sent it: its name, else its address."""
    dst: str
    """Node that got it."""
    sip: bool
    """SIP, else Diameter."""
    request: bool
    """Request, else response or answer."""
    name: str
    """SIP: the method, of a response the method of its CSeq. Diameter: UAR, UAA, ..."""
    status: int = 0
    """SIP status code, 0 in requests."""
    call_id: str = ""
    """Call-ID; empty in Diameter."""
    cseq: int = 0
    """CSeq number."""
    from_tag: str = ""
    """From tag: tells which side of a dialog asked."""
    to_tag: str = ""
    """To tag."""
    branches: tuple[str, ...] = ()
    """Branches of the Via headers, top first."""
    ids: tuple[int, int] = (0, 0)
    """Diameter: hop-by-hop and end-to-end identifier."""
    users: frozenset[str] = frozenset()
    """Everybody the message is about."""
    # What causes.py finds out:
    parent: Step | None = None
    """The message that brought this one about, None when it came from outside: a user, a timer, an operator."""
    after: list[Step] = field(default_factory=list)
    """Further messages that come before it."""
    opens: bool = True
    """Whether an episode begins here: something that a user, a timer or an operator did."""
    place: tuple[Any, ...] = ()
    """Order among the children of one parent."""
    children: list[Step] = field(default_factory=list)
    """Messages that this one brought about, in order."""

    @property
    def branch(self) -> str:
        """Branch of the top Via: names the transaction at this hop."""
        return self.branches[0] if self.branches else ""

    @property
    def final(self) -> bool:
        """Whether it is a final SIP response."""
        return self.status >= 200


def steps_of(messages: Messages, *, keep_trying: bool, keep_watchdogs: bool, keep_inner: bool) -> list[Step]:
    """Give the SIP and Diameter messages in order of time, without retransmissions.

    Args:
        keep_trying: keep 100 responses.
        keep_watchdogs: keep CER, DWR, DPR and their answers.
        keep_inner: keep what a node sends to itself.
    """
    rows = plain_rows(messages.table)
    alias = _Aliases()
    for row, raw in zip(rows, messages.raw, strict=True):
        alias.learn(_same_person(row, raw))
    steps: list[Step] = []
    seen: set[tuple[Any, ...]] = set()
    for number in sorted(range(len(rows)), key=lambda index: (rows[index]["time"], index)):
        row = rows[number]
        if row["protocol"] not in ("sip", "diameter"):
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
        )
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
    )


def _identity(step: Step) -> tuple[Any, ...]:
    """What a retransmission has in common with the first copy."""
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
