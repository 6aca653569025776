"""Calls as their users know them: an attempt from INVITE to BYE, joined over back-to-back user agents.

A B2BUA ends one call leg and begins another with a Call-ID of its own. What both legs still share tells that they are
one call: an identifier that was made for that, or who calls whom.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.capture.relations import result, timestamps, truth
from labkit.capture.rows import Row, hop, plain_rows

if TYPE_CHECKING:
    import pandas as pd

_SOON_NS = 5 * 10**9
"""A B2BUA begins its leg so soon after it got the other, where only the numbers tell."""
_SIGNIFICANT_DIGITS = 9
"""Two numbers that end in so many equal digits are the same one, written with and without its country code."""

# RFC 7315 section 5.6, RFC 7989; a Call-ID of the other leg in any header is looked for as it stands.
_CHARGING_ID = re.compile(rb"\np-charging-vector\s*:[^\r\n]*icid-value\s*=\s*\"?([^\";,\s]+)", re.IGNORECASE)
_SESSION_ID = re.compile(rb"\nsession-id\s*:\s*([0-9a-f]{32})", re.IGNORECASE)
_WORDS = re.compile(rb"[^\s;,<>\"=?&:]+(?:@[^\s;,<>\"=?&:]+)?")


_NEEDED = (
    *("frame", "time", "src", "dst", "src_node", "dst_node", "method", "status", "reason", "call_id", "cseq"),
    *("cseq_method", "branch", "from_user", "to_user", "to_tag"),
)


class _Leg:
    """What one Call-ID shows of a call."""

    def __init__(self, row: Row, caller: str, callee: str) -> None:
        self.call_id: str = row["call_id"]
        self.frame: int = row["frame"]
        self.begin_ns: int = row["time"]
        self.caller, self.callee = caller, callee
        self.from_user, self.to_user = row["from_user"], row["to_user"]
        self.reached: set[str] = set()
        self.shared: dict[str, bytes] = {}
        self.mentions: frozenset[bytes] = frozenset()
        self.status: int | None = None
        self.reason: str | None = None
        self.final_ns: int | None = None
        self.ringing_ns: int | None = None
        self.bye_ns: int | None = None
        self.ended_by: str | None = None
        self.messages = 0
        self.parent: _Leg | None = None
        self.joined_by: str | None = None
        self._attempts: set[tuple[Any, ...]] = set()

    @property
    def root(self) -> _Leg:
        """The leg with which the call began."""
        leg = self
        while leg.parent is not None:
            leg = leg.parent
        return leg

    def note_shared(self, invite: bytes) -> None:
        """Keep what the INVITE may share with another leg."""
        head = invite.partition(b"\r\n\r\n")[0]
        for kind, pattern in (("charging id", _CHARGING_ID), ("session id", _SESSION_ID)):
            match = pattern.search(head)
            if match and match[1].strip(b"0"):
                self.shared[kind] = match[1].lower()
        self.mentions = frozenset(_WORDS.findall(head)) - {self.call_id.encode()}

    def follow(self, row: Row, here: str, there: str) -> None:
        """Take one more message of this leg."""
        if row["method"] == "INVITE" and not row["to_tag"]:
            self.reached.add(there)
            if here == self.caller:
                self._attempts.add((row["branch"], row["cseq"]))
        elif row["method"] == "BYE" and self.bye_ns is None:
            self.bye_ns, self.ended_by = row["time"], here
        elif row["status"] and there == self.caller and (row["branch"], row["cseq"]) in self._attempts:
            if row["status"] >= 200:
                self._attempts.discard((row["branch"], row["cseq"]))  # further copies are retransmissions
                self.status, self.reason, self.final_ns = row["status"], row["reason"], row["time"]
            elif row["status"] >= 180 and self.ringing_ns is None:
                self.ringing_ns = row["time"]


def calls(table: pd.DataFrame, raw: Sequence[bytes] | None = None) -> pd.DataFrame:
    """One row a call: what an INVITE without To tag began, over however many hops and B2BUAs.

    Legs are joined when the later INVITE carries the same charging identifier (icid-value), the same Session-ID
    (RFC 7989) or the earlier Call-ID; else when caller and called number are the same, or one of them and the node that
    ends the one leg begins the other, within 5 s and before the earlier leg has its final response.

    Args:
        table: the table of a capture.
        raw: the messages themselves, row by row; without them only numbers and nodes can join legs.
    Returns:
        frame (of the first INVITE), time, from (the caller's node), to (who got it there), call_id (of the first leg),
        from_user, to_user, status and reason (final, at the caller's hop; the one after a challenge), ringing_s and
        setup_s (from INVITE to the first 18x and to the final response, as the caller saw it), duration_s (from the 2xx
        to the BYE), ended_by (node that sent the first BYE), legs, call_ids (of all legs), joined_by ('charging id',
        'session id', 'call id', 'both numbers', 'a number and the node'; absent with one leg), messages (all legs, all
        hops). In the order of time.
    """
    legs = _legs(table, raw)
    _join(legs)
    whole: dict[int, list[_Leg]] = defaultdict(list)
    for leg in legs:
        whole[id(leg.root)].append(leg)
    return _table([members for members in whole.values()])


def _legs(table: pd.DataFrame, raw: Sequence[bytes] | None) -> list[_Leg]:
    """Follow INVITEs, their responses and BYEs; a row is one hop's copy."""
    matters = truth(table["method"].isin(["INVITE", "BYE"]))
    matters = matters | truth((table["cseq_method"] == "INVITE") & (table["status"] > 100))
    matters = matters & truth((table["protocol"] == "sip") & table["call_id"].notna())
    found: dict[str, _Leg] = {}
    for at, row in zip(matters.nonzero()[0].tolist(), plain_rows(table.loc[matters, list(_NEEDED)]), strict=True):
        leg = found.get(row["call_id"])
        if leg is None:
            if row["method"] != "INVITE" or row["to_tag"]:
                continue
            leg = found[row["call_id"]] = _Leg(row, *hop(row))
            if raw is not None:
                leg.note_shared(raw[at])
        leg.follow(row, *hop(row))
    counts = table["call_id"].value_counts()
    for leg in found.values():
        leg.messages = int(counts[leg.call_id])
    return list(found.values())


def _join(legs: list[_Leg]) -> None:
    """Give each leg that continues another its parent."""
    by_identifier: dict[tuple[str, bytes], _Leg] = {}
    by_call_id: dict[bytes, _Leg] = {}
    recent: deque[_Leg] = deque()
    for leg in legs:
        while recent and leg.begin_ns - recent[0].begin_ns > _SOON_NS:
            recent.popleft()
        leg.parent, leg.joined_by = _parent(leg, by_identifier, by_call_id, recent)
        for identifier in leg.shared.items():
            by_identifier.setdefault(identifier, leg)
        by_call_id[leg.call_id.encode()] = leg
        recent.append(leg)


def _parent(
    leg: _Leg,
    by_identifier: dict[tuple[str, bytes], _Leg],
    by_call_id: dict[bytes, _Leg],
    recent: deque[_Leg],
) -> tuple[_Leg | None, str | None]:
    for identifier in leg.shared.items():
        if identifier in by_identifier:
            return by_identifier[identifier], identifier[0]
    for word in leg.mentions:
        if word in by_call_id:
            return by_call_id[word], "call id"
    guess: _Leg | None = None
    for other in reversed(recent):
        if (other.final_ns is not None and other.final_ns < leg.begin_ns) or not _compatible(leg, other):
            continue
        caller, called = _same(leg.from_user, other.from_user), _same(leg.to_user, other.to_user)
        if caller and called:
            return other, "both numbers"
        if (caller or called) and guess is None and leg.caller in other.reached:
            guess = other
    return guess, None if guess is None else "a number and the node"


def _compatible(leg: _Leg, other: _Leg) -> bool:
    """Whether no identifier that both carry says that they are different calls."""
    return not any(leg.shared[kind] != other.shared[kind] for kind in leg.shared.keys() & other.shared.keys())


def _same(one: str | None, other: str | None) -> bool:
    """Whether two user parts are one party: equal, or the same telephone number."""
    if not one or not other:
        return False
    ends = [text.lstrip("+")[-_SIGNIFICANT_DIGITS:] for text in (one, other)]
    return one == other or (ends[0] == ends[1] and len(ends[0]) == _SIGNIFICANT_DIGITS and ends[0].isdecimal())


def _table(members: list[list[_Leg]]) -> pd.DataFrame:
    firsts = [legs[0] for legs in members]
    joined = [next((leg.joined_by for leg in legs if leg.joined_by), None) for legs in members]
    byes = [_bye(legs) for legs in members]
    return result(
        {
            "frame": [leg.frame for leg in firsts],
            "time": timestamps([leg.begin_ns for leg in firsts]),
            "from": [leg.caller for leg in firsts],
            "to": [leg.callee for leg in firsts],
            **{name: [getattr(leg, name) for leg in firsts] for name in ("call_id", "from_user", "to_user")},
            **{name: [getattr(leg, name) for leg in firsts] for name in ("status", "reason")},
            "ringing_s": [_seconds(leg.begin_ns, leg.ringing_ns) for leg in firsts],
            "setup_s": [_seconds(leg.begin_ns, leg.final_ns) for leg in firsts],
            "duration_s": [
                _seconds(legs[0].final_ns, bye.bye_ns if bye else None) for legs, bye in zip(members, byes, strict=True)
            ],
            "ended_by": [bye.ended_by if bye else None for bye in byes],
            "legs": [len(legs) for legs in members],
            "call_ids": [", ".join(leg.call_id for leg in legs) for legs in members],
            "joined_by": joined,
            "messages": [sum(leg.messages for leg in legs) for legs in members],
        }
    )


def _bye(legs: list[_Leg]) -> _Leg | None:
    """The leg with the first BYE of an answered call."""
    if (legs[0].status or 0) // 100 != 2:
        return None
    return min((leg for leg in legs if leg.bye_ns is not None), key=lambda leg: leg.bye_ns or 0, default=None)


def _seconds(begin_ns: int | None, end_ns: int | None) -> float | None:
    return None if begin_ns is None or end_ns is None else (end_ns - begin_ns) / 10**9
