"""A capture as a notebook holds it: packets, table, pictures, single messages.

Here the rooms meet: packets come from a live lab or from a cassette, the table from capture/, pictures from view/.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import CaptureError, LessonError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from labkit.capture.table import Messages
    from labkit.view.message import Explained


class Capture:
    """A named span of traffic. Inside its `with` block packets are collected; after it, they can be looked at."""

    def __init__(self, name: str, lesson: str) -> None:
        self.name = name
        """What the lesson calls it; also the file name of its recording."""
        self.lesson = lesson
        """The lesson it belongs to."""
        self.kind = "open"
        """'wire' (sniffed), 'mirrored' (copies that the nodes sent), or 'open' while the capture still runs."""
        self.names: dict[str, str] = {}
        """Node names by 'address' or 'address:port'."""
        self.packets = b""
        """The packets as a pcapng file, which Wireshark opens."""
        self._messages: Messages | None = None
        self._steps: pd.DataFrame | None = None

    def close(self, packets: bytes, names: dict[str, str], kind: str) -> None:
        """Give the capture its packets; the session does this at the end of the `with` block."""
        self.packets, self.names, self.kind = packets, dict(names), kind
        self._messages = self._steps = None

    @property
    def messages(self) -> Messages:
        """The decoded messages: `.table` and, row by row, `.raw` bytes."""
        if self._messages is None:
            from labkit.capture.table import read_capture

            if not self.packets:
                raise CaptureError(f"The capture {self.name!r} is still open: leave its `with` block first.")
            self._messages = read_capture(self.packets, names=self.names)
        return self._messages

    @property
    def table(self) -> pd.DataFrame:
        """One row a message, as it was on the wire: times, addresses, identifiers of this very run."""
        return self.messages.table

    @property
    def steps(self) -> pd.DataFrame:
        """The story of the capture: numbered messages with stable names, the same in every run and on every engine."""
        if self._steps is None:
            from labkit.capture.canon import canon

            self._steps = canon(self.messages)
        return self._steps

    def ladder(self, **options: Any) -> go.Figure:
        """Draw the capture as a ladder: a lifeline for each node, an arrow for each message."""
        from labkit.view.ladder import ladder

        options.setdefault("title", self.name)
        return ladder(self.messages, **options)

    def text_ladder(self, **options: Any) -> str:
        """Return the same ladder as text, for terminals, tests and screen readers."""
        from labkit.view.text_ladder import text_ladder

        return text_ladder(self.messages, **options)

    def browse(self, **options: Any) -> Any:
        """Show the ladder beside the message that is clicked on."""
        from labkit.view.browse import browse

        options.setdefault("title", self.name)
        return browse(self.messages, **options)

    def raw(self, number: int) -> bytes:
        """Return the bytes of message `number` of `steps`."""
        return self.messages.raw[self._row(number)]

    def message(self, number: int) -> Explained:
        """Show message `number` of `steps` explained: headers and SDP of SIP, the AVP tree of Diameter."""
        from labkit.view.message import explain

        row = self._row(number)
        return explain(self.messages.raw[row], str(self.table.at[row, "protocol"]))

    def save(self, path: str | Path) -> Path:
        """Write the packets to a .pcapng file and return its path."""
        target = Path(path)
        target.write_bytes(self.packets)
        return target

    def _row(self, number: int) -> int:
        if number not in self.steps.index:
            raise LessonError(
                f"The capture {self.name!r} has no message {number!r}: it has the messages 1 to {len(self.steps)}."
            )
        return int(str(self.steps.at[number, "row"]))

    def __repr__(self) -> str:
        if self.kind == "open":
            return f"<capture {self.name!r}, still open>"
        return f"<capture {self.name!r}: {len(self.steps)} messages>"
