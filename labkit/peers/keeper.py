"""A phone that stays registered by itself, and does what the network tells it by reg-event (TS 24.229 section 5.1.1).

Both only when the phone was asked for it: a lesson wants to see each step by itself as a rule.
"""

from __future__ import annotations

import asyncio
from typing import Final

from labkit.errors import CallFailed
from labkit.peers.agent import Agent
from labkit.peers.registration import Registration
from labkit.wire.reginfo import Advice, RegInfo

RETRY_S: Final = 30.0
"""After a re-registration that the network did not answer, or with 5xx, the phone tries again so much later."""


def refresh_after_s(expires_s: float) -> float:
    """When to re-register: 600 s before the end of more than 1200 s, else after half the time (section 5.1.1.4.1)."""
    return expires_s - 600 if expires_s > 1200 else expires_s / 2


class RegistrationKeeper:
    """Renews the registration of one phone in time, and obeys NOTIFYs about it."""

    def __init__(self, agent: Agent, registration: Registration, *, refresh: bool, obey: bool) -> None:
        self._agent = agent
        self._registration = registration
        self._refresh = refresh
        self._obey = obey
        self._asked_s = 600
        self._clock: asyncio.TimerHandle | None = None
        self.actions: list[str] = []
        """What the phone has done by itself, in words, the latest last."""

    def registered(self, asked_s: int) -> None:
        """The user has registered for so many seconds, or (0) has taken the registration back."""
        self.stop()
        if asked_s and self._refresh:
            self._asked_s = asked_s
            self._later(refresh_after_s(self._registration.granted.expires_s), "re-registered in time")

    def stop(self) -> None:
        """Do nothing more by itself."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def told(self, document: RegInfo, contact: str) -> None:
        """A NOTIFY has come: do what it asks for, if the phone was made so.

        A registration that is terminated without a word about our contact is over as well; nothing says then that the
        phone may come back, so it does not.
        """
        if not self._obey or not self._registration.active:
            return
        ours = document.contact(contact)
        if ours is not None:
            self._act(ours.advice, ours.event, ours.state)
        elif document.registrations and all(one.state == "terminated" for one in document.registrations):
            self._lose()
            self.actions.append("took the registration for lost: the network has ended it and does not say why")

    def _act(self, advice: Advice, event: str, state: str) -> None:
        if state == "terminated":
            self._lose()
        if advice.release_dialogs:
            for call in list(self._agent.calls.values()):
                call.switch_off()
        done = {"register now": "registered anew", "re-register now": "re-registered", "register later": "came back"}
        if advice.action in done:
            self._later(advice.wait_s, f"{done[advice.action]} after {event!r}")
        elif advice.action == "stay away":
            self.actions.append(f"stays away after {event!r}")

    def _lose(self) -> None:
        self.stop()
        self._registration.lose()

    def _later(self, seconds: float, what: str) -> None:
        self.stop()
        self._clock = self._agent.loop.call_later(seconds, lambda: self._agent.spawn(self._register(what)))

    async def _register(self, what: str) -> None:
        self._clock = None
        if self._registration.busy:
            self._later(1.0, what)  # the user is at it; REGISTERs of one phone follow one another
            return
        try:
            await self._registration.register(self._asked_s)
        except CallFailed as error:
            self.actions.append(f"failed to: {what} ({error.status or 'no answer'})")
            if error.status in (0, 408) or error.status >= 500:
                self._later(RETRY_S, what)
            return
        self.actions.append(what)
        self.registered(self._asked_s)
