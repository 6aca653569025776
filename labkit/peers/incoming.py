"""What a phone does with requests that begin something: calls, messages, questions (RFC 3261 section 8.2)."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from labkit.errors import CallFailed
from labkit.peers.addressing import caller_uri
from labkit.peers.admission import answer_options
from labkit.peers.agent import Agent
from labkit.peers.call import Call
from labkit.peers.callee import is_usable_invite
from labkit.peers.dialog_state import contact_uri
from labkit.peers.mailbox import Mailbox
from labkit.peers.sms_phone import SmsPhone
from labkit.peers.transaction import ServerTransaction
from labkit.peers.ussd_session import UssdSession, begins_ussd, say_busy, ussd_call
from labkit.wire.sip import SipMessage, parse_uri
from labkit.wire.sms import CONTENT_TYPE

MAX_RINGING: Final = 16
"""Calls that may ring here at a time; one more is told 486."""


class Habits(Protocol):
    """What a phone does by itself; may change at any time."""

    auto_answer: bool
    """Whether calls are answered without being asked."""
    ring_s: float
    """How long they ring before that."""
    rtp: bool
    """Whether calls have real sound by default."""


class Incoming:
    """Answers what comes, and keeps calls and messages until somebody asks for them."""

    def __init__(
        self,
        agent: Agent,
        habits: Habits,
        *,
        users: set[str],
        contact_user: str,
        message_types: tuple[str, ...],
        ring_limit_s: float,
        sms: SmsPhone | None = None,
    ) -> None:
        self.calls: Mailbox[Call] = Mailbox()
        """Calls that nobody has asked for yet."""
        self.dialogues: Mailbox[UssdSession] = Mailbox()
        """USSD dialogues that the network began and nobody has asked for yet."""
        self.messages: Mailbox[SipMessage] = Mailbox()
        """Messages that nobody has asked for yet."""
        self._agent = agent
        self._habits = habits
        self._users = users
        self._contact_user = contact_user
        self._message_types = message_types
        self._ring_limit_s = ring_limit_s
        self._sms = sms
        self._ussd: UssdSession | None = None

    @property
    def in_ussd(self) -> bool:
        """Whether a USSD dialogue is going on, whoever began it; there is one at a time (TS 24.090 section 6.1)."""
        return self._ussd is not None and self._ussd.state != "ended"

    def begin_ussd(self, session: UssdSession) -> None:
        """Note a dialogue that the phone itself begins.

        Raises:
            CallFailed: another one is going on.
        """
        if self.in_ussd:
            raise CallFailed("A USSD dialogue is going on already: answer or cancel() that one first.")
        self._ussd = session

    def forget_ussd(self) -> None:
        """The dialogue that the phone began has come to nothing: the phone is free."""
        self._ussd = None

    def serve(self, transaction: ServerTransaction) -> None:
        """Take a request outside of every dialog."""
        request = transaction.request
        user = parse_uri(request.request_uri).user
        if user and user not in self._users:
            transaction.respond(404)
        elif request.method == "INVITE" and begins_ussd(transaction):
            self._serve_ussd(transaction)
        elif request.method == "INVITE":
            self._serve_invite(transaction)
        elif request.method == "MESSAGE":
            self._serve_message(transaction)
        else:
            answer_options(transaction, self._agent)

    def _serve_message(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if self._sms is not None and request.content_type == CONTENT_TYPE:
            transaction.respond(200)
            self._sms.receive(request)
            return
        if request.body and request.content_type not in self._message_types:
            transaction.respond(415, ("Accept", ", ".join(self._message_types)))
            return
        transaction.respond(200)
        self.messages.put(request)

    def _serve_invite(self, transaction: ServerTransaction) -> None:
        if not is_usable_invite(transaction, self._agent):
            return
        calls = [call for call in self._agent.calls.values() if isinstance(call, Call)]
        if sum(call.state == "ringing" for call in calls) >= MAX_RINGING:
            transaction.respond(486)
            return
        habits, caller = self._habits, caller_uri(transaction.request)
        call = Call(self._agent, "incoming", caller, self._contact_user, rtp=habits.rtp)
        at_once = habits.auto_answer and habits.ring_s <= 0
        call.take(transaction, self._ring_limit_s, ring=not at_once)
        self.calls.put(call)
        if habits.auto_answer:
            self._agent.spawn(self._answer_later(call))

    def _serve_ussd(self, transaction: ServerTransaction) -> None:
        """Take a USSD dialogue at once, without ringing (TS 24.390 section 4.5.4); one at a time."""
        if not contact_uri(transaction.request):
            transaction.respond(400, reason="Missing Contact")
            return
        busy = self.in_ussd
        call = ussd_call(self._agent, "incoming", caller_uri(transaction.request), self._contact_user)
        call.take(transaction, self._ring_limit_s, ring=False)
        if busy:
            self._agent.spawn(say_busy(call))
            return
        session = UssdSession(self._agent, call, "en")
        self._ussd = session
        self._agent.spawn(self._begin(session, call, transaction.request))

    async def _begin(self, session: UssdSession, call: Call, invite: SipMessage) -> None:
        await call.answer()
        session.begin_with(invite)
        self.dialogues.put(session)

    async def _answer_later(self, call: Call) -> None:
        if self._habits.ring_s > 0:
            await asyncio.sleep(self._habits.ring_s)
        if call.state == "ringing":
            await call.answer()
