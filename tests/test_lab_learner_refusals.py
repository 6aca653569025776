"""What a learner is told when Kamailio does not start: held against what 5.6.3 and 6.0.1 really logged.

`data/kamailio/refused.json` has each broken text, what both versions logged for it (through docker/proxy), and the
sentence that has to come of either.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import BlockRefused
from labkit.lab.learner.hints import strange
from labkit.lab.learner.refusals import refusal
from labkit.lab.learner.text import read_text
from labkit.lab.programs import required_modules
from labkit.lab.topology import load_topology

DATA = Path(__file__).parent / "data" / "kamailio" / "refused.json"
CASES: list[dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))
VERSIONS = ("5.6.3", "6.0.1")


def refused(case: dict[str, Any], version: str) -> BlockRefused:
    """What comes of the log of one version."""
    spec = load_topology().node("proxy")
    loaded = required_modules([spec.templates["kamailio.cfg"].read_text(encoding="utf-8")])
    read = read_text(case["text"], spec.lesson_modules, loaded)
    return refusal(case["text"], case["log"][version], [*loaded, *read.modules])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_one_readable_sentence_with_line_and_column(case: dict[str, Any], version: str) -> None:
    """The same words for both versions, with a place in the learner's own text."""
    told = refused(case, version)
    assert str(told) == case["says"]
    rows = case["text"].splitlines()
    assert 1 <= told.line <= len(rows)
    assert 1 <= told.column <= len(rows[told.line - 1]) + 1


def test_kamailios_own_words_are_kept() -> None:
    """Who knows Kamailio finds what it said in `said`."""
    case = next(case for case in CASES if case["what"] == "a function that is not there")
    assert "unknown command, missing loadmodule?" in refused(case, "6.0.1").said


def test_a_log_that_says_nothing_is_still_an_answer() -> None:
    """Where Kamailio ends without a word about the text, that is said, and no place is made up."""
    told = refusal("request_route { exit; }\n", [])
    assert (told.line, told.column) == (0, 0)
    assert "without a word" in str(told)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ('if ($rU = "bob") { exit; }', ["line 1: this sets $rU and compares nothing; == compares"]),
        ('while ($(hdr(X)[0]) = "a") { exit; }', ["line 1: this sets $(hdr(X)[0]) and compares nothing; == compares"]),
        ('if ($rU == "bob" && $fU =~ "a=b") { $var(x) = 1; }', []),
        ('if (is_method("A = B")) { exit; }', []),
    ],
)
def test_what_starts_and_is_strange_all_the_same(row: str, found: list[str]) -> None:
    """Kamailio starts with an assignment for a condition; hardly anybody means that."""
    assert strange(row) == found
