"""Millions of damaged packets and messages, by hand: an answer or the right error each time, and no growth.

`python tests/fuzz/long_run.py [--packets 10000000] [--messages 2000000] [--seed 1]` prints a table. The bounded tests
beside this file run the same in CI for seconds. Chunks of packets go in turn to a decoder of their own and to one that
lives as long as the run, so that what a decoder keeps of streams, fragments and sound would be seen as growth.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import test_fuzz_capture as captures
import test_fuzz_hss as diameter
import test_fuzz_sip as sip

from labkit.capture.decode.decoder import Decoder
from labkit.wire import pcap

DATA = Path(__file__).parent.parent / "data"
CHUNK_PACKETS = 20_000


def sources() -> list[bytes]:
    """Every packet of the recordings, in order."""
    paths = sorted(path for folder in ("ims", "freeswitch", "homer", "rpc") for path in (DATA / folder).glob("*.pcap"))
    return [frame.raw for path in paths for frame in pcap.read_frames(path.read_bytes())]


def chunks(packets: list[bytes], count: int, chance: random.Random) -> Iterator[bytes]:
    """`count` damaged packets as pcap records, CHUNK_PACKETS at a time; neighbours stay neighbours."""
    at, time_ns = 0, 0
    for first in range(0, count, CHUNK_PACKETS):
        records = []
        for _ in range(min(CHUNK_PACKETS, count - first)):
            at = (at + 1) % len(packets) if chance.random() < 0.999 else chance.randrange(len(packets))
            time_ns += 1_000_000
            records.append(pcap.pcap_record(time_ns, captures.mutated(chance, packets[at])))
        yield b"".join(records)


def resident_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


class Memory:
    """What a run holds after each tenth of it."""

    def __init__(self, steps: int) -> None:
        self._every = max(1, steps // 10)
        self._seen: list[str] = []

    def note(self, step: int) -> None:
        """Look after this step, from 0."""
        if step % self._every == self._every - 1:
            self._seen.append(f"{resident_mib():.0f}")

    def __str__(self) -> str:
        return f"resident after each tenth: {' '.join(self._seen)} MiB"


def run_packets(count: int, seed: int) -> None:
    """Decode damaged packets and print what came of them."""
    chance, packets = random.Random(seed), sources()
    lasting = Decoder()
    lasting.feed(pcap.pcap_header())
    rows, slowest_s, memory = 0, 0.0, Memory(count // CHUNK_PACKETS)
    for number, records in enumerate(chunks(packets, count, chance)):
        began = time.process_time()
        if number % 2:
            rows += len(lasting.feed(records))
        else:
            own = Decoder()
            rows += len(own.feed(pcap.pcap_header() + records)) + len(own.finish())
        slowest_s = max(slowest_s, time.process_time() - began)
        memory.note(number)
    rows += len(lasting.finish())
    print(f"packets      {count:>12,}  rows {rows:,}; slowest {CHUNK_PACKETS:,} took {slowest_s:.2f} s of CPU;")
    print(f"{'':27}{memory}")
    print(f"{'':27}given up by the lasting decoder: {'; '.join(lasting.notes) or 'nothing'}")


def run_messages(kind: str, count: int, one: Callable[[random.Random], bool], seed: int) -> None:
    """Read damaged messages and print what came of them."""
    chance = random.Random(seed)
    read, slowest_s, memory = 0, 0.0, Memory(count)
    for number in range(count):
        began = time.process_time()
        read += one(chance)
        slowest_s = max(slowest_s, time.process_time() - began)
        memory.note(number)
    print(f"{kind:12} {count:>12,}  read {read:,}, refused {count - read:,}; slowest {slowest_s * 1000:.0f} ms of CPU;")
    print(f"{'':27}{memory}")


def one_sip(chance: random.Random) -> bool:
    """A damaged SIP message."""
    return sip.check_message(sip.mutated(chance, chance.choice(sip.MESSAGES)))


def one_diameter(chance: random.Random) -> bool:
    """A damaged Diameter message."""
    raw = chance.choice(diameter.MESSAGES)
    return diameter.check_message(diameter.damaged(chance, raw, keep_header=chance.random() < 0.7))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="damaged packets and messages by the million")
    parser.add_argument("--packets", type=int, default=10_000_000)
    parser.add_argument("--messages", type=int, default=2_000_000, help="half of them SIP, half Diameter")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    run_packets(chosen.packets, chosen.seed)
    run_messages("SIP", chosen.messages // 2, one_sip, chosen.seed)
    run_messages("Diameter", chosen.messages - chosen.messages // 2, one_diameter, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
