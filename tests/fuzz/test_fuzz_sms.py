"""Damaged short messages: a value or an SmsError, never anything else, and what is read can be shown and written."""

from __future__ import annotations

import os
import random
import time

from labkit.errors import SmsError
from labkit.view.sms_bytes import SmsBytes
from labkit.wire import sms
from tests.fuzz.test_fuzz_ifc import mutated
from tests.sms_bytes import one_of_each, recorded

SECONDS = float(os.environ.get("LABKIT_FUZZ_SECONDS", "2"))


def test_damaged_short_messages() -> None:
    """Every field lies inside the message; what is read as a message is read alike once it is written again."""
    rng = random.Random(7)
    seeds = [*recorded(), *(made.to_bytes() for made in one_of_each().values())]
    end = time.monotonic() + SECONDS
    read = tried = 0
    while time.monotonic() < end:
        tried += 1
        raw = mutated(rng, rng.choice(seeds)) if tried % 4 else rng.randbytes(rng.randrange(40))
        found = sms.dissect(raw)
        assert all(field.start + field.size <= len(raw) for field in found.fields)
        assert sms.label(raw)
        if tried % 16 == 0:
            assert repr(SmsBytes(raw))
            assert SmsBytes(raw)._repr_html_()
        if found.message is None:
            assert found.problem
            continue
        read += 1
        try:
            again = sms.parse_rp(found.message.to_bytes())
        except SmsError:
            continue  # too long a name, or text: read leniently, not written
        assert type(again) is type(found.message)
    assert read > 20
