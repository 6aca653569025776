"""Bounded fuzz of the Diameter codec and of a running HSS: an error of ours, an answer or a closed connection, no more.

LABKIT_FUZZ_SECONDS makes it longer; the seed is in the name of a failure's message.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cx_client import USERS, CxClient, in_loop, outcome, running_hss
from ims_bytes import diameter_messages, one_of_each, recordings

from labkit.errors import DiameterError
from labkit.wire.diameter import message_length, parse_message, split_stream

SECONDS = float(os.environ.get("LABKIT_FUZZ_SECONDS", "2"))
MESSAGES = [raw for name in recordings() for _, raw in diameter_messages(name)]
REQUESTS = [raw for name, raw in one_of_each().items() if name.endswith("R")]


def seeds() -> Iterator[int]:
    """Numbers until the time is over."""
    give_up = time.monotonic() + SECONDS
    seed = int(os.environ.get("LABKIT_FUZZ_SEED", "0"))
    while time.monotonic() < give_up:
        yield seed
        seed += 1


def mutated(chance: random.Random, raw: bytes) -> bytes:
    """A message with bytes changed, cut out, doubled or put in; its length field now and then made right again."""
    damaged = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 4, 9))):
        at = chance.randrange(len(damaged))
        kind = chance.randrange(4)
        if kind == 0:
            damaged[at] = chance.randrange(256)
        elif kind == 1:
            del damaged[at : at + chance.randrange(1, 40)]
        elif kind == 2:
            damaged[at:at] = damaged[at : at + chance.randrange(1, 60)]
        else:
            damaged[at:at] = chance.randbytes(chance.randrange(1, 8))
        if len(damaged) < 8:
            return bytes(damaged)
    if chance.random() < 0.6:
        damaged[1:4] = len(damaged).to_bytes(3, "big")
    return bytes(damaged)


def test_the_codec_answers_with_a_message_or_an_error_of_its_own() -> None:
    """What it takes can be looked at to the last nested value, and comes back byte for byte."""
    for seed in seeds():
        raw = mutated(random.Random(seed), random.Random(seed + 1).choice(MESSAGES))
        try:
            message = parse_message(raw)
        except DiameterError:
            continue
        assert message.to_bytes() == raw, seed
        look = list(message.avps)
        while look:
            avp = look.pop()
            assert avp.name
            with contextlib.suppress(DiameterError):
                look += avp.children
            with contextlib.suppress(DiameterError):
                _ = avp.value


def test_the_splitter_never_loses_or_invents_bytes() -> None:
    """Whole messages and the rest are together what came in, or the stream is refused."""
    for seed in seeds():
        chance = random.Random(seed)
        stream = b"".join(chance.choice(MESSAGES) for _ in range(3)) + mutated(chance, chance.choice(MESSAGES))
        try:
            messages, rest = split_stream(stream)
        except DiameterError:
            continue
        assert b"".join(messages) + rest == stream, seed
        assert all(message_length(one) == len(one) for one in messages), seed


@in_loop
async def test_a_running_hss_goes_on_serving_others() -> None:
    """Each damaged request is answered or ends its connection; a bystander is answered all the time."""
    async with running_hss() as hss, CxClient(hss.diameter_port, "bystander") as bystander:
        for seed in seeds():
            chance = random.Random(seed)
            client = CxClient(hss.diameter_port)
            await client.__aenter__()
            with contextlib.suppress(ConnectionError):
                for _ in range(10):
                    client.writer.write(mutated(chance, chance.choice(REQUESTS)))
                await client.writer.drain()
            await client.close()
            assert outcome(await bystander.uar(USERS["bob"]))[1], seed
