"""The USSD screen of a notebook: what its keys do, what it remembers, and what it shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from labkit.errors import CallFailed, LessonError, ReplayError
from labkit.view.ussd_pad import screen_html, ussd_pad

MENU = {("*100#",): "1 Balance\n2 More", ("*100#", "1"): "12 < 50", ("*100#", "2"): "1 Really"}


class Session:
    """A dialogue of a phone that knows MENU."""

    def __init__(self, way: tuple[str, ...]) -> None:
        self.way = way
        self.cancelled = False

    @property
    def text(self) -> str:
        return MENU[self.way]

    @property
    def state(self) -> str:
        return "asked" if self.text[0] == "1" and " " in self.text[:2] else "ended"

    async def reply(self, text: str) -> str:
        self.way = (*self.way, text)
        if self.way not in MENU:
            raise CallFailed("The network says error-code 1: error - unspecified.")
        return self.text

    async def cancel(self) -> None:
        self.cancelled = True


class Phone:
    """Dials, or says that this is a replay."""

    def __init__(self) -> None:
        self.replayed = False
        self.sessions: list[Session] = []

    async def ussd(self, code: str) -> Session:
        if self.replayed:
            raise ReplayError("The recording holds alice.ussd not at all.")
        self.sessions.append(Session((code,)))
        return self.sessions[-1]


def test_a_way_through_the_menu() -> None:
    """Each word is dialled or answered; the table has all that was shown; a new way ends the old one."""
    phone = Phone()
    pad = ussd_pad(phone)

    async def walk() -> None:
        assert await pad.walk("*100#", "1") == "12 < 50"
        assert not pad.walks.asked
        assert await pad.walk("*100#", "2") == "1 Really"
        assert pad.walks.asked
        await pad.walk("*100#")
        assert [session.cancelled for session in phone.sessions] == [False, True, False]

    asyncio.run(walk())
    assert pad.table.to_dict("index") == {
        "*100#": {"shown": "1 Balance / 2 More", "asks": True},
        "*100# 1": {"shown": "12 < 50", "asks": False},
        "*100# 2": {"shown": "1 Really", "asks": True},
    }


def test_what_was_walked_works_without_a_network() -> None:
    """In a replay the pad leads through what it knows, and says so where it does not know."""
    phone = Phone()
    pad = ussd_pad(phone)

    async def walk() -> None:
        await pad.walk("*100#", "1")
        phone.replayed = True
        assert await pad.walk("*100#", "1") == "12 < 50"
        with pytest.raises(ReplayError):
            await pad.walk("*100#", "2")
        with pytest.raises(LessonError, match="nothing to send"):
            await pad.walk(" ")

    asyncio.run(walk())


def test_keys() -> None:
    """Keys type, Send sends, Clear clears, End hangs up; what goes wrong stands on the screen."""
    phone = Phone()
    pad = ussd_pad(phone)
    keys = {key.description: key for key in pad._keys}

    async def press(*names: str) -> None:
        for name in names:
            keys[name].click()
            while pad._tasks:
                await asyncio.sleep(0)

    async def use() -> None:
        await press("Send", "1", "Send")
        assert "12 &lt; 50" in pad._screen.value
        assert pad._line.value == "*100#"
        await press("Clear")
        assert pad._line.value == ""
        await press("Send")
        assert "nothing to send" in pad._screen.value
        await press("End", "Send", "9", "Send")
        assert "error-code 1" in pad._screen.value
        assert not any(key.disabled for key in pad._keys)

    asyncio.run(use())


def test_the_screen() -> None:
    """It shows the way, the text in its own direction, and who is expected to speak; nothing is markup."""
    walks: Any = ussd_pad(Phone()).walks
    assert "Type a code" in screen_html(walks)
    walks.way, walks.text, walks.known = ("*1#",), "<b>", {("*1#",): ("<b>", True)}
    shown = screen_html(walks)
    assert "&lt;b&gt;" in shown
    assert "waits for your answer" in shown
    assert "dir='auto'" in shown
    assert "the dialogue is over" not in shown


def test_as_text() -> None:
    """Where no widget is drawn there is one sentence, the same in every run."""
    assert repr(ussd_pad(Phone())) == (
        "Type a code and press Send; in a running notebook, the phone's screen is above the keys."
    )
