"""What two phones must remember of each other during a call (RFC 3261 section 12)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labkit.errors import SipError
from labkit.wire.sip import SipMessage, parse_address, parse_uri

DialogId = tuple[str, str, str]
"""(Call-ID, our tag, the other side's tag)."""


@dataclass(frozen=True, slots=True)
class Dialog:
    """The state of one dialog; a new value for every change."""

    call_id: str
    """Call-ID of all its messages."""
    local: str
    """Our From as written, with our tag."""
    remote: str
    """The other side's To or From as written, with its tag."""
    local_tag: str
    """Our tag."""
    remote_tag: str
    """The other side's tag; empty for one that still lives by RFC 2543."""
    route_set: tuple[str, ...]
    """Route headers for our requests, in the order in which they are passed."""
    remote_target: str
    """URI from the other side's Contact: the Request-URI of our requests."""
    local_cseq: int
    """CSeq number of our last request."""
    remote_cseq: int = -1
    """CSeq number of the other side's last request, -1 before the first one."""

    @property
    def id(self) -> DialogId:
        """What a message is found by."""
        return self.call_id, self.local_tag, self.remote_tag

    @property
    def request_line(self) -> tuple[str, tuple[str, ...]]:
        """Request-URI and Route headers of our requests (RFC 3261 section 12.2.1.1).

        A first hop without ;lr is a strict router of RFC 2543: it wants itself in the Request-URI.
        """
        if self.route_set and not _is_loose(self.route_set[0]):
            first = parse_address(self.route_set[0]).uri
            return first, (*self.route_set[1:], f"<{self.remote_target}>")
        return self.remote_target, self.route_set

    def next_request(self) -> Dialog:
        """The dialog with the CSeq of our next request."""
        return replace(self, local_cseq=self.local_cseq + 1)

    def with_target_of(self, message: SipMessage) -> Dialog:
        """The dialog after a message that may move the other side elsewhere: its Contact is the new target."""
        target = contact_uri(message)
        return replace(self, remote_target=target) if target else self


def caller_dialog(invite: SipMessage, response: SipMessage) -> Dialog:
    """The caller's dialog, made by a response with a To tag (RFC 3261 section 12.1.2)."""
    routes = tuple(reversed(response.all("record-route")))
    return Dialog(
        call_id=invite.call_id or "",
        local=invite.header("from") or "",
        remote=response.header("to") or "",
        local_tag=invite.from_tag or "",
        remote_tag=response.to_tag or "",
        route_set=routes,
        remote_target=contact_uri(response) or invite.request_uri,
        local_cseq=invite.cseq or 0,
    )


def callee_dialog(invite: SipMessage, local_tag: str) -> Dialog:
    """The callee's dialog, made by answering an INVITE with a tag (RFC 3261 section 12.1.1)."""
    return Dialog(
        call_id=invite.call_id or "",
        local=f"{invite.header('to')};tag={local_tag}",
        remote=invite.header("from") or "",
        local_tag=local_tag,
        remote_tag=invite.from_tag or "",
        route_set=invite.all("record-route"),
        remote_target=contact_uri(invite) or "",
        local_cseq=0,
        remote_cseq=invite.cseq or 0,
    )


def notified_dialog(notify: SipMessage) -> Dialog:
    """The subscriber's dialog, made by a NOTIFY that came before the 2xx to its SUBSCRIBE (RFC 6665 section 4.4.1)."""
    return Dialog(
        call_id=notify.call_id or "",
        local=notify.header("to") or "",
        remote=notify.header("from") or "",
        local_tag=notify.to_tag or "",
        remote_tag=notify.from_tag or "",
        route_set=notify.all("record-route"),
        remote_target=contact_uri(notify) or "",
        local_cseq=1,
        remote_cseq=notify.cseq or 0,
    )


def dialog_id(request: SipMessage) -> DialogId:
    """The dialog that a request within one belongs to, as its receiver names it."""
    return request.call_id or "", request.to_tag or "", request.from_tag or ""


def contact_uri(message: SipMessage) -> str:
    """URI of the first Contact, empty when there is none that can be read."""
    contacts = message.all("contact")
    try:
        return parse_address(contacts[0]).uri if contacts else ""
    except SipError:
        return ""


def _is_loose(route: str) -> bool:
    try:
        return parse_uri(parse_address(route).uri).param("lr") is not None
    except SipError:
        return True
