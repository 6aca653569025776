"""`cap.live()` on a running lab, without a browser: what it shows is what the capture then holds."""

from __future__ import annotations

import asyncio

import pytest

import labkit
from labkit.lab.lab import RunningLab
from labkit.view.live_rows import LiveRows

WATCHDOG = 280


def test_the_growing_ladder_sees_what_the_capture_sees(lab: RunningLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message of a registration and a de-registration, by the names of the lab and its phone; none is lost."""
    monkeypatch.setenv("LABKIT_NAME", lab.name)
    session = labkit.open("live-view", engine=lab.engine_name)
    shown: list[LiveRows] = []

    async def scene() -> None:
        alice = session.ue("alice")
        with session.capture("seen") as capture:
            capture.live()
            shown.append(capture._views[0].story)
            await alice.register()
            await alice.deregister()
        table = capture.table
        story = shown[0]
        signalling = table[
            table["protocol"].isin(["sip", "diameter"]) & (table["command_code"] != WATCHDOG).fillna(True)
        ]
        assert [arrow.source for arrow in story.arrows][: len(signalling)] == signalling["src_node"].tolist()
        assert {"alice", "pcscf", "icscf", "scscf", "hss"} <= set(story.nodes)
        assert capture.lost == 0

    try:
        asyncio.run(scene())
    finally:
        session.close()
