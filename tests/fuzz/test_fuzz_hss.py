"""Bounded fuzz of the Diameter codec and the HSS: whatever comes, an answer or a closed connection, and no growth."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cx_client import HSS, REALM, SUBSCRIBERS, running_hss
from ims_bytes import all_messages

from labkit.errors import AkaError, DiameterError
from labkit.peers.hss.application import Application
from labkit.peers.hss.checks import SESSION_ID, RequestReader
from labkit.peers.hss.connection import MAX_MESSAGE
from labkit.peers.hss.exchange import Exchange
from labkit.peers.hss.state import Store
from labkit.wire import cx
from labkit.wire.aka import parse_auth
from labkit.wire.diameter import (
    Avp,
    message_length,
    parse_avps,
    parse_message,
    read_tree,
    scan_avps,
    split_stream,
)

SECONDS = float(os.environ.get("LABKIT_FUZZ_SECONDS", "2"))
MESSAGES = all_messages()
REQUESTS = [
    raw for raw in MESSAGES if raw[4] & 0x80 and raw[5:8] in (b"\0\1\x2c", b"\0\1\x2d", b"\0\1\x2e", b"\0\1\x2f")
]


def turns(seed: int) -> Iterator[random.Random]:
    """Chances until the time is over."""
    end, number = time.monotonic() + SECONDS, seed
    while time.monotonic() < end:
        yield random.Random(number)
        number += 1


def damaged(chance: random.Random, raw: bytes, keep_header: bool = False) -> bytes:
    """Change, cut, insert and repeat bytes; with `keep_header` the length is set right again."""
    bytes_ = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(20 if keep_header else 0, max(len(bytes_), 21))
        kind = chance.randrange(5)
        if kind == 0:
            bytes_[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del bytes_[at : at + chance.randrange(1, 24)]
        elif kind == 2:
            bytes_[at:at] = chance.randbytes(chance.randrange(1, 24))
        elif kind == 3:
            bytes_[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\0\0\0\7", b"\x80\0\0\x0c"))
        else:
            bytes_[at:at] = bytes_[20 : 20 + chance.randrange(1, 200)]
    if keep_header:
        bytes_ += bytes(-len(bytes_) % 4)
        bytes_[1:4] = len(bytes_).to_bytes(3, "big")
    return bytes(bytes_)


def read_all(avp: Avp, depth: int = 0) -> None:
    """Read name, value and children, as a viewer does."""
    assert avp.name
    try:
        _ = avp.value
        for child in avp.children:
            if depth < 8:
                read_all(child, depth + 1)
    except DiameterError:
        return


def check_message(raw: bytes) -> bool:
    """Hold the codec to its word on one message; whether it was read (else: refused as DiameterError)."""
    try:
        message = parse_message(raw)
    except DiameterError:
        return False
    assert message.to_bytes() == raw
    found, count, _ = scan_avps(raw)
    assert count == len(message.avps)
    assert found == {avp.code | avp.vendor << 32: avp.raw for avp in message.avps}
    for avp in message.avps:
        read_all(avp)
    return True


def test_codec():
    """Damaged messages are read and written back as they were, or refused; the quick look agrees."""
    for chance in turns(1):
        check_message(damaged(chance, chance.choice(MESSAGES), keep_header=chance.random() < 0.7))


def test_stream():
    """A stream is cut into the same messages whatever the pieces, or its framing is refused."""
    for chance in turns(2):
        stream = b"".join(chance.choices(MESSAGES, k=3))
        if chance.random() < 0.5:
            stream = damaged(chance, stream)
        try:
            whole, rest = split_stream(stream)
        except DiameterError:
            continue
        assert b"".join(whole) + rest == stream
        for raw in whole:
            assert message_length(raw) == len(raw)


def test_digest_parameters():
    """Whatever stands in an Authorization header, parameters or an AkaError come out."""
    text = 'Digest username="a@b", realm="b", nonce="x\\"y,z", uri="sip:b", response="0", algorithm=AKAv1-MD5, qop=auth'
    for chance in turns(3):
        odd = damaged(chance, text.encode()).decode("latin-1")
        try:
            params = parse_auth(odd)
        except AkaError:
            continue
        for name, _ in params.params:
            assert params.get(name) is not None
        assert str(params).startswith(params.scheme)


def test_every_damaged_request_is_answered():
    """A request whose frame is whole gets one well-formed answer with its ids, and the store stays small."""
    store = Store(":memory:", SUBSCRIBERS, REALM)
    exchange = Exchange(Application(store), HSS, REALM)
    identities = len(store.by_impu)
    for chance in turns(4):
        raw = damaged(chance, chance.choice(REQUESTS), keep_header=True)
        answer, _ = exchange.answer(raw)
        message = parse_message(answer)
        assert not message.request
        assert answer[12:20] == raw[12:20]
        assert (message.find("Result-Code") is None) != (message.find("Experimental-Result") is None)
        assert message.find("Origin-Host").value == HSS
        store.flush()
    assert len(store.by_impu) == identities
    store.close()


class _Wire:
    """Stands for a transport that takes everything."""

    def __init__(self) -> None:
        self.closed = False

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 3868

    def write(self, raw: bytes) -> None:
        assert split_stream(raw)[1] == b""

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = pause_reading = resume_reading = close


def test_connection_in_pieces():
    """A connection that gets damaged streams in random pieces never raises and never keeps more than a message."""

    async def run() -> None:
        async with running_hss(quiet=True) as hss:
            tracemalloc.start()
            for number, chance in enumerate(turns(5)):
                if number == 200:
                    before = tracemalloc.get_traced_memory()[0]
                connection = hss.connection()
                connection._transport = _Wire()
                stream = cx.cer(f"scscf.{REALM}", REALM, "127.0.0.1").to_bytes()
                stream += b"".join(damaged(chance, raw, chance.random() < 0.8) for raw in chance.choices(MESSAGES, k=3))
                while stream:
                    size = chance.choice((1, 3, 50, 400, 5000))
                    connection.take(stream[:size])
                    stream = stream[size:]
                    assert len(connection._rest) <= MAX_MESSAGE + 5000
                connection.connection_lost(None)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            if number > 400:
                assert tracemalloc.get_traced_memory()[0] < before + 2_000_000
            tracemalloc.stop()

    asyncio.run(run())


def _read(reader: RequestReader, raw: bytes) -> object:
    """Read; Session-Id counts once, and its padding not at all."""
    try:
        found, session, usual = reader.read(int.from_bytes(raw[5:8], "big"), raw)
        found.pop(SESSION_ID, None)
        return found, session[: int.from_bytes(session[5:8], "big")], usual
    except DiameterError as error:
        return error.result_code, error.failed_avp


def test_what_is_remembered_changes_nothing() -> None:
    """A reader that has seen many requests reads a damaged one as a fresh reader does, whatever it remembers."""
    warm = RequestReader()
    for chance in turns(5):
        raw = chance.choice(REQUESTS)
        assert _read(warm, raw) == _read(RequestReader(), raw)
        for _ in range(4):
            bad = damaged(chance, raw, keep_header=True)
            if bad[4:8] == raw[4:8]:
                assert _read(warm, bad) == _read(RequestReader(), bad)


def test_tree_is_what_avp_by_avp_is() -> None:
    """Names and values of a damaged message are the same at once and AVP by AVP, or both are refused."""

    def by_avp(avps: tuple[Avp, ...]) -> list[tuple[str, object]]:
        return [(avp.name, by_avp(avp.value) if avp.kind == "Grouped" else avp.value) for avp in avps]

    for chance in turns(6):
        raw = damaged(chance, chance.choice(MESSAGES), keep_header=True)
        try:
            wanted: object = by_avp(parse_avps(raw, 20))
        except DiameterError:
            wanted = None
        try:
            tree: object = read_tree(raw)
        except DiameterError:
            tree = None
        assert tree == wanted
