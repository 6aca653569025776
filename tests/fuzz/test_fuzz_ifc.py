"""Damaged profiles and wild expressions: an answer or an error of ours, never anything else."""

from __future__ import annotations

import os
import random
import re
import time
from contextlib import suppress

from labkit.errors import SipError, XmlError
from labkit.view.profile import view_profile
from labkit.wire.ere import compile_ere
from labkit.wire.ifc import Rules, evaluate
from labkit.wire.profile import parse_profile
from labkit.wire.sip import SipMessage
from tests.test_wire_ifc import ANNEX_C, INVITE, MESSAGE, recorded_user_data

SECONDS = float(os.environ.get("LABKIT_FUZZ_SECONDS", "2"))
ALPHABET = "ab0[]()^$.*+?|{}\\-,:dwsx&~ "


def mutated(rng: random.Random, raw: bytes) -> bytes:
    """Turn bytes, cut a piece out, or put one in twice."""
    changed = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(3)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 40)]
        else:
            changed[at:at] = changed[at : at + rng.randint(1, 40)]
        if not changed:
            return b""
    return bytes(changed)


def test_damaged_profiles() -> None:
    """Whatever is read can be shown and evaluated."""
    rng = random.Random(4)
    seeds = [ANNEX_C.encode(), recorded_user_data()]
    requests: list[SipMessage] = [INVITE, MESSAGE]
    end = time.monotonic() + SECONDS / 2
    read = 0
    while time.monotonic() < end:
        try:
            view = view_profile(mutated(rng, rng.choice(seeds)), {})
        except XmlError:
            continue
        read += 1
        assert repr(view)
        assert view._repr_html_()
        for criterion in view.criteria:
            for rules in Rules:
                with suppress(SipError):  # an expression that is none
                    str(evaluate(criterion, rng.choice(requests), session_case=rng.randrange(5), rules=rules))
    assert read > 0
    assert parse_profile(seeds[0]).criteria


def test_wild_expressions() -> None:
    """Compiled, or refused as `re.error`."""
    rng = random.Random(5)
    end = time.monotonic() + SECONDS / 2
    while time.monotonic() < end:
        text = "".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, 12)))
        with suppress(re.error):
            compile_ere(text).search("aab0 [x]")
