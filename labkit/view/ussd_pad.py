"""A phone's USSD screen in a notebook: dial a code, read what comes, press a key; and the same without any hand.

    pad = lk.ussd_pad(alice)
    await pad.walk("*100#", "2", "1")       # what the buttons do, as a line of text each
    pad                                     # the buttons

What was walked once is remembered. In a replay, where nobody answers what the recording does not hold, the buttons
still lead through all of that.
"""

from __future__ import annotations

import asyncio
from html import escape
from typing import TYPE_CHECKING, Any, Final

from labkit.errors import CallFailed, LessonError, ReplayError

if TYPE_CHECKING:
    import pandas as pd

KEYS: Final = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#")
"""Buttons of the pad."""


class Walks:
    """A phone led through menus, and what it was shown on each way."""

    def __init__(self, phone: Any) -> None:
        self._phone = phone
        self._session: Any = None
        self.way: tuple[str, ...] = ()
        """What was typed in the dialogue that is going on: the code, then the answers."""
        self.text = ""
        """What the screen shows."""
        self.known: dict[tuple[str, ...], tuple[str, bool]] = {}
        """(text, whether the network waits for an answer) by the way to it."""

    @property
    def asked(self) -> bool:
        """Whether the network waits for an answer."""
        return self.known.get(self.way, ("", False))[1]

    async def press(self, typed: str) -> str:
        """Dial a code, or answer the question that is on the screen; returns what the network says to that.

        Raises:
            CallFailed: it refused, or said nothing that can be shown.
            ReplayError: this is a replay, and nobody has walked this way when it was recorded.
        """
        if not typed.strip():
            raise LessonError("There is nothing to send: type something first.")
        way = (*self.way, typed) if self.asked else (typed,)
        try:
            text, asked = await self._ask(typed, len(way) == 1)
        except ReplayError:
            if way not in self.known:
                raise
            text, asked = self.known[way]
        self.known[way] = text, asked
        self.way, self.text = way, text
        return text

    async def hang_up(self) -> None:
        """End the dialogue."""
        session, asked = self._session, self.asked
        self._session, self.way, self.text = None, (), ""
        if session is not None and asked:
            try:
                await session.cancel()
            except (CallFailed, ReplayError):
                return  # it was over already, or was none

    async def _ask(self, typed: str, first: bool) -> tuple[str, bool]:
        if first:
            self._session = None
            self._session = await self._phone.ussd(typed)
            return self._session.text, self._session.state == "asked"
        if self._session is None:
            raise ReplayError("This dialogue is only remembered.")
        text = await self._session.reply(typed)
        return text, self._session.state == "asked"


def ussd_pad(phone: Any) -> Any:
    """Show a phone's USSD screen with buttons.

    Args:
        phone: a phone of the lab, for example `lab.ue("alice")`.
    Returns:
        An ipywidgets box; `await .walk(...)` does what its buttons do, `.table` is all that was shown.
    """
    return _widget_class()(phone)


def walked_table(walks: Walks) -> pd.DataFrame:
    """All ways that were walked: what was typed, what was shown, and whether an answer was wanted."""
    import pandas as pd

    rows = [
        {"typed": " ".join(way), "shown": " / ".join(text.splitlines()), "asks": asked}
        for way, (text, asked) in walks.known.items()
    ]
    return pd.DataFrame(rows, columns=["typed", "shown", "asks"]).set_index("typed")


def _widget_class() -> Any:
    import ipywidgets as widgets

    class UssdPad(widgets.VBox):  # type: ignore[misc]
        """A screen, a line to type into, and keys."""

        def __init__(self, phone: Any) -> None:
            self.walks = Walks(phone)
            self._screen = widgets.HTML()
            self._line = widgets.Text(value="*100#", layout={"width": "150px"})
            keys = [self._key(name, lambda _, name=name: self._type(name)) for name in KEYS]
            send = self._key("Send", lambda _: self._later(self._send()), "success")
            clear = self._key("Clear", lambda _: setattr(self._line, "value", ""))
            end = self._key("End", lambda _: self._later(self._end()), "danger")
            self._keys = [*keys, send, clear, end]
            grid = widgets.GridBox(
                [*keys, send, clear, end], layout={"grid_template_columns": "repeat(3, 74px)", "grid_gap": "4px"}
            )
            super().__init__([self._screen, self._line, grid], layout={"width": "260px"})
            self._tasks: set[asyncio.Task[None]] = set()
            self._draw()

        @property
        def table(self) -> pd.DataFrame:
            """All that was shown, by what was typed."""
            return walked_table(self.walks)

        async def walk(self, *typed: str) -> str:
            """Dial a code and answer what is asked; returns the last text."""
            await self.walks.hang_up()
            for word in typed:
                await self.walks.press(word)
            self._draw()
            return self.walks.text

        def _key(self, name: str, pressed: Any, style: str = "") -> Any:
            button = widgets.Button(description=name, button_style=style, layout={"width": "74px"})
            button.on_click(pressed)
            return button

        def _type(self, name: str) -> None:
            self._line.value += name

        async def _send(self) -> None:
            await self.walks.press(self._line.value)

        async def _end(self) -> None:
            await self.walks.hang_up()

        def _later(self, work: Any) -> None:
            """Do it in the notebook's own loop; a button has no time to wait."""
            task = asyncio.get_running_loop().create_task(self._shown(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        async def _shown(self, work: Any) -> None:
            for key in self._keys:
                key.disabled = True
            try:
                await work
                self._line.value = "" if self.walks.asked else (self.walks.way or ("*100#",))[0]
                self._draw()
            except (CallFailed, ReplayError, LessonError) as error:
                self._draw(str(error))
            finally:
                for key in self._keys:
                    key.disabled = False

        def _draw(self, trouble: str = "") -> None:
            self._screen.value = screen_html(self.walks, trouble)

        def __repr__(self, **_options: Any) -> str:
            return "Type a code and press Send; in a running notebook, the phone's screen is above the keys."

    return UssdPad


_SCREEN = (
    "box-sizing:border-box;width:246px;min-height:120px;padding:8px 10px;border:1px solid #888;border-radius:6px;"
    "font-family:var(--jp-code-font-family,monospace);white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.35"
)


def screen_html(walks: Walks, trouble: str = "") -> str:
    """The screen: what was typed, what the network said, whether it waits; or what went wrong."""
    text = trouble or walks.text or "Type a code, then Send."
    below = "" if trouble or not walks.way else ("waits for your answer" if walks.asked else "the dialogue is over")
    head = f"<div style='opacity:.65'>{escape(' '.join(walks.way))}</div>" if walks.way else ""
    foot = f"<div style='opacity:.65'>{below}</div>" if below else ""
    shown = f"{head}<div dir='auto'>{escape(text)}</div>{foot}"
    return f"<div role='status' aria-live='polite' style='{_SCREEN}'>{shown}</div>"
