"""The page part of `browse` and `live`: one anywidget of our own; its script and style stand in page/."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from labkit.view.theme import AUTO

_NOTHING = "<p style='opacity:.75'>Click on an arrow, or use the arrow keys, and the message is explained here.</p>"
_PAGE = Path(__file__).parent / "page"


@cache
def ladder_widget_class() -> Any:
    """Make the class when it is first needed: the widget libraries are imported late."""
    import anywidget
    import traitlets

    class LadderWidget(anywidget.AnyWidget):
        """Rows in the page; a message that is asked for comes from here.

        Subclasses say what `explained` and `hint` are, and may add rows.
        """

        _esm = "\n".join((_PAGE / name).read_text(encoding="utf-8") for name in ("drawing.js", "ladder.js"))
        _css = (_PAGE / "ladder.css").read_text(encoding="utf-8")

        title: Any = traitlets.Unicode("").tag(sync=True)
        nodes: Any = traitlets.List([]).tag(sync=True)
        groups: Any = traitlets.List([]).tag(sync=True)
        calls: Any = traitlets.Dict({}).tag(sync=True)
        rows: Any = traitlets.List([]).tag(sync=True)
        palette: Any = traitlets.Dict({}).tag(sync=True)
        live: Any = traitlets.Dict({}).tag(sync=True)
        place: Any = traitlets.Int(-1).tag(sync=True)
        shown: Any = traitlets.Unicode(_NOTHING).tag(sync=True)

        def __init__(self, **traits: Any) -> None:
            palette: dict[str, Any] = {"calls": list(AUTO.calls), "rtp": AUTO.media}
            palette |= dict.fromkeys(("diameter", "evapi", "jsonrpc"), AUTO.diameter)
            super().__init__(palette=palette, **traits)
            self.on_msg(self._asked)
            self.observe(self._opened, "place")

        def _opened(self, change: Any) -> None:
            self.shown = self.explained(change["new"]) if change["new"] >= 0 else _NOTHING

        def _asked(self, _widget: Any, content: Any, _buffers: Any) -> None:
            if content.get("type") == "hint":
                place = int(content["place"])
                self.send({"type": "hint", "place": place, "lines": self.hint(place)})

        def explained(self, place: int) -> str:
            """Return the message at a place as HTML."""
            raise NotImplementedError

        def hint(self, place: int) -> list[tuple[str, str]]:
            """Return names and values of the key headers of the message at a place."""
            raise NotImplementedError

    return LadderWidget
