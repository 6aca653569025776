"""A subscriber's profile drawn as a tree, and its filter criteria as a table (TS 29.228 annex B).

Names of application servers are those of the capture's nodes, so that tree and table are the same in every run; the
full URIs stand in the HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from labkit.errors import SipError
from labkit.wire.profile import SESSION_CASES, Criterion, Profile, ServiceProfile, parse_profile
from labkit.wire.sip import parse_uri

if TYPE_CHECKING:
    import pandas as pd

HANDLINGS = {0: "0 SESSION_CONTINUED", 1: "1 SESSION_TERMINATED"}
"""DefaultHandling in words."""
_HANDLING_WORDS = {0: "continue", 1: "terminate"}
_PARTS = {None: "always", 0: "while registered", 1: "while not registered"}


@dataclass(frozen=True, slots=True)
class Branch:
    """One node of the tree."""

    label: str
    """What it is, the same in every run."""
    detail: str = ""
    """What differs from run to run; shown in HTML only."""
    inner: tuple[Branch, ...] = ()
    """What hangs below it."""


class ProfileView:
    """A profile with its names: print it, show it, ask it for a table."""

    def __init__(self, profile: Profile, names: Mapping[str, str]) -> None:
        self.profile = profile
        """The values."""
        self._names = dict(names)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The initial filter criteria in the order in which they are looked at."""
        return self.profile.criteria

    @property
    def table(self) -> pd.DataFrame:
        """One row a criterion, in order: priority, formula, server, and what happens when it does not answer."""
        import pandas as pd

        rows = [
            {
                "priority": one.priority,
                "when": one.formula,
                "server": self.server(one),
                "no answer": _HANDLING_WORDS.get(one.default_handling, str(one.default_handling)),
                "valid": _PARTS.get(one.profile_part, str(one.profile_part)),
            }
            for one in self.criteria
        ]
        return pd.DataFrame(rows, columns=["priority", "when", "server", "no answer", "valid"]).set_index("priority")

    @property
    def triggers(self) -> pd.DataFrame:
        """One row a condition: which criterion and group it belongs to, what is tested, and whether it is negated."""
        import pandas as pd

        rows = [
            {
                "priority": one.priority,
                "form": "CNF" if one.cnf else "DNF",
                "group": number,
                "negated": trigger.negated,
                "tests": trigger.kind,
                "value": trigger.value if trigger.kind != "SessionCase" else _case(trigger.value),
                "content": trigger.content or "",
            }
            for one in self.criteria
            for number, triggers in one.groups
            for trigger in triggers
        ]
        columns = ["priority", "form", "group", "negated", "tests", "value", "content"]
        return pd.DataFrame(rows, columns=columns).set_index("priority")

    def server(self, criterion: Criterion) -> str:
        """A criterion's application server by its name in the capture, else by its URI."""
        try:
            uri = parse_uri(criterion.server)
        except SipError:
            return criterion.server
        place = f"{uri.host}:{uri.port}" if uri.port else uri.host
        name = self._names.get(place) or self._names.get(uri.host)
        if name is None:
            return criterion.server
        return name if uri.user in ("", name) else f"{uri.user} at {name}"

    def __repr__(self) -> str:
        return "\n".join(_lines(self._tree()))

    def _repr_html_(self) -> str:
        return f'<div style="text-align:left;line-height:1.5;font-size:13px">{_html(self._tree())}</div>'

    def _tree(self) -> Branch:
        parts = tuple(self._service_profile(part) for part in self.profile.service_profiles)
        return Branch("IMSSubscription", inner=(Branch(f"PrivateID: {self.profile.impi}"), *parts))

    def _service_profile(self, part: ServiceProfile) -> Branch:
        identities = tuple(
            Branch(f"PublicIdentity: {one.uri}" + (" (barred)" if one.barred else "")) for one in part.identities
        )
        return Branch("ServiceProfile", inner=(*identities, *(self._criterion(one) for one in part.criteria)))

    def _criterion(self, one: Criterion) -> Branch:
        groups = tuple(
            Branch(f"Group {number}", inner=tuple(Branch(str(trigger)) for trigger in triggers))
            for number, triggers in one.groups
        )
        form = "ConditionTypeCNF 1: OR inside a group, AND between groups"
        if not one.cnf:
            form = "ConditionTypeCNF 0: AND inside a group, OR between groups"
        point = (Branch("TriggerPoint", inner=(Branch(form), *groups)),) if groups else ()
        handling = HANDLINGS.get(one.default_handling, str(one.default_handling))
        server = Branch(f"ApplicationServer: {self.server(one)}", one.server, (Branch(f"DefaultHandling {handling}"),))
        valid = () if one.profile_part is None else (Branch(f"ProfilePartIndicator: {_PARTS.get(one.profile_part)}"),)
        return Branch(f"InitialFilterCriteria, priority {one.priority}", inner=(*point, server, *valid))


def view_profile(raw: bytes, names: Mapping[str, str]) -> ProfileView:
    """Read User-Data and make it viewable.

    Args:
        raw: the XML of a SAA's or PPR's User-Data.
        names: node names by 'address' or 'address:port', as a capture has them.
    Raises:
        XmlError: it is no profile.
    """
    return ProfileView(parse_profile(raw), names)


def _case(value: str) -> str:
    return f"{value} {SESSION_CASES.get(int(value), '')}".rstrip() if value.isdigit() else value


def _lines(branch: Branch, indent: str = "") -> list[str]:
    lines = [branch.label]
    for place, inner in enumerate(branch.inner):
        last = place == len(branch.inner) - 1
        first, *rest = _lines(inner)
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{first}")
        lines += [f"{indent}{'   ' if last else '│  '}{line}" for line in rest]
    return lines


_INNER = "margin:0 0 0 9px;padding-left:14px;border-left:1px solid rgba(128,128,128,.45)"


def _html(branch: Branch) -> str:
    name, colon, rest = branch.label.partition(":")
    detail = f' <span style="opacity:.65">{escape(branch.detail)}</span>' if branch.detail else ""
    label = f"<b>{escape(name)}</b>{colon}{escape(rest)}" if colon or branch.inner else escape(branch.label)
    inner = "".join(_html(one) for one in branch.inner)
    return f"<div>{label}{detail}</div>" + (f'<div style="{_INNER}">{inner}</div>' if inner else "")
