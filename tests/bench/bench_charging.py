"""Charging as its user waits for it: start of engine and database, CDRs a second, and calls that are cut.

    python tests/bench/bench_charging.py [--engine local] [--cdrs 2000] [--calls 20]

Prints one table; images and programs must be there. A cut is right when the CDR says 3 s and 0.03; what is printed of
it is the time from the answer to the BYE as the calling phone saw it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import labkit as lk
from labkit.errors import LabkitError
from labkit.lab.lab import start_lab

NAME = "bench-charging"
NODES = ["prepaid", "cgrates", "postgres"]
cg = lk.cgrates


def tariff() -> Any:
    """A cent a second to numbers of ours."""
    second = timedelta(seconds=1)
    ours = cg.Destination("DST_OURS", ("+1555",))
    price = cg.Price(ours, cg.Rate("CENT_A_SECOND", (cg.Slot("0.01", per=second),)))
    return cg.Tariff("BENCH", (cg.Profile(cg.Plan("PLAN_BENCH", (price,))),))


async def rated(lab: Any, wanted: int) -> dict[str, str]:
    """Rate a month of CDRs, fetch them by both doors, and hold the two against each other."""
    await lab.cgrates.load_tariff_folder("tariffs/month")
    month = cg.Month(seed=7, calls=wanted)
    began = time.perf_counter()
    for day in month.days:
        await lab.cgrates.charge_day(month, day)
    charged_s = time.perf_counter() - began
    began = time.perf_counter()
    rows = await lab.cgrates.cdr_rows(answered_from=datetime(2026, 1, 1, tzinfo=UTC))
    api_s = time.perf_counter() - began
    began = time.perf_counter()
    table = lab.sql("SELECT origin_id, account, destination, answer_time, usage, cost FROM cdrs")
    sql_s = time.perf_counter() - began
    same = len(rows) == len(table) == wanted and rows.to_frame().cost.sum() == table.cost.sum()
    return {
        "CDRs stored and rated over the API": f"{wanted / charged_s:,.0f}/s",
        "CDRs fetched by GetCDRs": f"{wanted / api_s:,.0f}/s",
        "CDRs fetched in SQL": f"{wanted / sql_s:,.0f}/s",
        "both doors tell the same": "yes" if same else "NO",
    }


async def cut(lab: Any, calls: int) -> dict[str, str]:
    """Let calls run out of money, one after another."""
    await lab.cgrates.load_tariff(tariff())
    await lab.cgrates.set_charger("DEFAULT")
    alice = lab.ue("alice", via="prepaid")
    bob = lab.ue("bob", via="prepaid", auto_answer=True)
    lasted, right = [], 0
    for _ in range(calls):
        await lab.cgrates.set_balance("alice", "0.035")
        call = await alice.call(bob.direct_uri)
        began = time.perf_counter()
        try:
            await call.wait_state("ended", timeout_s=20)
        except LabkitError:
            await call.bye()
            continue
        lasted.append(time.perf_counter() - began)
        record = await lab.cgrates.cdr_of(call.call_id)
        right += (record.usage, record.cost) == (timedelta(seconds=3), Decimal("0.03"))
    spread = f"{min(lasted):.2f} to {max(lasted):.2f} s, median {statistics.median(lasted):.2f} s" if lasted else "-"
    return {"calls cut with the right CDR": f"{right} of {calls}", "cut after the answer": spread}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("docker", "local"), default="local")
    parser.add_argument("--cdrs", type=int, default=2000)
    parser.add_argument("--calls", type=int, default=20)
    args = parser.parse_args()
    os.environ |= {"LABKIT_ENGINE": args.engine, "LABKIT_NAME": NAME}
    running = start_lab(NAME, args.engine, progress=lambda line: None)
    try:
        running.prepare_nodes(NODES, print)
        began = time.perf_counter()
        running.start_nodes(NODES, lambda line: None)
        table = {"proxy, engine and database, warm start": f"{time.perf_counter() - began:.1f} s"}
        lab = lk.open("16", nodes=NODES)
        table |= asyncio.run(rated(lab, args.cdrs))
        table |= asyncio.run(cut(lab, args.calls))
        lab.close()
    finally:
        running.stop()
    width = max(map(len, table))
    print("\n".join(f"{name:{width}}  {value}" for name, value in table.items()))


if __name__ == "__main__":
    main()
