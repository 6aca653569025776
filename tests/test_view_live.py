"""The ladder that grows: rows as they come, counters, and what is left when it ends. No browser here."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from labkit.capture.live import RecordedFeed, StreamMeter
from labkit.session.capture import Capture
from labkit.view.live import LiveView
from labkit.view.live_rows import LiveRows
from tests.view_messages import IMS, NAMES, recording, with_media_packets

Rows = list[dict[str, Any]]


def decoded(name: str) -> Rows:
    """What a feed gives of a recording."""
    return list(RecordedFeed(next(IMS.glob(f"{name}*.pcap")).read_bytes()).take())


class Feed:
    """A feed that is filled by hand."""

    lost = 0

    def __init__(self) -> None:
        self.waiting: Rows = []

    def take(self) -> Rows:
        """Give what waits."""
        given, self.waiting = self.waiting, []
        return given


class Page:
    """What the page's script holds: rows by what was sent."""

    def __init__(self, view: LiveView) -> None:
        self.rows: list[Any] = []
        self.last: dict[str, Any] = {}
        view.widget.send = self.take

    def take(self, message: dict[str, Any], _buffers: Any = None) -> None:
        """As `take` in ladder.js."""
        assert message["from"] <= len(self.rows), "a hole"
        self.rows += message["rows"][len(self.rows) - message["from"] :]
        self.last = message


def test_rows_come_in_the_order_of_the_wire() -> None:
    """Every SIP and Diameter message is a row with the words of the ladder; names are those of the lab."""
    story = LiveRows()
    story.name(NAMES)
    story.feed(decoded("01"))
    table = recording("01").table
    assert [arrow.frame for arrow in story.arrows] == table["frame"].tolist()
    assert [(arrow.source, arrow.target) for arrow in story.arrows] == list(
        zip(table["src_node"], table["dst_node"], strict=True)
    )
    assert [arrow.label for arrow in story.arrows][2:5] == [
        "UAR  001010000000001 REGISTRATION_AND_CAPABILITIES",
        "UAA DIAMETER_FIRST_REGISTRATION",
        story.arrows[4].label,
    ]
    assert story.calls == {"call-1": table.at[0, "call_id"]}
    assert [list(story.nodes)[number] for number in story.columns()] == ["alice", "pcscf", "icscf", "scscf", "hss"]


def test_piece_by_piece_gives_the_same_as_at_once() -> None:
    """How the traffic is cut into turns does not matter."""
    whole, pieces = LiveRows(), LiveRows()
    rows = decoded("05")
    whole.feed(rows)
    for row in rows:
        pieces.feed([row])
        pieces.columns()
    assert pieces.rows == whole.rows
    assert pieces.columns() == whole.columns()


def test_counters_tell_messages_and_retransmissions() -> None:
    """A message sent again is drawn dashed and counted."""
    story = LiveRows()
    story.feed(decoded("20"))
    assert story.again == sum(arrow.again for arrow in story.arrows) == 2
    assert story.messages == len(recording("20"))


def test_watchdogs_are_left_out() -> None:
    """They would scroll for ever in a lab where nothing happens."""
    story = LiveRows()
    story.feed(decoded("00"))
    assert "CER" in [arrow.message for arrow in story.arrows]
    assert not {"DWR", "DWA"} & {arrow.message.partition(" ")[0] for arrow in story.arrows}


def test_a_stream_has_one_row_and_moving_figures() -> None:
    """Eighty packets of media are two rows; loss and jitter stand beside."""
    story = LiveRows()
    story.name(NAMES)
    story.feed(RecordedFeed(with_media_packets()).take())
    assert sum(arrow.protocol == "rtp" for arrow in story.arrows) == 2
    streams = story.streams(2**62)
    assert [(stream["packets"], stream["lost"]) for stream in streams] == [(40, 0), (40, 0)]
    assert [stream["name"] for stream in streams] == ["alice → bob PCMU", "bob → alice PCMU"]
    assert all(0 <= stream["jitter_ms"] < 1 for stream in streams)


def test_a_meter_counts_as_rfc_3550_does() -> None:
    """A packet that is missing is lost, one that came late is not; the jitter is that of appendix A.8, by hand."""
    meter = StreamMeter()
    arrivals_ms = {65534: 0, 65535: 20, 1: 61, 0: 62, 3: 100}  # 2 is missing
    for sequence, arrived_ms in arrivals_ms.items():
        meter.add(arrived_ms * 10**6, sequence, ((sequence + 2) & 0xFFFF) * 160)
    assert (meter.packets, meter.lost) == (5, 1)
    expected = 0.0
    for difference in (0.0, 1.0, 21.0, 22.0):
        expected += (difference - expected) / 16
    assert meter.jitter_ms == pytest.approx(expected)
    meter.measure(10**9)
    assert meter.rate == pytest.approx(5)
    meter.measure(2 * 10**9)
    assert meter.rate == 0


def test_the_page_gets_every_row_once_it_listens() -> None:
    """A page that is made late misses nothing: until it has asked, every turn sends all."""
    feed = Feed()
    view = LiveView(feed, lambda: NAMES)
    rows = decoded("05")
    for row in rows[:40]:
        feed.waiting.append(row)
        view.turn()  # nobody hears this
    page = Page(view)
    feed.waiting += rows[40:60]
    view.turn()
    assert len(page.rows) == len(view.story.rows)
    view.widget._asked(view.widget, {"type": "rows", "from": len(page.rows)}, [])
    feed.waiting += rows[60:]
    view.turn()
    assert page.rows == view.story.rows
    assert page.last["from"] > 0  # only what was new
    assert page.last["order"] == view.story.columns()


def test_a_message_can_be_opened_while_it_runs() -> None:
    """The pane explains it, the pointer gets its key headers."""
    view = LiveView(RecordedFeed(next(IMS.glob("01*.pcap")).read_bytes()), lambda: NAMES)
    view.turn()
    view.widget.place = 3
    assert "Diameter answer UAA" in view.widget.shown
    assert ("Experimental-Result-Code", "2001") in view.widget.hint(3)


def test_loss_is_shown() -> None:
    """The counter of the source reaches the page."""
    feed = Feed()
    feed.lost = 7
    view = LiveView(feed, lambda: {})
    view.turn(running=False)
    assert view.widget.live["lost"] == 7
    assert view.widget.live["running"] is False


def test_it_ends_with_its_capture() -> None:
    """No thread is left, and the last rows are there."""
    capture = Capture("first", "01")
    packets = next(IMS.glob("01*.pcap")).read_bytes()
    views = []

    def watch() -> LiveView:
        views.append(LiveView(RecordedFeed(packets), lambda: NAMES))
        return views[-1]

    capture.watched(watch)
    assert capture.live() is None
    capture.close(packets, NAMES, "wire")
    assert [thread.name for thread in threading.enumerate() if thread.name == "labkit-live"] == []
    assert views[0].story.messages == 18
    assert views[0].widget.live["running"] is False
    assert "18 messages" in repr(capture.live())


def test_what_stays_is_a_plain_ladder_and_a_table() -> None:
    """The displays that the cell stored are replaced: the widget by a figure, the place below it by the table."""

    class Shown:
        def __init__(self) -> None:
            self.now: Any = None

        def update(self, value: Any, *, raw: bool = False) -> None:
            self.now = value

    capture = Capture("first", "01")
    packets = next(IMS.glob("01*.pcap")).read_bytes()
    view = LiveView(RecordedFeed(packets), lambda: NAMES)
    view._shown, view._below = Shown(), Shown()
    capture.watched(lambda: view)
    capture.live()
    capture.close(packets, NAMES, "wire")
    assert view._shown.now["application/vnd.plotly.v1+json"]["data"]
    assert view._shown.now["text/plain"] == "The ladder, as it was."
    assert view._below.now is capture.steps
