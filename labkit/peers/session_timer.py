"""Calls that end by themselves when the other side has vanished: session timers (RFC 4028).

Both sides agree on an interval, and on who refreshes the session before it is over: that side sends an UPDATE (or a
re-INVITE) half way through. When no refresh comes, the other side hangs up. "uac" and "uas" are the sides of the
request that agrees on it: who sends a refresh with refresher=uac goes on refreshing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from labkit.errors import CallFailed
from labkit.peers.call_core import CallCore
from labkit.peers.reliable import names
from labkit.peers.transaction import ServerTransaction
from labkit.wire.sip import SipMessage, parse_params
from labkit.wire.sip_grammar import find_param

TIMER: Final = "timer"
"""The extension's option tag."""


class SessionTimer:
    """The session timer of one side of one call; does nothing where a side does not know the extension."""

    def __init__(self, core: CallCore) -> None:
        self._core = core
        self._interval_s = 0
        self._we_refresh = False
        self._min_s = core.agent.min_se_s
        self._clock: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self.reinvite: Callable[[], Awaitable[SipMessage]] | None = None
        """Refreshes by re-INVITE, for the other side that knows no UPDATE."""
        core.at_end.append(self._stop)

    @property
    def interval_s(self) -> int:
        """The interval agreed on, in seconds; 0 without a session timer."""
        return self._interval_s

    # ---- asking -----------------------------------------------------------------------------------------------------
    def request_lines(self) -> tuple[str, ...]:
        """Header lines for our INVITE, re-INVITE or UPDATE (section 7.1)."""
        agent = self._core.agent
        if TIMER not in agent.extensions:
            return ()
        seconds = max(self._interval_s or agent.session_expires_s, self._min_s)
        min_se = f"Min-SE: {self._min_s}"
        if self._core.state != "answered":
            return f"Session-Expires: {seconds}", min_se
        role = "uac" if self._we_refresh or not self._interval_s else "uas"
        return f"Supported: {TIMER}", f"Session-Expires: {seconds};refresher={role}", min_se

    def too_short(self, response: SipMessage) -> bool:
        """Take a 422: the other side wants a longer interval; say whether asking again is of use (section 7.4)."""
        wanted = _seconds(response.header("min-se"))
        if response.status != 422 or TIMER not in self._core.agent.extensions or wanted <= self._min_s:
            return False
        self._min_s = wanted
        return True

    def take_response(self, response: SipMessage) -> None:
        """Take a 2xx to such a request: it says whether there is a timer, and who refreshes (section 7.2)."""
        seconds, refresher = _session_expires(response)
        if seconds and TIMER in self._core.agent.extensions:
            self._start(seconds, refresher != "uas")

    # ---- being asked ------------------------------------------------------------------------------------------------
    def answer_lines(self, request: SipMessage) -> tuple[str, ...]:
        """Header lines for our 2xx to an INVITE, re-INVITE or UPDATE, and start the timer (section 9)."""
        agent = self._core.agent
        if TIMER not in agent.extensions:
            return ()
        seconds, refresher = _session_expires(request)
        they_know = names(request, "supported", TIMER)
        seconds = seconds or max(agent.session_expires_s, _seconds(request.header("min-se")))
        refresher = (refresher or "uac") if they_know else "uas"
        self._start(seconds, refresher == "uas")
        require = (f"Require: {TIMER}",) if refresher == "uac" else ()
        return (*require, f"Session-Expires: {seconds};refresher={refresher}")

    # ---- time -------------------------------------------------------------------------------------------------------
    def _start(self, seconds: int, we_refresh: bool) -> None:
        self._stop()
        self._interval_s, self._we_refresh = seconds, we_refresh
        loop = self._core.agent.loop
        if we_refresh:
            self._clock = loop.call_later(seconds / 2, self._begin_refresh)
        # the side that waits hangs up a little before the end, so that its BYE still finds the session (section 10)
        self._end = loop.call_later(seconds if we_refresh else seconds - min(32, seconds / 3), self._expired)

    def _begin_refresh(self) -> None:
        if self._core.state == "answered":
            self._core.agent.spawn(self._refresh())

    async def _refresh(self) -> None:
        core = self._core
        _, raw, branch, where = core.request("UPDATE", headers=self.request_lines())
        try:
            response = await core.agent.request(raw, branch, "UPDATE", where)
            if response.status in (405, 501) and self.reinvite is not None:
                response = await self.reinvite()
        except CallFailed:
            core.hang_up("the other side did not answer a session refresh")
            return
        if response.status < 300:
            self.take_response(response)
        elif response.status in (408, 481):
            core.hang_up(f"the other side answered {response.status} to a session refresh")
        elif core.state == "answered":
            self.too_short(response)
            self._clock = core.agent.loop.call_later(self._interval_s / 8, self._begin_refresh)

    def _expired(self) -> None:
        if self._core.state == "answered":
            self._core.hang_up("the session was not refreshed in time")

    def _stop(self) -> None:
        for clock in (self._clock, self._end):
            if clock is not None:
                clock.cancel()
        self._clock = self._end = None


def is_long_enough(server: ServerTransaction, min_se_s: int, extensions: tuple[str, ...]) -> bool:
    """Whether an INVITE's session interval is long enough for us; if not, it has been refused with 422 (section 9)."""
    seconds, _ = _session_expires(server.request)
    if TIMER in extensions and 0 < seconds < min_se_s and names(server.request, "supported", TIMER):
        server.respond(422, ("Min-SE", str(min_se_s)))
        return False
    return True


def _session_expires(message: SipMessage) -> tuple[int, str]:
    """Interval in seconds (0 without) and refresher of Session-Expires."""
    value, _, params = (message.header("session-expires") or "").partition(";")
    return _seconds(value), (find_param(parse_params(params), "refresher") or "").lower()


def _seconds(text: str | None) -> int:
    text = (text or "").partition(";")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
