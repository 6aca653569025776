"""The session as a lesson holds it: its phones and its nodes, without any lab behind it."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import LessonError
from labkit.session import opening, session


def test_a_further_phone_of_a_subscriber_has_a_name_of_its_own() -> None:
    """A device is the same subscriber under another name, and the same phone when it is asked for again."""
    opened = session.open("00", engine="replay")
    phone, tablet = opened.ue("alice"), opened.ue("alice", device="tablet")
    assert tablet is not phone
    assert tablet is opened.ue("alice", device="tablet")
    assert (phone.taped_label, tablet.taped_label) == ("alice", "tablet")
    assert tablet.identity == phone.identity


def test_a_device_cannot_be_named_like_a_subscriber() -> None:
    """Else two phones would share a lifeline and a place on the tape."""
    with pytest.raises(LessonError, match="'bob' is a test subscriber"):
        session.open("00", engine="replay").ue("alice", device="bob")


def test_nodes_of_a_lesson_are_started_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live, what an earlier learner wrote goes first, then the nodes are started that the lesson asks for; in replay
    nothing is.
    """
    started: list[Any] = []

    class Running:
        engine_name = "local"

        def restore_nodes(self) -> None:
            started.append("plain again")

        def start_nodes(self, nodes: Any, progress: Any) -> None:
            started.append(tuple(nodes))

    monkeypatch.setattr(opening, "_forget_subscribers", lambda running: None)
    monkeypatch.setattr(opening, "_running_lab", lambda wanted: Running())
    assert session.open("00", nodes=("scscf2",)).live
    assert started == ["plain again", ("scscf2",)]
    monkeypatch.setattr(opening, "_running_lab", lambda wanted: None)
    assert not session.open("00", nodes=("scscf2",)).live
    assert started == ["plain again", ("scscf2",)]


def test_a_lesson_about_the_wire_is_replayed_where_it_cannot_be_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a sentence that says why, and how to see it live."""

    class Mirroring:
        capture_kind = "mirrored"

    monkeypatch.setattr(opening, "_running_lab", lambda wanted: Mirroring())
    assert not session.open("00", wire=True).live
    assert "CAP_NET_RAW" in capsys.readouterr().out
