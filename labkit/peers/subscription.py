"""A phone that watches a registration, its own as a rule: SUBSCRIBE and NOTIFY for "reg" (RFC 6665, RFC 3680).

TS 24.229 section 5.1.1.3 has every phone do so right after it has registered: it is how the network tells a phone that
it has been thrown out. States, as Subscription-State writes them:

    pending      asked, and nobody has decided
    active       NOTIFYs come, one at once and one for each change
    terminated   over: it ran out, was ended here, or the other side ended it
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from labkit.errors import CallFailed, XmlError
from labkit.peers.agent import Agent
from labkit.peers.dialog_state import Dialog, caller_dialog, notified_dialog
from labkit.peers.failure import refused
from labkit.peers.mailbox import MAX_KEPT, Mailbox
from labkit.peers.standalone import Standalone
from labkit.peers.transaction import ServerTransaction
from labkit.wire.reginfo import CONTENT_TYPE, RegInfo, RegistrationState, merge, parse_reginfo
from labkit.wire.sip import SipMessage, parse_message, parse_params


@dataclass(frozen=True, slots=True)
class Notify:
    """One NOTIFY: what it says of the subscription, and of the registration that is watched."""

    state: str
    """State of the subscription: "active", "pending" or "terminated"."""
    reason: str
    """Why it is terminated ("deactivated", "timeout", "noresource", ...), empty otherwise."""
    reginfo: RegInfo | None
    """Its body; None when it had none."""
    retry_after_s: int | None = None
    """For a terminated one: seconds until it is worth asking again."""
    expires_s: int | None = field(repr=False, default=None)
    """Seconds that the subscription still lasts."""
    cseq: int = field(repr=False, default=0)
    """Its CSeq number."""
    raw: bytes = field(repr=False, default=b"")
    """The whole request."""

    def tells_of(self, state: str) -> bool:
        """Whether it tells of a registration in this state."""
        return self.reginfo is not None and any(one.state == state for one in self.reginfo.registrations)


class EventSubscription:
    """One subscription to reg-event. `await ue.subscribe_registration()` makes one."""

    def __init__(self, agent: Agent, uri: str, identity: str, contact_user: str) -> None:
        self.uri = uri
        """The public identity that is watched."""
        self.call_id = secrets.token_hex(10)
        """Call-ID of the subscription's messages."""
        self._agent = agent
        self.on_news: Callable[[RegInfo], None] | None = None
        """Gets every document that is new."""
        self._identity = identity
        self._contact = f"Contact: <{agent.contact(contact_user)}>"
        self._tag = secrets.token_hex(4)
        self._state = "pending"
        self._reason = ""
        self._dialog: Dialog | None = None
        self._known: RegInfo | None = None
        self._notifies: deque[Notify] = deque(maxlen=MAX_KEPT)
        self._untaken: Mailbox[Notify] = Mailbox()
        self._expiry: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<subscription to reg of {self.uri}, {self._state}>"

    # ---- what a lesson asks -----------------------------------------------------------------------------------------
    @property
    def state(self) -> str:
        """One of "pending", "active", "terminated"."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it is terminated: the other side's word, or "expired" or "ended here"."""
        return self._reason

    @property
    def notifies(self) -> list[Notify]:
        """Every NOTIFY that has come, in order."""
        return list(self._notifies)

    @property
    def registrations(self) -> list[RegistrationState]:
        """What is known now of the watched registrations, out of all NOTIFYs together."""
        return list(self._known.registrations) if self._known is not None else []

    async def wait_notify(self, state: str = "", timeout_s: float = 10.0) -> Notify:
        """Wait for the next NOTIFY after the first one and after those that this has returned before.

        Args:
            state: wait for one that tells of a registration in this state ("active", "terminated"), whatever comes
                before; versions of Kamailio differ in what they repeat.
            timeout_s: how long to wait.
        Raises:
            CallFailed: none came in time.
        """
        what = f" of a registration that is {state}" if state else ""
        return await self._untaken.take(
            timeout_s,
            f"No NOTIFY{what} came to {self._identity}",
            lambda notify: not state or notify.tells_of(state),
        )

    async def refresh(self, expires: int = 600) -> SipMessage:
        """Subscribe once more within the dialog, and return the 200.

        Raises:
            CallFailed: the subscription is over, or the other side refused.
        """
        if self._state == "terminated":
            raise CallFailed(f"The subscription to {self.uri} is over ({self._reason}): subscribe anew.")
        response = await self._subscribe_again(expires)
        self._expire_after(_number(response.header("expires"), expires))
        return response

    async def unsubscribe(self) -> SipMessage:
        """End the subscription (Expires: 0), and return the 200. The last NOTIFY may still come after it.

        Raises:
            CallFailed: it is over already, or the other side refused.
        """
        if self._state == "terminated":
            raise CallFailed(f"The subscription to {self.uri} is over already ({self._reason}).")
        response = await self._subscribe_again(0)
        self._terminate("ended here")
        return response

    # ---- subscribing ------------------------------------------------------------------------------------------------
    async def begin(self, standalone: Standalone, expires: int, timeout_s: float) -> None:
        """Send the SUBSCRIBE and wait for the first NOTIFY; the phone does this in `UE.subscribe_registration`."""
        self._agent.subscriptions[self.call_id, self._tag] = self
        try:
            try:
                request, response = await self._ask(standalone, expires)
            except CallFailed as error:
                shortest = _number(parse_message(error.raw).header("min-expires"), 0) if error.status == 423 else 0
                if shortest <= expires:
                    raise
                request, response = await self._ask(standalone, shortest)
            self._take_response(request, response, expires)
            await self._first_notify(timeout_s)
        except BaseException:
            self._terminate("refused")
            self._forget()
            raise

    async def _ask(self, standalone: Standalone, expires: int) -> tuple[SipMessage, SipMessage]:
        return await standalone.ask(
            "SUBSCRIBE",
            self.uri,
            self._identity,
            (*self._lines(expires), f"P-Preferred-Identity: <{self._identity}>"),
            call_id=self.call_id,
            tag=self._tag,
        )

    def _lines(self, expires: int) -> tuple[str, ...]:
        return (self._contact, "Event: reg", f"Accept: {CONTENT_TYPE}", f"Expires: {expires}")

    def _take_response(self, request: SipMessage, response: SipMessage, asked_s: int) -> None:
        """The 2xx knows the whole route; a NOTIFY that was faster does not."""
        early = self._dialog
        self._dialog = caller_dialog(request, response)
        if early is not None and early.remote_tag == self._dialog.remote_tag:
            self._dialog = replace(self._dialog, remote_cseq=early.remote_cseq)
        if self._state != "terminated":
            self._expire_after(_number(response.header("expires"), asked_s))

    async def _first_notify(self, timeout_s: float) -> None:
        """RFC 6665 section 4.1.2.4: a NOTIFY follows at once."""
        await self.wait_notify(timeout_s=timeout_s)

    async def _subscribe_again(self, expires: int) -> SipMessage:
        assert self._dialog is not None
        self._dialog = self._dialog.next_request()
        raw, branch, where = self._agent.compose_in(self._dialog, "SUBSCRIBE", self._lines(expires))
        response = await self._agent.request(raw, branch, "SUBSCRIBE", where)
        if response.status >= 300:
            if response.status in (404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604):
                self._terminate(f"{response.status} {response.reason}")  # RFC 6665 section 4.1.2.2, RFC 5057 table
            raise refused(parse_message(raw), response)
        self._dialog = self._dialog.with_target_of(response)
        return response

    # ---- being told -------------------------------------------------------------------------------------------------
    def receive(self, server: ServerTransaction) -> None:
        """Take a NOTIFY of this subscription (RFC 6665 section 4.1.3)."""
        request = server.request
        if self._dialog is not None and request.from_tag != self._dialog.remote_tag:
            server.respond(481)  # a second notifier: reg-event has one (RFC 3680 section 4.9)
            return
        if self._dialog is not None and (request.cseq or 0) < self._dialog.remote_cseq:
            server.respond(500, reason="CSeq lower than the last one")
            return
        said = request.header("subscription-state")
        if said is None:
            server.respond(400, reason="Missing Subscription-State")
        elif request.body and request.content_type != CONTENT_TYPE:
            server.respond(415, ("Accept", CONTENT_TYPE))
        else:
            self._take_notify(server, said)

    def _take_notify(self, server: ServerTransaction, said: str) -> None:
        request = server.request
        try:
            document = parse_reginfo(request.body) if request.body else None
        except XmlError as error:
            server.respond(400, reason=f"Unreadable reginfo: {error}"[:120])
            return
        server.respond(200)
        dialog = self._dialog or notified_dialog(request)
        self._dialog = replace(dialog.with_target_of(request), remote_cseq=request.cseq or 0)
        state, _, rest = said.partition(";")
        params = dict(parse_params(rest))
        notify = Notify(
            state=state.strip().lower(),
            reason=params.get("reason") or "",
            reginfo=document,
            retry_after_s=_number(params.get("retry-after"), -1) if "retry-after" in params else None,
            expires_s=_number(params.get("expires"), 0) if "expires" in params else None,
            cseq=request.cseq or 0,
            raw=request.to_bytes(),
        )
        self._learn(notify)
        self._notifies.append(notify)
        self._untaken.put(notify)

    def _learn(self, notify: Notify) -> None:
        if notify.reginfo is not None:
            self._learn_registrations(notify.reginfo)
        if notify.state == "terminated":
            self._terminate(notify.reason or "no reason given")
            self._forget()
        elif self._state != "terminated":
            self._state = notify.state
            if notify.expires_s is not None:
                self._expire_after(notify.expires_s)

    def _learn_registrations(self, document: RegInfo) -> None:
        """Take a document, unless it is older than the last; when one was lost, ask for all (RFC 3680 section 5.2)."""
        known = self._known
        if known is not None and document.version <= known.version:
            return
        self._known = merge(known, document)
        if self.on_news is not None:
            self.on_news(document)
        if known is not None and document.state == "partial" and document.version > known.version + 1:
            self._agent.spawn(self.refresh())

    # ---- the end ----------------------------------------------------------------------------------------------------
    def _expire_after(self, seconds: int) -> None:
        self._stop_clock()
        self._expiry = self._agent.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        self._terminate("expired")
        self._forget()

    def _terminate(self, reason: str) -> None:
        """Note the end; the last NOTIFY is still answered for a while."""
        if self._state == "terminated":
            return
        self._state, self._reason = "terminated", reason
        self._stop_clock()
        self._expiry = self._agent.loop.call_later(self._agent.timers.give_up_s, self._forget)

    def _forget(self) -> None:
        self._stop_clock()
        self._agent.subscriptions.pop((self.call_id, self._tag), None)

    def _stop_clock(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def switch_off(self) -> None:
        """End without a word: the phone is switched off."""
        self._terminate("the phone was switched off")
        self._forget()


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 11 else otherwise
