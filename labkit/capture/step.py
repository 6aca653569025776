"""One message and its place in the story of a capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    """SIP, else Diameter, JSON-RPC or evapi."""
    request: bool
    """Request, else response or answer."""
    name: str
    """SIP: the method, of a response the method of its CSeq. Diameter: UAR, UAA, ... JSON-RPC: the method, of an
    answer nothing. evapi: the event."""
    status: int = 0
    """SIP status code, 0 in requests."""
    call_id: str = ""
    """Call-ID; of JSON-RPC and evapi the call that they are about; empty in Diameter."""
    cseq: int = 0
    """CSeq number."""
    from_tag: str = ""
    """From tag: tells which side of a dialog asked."""
    to_tag: str = ""
    """To tag."""
    branches: tuple[str, ...] = ()
    """Branches of the Via headers, top first."""
    ids: tuple[Any, ...] = ()
    """Diameter: hop-by-hop and end-to-end identifier; else what question and answer have in common."""
    users: frozenset[str] = frozenset()
    """Everybody the message is about."""
    sms: bool = False
    """A MESSAGE with a short message in it, or with a report on one."""
    reply_to: str = ""
    """Of such a MESSAGE the Call-ID of the one that it answers (In-Reply-To)."""
    protocol: str = "sip"
    """As in the table."""
    about: str = ""
    """The account that JSON-RPC or evapi names, the subscriber of credit control."""
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
