"""Does a request match an initial filter criterion, and why? (TS 29.228 annex B.2 and annex C)

A trigger point is a boolean formula over single conditions (SPTs), which are sorted into numbered groups:

    ConditionTypeCNF 1, conjunctive normal form:  (a OR b) AND (c OR d)     OR inside a group, AND between groups
    ConditionTypeCNF 0, disjunctive normal form:  (a AND b) OR (c AND d)    AND inside a group, OR between groups

So two conditions in ONE group under CNF are an OR, however much they look like an AND.

Products differ from the specification in details; `Rules` says by which an answer is worked out. KAMAILIO is what
ims_isc of Kamailio 5.6 and 6.0 does, tested against both: methods are compared as prefixes, header names are searched
for in any part of a name, an SDP expression may run over the ends of lines, and a negated header without Content is
true whatever the request holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from labkit.errors import SipError
from labkit.wire.ere import compile_ere
from labkit.wire.profile import REGISTRATION_TYPES, Criterion, Profile, Trigger, case_words, parse_profile
from labkit.wire.sip import SipMessage, header_key

__all__ = [
    "Criterion",
    "Group",
    "Profile",
    "Rules",
    "Trigger",
    "Verdict",
    "evaluate",
    "evaluate_all",
    "parse_profile",
]


class Rules(Enum):
    """Whose reading of the specification is followed."""

    SPEC = "TS 29.228"
    """The specification's words."""
    KAMAILIO = "Kamailio"
    """What ims_isc of Kamailio 5.6 and 6.0 does."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What became of one condition."""

    trigger: Trigger
    """The condition."""
    holds: bool
    """Whether it holds, negation included."""
    why: str
    """What the request has."""


@dataclass(frozen=True, slots=True)
class Group:
    """What became of one group."""

    number: int
    """Its number."""
    holds: bool
    """Whether the group as a whole holds."""
    conditions: tuple[Condition, ...]
    """Its conditions."""


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """Whether a request matches a criterion, and why."""

    criterion: Criterion
    """The criterion."""
    matches: bool
    """Whether the application server is brought in."""
    groups: tuple[Group, ...]
    """How it came to that; empty without a trigger point."""
    remark: str = ""
    """What decided without any group: no trigger point, the wrong part of the profile."""

    def __bool__(self) -> bool:
        return self.matches

    def __str__(self) -> str:
        lines = [f"{'match' if self.matches else 'no match'}: {self.remark or self.criterion.formula}"]
        inside, between = ("OR", "AND") if self.criterion.cnf else ("AND", "OR")
        for place, group in enumerate(self.groups):
            joined = f"{between} " if place else ""
            lines.append(f"  {joined}group {group.number} is {_yes(group.holds)}")
            for at, one in enumerate(group.conditions):
                lines.append(f"    {inside + ' ' if at else ''}{_yes(one.holds)}: {one.trigger}; {one.why}")
        return "\n".join(lines)

    __repr__ = __str__


def _yes(holds: bool) -> str:
    return "true" if holds else "false"


def evaluate(
    criterion: Criterion,
    request: SipMessage,
    *,
    session_case: int,
    registered: bool = True,
    registration_type: int | None = None,
    rules: Rules = Rules.SPEC,
) -> Verdict:
    """Work out whether a request matches a criterion.

    Args:
        criterion: of the served user's profile.
        request: an initial request, as it reaches the S-CSCF.
        session_case: 0 to 4, see `labkit.wire.profile.SESSION_CASES`; a REGISTER counts as 0.
        registered: whether the served user is registered.
        registration_type: of a REGISTER: 0 initial, 1 re-registration, 2 de-registration.
        rules: the specification's, or what a product does.
    Raises:
        SipError: an expression of the criterion is no extended regular expression.
    Spec:
        TS 29.228 annex B.2.1 and annex C
    """
    if criterion.profile_part is not None and criterion.profile_part == int(registered):
        part = "registered" if criterion.profile_part == 0 else "unregistered"
        return Verdict(criterion, False, (), f"it belongs to the {part} part of the profile")
    if not criterion.triggers:
        return Verdict(criterion, True, (), "it has no trigger point, so every initial request matches")
    case = _Case(request, session_case, registration_type, rules)
    inside, between = (any, all) if criterion.cnf else (all, any)
    groups = []
    for number, triggers in criterion.groups:
        conditions = tuple(case.condition(trigger) for trigger in triggers)
        groups.append(Group(number, inside(one.holds for one in conditions), conditions))
    return Verdict(criterion, between(group.holds for group in groups), tuple(groups))


def evaluate_all(
    criteria: Iterable[Criterion],
    request: SipMessage,
    *,
    session_case: int,
    registered: bool = True,
    rules: Rules = Rules.SPEC,
) -> tuple[Verdict, ...]:
    """Work out all criteria of an identity, in order of priority: which servers the request visits.

    A server that changes the request, or keeps it, changes what later criteria see; this cannot know that.
    """
    ordered = sorted(criteria, key=lambda criterion: criterion.priority)
    return tuple(
        evaluate(one, request, session_case=session_case, registered=registered, rules=rules) for one in ordered
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """One request on its way through one user's criteria."""

    request: SipMessage
    session_case: int
    registration_type: int | None
    rules: Rules

    def condition(self, trigger: Trigger) -> Condition:
        test = {
            "Method": self._method,
            "RequestURI": self._request_uri,
            "SIPHeader": self._header,
            "SessionCase": self._session_case,
            "SessionDescription": self._sdp,
        }[trigger.kind]
        holds, why = test(trigger)
        return Condition(trigger, holds != trigger.negated, why)

    def _method(self, trigger: Trigger) -> tuple[bool, str]:
        wanted, method = trigger.value.upper(), self.request.method.upper()
        same = method.startswith(wanted) if self.rules is Rules.KAMAILIO else method == wanted
        if same and wanted == "REGISTER" and trigger.registration_types and self.registration_type is not None:
            kind = REGISTRATION_TYPES.get(self.registration_type, "")
            return self.registration_type in trigger.registration_types, f"it is a REGISTER ({kind})"
        return same, f"it is {_article(self.request.method)}"

    def _request_uri(self, trigger: Trigger) -> tuple[bool, str]:
        found = _expression(trigger.value).search(self.request.request_uri)
        return found is not None, f"it is {self.request.request_uri}"

    def _session_case(self, trigger: Trigger) -> tuple[bool, str]:
        return trigger.value == str(self.session_case), f"it is {case_words(self.session_case)}"

    def _header(self, trigger: Trigger) -> tuple[bool, str]:
        if self.rules is Rules.KAMAILIO and trigger.negated and trigger.content is None:
            return False, "Kamailio does not look, and says that it is not there"
        name = _expression(trigger.value)
        values = [value for written, value in self.request.headers if self._is_named(name, trigger.value, written)]
        if not values:
            return False, "there is no such header"
        if trigger.content is None:
            return True, f"it is there: {_short(values[0])}"
        content = self._content(trigger.content)
        fitting = [value for value in values if content.search(value)]
        return bool(fitting), f"it says {_short((fitting or values)[0])}"

    def _is_named(self, name: re.Pattern[str], wanted: str, written: str) -> bool:
        if header_key(written) == header_key(wanted):
            return True  # compact forms, too
        return bool(name.search(written) if self.rules is Rules.KAMAILIO else name.fullmatch(written))

    def _content(self, content: str) -> re.Pattern[str]:
        if self.rules is Rules.KAMAILIO and len(content) > 1 and content[0] == content[-1] == '"':
            content = content.strip('"')
        return _expression(content)

    def _sdp(self, trigger: Trigger) -> tuple[bool, str]:
        if self.request.content_type != "application/sdp" or not self.request.body:
            return False, "there is no SDP"
        text = self.request.body.decode("utf-8", "replace")
        if self.rules is Rules.KAMAILIO:
            wanted = (trigger.content or "").strip('"')
            whole = _expression(f"{trigger.value}={wanted}").search(text)
            return whole is not None, f"found {_short(whole[0])}" if whole else "the SDP holds nothing of the kind"
        line_type = _expression(trigger.value)
        lines = [line for line in text.splitlines() if line_type.fullmatch(line.partition("=")[0])]
        if trigger.content is not None:
            content = _expression(trigger.content)
            lines = [line for line in lines if content.search(line.partition("=")[2])]
        return bool(lines), f"found {_short(lines[0])}" if lines else "no line of the SDP is like that"


def _article(method: str) -> str:
    return f"{'an' if method[:1] in 'AEIOU' else 'a'} {method}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


@lru_cache(256)
def _expression(text: str) -> re.Pattern[str]:
    try:
        return compile_ere(text)
    except re.error as error:
        raise SipError(f"{text!r} is no extended regular expression: {error}", spec="IEEE 1003.1 chapter 9") from error
