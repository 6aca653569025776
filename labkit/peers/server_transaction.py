"""A request of somebody else's: recognised when it comes again, and answered the same (RFC 3261 section 17.2)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from labkit.peers.timers import Timers
from labkit.peers.transport import Endpoint, TcpLink, Transport
from labkit.wire.sip import REASONS, SipMessage, Via, split_list

MAGIC_COOKIE = "z9hG4bK"
"""What every branch begins with since RFC 3261 (section 8.1.1.7)."""
ServerKey = tuple[Any, ...]
"""What a request is matched by (RFC 3261 section 17.2.3)."""


class ServerLayer(Protocol):
    """What a server transaction needs of the layer that it belongs to."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    timers: Timers
    servers: dict[Any, ServerTransaction]

    def linger(self, table: dict[Any, Any], key: Any, merge_key: ServerKey = ()) -> None:
        """Keep a finished transaction for 64*T1 more."""


class ServerTransaction:
    """One request of somebody else's, and what was answered to it (RFC 3261 section 17.2)."""

    __slots__ = (
        "_deadline",
        "_due",
        "_interval",
        "_layer",
        "_timer",
        "key",
        "link",
        "merge_key",
        "on_cancel",
        "reply_to",
        "request",
        "said",
        "status",
        "to_tag",
    )

    def __init__(
        self, layer: ServerLayer, request: SipMessage, key: ServerKey, reply_to: Endpoint, link: TcpLink | None
    ) -> None:
        self._layer = layer
        self.request = request
        """The request; its top Via has gained `received` and `rport`."""
        self.key = key
        self.merge_key: ServerKey = ()
        self.reply_to = reply_to
        """Where answers go."""
        self.link = link
        self.to_tag = secrets.token_hex(4)
        """The tag in To of every answer, where the request has none (RFC 3261 section 8.2.6.2)."""
        self.on_cancel: Callable[[], None] | None = None
        """What to do when the request is cancelled; None once it has been answered, or when it cannot be."""
        self.status = 0
        """The last status that was answered, 0 before the first one."""
        self.said = b""
        """The last answer as bytes."""
        self._timer: asyncio.TimerHandle | None = None
        self._interval = layer.timers.t1_s
        self._deadline = self._due = 0.0

    def respond(
        self,
        status: int,
        *headers: tuple[str, str],
        reason: str | None = None,
        body: bytes = b"",
        dialog: bool = False,
    ) -> SipMessage:
        """Answer the request and return the answer; after a final one nothing more is said (the first one stays).

        Args:
            status: status code.
            headers: what the answer carries beyond what it copies from the request.
            reason: reason phrase, the usual one by default.
            body: what the answer carries; its Content-Type is among the headers.
            dialog: whether the answer makes a dialog and so copies Record-Route (RFC 3261 section 12.1.1).
        """
        response = build_response(self.request, status, headers, reason, body, self.to_tag, dialog)
        if self.status >= 200:
            return response
        self.status = status
        self.said = response.to_bytes()
        self._layer.transport.send(self.said, self.reply_to, self.link)
        if status >= 200:
            self._layer.linger(self._layer.servers, self.key, self.merge_key)
            if self.request.method == "INVITE" and status >= 300:
                self._await_ack()
        return response

    def repeat(self) -> None:
        """The request came again: say the same again. Repeating a 2xx to an INVITE is the call's own work."""
        if self.said and not (self.request.method == "INVITE" and 200 <= self.status < 300):
            self._layer.transport.send(self.said, self.reply_to, self.link)

    def repeat_success(self) -> None:
        """Say a 2xx to an INVITE once more; the call does this until the ACK comes."""
        self._layer.transport.send(self.said, self.reply_to, self.link)

    def acknowledged(self) -> None:
        """The ACK to a refusal has come: stop repeating it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _await_ack(self) -> None:
        """Start timer G and timer H."""
        loop, timers = self._layer.loop, self._layer.timers
        self._deadline = loop.time() + timers.give_up_s
        self._due = loop.time() + timers.t1_s
        if self.link is None:
            self._timer = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        now = self._layer.loop.time()
        if now >= self._deadline:
            self._timer = None
            return
        self._layer.transport.send(self.said, self.reply_to, self.link)
        self._interval = min(2 * self._interval, self._layer.timers.t2_s)
        self._due = min(self._due + self._interval, self._deadline)
        self._timer = self._layer.loop.call_at(self._due, self._fire)


def build_response(
    request: SipMessage,
    status: int,
    headers: tuple[tuple[str, str], ...] = (),
    reason: str | None = None,
    body: bytes = b"",
    to_tag: str = "",
    dialog: bool = False,
) -> SipMessage:
    """Make the response to a request: Via, From, To, Call-ID and CSeq are copied (RFC 3261 section 8.2.6.2)."""
    copied: list[tuple[str, str]] = [("Via", value) for value in request.lines("via")]
    if dialog:
        copied += [("Record-Route", value) for value in request.lines("record-route")]
    to = request.header("to") or ""
    if to_tag and status > 100 and request.to_tag is None:
        to = f"{to};tag={to_tag}"
    copied += [("From", request.header("from") or ""), ("To", to)]
    copied += [(name, request.header(name) or "") for name in ("Call-ID", "CSeq")]
    if status == 100 and (stamp := request.header("timestamp")):
        copied.append(("Timestamp", stamp))
    phrase = REASONS.get(status, "Unknown") if reason is None else reason
    return SipMessage.response(status, (*copied, *headers), body, phrase)


def server_key(request: SipMessage, via: Via, method: str | None = None) -> ServerKey:
    """What a request is recognised by: branch, sent-by and method (an ACK belongs to its INVITE)."""
    wanted = method or ("INVITE" if request.method == "ACK" else request.method)
    branch = via.param("branch") or ""
    if len(branch) > len(MAGIC_COOKIE) and branch.startswith(MAGIC_COOKIE):
        return (branch, via.host.lower(), via.port, wanted)
    # RFC 2543 style, without a branch that is unique (RFC 3261 section 17.2.3)
    return (request.call_id, request.cseq, request.from_tag, request.header("via"), wanted)


def with_source(request: SipMessage, via: Via, source: Endpoint) -> SipMessage:
    """Note in the top Via where the request came from: received (RFC 3261 section 18.2.1) and rport (RFC 3581)."""
    wants_rport = via.param("rport") == ""
    if via.host == source[0] and not wants_rport:
        return request
    top, *others = split_list(request.header("via") or "")
    if wants_rport:
        pieces = (f"rport={source[1]}" if one.strip().lower() == "rport" else one for one in top.split(";"))
        top = ";".join(pieces)
    top = f"{top};received={source[0]}"
    headers = list(request.headers)
    index = next(number for number, (name, _) in enumerate(headers) if name.lower() in ("via", "v"))
    headers[index] = (headers[index][0], ", ".join([top, *others]))
    return SipMessage(request.method, request.request_uri, 0, "", tuple(headers), request.body, request.version)


def reply_to(via: Via, source: Endpoint) -> Endpoint:
    """Where answers go: back to the source; its port only counts if rport is asked for (RFC 3581 section 4)."""
    if via.param("rport") is not None:
        return source
    return source[0], via.port or 5060
