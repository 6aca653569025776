"""A capture as a notebook holds it: packets, table, pictures, single messages.

Here the rooms meet: packets come from a live lab or from a cassette, the table from capture/, pictures from view/.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import CaptureError, LessonError
from labkit.session.questions import Questions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    import plotly.graph_objects as go

    from labkit.capture.table import Messages
    from labkit.view.explained import Explained
    from labkit.view.live import LiveView
    from labkit.view.profile import ProfileView
    from labkit.view.sms_bytes import SmsBytes
    from labkit.wire.diameter import Message as DiameterMessage
    from labkit.wire.sip import SipMessage
    from labkit.wire.ussd import UssdData

_LONGEST_STORY = 10_000
"""So many messages are put into the order in which they brought each other about; that takes some seconds."""


def open_capture(path: str | Path, names: Mapping[str, str] | None = None) -> Capture:
    """Open a capture file of anybody's: the same object as a lesson's own captures.

    It is held in memory as a whole; for what is larger than that, `./lab decode` and `labkit.decode_folder` write
    tables piece by piece.

    Args:
        path: a pcap or pcapng file, plain or gzip.
        names: node names by "address" or "address:port"; those that the file holds serve where these say nothing.
    Raises:
        CaptureError: there is no such file. That it is no capture is said when it is first looked at.
    """
    from labkit.wire.pcap import gunzipped

    try:
        packets = Path(path).read_bytes()
    except OSError as error:
        raise CaptureError(f"Cannot read the capture {path}: {error.strerror}.") from error
    capture = Capture(Path(path).name.split(".")[0], "")
    capture.close(gunzipped(packets), dict(names or {}), "file")
    show_tables_whole()
    return capture


def show_tables_whole() -> None:
    """Have pandas show a lesson's tables as text without cutting columns off: the same on every terminal."""
    import pandas as pd

    pd.set_option("display.width", 160, "display.max_columns", 60, "display.max_colwidth", 80, "display.max_rows", 80)


class Capture(Questions):
    """A named span of traffic. Inside its `with` block packets are collected; after it, they can be looked at."""

    def __init__(self, name: str, lesson: str) -> None:
        super().__init__()
        self.name = name
        """What the lesson calls it; also the file name of its recording."""
        self.lesson = lesson
        """The lesson it belongs to."""
        self.kind = "open"
        """'wire' (sniffed), 'mirrored' (copies that the nodes sent), 'file', or 'open' while the capture still runs."""
        self.names: dict[str, str] = {}
        """Node names by 'address' or 'address:port'."""
        self.packets = b""
        """The packets as a pcapng file, which Wireshark opens."""
        self.lost = 0
        """Packets that were lost because they could not be read in time; more than 0 means: do not trust a gap."""
        self._messages: Messages | None = None
        self._steps: pd.DataFrame | None = None
        self._watch: Callable[[], LiveView] | None = None
        self._views: list[LiveView] = []

    def watched(self, watch: Callable[[], LiveView]) -> None:
        """Say how the capture can be looked at while it runs; the session does this."""
        self._watch = watch

    def close(self, packets: bytes, names: dict[str, str], kind: str) -> None:
        """Give the capture its packets; the session does this at the end of the `with` block."""
        self.packets, self.names, self.kind = packets, dict(names), kind
        self._messages = self._steps = None
        self._answers.clear()
        for view in self._views:
            view.finish(self.ladder(), self.steps)
        self._views = []

    @property
    def messages(self) -> Messages:
        """The decoded messages: `.table` and, row by row, `.raw` bytes."""
        if self._messages is None:
            from labkit.capture.table import read_capture

            if self.kind == "open":
                raise CaptureError(f"The capture {self.name!r} is still open: leave its `with` block first.")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it stays in `messages.warning`, and `summary` says it
                self._messages = read_capture(self.packets, names=self.names)
        return self._messages

    @property
    def table(self) -> pd.DataFrame:
        """One row a message, as it was on the wire: times, addresses, identifiers of this very run."""
        return self.messages.table

    @property
    def steps(self) -> pd.DataFrame:
        """The story of the capture: numbered messages with stable names, the same in every run and on every engine.

        Raises:
            CaptureError: there are so many messages that nobody could follow the story; an excerpt has one.
        """
        if self._steps is None:
            from labkit.capture.canon import canon

            count = int(self.table["protocol"].isin(["sip", "diameter"]).sum())
            if count > _LONGEST_STORY:
                raise CaptureError(
                    f"The {count} messages of {self.name!r} are too many for a story: choose some with excerpt()."
                )
            self._steps = canon(self.messages)
        return self._steps

    def ladder(self, **options: Any) -> go.Figure:
        """Draw the capture as a ladder: a lifeline for each node, an arrow for each message."""
        from labkit.view.ladder import ladder

        options.setdefault("title", self.name)
        return ladder(self.messages, **options)

    def media(self, **options: Any) -> go.Figure:
        """Draw packets a second of sound (RTP) and reports (RTCP) under the messages, on one axis of time."""
        from labkit.view.media import media_chart

        options.setdefault("title", self.name)
        return media_chart(self.messages, **options)

    @property
    def phases(self) -> pd.DataFrame:
        """What each offer led to: who made it, the answer, and what each side sent until the next one.

        Statements and no counts (labkit.capture.phases): the same in every run.
        """
        from labkit.capture.phases import phase_table

        return phase_table(self.messages)

    def text_ladder(self, **options: Any) -> str:
        """Return the same ladder as text, for terminals, tests and screen readers."""
        from labkit.view.text_ladder import text_ladder

        return text_ladder(self.messages, **options)

    def browse(self, **options: Any) -> Any:
        """Show the ladder beside the message that is clicked on."""
        from labkit.view.browse import browse

        options.setdefault("title", self.name)
        return browse(self.messages, **options)

    def live(self) -> Any:
        """Show a ladder that grows while the `with` block runs; at its end a plain ladder and a table stay there.

        After the block it shows what `browse` shows.
        """
        if self.kind != "open" or self._watch is None:
            return self.browse()
        view = self._watch()
        self._views.append(view)
        view.start()
        return None

    def raw(self, number: int) -> bytes:
        """Return the bytes of message `number` of `steps`."""
        return self.messages.raw[self._row(number)]

    def sip(self, number: int) -> SipMessage:
        """Return message `number` of `steps` parsed: `.header("Call-ID")`, `.body`, ...

        Raises:
            SipError: it is no SIP message.
        """
        from labkit.wire.sip import parse_message

        return parse_message(self.raw(number))

    def diameter(self, number: int) -> DiameterMessage:
        """Return message `number` of `steps` parsed: `.find("User-Data").value`, ...

        Raises:
            DiameterError: it is no Diameter message.
        """
        from labkit.wire.diameter import parse_message

        return parse_message(self.raw(number))

    def ussd(self, number: int) -> UssdData:
        """Return what the USSD body of message `number` of `steps` says: `.text`, `.language`, `.error_code`, ...

        Raises:
            LessonError: it is a message without such a body.
            XmlError: the body is not as TS 24.390 has it; the message says why.
        """
        from labkit.wire.multipart import body_of_type
        from labkit.wire.ussd import CONTENT_TYPE, parse_ussd

        body = body_of_type(self.sip(number), CONTENT_TYPE)
        if not body:
            raise LessonError(f"Message {number} of {self.name!r} carries no {CONTENT_TYPE}.")
        return parse_ussd(body)

    def profile(self, number: int) -> ProfileView:
        """Return the profile in message `number` of `steps`: a tree, `.table`, `.triggers` and `.criteria`.

        Raises:
            LessonError: it is a message without User-Data.
            XmlError: what is in it is no profile.
        """
        from labkit.view.profile import view_profile

        found = self.diameter(number).find("User-Data")
        if found is None:
            raise LessonError(f"Message {number} of {self.name!r} carries no User-Data; a SAA does.")
        return view_profile(found.raw, self.names)

    def sms(self, number: int) -> SmsBytes:
        """Return the short message in message `number` of `steps`, octet by octet: `.rp`, `.tpdu`, `.text`, `.table`.

        Raises:
            LessonError: it is a message without application/vnd.3gpp.sms.
        """
        from labkit.view.sms_bytes import SmsBytes
        from labkit.wire.sms import CONTENT_TYPE

        found = self.sip(number)
        if found.content_type != CONTENT_TYPE or not found.body:
            raise LessonError(f"Message {number} of {self.name!r} carries no short message; a MESSAGE RP-... does.")
        return SmsBytes(found.body)

    def name_of(self, uri: str) -> str:
        """Return the name of the node or phone where a URI, or a header with one, points to; else the URI's host."""
        from labkit.wire.sip import parse_address, parse_uri

        target = parse_uri(parse_address(uri).uri)
        place = f"{target.host}:{target.port or 5060}"
        return self.names.get(place, self.names.get(target.host, target.host))

    def message(self, number: int) -> Explained:
        """Show message `number` of `steps` explained: headers and SDP of SIP, the AVP tree of Diameter."""
        from labkit.view.message import explain

        row = self._row(number)
        return explain(self.messages.raw[row], str(self.table.at[row, "protocol"]))

    def excerpt(self, name: str, rows: Any) -> Capture:
        """Return some messages as a capture of its own, with every frame that they need.

        Args:
            name: what it is called.
            rows: yes or no for each row of `table`.
        Raises:
            CaptureError: there is not one yes or no for each row.
        """
        from labkit.capture.cut import cut
        from labkit.capture.relations import truth

        chosen = truth(rows)
        if chosen.shape != (len(self.table),):
            raise CaptureError(f"An excerpt needs a yes or no for each of the {len(self.table)} rows of the table.")
        frames = {int(frame) for frame in self.table["frame"][chosen]}
        part = Capture(name, self.lesson)
        part.close(cut([self.packets], frames, self.messages, self.names), self.names, self.kind)
        return part

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
        lost = f", {self.lost} packets lost" if self.lost else ""
        count = len(self.messages if self.kind == "file" else self.steps)
        return f"<capture {self.name!r}: {count} messages{lost}>"
