"""A USSD gateway, an application server at the S-CSCF (TS 24.390: USSI AS): the side that shows menus.

It is the end of a call, not a proxy: it answers the INVITE that brings what the user dialled, asks by INFO in the
dialog that this has made, takes the answers by INFO, and says the last thing in the BYE. What it says comes from menus,
one for each code (`labkit.peers.ussd_menu`). It can begin a dialogue by itself as well (`ask`, `notify`), and do most
things wrong on purpose (`labkit.peers.ussd_mistakes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from labkit.errors import LessonError
from labkit.peers.addressing import dialled_uri
from labkit.peers.admission import answer_options
from labkit.peers.agent import Agent
from labkit.peers.application_role import ApplicationRole
from labkit.peers.dialog_state import contact_uri
from labkit.peers.mailbox import Mailbox
from labkit.peers.transaction import ServerTransaction, Timers
from labkit.peers.transport import Endpoint
from labkit.peers.ussd_dialogue import Dialogue, Habits
from labkit.peers.ussd_menu import DEMO_MENU, Menu, read_menu
from labkit.peers.ussd_mistakes import MISTAKES
from labkit.peers.ussd_session import begins_ussd
from labkit.wire.ussd import CONTENT_TYPE, UssdData, code_in

METHODS: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO"
"""Methods that it serves."""
MAX_KEPT: Final = 256
"""Dialogues that are kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class UssdRecord:
    """One dialogue, as the gateway saw it."""

    user: str
    """With whom: the identity that the network asserts."""
    code: str
    """What was dialled; empty for a dialogue that the gateway began."""
    language: str
    """Language that the phone asked for."""
    said: tuple[tuple[str, str], ...]
    """(who, text) in order; who is "gateway" or "phone"."""
    ended: str
    """How it ended, in words; empty while it lasts."""
    error_code: int | None = field(default=None, repr=False)
    """Error code, whoever said it; None without."""


class UssdGateway(ApplicationRole):
    """One gateway on one UDP port."""

    def __init__(
        self,
        name: str,
        *,
        address: str,
        port: int,
        realm: str = "",
        icscf: Endpoint | None = None,
        menus: Mapping[str, Any] | None = None,
        patience_s: float = 60.0,
        info_limit_s: float = 5.0,
        mistake: str = "",
        timers: Timers | None = None,
    ) -> None:
        """Make a gateway; it is off until `start`.

        Args:
            name: user part of its URI.
            address: its own address on this host.
            port: its UDP port; 0 takes any free one.
            realm: home network, for the names of itself and of users.
            icscf: where it sends what it begins itself.
            menus: what it says, by code, for example {"*100#": {...}}; by default a menu of three levels at *100#.
            patience_s: how long it waits for a user's answer before it ends the dialogue with an error.
            info_limit_s: how long it waits for the phone's response to an INFO.
            mistake: what its INFOs have wrong, one of `labkit.peers.ussd_mistakes.MISTAKES`.
            timers: base values of the SIP timers.
        Raises:
            LessonError: a menu or mistake that there is not.
        """
        self.name = name
        """User part of its URI."""
        self._realm, self._icscf = realm, icscf
        self._habits = Habits(patience_s, info_limit_s, _known(mistake))
        self._menus = _read(menus)
        self._dialogues: deque[Dialogue] = deque(maxlen=MAX_KEPT)
        self._ended: Mailbox[Dialogue] = Mailbox(MAX_KEPT)
        self._agent = Agent(
            address=address,
            port=port,
            transport="udp",
            proxy=icscf,
            timers=timers or Timers(),
            access_network="",
            serve=self._serve,
            body_types=("application/sdp", CONTENT_TYPE),
            allow=METHODS,
        )

    def __repr__(self) -> str:
        return f"<USSD gateway {self.name}: {', '.join(self._menus)}>"

    # ---- what a lesson asks -----------------------------------------------------------------------------------------
    @property
    def dialogues(self) -> list[UssdRecord]:
        """Every dialogue so far, in order."""
        return [_record(dialogue) for dialogue in self._dialogues]

    @property
    def faults(self) -> int:
        """How often the gateway itself failed on what came; 0, or there is a bug, and the log has it."""
        return self._agent.faults

    async def behave(
        self,
        mistake: str = "",
        patience_s: float = 60.0,
        info_limit_s: float = 5.0,
        menus: Mapping[str, Any] | None = None,
    ) -> None:
        """Do something else from now on, in dialogues that begin after this.

        Args:
            mistake, patience_s, info_limit_s, menus: as when it was made.
        Raises:
            LessonError: a menu or mistake that there is not.
        """
        self._habits = Habits(patience_s, info_limit_s, _known(mistake))
        self._menus = _read(menus)

    async def wait_ended(self, timeout_s: float = 10.0) -> UssdRecord:
        """Wait until a dialogue is over that this has not returned before, and return it.

        Raises:
            CallFailed: none ended in time.
        """
        return _record(await self._ended.take(timeout_s, "No USSD dialogue ended"))

    # ---- what it begins itself --------------------------------------------------------------------------------------
    async def ask(self, user: str, text: str, language: str = "en", timeout_s: float = 10.0) -> str:
        """Ask a user something, unasked, and return the answer (UnstructuredSS-Request); then the dialogue ends.

        Args:
            user: a name in the home network, or a sip: or tel: URI.
        Raises:
            CallFailed: the phone is not there or does not want to, answered with an error, or nobody typed in time.
        """
        return (await self._begin(user, UssdData(text, language, operation="request"), timeout_s)).text or ""

    async def notify(self, user: str, text: str, language: str = "en", timeout_s: float = 10.0) -> None:
        """Tell a user something, unasked (UnstructuredSS-Notify), and wait until the phone says that it was shown.

        Raises:
            CallFailed: as in `ask`.
        """
        await self._begin(user, UssdData(text, language, operation="notify"), timeout_s)

    async def _begin(self, user: str, said: UssdData, timeout_s: float) -> UssdData:
        uri = dialled_uri(user, self._realm)
        destination = self._icscf or self._agent.next_hop(uri, ())
        dialogue = self._keep(Dialogue.to_user(self._agent, self.name, uri, self._habits))
        return await dialogue.ask_first(said, f"sip:{self.name}@{self._realm}", destination, timeout_s)

    # ---- what comes in ----------------------------------------------------------------------------------------------
    def _serve(self, server: ServerTransaction) -> None:
        """Take a request that begins something."""
        request = server.request
        if request.method != "INVITE":
            answer_options(server, self._agent)
            return
        if not contact_uri(request):
            server.respond(400, reason="Missing Contact")
            return
        if not begins_ussd(server):
            server.respond(415, ("Accept", f"multipart/mixed, application/sdp, {CONTENT_TYPE}"))
            return
        menu = self._menus.get(code_in(request.request_uri))
        if menu is None:
            server.respond(404, reason="No Such USSD Code")
            return
        dialogue = self._keep(Dialogue.of_user(self._agent, self.name, server, self._habits))
        self._agent.spawn(dialogue.serve(server, menu))

    def _keep(self, dialogue: Dialogue) -> Dialogue:
        self._dialogues.append(dialogue)
        dialogue.at_end = lambda: self._ended.put(dialogue)
        return dialogue


def _record(dialogue: Dialogue) -> UssdRecord:
    return UssdRecord(
        dialogue.user, dialogue.code, dialogue.language, tuple(dialogue.said), dialogue.ended, dialogue.error_code
    )


def _read(menus: Mapping[str, Any] | None) -> dict[str, Menu]:
    return {code: read_menu(written) for code, written in ({"*100#": DEMO_MENU} if menus is None else menus).items()}


def _known(mistake: str) -> str:
    if mistake and mistake not in MISTAKES:
        raise LessonError(f"A USSD gateway makes no mistake {mistake!r}: use one of {', '.join(MISTAKES)}.")
    return mistake
