"""Who is registered, as a registrar tells it: application/reginfo+xml, the body of a reg-event NOTIFY (RFC 3680).

An S-CSCF tells it to phones, P-CSCFs and application servers that have subscribed (TS 24.229 sections 5.1.1.3 and
5.4.2.1). `advice_for` says what a phone should make of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from labkit.errors import XmlError
from labkit.wire.safe_xml import parse_xml

CONTENT_TYPE: Final = "application/reginfo+xml"
"""Media type of such a body."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What a phone should do about one contact of its own."""

    action: str
    """One of "nothing", "register now", "register later", "re-register now", "stay away"."""
    wait_s: int
    """For "register later": how long to wait first; 0 where the network leaves it to the phone."""
    release_dialogs: bool
    """Whether the phone also ends the calls and other dialogs of these identities (it does so for "rejected")."""
    why: str
    """The reason in a sentence."""


_ADVICE: Final[dict[str, tuple[str, bool, str]]] = {
    "registered": ("nothing", False, "a REGISTER has bound this contact"),
    "created": ("nothing", False, "the network has bound this contact without a REGISTER for it"),
    "refreshed": ("nothing", False, "the time of this contact was extended"),
    "shortened": ("re-register now", False, "the network has cut the time short: it wants a new authentication"),
    "expired": ("register now", False, "the time of this contact has run out and nobody has refreshed it"),
    "deactivated": (
        "register now",
        False,
        "the network moves its subscribers, for example to another S-CSCF",
    ),
    "probation": ("register later", False, "the network wants peace for a while: come back after retry-after"),
    "unregistered": ("nothing", False, "the phone itself, or another one of the user, has taken the contact back"),
    "rejected": ("stay away", True, "the network does not want this contact: the user may not register as before"),
}


def advice_for(event: str, retry_after_s: int | None = None) -> Advice:
    """Say what a phone should do when the network says this of its contact.

    What the events mean is RFC 3680 section 4.7.1; what a phone in IMS does then is TS 24.229 section 5.1.1.7
    (deactivated, rejected, probation, expired) and section 5.1.1.5.2 (shortened):

    * registered, created, refreshed: nothing, all is well.
    * shortened: re-register at once, which ends in a new challenge: that is how the network asks for one.
    * deactivated: all registration details are void; register anew at once.
    * probation: the same, after retry-after seconds.
    * expired: the registration is over; a phone that is still there registers anew.
    * rejected: it is over, and its calls with it. A phone does not come back by itself: its user, or the operator, must
      change something first.
    * unregistered: it is over because the phone (or the user's other phone) said so.

    Args:
        event: the event attribute of a contact; an unknown one (the list may grow) asks for nothing.
        retry_after_s: its retry-after attribute, which only comes with probation.
    """
    action, release, why = _ADVICE.get(event, ("nothing", False, f"the event {event!r} is not known here"))
    return Advice(action, (retry_after_s or 0) if action == "register later" else 0, release, why)


@dataclass(frozen=True, slots=True)
class ContactState:
    """One place where a user can be reached, or could be until now."""

    event: str
    """What brought it to its state: "registered", "refreshed", "deactivated", ... (RFC 3680 section 4.7.1)."""
    state: str
    """"active" or "terminated"."""
    uri: str = field(repr=False)
    """The contact's URI."""
    id: str = field(repr=False, default="")
    """What the registrar calls it, the same in all its documents."""
    expires_s: int | None = field(repr=False, default=None)
    """Seconds that it still lasts."""
    retry_after_s: int | None = None
    """After "probation": seconds until the phone may come back."""
    duration_registered_s: int | None = field(repr=False, default=None)
    """Seconds since it was bound."""
    q: str = field(repr=False, default="")
    """Preference among the user's contacts, as written."""
    call_id: str = field(repr=False, default="")
    """Call-ID of its REGISTER."""
    cseq: int | None = field(repr=False, default=None)
    """CSeq of its REGISTER."""
    display_name: str = field(repr=False, default="")
    """Name that came with it."""
    params: tuple[tuple[str, str], ...] = field(repr=False, default=())
    """Further parameters of the Contact header (unknown-param): (name, value)."""

    @property
    def advice(self) -> Advice:
        """What a phone should do when this is its own contact."""
        return advice_for(self.event, self.retry_after_s)


@dataclass(frozen=True, slots=True)
class RegistrationState:
    """One public identity and its contacts."""

    aor: str
    """The public identity (address of record)."""
    state: str
    """"init" (nothing bound), "active", or "terminated"."""
    contacts: tuple[ContactState, ...] = ()
    """Its contacts."""
    id: str = field(repr=False, default="")
    """What the registrar calls it, the same in all its documents."""


@dataclass(frozen=True, slots=True)
class RegInfo:
    """One reginfo document."""

    version: int = field(repr=False)
    """Counts the documents of one subscription, so that a lost one is noticed."""
    state: str
    """"full" (everything) or "partial" (only what has changed)."""
    registrations: tuple[RegistrationState, ...]
    """The public identities in order."""

    def registration(self, aor: str) -> RegistrationState | None:
        """The registration of one public identity, None where the document does not speak of it."""
        return next((one for one in self.registrations if one.aor == aor), None)

    def contact(self, uri: str) -> ContactState | None:
        """What the document says of the contact with this URI, None where it says nothing."""
        contacts = (one for registration in self.registrations for one in registration.contacts)
        return next((one for one in contacts if one.uri == uri), None)


def merge(known: RegInfo | None, news: RegInfo) -> RegInfo:
    """Put what was known and the next document together into what is known now (RFC 3680 section 5.2).

    A full document replaces everything; a partial one replaces the registrations and contacts that it names. What had
    ended before is left out; what ends right now is still there, marked "terminated".
    """
    if known is None or news.state == "full":
        return news
    changed = {one.id: one for one in news.registrations}
    kept = [
        _merge_contacts(old, changed.pop(old.id)) if old.id in changed else old
        for old in known.registrations
        if old.state != "terminated" or old.id in changed
    ]
    return RegInfo(news.version, "full", (*kept, *changed.values()))


def _merge_contacts(old: RegistrationState, new: RegistrationState) -> RegistrationState:
    changed = {one.id: one for one in new.contacts}
    kept = [
        changed.pop(contact.id, contact)
        for contact in old.contacts
        if contact.state != "terminated" or contact.id in changed
    ]
    return RegistrationState(new.aor, new.state, (*kept, *changed.values()), new.id)


def parse_reginfo(raw: bytes) -> RegInfo:
    """Read a reginfo document.

    Elements that RFC 3680 does not name are left out: others may add theirs (section 5.1).

    Raises:
        XmlError: it is no XML that is safe to read, no reginfo, or lacks what section 5.1 demands.
    """
    root = parse_xml(raw)
    if root.tag != "reginfo":
        raise XmlError(f"Not a reginfo document: its root is <{root.tag[:40]}>", spec="RFC 3680 section 5.1")
    state = _must(root, "state")
    if state not in ("full", "partial"):
        raise XmlError(f"A reginfo document is full or partial, not {state[:40]!r}", field="state")
    version = _number(root, "version")
    if version is None:
        raise XmlError("A reginfo document without a version", field="version", spec="RFC 3680 section 5.1")
    return RegInfo(version, state, tuple(_registration(one) for one in root if one.tag == "registration"))


def _registration(element: Element) -> RegistrationState:
    contacts = tuple(_contact(one) for one in element if one.tag == "contact")
    return RegistrationState(_must(element, "aor"), _must(element, "state"), contacts, _must(element, "id"))


def _contact(element: Element) -> ContactState:
    uri = (element.findtext("uri") or "").strip()
    if not uri:
        raise XmlError("A contact without a URI", field="uri", spec="RFC 3680 section 5.1")
    return ContactState(
        event=_must(element, "event"),
        state=_must(element, "state"),
        uri=uri,
        id=_must(element, "id"),
        expires_s=_number(element, "expires"),
        retry_after_s=_number(element, "retry-after"),
        duration_registered_s=_number(element, "duration-registered"),
        q=element.get("q", ""),
        call_id=element.get("callid", ""),
        cseq=_number(element, "cseq"),
        display_name=(element.findtext("display-name") or "").strip(),
        params=tuple((one.get("name", ""), (one.text or "").strip()) for one in element.findall("unknown-param")),
    )


def _must(element: Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise XmlError(f"<{element.tag}> has no attribute {name}", field=name, spec="RFC 3680 section 5.1")
    return value


def _number(element: Element, name: str) -> int | None:
    """An attribute that counts, None when it is absent.

    Raises:
        XmlError: it is no number.
    """
    text = element.get(name)
    if text is None:
        return None
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise XmlError(
            f"{name} of <{element.tag}> is no number: {text[:40]!r}", field=name, spec="RFC 3680 section 5.1"
        )
    return int(text)
