"""The lab as its user waits for it: start to first 200 OK, stop, one registration, many registrations.

    python tests/bench/bench_lab.py [--engine local] [--rounds 5] [--registrations 1000]

Prints one table; images and programs must be there (the first `./lab up` fetches them). Phones and HSS share the two
cores with the core they load, so the rate is that of the whole machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

from labkit.errors import CallFailed
from labkit.lab.lab import RunningLab, start_lab
from labkit.paths import subscribers_file
from labkit.peers.hss.subscribers import load_subscribers
from labkit.peers.ue import UE

NAME = "bench"
AT_A_TIME = 8


def phone(lab: RunningLab, name: str, index: int) -> UE:
    """A phone of one test subscriber on the lab."""
    subscriber = next(one for one in load_subscribers(subscribers_file()) if one.name == name)
    address, port = lab.phone_address(index)
    return UE(subscriber, address=address, port=port, pcscf=lab.sip_address("pcscf"), realm=lab.realm)


async def first_ok(lab: RunningLab) -> None:
    """Register one phone."""
    async with phone(lab, "alice", 0) as alice:
        await alice.register()


async def one_by_one(lab: RunningLab, rounds: int) -> list[float]:
    """Milliseconds of each of some registrations, one after another."""
    took = []
    for index in range(rounds):
        async with phone(lab, f"load{101 + index}", 10 + index) as one:
            begin = time.perf_counter()
            await one.register()
            took.append((time.perf_counter() - begin) * 1000)
    return took


async def many(lab: RunningLab, registrations: int) -> tuple[float, int]:
    """Registrations a second with AT_A_TIME phones, each renewing its own; and how many failed."""
    phones = [phone(lab, f"load{130 + index}", 40 + index) for index in range(AT_A_TIME)]
    failed = 0

    async def renew(one: UE) -> None:
        nonlocal failed
        for _ in range(registrations // AT_A_TIME):
            try:
                await one.register()
            except CallFailed:
                failed += 1

    for one in phones:
        await one.start()
    begin = time.perf_counter()
    await asyncio.gather(*(renew(one) for one in phones))
    took = time.perf_counter() - begin
    for one in phones:
        await one.stop()
    return registrations // AT_A_TIME * AT_A_TIME / took, failed


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("local", "docker"), default="local")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--registrations", type=int, default=1000)
    args = parser.parse_args()
    starts, stops = [], []
    for _ in range(args.rounds):
        begin = time.perf_counter()
        lab = start_lab(name=NAME, engine=args.engine, progress=lambda line: None)
        try:
            asyncio.run(first_ok(lab))
            starts.append(time.perf_counter() - begin)
        finally:
            stops.append(timed(lab.stop))
    lab = start_lab(name=NAME, engine=args.engine, progress=lambda line: None)
    try:
        single = asyncio.run(one_by_one(lab, 20))
        rate, failed = asyncio.run(many(lab, args.registrations))
    finally:
        lab.stop()
    rows = (
        ("start to first 200 OK, s (median, max)", statistics.median(starts), max(starts)),
        ("stop, s (median, max)", statistics.median(stops), max(stops)),
        ("one registration, ms (p50, max)", statistics.median(single), max(single)),
        (f"registrations/s, {AT_A_TIME} at a time (rate, failed)", rate, failed),
    )
    print(f"engine {args.engine}, {args.rounds} starts, 20 single and {args.registrations} registrations")
    for title, one, other in rows:
        print(f"{title:<48}{one:>10.2f}{other:>10.2f}")


if __name__ == "__main__":
    main()
