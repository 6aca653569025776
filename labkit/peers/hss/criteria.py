"""Initial filter criteria as the HSS is provisioned with them (TS 29.228 annex B.2), and their keys in TOML or JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from labkit.errors import TopologyError


@dataclass(frozen=True, slots=True)
class ServicePointTrigger:
    """One condition of an initial filter criterion (TS 29.228 annex B.2.2); exactly one kind of test is set."""

    groups: tuple[int, ...]
    """Numbers of the groups it belongs to."""
    method: str = ""
    """Matches this SIP method."""
    request_uri: str = ""
    """Matches a Request-URI by this regular expression."""
    header: str = ""
    """Matches a header whose name fits this regular expression."""
    header_content: str = ""
    """And whose value fits this one."""
    session_case: int | None = None
    """0 originating, 1 terminating registered, 2 terminating unregistered, 3 originating unregistered, 4 diverted."""
    sdp_line: str = ""
    """Matches an SDP line of this type, for example "m"."""
    sdp_content: str = ""
    """And whose content fits this regular expression."""
    negated: bool = False
    """True turns the condition round."""
    registration_types: tuple[int, ...] = ()
    """Beside method REGISTER: 0 initial registration, 1 re-registration, 2 de-registration; empty is any."""


@dataclass(frozen=True, slots=True)
class FilterCriterion:
    """One initial filter criterion: when to bring which application server into a call (TS 29.228 annex B.2)."""

    priority: int
    """Lower comes first."""
    server: str
    """SIP URI of the application server."""
    triggers: tuple[ServicePointTrigger, ...] = ()
    """Conditions; without any, every initial request matches."""
    cnf: bool = True
    """True: OR inside a group, AND between groups. False: the other way round."""
    default_handling: int = 0
    """When the server does not answer: 0 goes on without it, 1 ends the session."""
    service_info: str = ""
    """Text handed to the application server."""
    profile_part: int | None = None
    """ProfilePartIndicator: 0 for the registered part of the profile, 1 for the unregistered part, None for both."""

    @property
    def unregistered_terminating(self) -> bool:
        """True when it may match a call to somebody of whom no phone is registered."""
        return self._serves_unregistered(2)

    @property
    def unregistered_originating(self) -> bool:
        """True when it may match a request that an application server starts for somebody who is not registered."""
        return self._serves_unregistered(3)

    def _serves_unregistered(self, session_case: int) -> bool:
        cases = {trigger.session_case for trigger in self.triggers if not trigger.negated} - {None}
        return session_case in cases or (self.profile_part == 1 and not cases)


_TESTS: Final = ("method", "request_uri", "header", "session_case", "sdp_line")


def criterion_from_fields(given: dict[str, Any], realm: str) -> FilterCriterion:
    """Build a criterion from its table in data/subscribers.toml or from the admin door's JSON.

    Args:
        given: keys as the fields of `FilterCriterion`; only priority and server are needed.
        realm: stands for "{realm}" in the server's URI.
    Raises:
        TopologyError: a key is unknown or a value cannot be.
        KeyError: priority or server is missing.
    """
    rest = dict(given)
    part = rest.pop("profile_part", None)
    criterion = FilterCriterion(
        priority=int(rest.pop("priority")),
        server=str(rest.pop("server")).replace("{realm}", realm),
        triggers=tuple(_trigger(trigger) for trigger in rest.pop("triggers", ())),
        cnf=bool(rest.pop("cnf", True)),
        default_handling=_one_of(rest.pop("default_handling", 0), (0, 1), "default_handling"),
        service_info=str(rest.pop("service_info", "")),
        profile_part=None if part is None else _one_of(part, (0, 1), "profile_part"),
    )
    if rest:
        raise TopologyError(f"a filter criterion has unknown keys {', '.join(sorted(rest))}")
    return criterion


def criterion_fields(criterion: FilterCriterion) -> dict[str, Any]:
    """Write a criterion as its table in data/subscribers.toml: what is not set is left out."""
    triggers = []
    for trigger in criterion.triggers:
        # not `in (...)`: session case 0 is equal to False
        given = {
            key: value for key, value in asdict(trigger).items() if value is not False and value not in ("", None, ())
        }
        triggers.append({"group": list(given.pop("groups", ()))} | given)
    written = asdict(criterion) | {"triggers": triggers}
    return {key: value for key, value in written.items() if value is not None}


def _trigger(given: dict[str, Any]) -> ServicePointTrigger:
    rest = dict(given)
    group = rest.pop("group", 0)
    groups = tuple(int(one) for one in group) if isinstance(group, list | tuple) else (int(group),)
    types = tuple(_one_of(one, (0, 1, 2), "registration_types") for one in rest.pop("registration_types", ()))
    unknown = rest.keys() - {field.name for field in fields(ServicePointTrigger)}
    if unknown:
        raise TopologyError(f"a trigger has unknown keys {', '.join(sorted(unknown))}")
    if len([test for test in _TESTS if rest.get(test) not in (None, "")]) != 1:
        raise TopologyError(f"a trigger needs exactly one of {', '.join(_TESTS)}; it has {given}")
    if rest.get("session_case") is not None:
        rest["session_case"] = _one_of(rest["session_case"], (0, 1, 2, 3, 4), "session_case")
    return ServicePointTrigger(groups=groups, registration_types=types, **rest)


def _one_of(value: Any, allowed: tuple[int, ...], name: str) -> int:
    if value not in allowed or isinstance(value, bool):
        raise TopologyError(f"{name} is {value!r}; it must be one of {', '.join(map(str, allowed))}")
    return int(value)
