"""How fast is the Diameter codec? Microseconds a message, against python-diameter and scapy on the same recorded bytes.

python tests/bench/bench_diameter.py
"""

from __future__ import annotations

import logging
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ims_bytes import one_of_each

from labkit.wire.diameter import Avp, Message, command_name, parse_message, scan_avps

NUMBER, REPEAT = 300, 15


def best_us(work: Callable[[], object]) -> float:
    """Take the best of several runs: the machine's other work only ever adds."""
    return min(timeit.repeat(work, number=NUMBER, repeat=REPEAT)) / NUMBER * 1e6


def full_tree(message: Message) -> list[object]:
    """Read every value, at every depth."""

    def walk(avp: Avp) -> object:
        children = avp.children
        return [walk(child) for child in children] if children else avp.value

    return [walk(avp) for avp in message.avps]


def other_tree(message: object) -> list[object]:
    """Read every value with python-diameter."""

    def walk(avp: object) -> object:
        value = avp.value
        return [walk(child) for child in value] if isinstance(value, list) else value

    return [walk(avp) for avp in message.avps]


def main() -> None:
    """Print one table."""
    from diameter.message import Message as Other

    logging.disable(logging.CRITICAL)
    print("us a message, best of 15; other = python-diameter 0.9.0; tree = with every value read")
    head = (
        "bytes",
        "scan",
        "parse",
        "tree",
        "encode",
        "other parse",
        "tree",
        "encode",
        "ratio parse",
        "tree",
        "encode",
    )
    print(f"{'':5}" + "".join(f"{name:>12}" for name in head))
    for name, raw in sorted(one_of_each().items()):
        message, other = parse_message(raw), Other.from_bytes(raw)
        ours = [
            best_us(lambda raw=raw: parse_message(raw)),
            best_us(lambda raw=raw: full_tree(parse_message(raw))),
            best_us(message.to_bytes),
        ]
        theirs = [
            best_us(lambda raw=raw: Other.from_bytes(raw)),
            best_us(lambda raw=raw: other_tree(Other.from_bytes(raw))),
            best_us(other.as_bytes),
        ]
        scan = best_us(lambda raw=raw: scan_avps(raw))
        cells = [
            f"{len(raw)}",
            f"{scan:.1f}",
            *(f"{value:.1f}" for value in ours),
            *(f"{value:.0f}" for value in theirs),
        ]
        cells += [f"{other / mine:.1f}x" for mine, other in zip(ours, theirs, strict=True)]
        print(f"{command_name(int(name[:-1]), name[-1] == 'R'):5}" + "".join(f"{cell:>12}" for cell in cells))


if __name__ == "__main__":
    main()
