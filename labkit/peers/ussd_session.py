"""A USSD dialogue as the phone has it: a string out, texts in (TS 24.390 sections 4.5.2 to 4.5.4).

    session = await phone.ussd("*100#")     # INVITE with the string; 200; the first text in an INFO, or in the BYE
    session.text
    await session.reply("1")                # INFO with the answer; the next text in an INFO, or in the BYE

Underneath is a call without sound: every stream of its session description has port 0.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from labkit.errors import CallFailed, SipError, XmlError
from labkit.peers.agent import Agent
from labkit.peers.call import Call
from labkit.peers.info import info_lines, packages_in
from labkit.peers.mailbox import Mailbox
from labkit.peers.transaction import ServerTransaction
from labkit.wire.multipart import Part, body_of_type
from labkit.wire.sip import SipMessage
from labkit.wire.ussd import CONTENT_TYPE, INFO_PACKAGE, UssdData, parse_ussd

READING_S: Final = 0.02
"""Pause before an answer: nobody types faster, and over UDP it might overtake the 200 that goes before it."""
_POLITE_S: Final = 2.0
"""So long a phone that has sent an error code waits for the network's BYE."""
ACCEPT: Final = f"Accept: application/sdp, application/3gpp-ims+xml, {CONTENT_TYPE}"
"""What a USSD INVITE says that it takes (annex A.1)."""


class UssdSession:
    """One USSD dialogue on a phone."""

    def __init__(self, agent: Agent, call: Call, language: str) -> None:
        """Watch a call that carries a dialogue; `UE.ussd` and `UE.wait_ussd` do this.

        Args:
            language: what the phone's own texts say that they are in.
        """
        self._agent = agent
        self._call = call
        self._language = language
        self._open = self._over = self._told = False
        self._said: list[UssdData] = []
        self._arrivals: Mailbox[UssdData | CallFailed] = Mailbox()
        call.carries(self._take_info, self._take_bye)

    def __repr__(self) -> str:
        return f"<USSD dialogue, {self.state}: {self.text!r}>"

    # ---- what it is -------------------------------------------------------------------------------------------------
    @property
    def state(self) -> str:
        """ "waiting" for the network, "asked" by it (the phone may answer), or "ended"."""
        if self._call.state == "ended":
            return "ended"
        return "asked" if self._open else "waiting"

    @property
    def text(self) -> str:
        """What the network said last."""
        return next((said.text for said in reversed(self._said) if said.text is not None), "")

    @property
    def texts(self) -> list[str]:
        """Everything that the network said, in order."""
        return [said.text for said in self._said if said.text is not None]

    @property
    def language(self) -> str:
        """Language of the last text, as the network named it."""
        return next((said.language for said in reversed(self._said) if said.language), "")

    @property
    def operation(self) -> str:
        """What the network wants in a dialogue that it began: "request" (an answer) or "notify"; else empty."""
        return next((said.operation for said in reversed(self._said) if said.operation), "")

    @property
    def call(self) -> Call:
        """The call underneath."""
        return self._call

    # ---- what can be done with it -----------------------------------------------------------------------------------
    async def reply(self, text: str, timeout_s: float = 10.0) -> str:
        """Answer the network's question, and return what it says to that; empty when it ends without a word.

        Raises:
            CallFailed: the dialogue is over, the answer was refused, the network ended with an error or said nothing.
        """
        self._open = False
        await asyncio.sleep(READING_S)
        body = UssdData(text, self._language).to_bytes()
        await self._call.info(INFO_PACKAGE, body, CONTENT_TYPE)
        return await self.wait_text(timeout_s)

    async def wait_text(self, timeout_s: float = 10.0) -> str:
        """Wait for the network's next text and return it; empty when it ends the dialogue without a word.

        Raises:
            CallFailed: it ended with an error, sent what nobody can read, or said nothing in time.
        """
        said = await self._arrivals.take(timeout_s, "The network sent no USSD text")
        if self._over:
            await self._call.wait_state("ended", timeout_s)  # the BYE is answered a moment after it has come
        if isinstance(said, CallFailed):
            raise said
        return said.text or ""

    async def send(
        self, body: str | bytes, content_type: str = CONTENT_TYPE, package: str = INFO_PACKAGE
    ) -> SipMessage:
        """Send an INFO as it is written here, right or wrong, and return its answer.

        Args:
            body: its body, whole.
            content_type: its media type.
            package: Info-Package; "" leaves the header out.
        Raises:
            CallFailed: it was refused.
        """
        raw = body.encode() if isinstance(body, str) else body
        return await self._call.any_info(info_lines(package) if package else (), raw, content_type)

    async def cancel(self) -> SipMessage:
        """End the dialogue by a BYE without a word, and return the answer to it."""
        return await self._call.bye()

    async def wait_end(self, timeout_s: float = 10.0) -> str:
        """Wait until the dialogue is over, and say why.

        Raises:
            CallFailed: it is not over in time.
        """
        await self._call.wait_state("ended", timeout_s)
        return self._call.end_reason

    async def give_up(self) -> None:
        """End a dialogue that has brought nothing to show, so that the phone is free again."""
        if self._told:  # the network has been told, and it is for the network to end it
            with contextlib.suppress(CallFailed):
                await self._call.wait_state("ended", _POLITE_S)
        if self._call.state == "answered":
            with contextlib.suppress(CallFailed):
                await self._call.bye()

    # ---- what comes -------------------------------------------------------------------------------------------------
    def begin_with(self, invite: SipMessage) -> None:
        """Take the text of a dialogue that the network began."""
        self._take(invite, "INVITE")
        self._arrivals.clear()  # nobody has to wait for it

    def _take_info(self, info: SipMessage) -> None:
        self._take(info, "INFO")

    def _take_bye(self, bye: SipMessage) -> None:
        self._over, self._open = True, False
        if bye.body:
            self._take(bye, "BYE")
        else:
            self._arrivals.put(UssdData())

    def _take(self, request: SipMessage, where: str) -> None:
        try:
            said = parse_ussd(body_of_type(request, CONTENT_TYPE))
            if said.text is None and said.error_code is None:
                raise XmlError("It has no <ussd-string> and no <error-code>", field="ussd-string")
        except XmlError as error:
            self._tell(UssdData(error_code=1), where)
            told = "" if where == "BYE" else " The phone shows nothing and answers with error-code 1."
            self._arrivals.put(CallFailed(f"The {where} carries no USSD text: {error}.{told}", raw=request.to_bytes()))
            return
        self._said.append(said)
        if said.error_code is not None:
            self._arrivals.put(CallFailed(f"The network says error-code {said.error_code}: {said.error}."))
            return
        self._open = where != "BYE" and said.operation != "notify"
        self._arrivals.put(said)
        if said.operation == "notify":
            self._tell(UssdData(operation="notify"), where)

    def _tell(self, said: UssdData, where: str) -> None:
        """Tell something that no user has to type, in an INFO beside everything else."""
        if where != "BYE":
            self._agent.spawn(self._tell_later(said))

    async def _tell_later(self, said: UssdData) -> None:
        self._told = True
        await asyncio.sleep(READING_S)
        await self._call.wait_state("answered", 10)
        await self._call.info(INFO_PACKAGE, said.to_bytes(), CONTENT_TYPE)


def ussd_call(agent: Agent, direction: str, remote: str, contact_user: str) -> Call:
    """Make a call that can carry a USSD dialogue: it takes the package, and has no sound."""
    return Call(agent, direction, remote, contact_user, info_packages=(INFO_PACKAGE,), silent=True)


def ussd_part(said: UssdData) -> Part:
    """What goes into an INVITE beside its session description; who does not know it may leave it unread."""
    return Part(CONTENT_TYPE, said.to_bytes(), "render;handling=optional")


def begins_ussd(server: ServerTransaction) -> bool:
    """Whether an INVITE begins a USSD dialogue: it takes the package, and brings a text."""
    request = server.request
    try:
        return INFO_PACKAGE in packages_in(request) and bool(body_of_type(request, CONTENT_TYPE))
    except SipError:
        return False


async def say_busy(call: Call) -> None:
    """Take a dialogue only to say that another one is going on, and end it (error-code 4)."""
    await call.answer()
    await asyncio.sleep(READING_S)
    await call.info(INFO_PACKAGE, UssdData(error_code=4).to_bytes(), CONTENT_TYPE)
    await call.bye()
