"""One USSD dialogue on the side of the gateway (TS 24.390 sections 4.5.3 and 4.5.4).

200, ACK        the call without sound stands
INFO            a question; then the gateway waits for the user
INFO            the user's answer
BYE             the last text, or an error code: nobody answers it
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from labkit.errors import CallFailed, XmlError
from labkit.peers.addressing import caller_uri
from labkit.peers.agent import Agent
from labkit.peers.call import Call
from labkit.peers.caller import Dial
from labkit.peers.mailbox import Mailbox
from labkit.peers.transaction import ServerTransaction
from labkit.peers.transport import Endpoint
from labkit.peers.ussd_menu import DEFAULT_LANGUAGE, Menu
from labkit.peers.ussd_mistakes import info_with
from labkit.peers.ussd_session import ACCEPT, ussd_call, ussd_part
from labkit.wire.multipart import body_of_type
from labkit.wire.sip import SipMessage
from labkit.wire.ussd import CONTENT_TYPE, UssdData, code_in, parse_ussd

THINKING_S: Final = 0.02
"""Pause before each text, as an application takes one; over UDP it might overtake the message that goes before it."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How a gateway behaves."""

    patience_s: float
    """How long it waits for a user."""
    info_limit_s: float
    """How long it waits for the response to an INFO."""
    mistake: str
    """What its INFOs have wrong."""


class _Over(Exception):
    """The dialogue is over: in words, and with an error code for the phone where it still listens."""

    def __init__(self, why: str, code: int | None = None, *, heard: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.heard = heard
        """Whether the phone knows already: it has hung up."""


class Dialogue:
    """One dialogue with one user."""

    def __init__(self, agent: Agent, call: Call, user: str, habits: Habits, code: str = "") -> None:
        self.user, self.code = user, code
        self.language = ""
        self.said: list[tuple[str, str]] = []
        self.ended = ""
        self.error_code: int | None = None
        self.at_end: Callable[[], None] | None = None
        """What to do when it is over."""
        self._agent, self._call, self._habits = agent, call, habits
        self._answers: Mailbox[UssdData | _Over] = Mailbox()
        call.carries(self._take_info, self._take_bye)

    @classmethod
    def of_user(cls, agent: Agent, name: str, server: ServerTransaction, habits: Habits) -> Dialogue:
        """The dialogue that a phone's INVITE begins."""
        request = server.request
        user = caller_uri(request)
        call = ussd_call(agent, "incoming", user, name)
        call.take(server, ring=False)
        return cls(agent, call, user, habits, code_in(request.request_uri))

    @classmethod
    def to_user(cls, agent: Agent, name: str, uri: str, habits: Habits) -> Dialogue:
        """A dialogue that the gateway itself begins."""
        return cls(agent, ussd_call(agent, "outgoing", uri, name), uri, habits)

    # ---- a dialogue that the user begins ----------------------------------------------------------------------------
    async def serve(self, server: ServerTransaction, menu: Menu) -> None:
        """Answer the INVITE, and lead the user through the menu."""
        try:
            await self._call.answer()
            self._listen(_read(server.request))
            await self._walk(menu)
        except _Over as over:
            await self._finish(str(over), over.code, heard=over.heard)
        except CallFailed as error:
            await self._finish(str(error), 1)

    async def _walk(self, menu: Menu) -> None:
        while True:
            text = menu.text_in(self.language)
            if text is None:
                raise _Over(f"there is no menu in the language {self.language!r}", 2)
            said = UssdData(text, self.language or DEFAULT_LANGUAGE)
            if menu.is_last:
                await self._last_words(said)
                return
            answer = await self._ask(said)
            menu = menu.after(answer.text or "") or menu  # what it does not have is asked again

    # ---- a dialogue that the gateway begins -------------------------------------------------------------------------
    async def ask_first(self, said: UssdData, identity: str, destination: Endpoint, timeout_s: float) -> UssdData:
        """Begin a dialogue with a text, take what comes back, and end it.

        Args:
            identity: who says it.
            destination: first hop of the INVITE.
        Raises:
            CallFailed: the phone is not there or does not want to, answered with an error, or nobody typed in time.
        """
        self.language = said.language
        self._note("gateway", said)
        await self._call.dial(
            Dial(
                from_uri=identity,
                routes=(),
                headers=(f"P-Asserted-Identity: <{identity}>", ACCEPT),
                destination=destination,
                enclosed=(ussd_part(said),),
            )
        )
        try:
            await self._call.wait_state("answered", timeout_s)
            answer = await self._hear(timeout_s)
        except _Over as over:
            await self._finish(str(over), over.code, heard=over.heard)
            raise CallFailed(f"The USSD was not answered: {over}.") from over
        except CallFailed as error:
            if self._call.state in ("calling", "ringing"):
                self._agent.spawn(self._call.cancel())
            self._done(str(error), None)
            raise
        await self._finish("answered", None)
        return answer

    # ---- saying and hearing -----------------------------------------------------------------------------------------
    async def _ask(self, said: UssdData) -> UssdData:
        await asyncio.sleep(THINKING_S)
        self._note("gateway", said)
        info = info_with(said, self._habits.mistake)
        sent = self._call.any_info(info.headers, info.body, info.content_type, info.as_if)
        try:
            await asyncio.wait_for(sent, self._habits.info_limit_s)
        except TimeoutError:
            raise _Over("no response to the INFO", 1) from None
        except CallFailed as error:
            raise _Over(
                f"the INFO was answered {error.status} {error.reason}" if error.status else str(error), 1
            ) from error
        return await self._hear(self._habits.patience_s)

    async def _hear(self, timeout_s: float) -> UssdData:
        try:
            answer = await self._answers.take(timeout_s, "the user did not answer")
        except CallFailed:
            raise _Over("the user did not answer in time", 1) from None
        if isinstance(answer, _Over):
            raise answer
        self._note("phone", answer)
        if answer.error_code is not None:
            raise _Over(f"the phone says error-code {answer.error_code}: {answer.error}", answer.error_code)
        return answer

    def _listen(self, said: UssdData) -> None:
        """Take what the INVITE says: the language, and the code once more."""
        self.language = said.language.lower()
        self._note("phone", said)

    def _note(self, who: str, said: UssdData) -> None:
        if said.text is not None:
            self.said.append((who, said.text))

    # ---- the end ----------------------------------------------------------------------------------------------------
    async def _last_words(self, said: UssdData) -> None:
        await asyncio.sleep(THINKING_S)
        self._note("gateway", said)
        await self._call.bye(said.to_bytes(), CONTENT_TYPE)
        self._done("the last text is in the BYE", None)

    async def _finish(self, why: str, code: int | None, *, heard: bool = False) -> None:
        """End it with an error code, or without a word."""
        if not heard and self._call.state == "answered":
            await asyncio.sleep(THINKING_S)
            body = b"" if code is None else UssdData(error_code=code).to_bytes()
            with contextlib.suppress(CallFailed):
                await self._call.bye(body, CONTENT_TYPE)
        self._done(why, code)

    def _done(self, why: str, code: int | None) -> None:
        self.ended, self.error_code = why, code
        if self.at_end is not None:
            self.at_end()

    def _take_info(self, info: SipMessage) -> None:
        try:
            self._answers.put(_read(info))
        except _Over as over:
            self._answers.put(over)

    def _take_bye(self, bye: SipMessage) -> None:
        self._answers.put(_Over("the phone hung up", heard=True))


def _read(request: SipMessage) -> UssdData:
    try:
        return parse_ussd(body_of_type(request, CONTENT_TYPE))
    except XmlError as error:
        raise _Over(f"the {request.method} carries no USSD text: {error}", 3) from error
