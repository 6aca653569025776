"""Excerpts: some messages of a capture as a capture of their own, with all frames that they need."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import labkit as lk
from labkit.errors import CaptureError
from labkit.practice.evening import evening
from labkit.session.capture import Capture
from labkit.wire import pcap


def opened(raw: bytes, name: str = "evening") -> Capture:
    capture = Capture(name, "")
    capture.close(raw, {"192.0.2.10": "icscf"}, "file")
    return capture


@pytest.fixture(scope="module")
def trace() -> Capture:
    """With many messages in several segments and fragments."""
    return opened(evening(3000, 7, overtaken=0.0, repeated=0.05).file())


@pytest.mark.parametrize("protocol", ["sip", "diameter"])
def test_every_third_message_comes_whole(trace: Capture, protocol: str) -> None:
    """What is chosen is in the excerpt, byte for byte; what comes along is only what shares frames with it."""
    of_kind = trace.table[trace.table.protocol == protocol].index[::3]
    part = trace.excerpt("part", trace.table.index.isin(of_kind))
    wanted = Counter(trace.messages.raw[row] for row in of_kind)
    found = Counter(part.messages.raw)
    assert wanted - found == Counter()
    assert found.total() <= wanted.total() * 1.1


def test_media_alone_are_their_frames(trace: Capture) -> None:
    """Without the SDP nobody can tell that it is RTP, but its packets are all there."""
    part = trace.excerpt("part", trace.table.protocol == "rtp")
    frames = [frame.raw[-172:] for frame in pcap.read_frames(part.packets)]
    assert frames == [raw for raw in trace.messages.raw if raw[0] == 0x80]


def test_each_message_alone(trace: Capture) -> None:
    """Of the messages in several frames, every one can be cut out by itself."""
    long = [row for row, raw in enumerate(trace.messages.raw) if len(raw) > 1400][::9]
    assert {trace.table.at[row, "transport"] for row in long} == {"udp", "tcp"}
    for row in long:
        part = trace.excerpt("one", trace.table.index == row)
        assert trace.messages.raw[row] in list(part.messages.raw)


def test_names_travel(trace: Capture, tmp_path: Path) -> None:
    """Whoever opens the excerpt sees the names of the nodes."""
    part = trace.excerpt("part", trace.table.method == "REGISTER")
    again = lk.open_capture(part.save(tmp_path / "part.pcapng"))
    assert "icscf" in set(again.table.src_node.dropna())
    assert len(again.table) == len(part.table)


def test_rows_must_fit(trace: Capture) -> None:
    """A mask of another table is refused."""
    with pytest.raises(CaptureError, match="yes or no for each"):
        trace.excerpt("part", [True])


def test_nothing_chosen(trace: Capture) -> None:
    """An excerpt may be empty."""
    assert len(trace.excerpt("none", trace.table.method == "PUBLISH").table) == 0


def test_a_file_that_is_not_there() -> None:
    """One sentence."""
    with pytest.raises(CaptureError, match="Cannot read the capture nowhere"):
        lk.open_capture("nowhere.pcap")


def test_a_capture_can_be_too_long_for_a_story(trace: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of thousands of messages would keep a notebook busy for minutes; an excerpt has a story."""
    monkeypatch.setattr("labkit.session.capture._LONGEST_STORY", 5)
    with pytest.raises(CaptureError, match="too many for a story"):
        _ = trace.steps
    first = trace.table.frame[trace.table.protocol == "sip"].iloc[0]
    assert len(trace.excerpt("one", trace.table.frame == first).steps) == 1
