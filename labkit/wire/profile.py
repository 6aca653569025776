"""The profile that a S-CSCF downloads: User-Data of the SAA, XML to values (TS 29.228 annexes B and E).

    IMSSubscription
        PrivateID
        ServiceProfile, one or more          public identities that share their services
            PublicIdentity, one or more      Identity, BarringIndication
            InitialFilterCriteria            when to bring which application server into a session

Elements that this does not know (extensions) are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from labkit.errors import XmlError
from labkit.wire.safe_xml import parse_xml

SPEC: Final = "TS 29.228 annex E"

SESSION_CASES: Final = {
    0: "ORIGINATING_REGISTERED",
    1: "TERMINATING_REGISTERED",
    2: "TERMINATING_UNREGISTERED",
    3: "ORIGINATING_UNREGISTERED",
    4: "ORIGINATING_CDIV",
}
"""SessionCase: whose criteria are looked at, and whether that user is registered (TS 29.228 annex B.2.2)."""

REGISTRATION_TYPES: Final = {0: "initial", 1: "re-registration", 2: "de-registration"}
"""RegistrationType, beside the method REGISTER."""

_TESTS: Final = ("RequestURI", "Method", "SIPHeader", "SessionCase", "SessionDescription")


def case_words(session_case: int) -> str:
    """Say a session case in words: "originating", "terminating unregistered"; the number where it is not known."""
    name = SESSION_CASES.get(session_case, str(session_case))
    return "originating" if session_case == 0 else name.replace("_", " ").lower()


@dataclass(frozen=True, slots=True)
class Trigger:
    """One service point trigger (SPT): a single condition."""

    kind: str
    """"RequestURI", "Method", "SIPHeader", "SessionCase" or "SessionDescription"."""
    value: str
    """Regular expression of the URI, the method, the header's name, the number of the session case, the SDP line."""
    content: str | None = None
    """Regular expression of the header's or the line's content; None where it stands for presence alone."""
    negated: bool = False
    """ConditionNegated: the condition is turned round."""
    groups: tuple[int, ...] = (0,)
    """Groups it belongs to; the condition counts in each of them."""
    registration_types: tuple[int, ...] = ()
    """Beside the method REGISTER, which kinds of registration; empty is all of them."""

    def __str__(self) -> str:
        return f"NOT ({self._positive()})" if self.negated else self._positive()

    def _positive(self) -> str:
        match self.kind:
            case "Method":
                kinds = [REGISTRATION_TYPES.get(number, str(number)) for number in self.registration_types]
                return f"method is {self.value}" + (f" ({' or '.join(kinds)})" if kinds else "")
            case "RequestURI":
                return f"request URI fits /{self.value}/"
            case "SessionCase":
                return f"session case is {case_words(_int(self.value))}"
            case "SIPHeader":
                return f"header {self.value} {_content(self.content)}"
            case _:
                return f"SDP line {self.value}= {_content(self.content)}"


def _content(content: str | None) -> str:
    return "is there" if content is None else f"fits /{content}/"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One initial filter criterion (iFC)."""

    priority: int
    """Lower is looked at earlier."""
    server: str
    """ServerName: SIP URI of the application server."""
    triggers: tuple[Trigger, ...] = ()
    """Conditions of the TriggerPoint; without any, every initial request matches."""
    cnf: bool = True
    """ConditionTypeCNF. True: OR inside a group, AND between groups. False (DNF): AND inside, OR between."""
    default_handling: int = 0
    """When the server does not answer: 0 SESSION_CONTINUED, 1 SESSION_TERMINATED."""
    service_info: str = ""
    """Text for the application server, carried in a third-party REGISTER."""
    profile_part: int | None = None
    """ProfilePartIndicator: 0 only while the user is registered, 1 only while not, None always."""

    @property
    def groups(self) -> tuple[tuple[int, tuple[Trigger, ...]], ...]:
        """Numbers and triggers of the groups, in the order of their numbers."""
        numbers = sorted({number for trigger in self.triggers for number in trigger.groups})
        return tuple(
            (number, tuple(trigger for trigger in self.triggers if number in trigger.groups)) for number in numbers
        )

    @property
    def formula(self) -> str:
        """The trigger point as a boolean formula; "always" without one."""
        if not self.triggers:
            return "always"
        inside, between = (" OR ", " AND ") if self.cnf else (" AND ", " OR ")
        parts = [inside.join(str(trigger) for trigger in triggers) for _, triggers in self.groups]
        if len(parts) == 1:
            return parts[0]
        return between.join(f"({part})" for part in parts)


@dataclass(frozen=True, slots=True)
class Identity:
    """One public identity of a profile."""

    uri: str
    """sip: or tel: URI."""
    barred: bool = False
    """BarringIndication: it may register, and may not be used in sessions."""


@dataclass(frozen=True, slots=True)
class ServiceProfile:
    """Public identities, and the criteria that they share."""

    identities: tuple[Identity, ...]
    """In the order of the document."""
    criteria: tuple[Criterion, ...]
    """In the order in which they are looked at: by priority."""
    shared_sets: tuple[int, ...] = ()
    """Numbers of criteria that the S-CSCF holds itself (SharedIFCSetID)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A subscription as the S-CSCF sees it."""

    impi: str
    """The private identity."""
    service_profiles: tuple[ServiceProfile, ...]
    """One or more."""

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria of all service profiles, profile by profile."""
        return tuple(criterion for part in self.service_profiles for criterion in part.criteria)

    def criteria_for(self, uri: str) -> tuple[Criterion, ...]:
        """The criteria for one public identity, in order of priority; none for an identity that is not in here."""
        for part in self.service_profiles:
            if any(identity.uri.lower() == uri.lower() for identity in part.identities):
                return part.criteria
        return ()


def parse_profile(raw: bytes) -> Profile:
    """Read the User-Data AVP of a SAA or PPR.

    Args:
        raw: the XML document.
    Raises:
        XmlError: it is no well-formed XML, no IMSSubscription, or lacks what it must have; says which element.
    Spec:
        TS 29.228 annex E
    """
    root = parse_xml(raw)
    if root.tag != "IMSSubscription":
        raise XmlError(f"The document is a {root.tag}, no IMSSubscription", field="IMSSubscription", spec=SPEC)
    parts = tuple(_service_profile(element) for element in root.findall("ServiceProfile"))
    if not parts:
        raise XmlError("The profile has no ServiceProfile", field="ServiceProfile", spec=SPEC)
    return Profile(_text(root, "PrivateID"), parts)


def _service_profile(element: Element) -> ServiceProfile:
    identities = tuple(
        Identity(_text(identity, "Identity"), _flag(identity, "BarringIndication", default="0"))
        for identity in element.findall("PublicIdentity")
    )
    criteria = tuple(_criterion(one) for one in element.findall("InitialFilterCriteria"))
    shared = tuple(_number(one.text, "SharedIFCSetID") for one in element.iter("SharedIFCSetID"))
    # sorted() keeps the order of the document where priorities are equal, which the specification forbids
    return ServiceProfile(identities, tuple(sorted(criteria, key=lambda one: one.priority)), shared)


def _criterion(element: Element) -> Criterion:
    server = element.find("ApplicationServer")
    if server is None:
        raise XmlError("A filter criterion has no ApplicationServer", field="ApplicationServer", spec=SPEC)
    point = element.find("TriggerPoint")
    part = element.findtext("ProfilePartIndicator")
    return Criterion(
        priority=_number(_text(element, "Priority"), "Priority"),
        server=_text(server, "ServerName"),
        triggers=() if point is None else tuple(_trigger(spt) for spt in point.findall("SPT")),
        cnf=point is None or _flag(point, "ConditionTypeCNF"),
        default_handling=_number(server.findtext("DefaultHandling") or "0", "DefaultHandling"),
        service_info=(server.findtext("ServiceInfo") or "").strip(),
        profile_part=None if part is None else _number(part, "ProfilePartIndicator"),
    )


def _trigger(element: Element) -> Trigger:
    tests = [child for child in element if child.tag in _TESTS]
    if len(tests) != 1:
        raise XmlError(f"A SPT has {len(tests)} tests and needs one of {', '.join(_TESTS)}", field="SPT", spec=SPEC)
    test = tests[0]
    value, content = (test.text or "").strip(), None
    if test.tag == "SIPHeader":
        value, content = _text(test, "Header"), test.findtext("Content")
    elif test.tag == "SessionDescription":
        value, content = _text(test, "Line"), test.findtext("Content")
    return Trigger(
        kind=test.tag,
        value=value,
        content=(content or "").strip() or None,
        negated=_flag(element, "ConditionNegated", default="0"),
        groups=tuple(_number(group.text, "Group") for group in element.findall("Group")) or (0,),
        registration_types=tuple(_number(one.text, "RegistrationType") for one in element.iter("RegistrationType")),
    )


def _text(element: Element, name: str) -> str:
    text = element.findtext(name)
    if text is None or not text.strip():
        raise XmlError(f"{element.tag} has no {name}", field=name, spec=SPEC)
    return text.strip()


def _flag(element: Element, name: str, default: str | None = None) -> bool:
    text = _text(element, name) if default is None else (element.findtext(name) or default).strip()
    if text.lower() not in ("0", "1", "true", "false"):
        raise XmlError(f"{name} is {text!r}; it must be 0 or 1", field=name, spec=SPEC)
    return text.lower() in ("1", "true")


def _number(text: str | None, name: str) -> int:
    number = _int((text or "").strip())
    if number < 0:
        raise XmlError(f"{name} is {text!r} and must be a number", field=name, spec=SPEC)
    return number


def _int(text: str) -> int:
    """A number written with digits alone, -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
