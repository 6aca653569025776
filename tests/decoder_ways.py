"""The ways through the decoder: each test that uses `way` runs them all, for they give the same."""

from __future__ import annotations

import pytest

from labkit import native

ONE_BY_ONE = 1 << 30
"""So many frames never come at once."""
WAY = {"few_frames": 0}
"""Arguments for `labkit.capture.decode.decode` on the way that is being tested."""


_COMPILED = pytest.param(True, id="compiled", marks=pytest.mark.native)


@pytest.fixture(params=[pytest.param(False, id="in Python"), _COMPILED])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner loops in Python, then those in C."""
    if not request.param:
        monkeypatch.setattr(native, "compiled", None)


@pytest.fixture(
    params=[
        pytest.param((0, False), id="arrays"),
        pytest.param((ONE_BY_ONE, False), id="one by one"),
        pytest.param((0, True), id="arrays, compiled", marks=pytest.mark.native),
    ]
)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the way of the decoder."""
    WAY["few_frames"], compiled = request.param
    if not compiled:
        monkeypatch.setattr(native, "compiled", None)
