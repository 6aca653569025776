"""Two labs that need the same packages at the same moment, where nothing has been fetched yet."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from labkit.lab import packages
from labkit.lab.topology import ProgramSpec

pytestmark = pytest.mark.local

SPEC = ProgramSpec("hello", "", ("hello",), "usr/bin/hello")


def test_the_second_waits_and_takes_what_the_first_has_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both have the program, and it was unpacked once: nobody's running program is replaced."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    told: list[list[str]] = [[], []]
    raised: list[Exception] = []

    def fetch(lines: list[str]) -> None:
        try:
            packages.fetch_packages(SPEC, lines.append)
        except Exception as error:
            raised.append(error)

    fetchers = [threading.Thread(target=fetch, args=(lines,)) for lines in told]
    for fetcher in fetchers:
        fetcher.start()
    for fetcher in fetchers:
        fetcher.join(120)
    assert raised == []
    assert (packages.fetched_folder(SPEC) / SPEC.binary).exists()
    assert sorted(any(line.startswith("unpacked") for line in lines) for lines in told) == [False, True]
