"""How fast is the Diameter codec? Microseconds of CPU a message, against python-diameter on the same bytes.

Recorded messages of each kind, a hundred different ones a kind: Session-Id, User-Name, Public-Identity and User-Data
change from message to message, in value and in length, as they do in a network with many subscribers.

    python tests/bench/bench_diameter.py
"""

from __future__ import annotations

import logging
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from ims_bytes import one_of_each
from yardstick import ROUNDS, TARGET_US, best_us, yardstick_us

from labkit.wire.diameter import Avp, Message, Tree, command_name, parse_message, read_tree, scan_avps

COUNT, OTHER_ROUNDS = 100, 3
MIX = ("300R", "300A", "303A", "301A")
"""UAR, UAA, MAA, SAA: what the target is about."""


def variants(raw: bytes) -> list[bytes]:
    """Make messages of one kind as they come from many subscribers and over a long time."""
    rng = random.Random(6733)
    message = parse_message(raw)
    return [_variant(message, rng) for _ in range(COUNT)]


def _variant(message: Message, rng: random.Random) -> bytes:
    subscriber = b"00101%0*d@ims.mnc001.mcc001.3gppnetwork.org" % (rng.randint(8, 10), rng.randrange(10**8))
    new = {
        "Session-Id": b"scscf.ims.mnc001.mcc001.3gppnetwork.org;%d;%d" % (rng.randrange(10**9), rng.randrange(10**6)),
        "User-Name": subscriber,
        "Public-Identity": b"sip:" + subscriber,
        "User-Data": _payload(message, "User-Data") + b"\n" * rng.randrange(200),
    }
    avps = tuple(avp._replace(raw=new.get(avp.name, avp.raw)) for avp in message.avps)
    ids = rng.randrange(1 << 32), rng.randrange(1 << 32)
    return Message(message.command_code, message.application_id, message.flags, *ids, avps).to_bytes()


def _payload(message: Message, name: str) -> bytes:
    avp = message.find(name)
    return avp.raw if avp else b""


def build(tree: Tree) -> tuple[Avp, ...]:
    """Make the AVPs of names and typed values again."""
    return tuple(Avp.of(name, build(value) if isinstance(value, list) else value) for name, value in tree)


def other_tree(message: Any) -> list[object]:
    """Read every value with python-diameter."""

    def walk(avp: Any) -> object:
        value = avp.value
        return [walk(child) for child in value] if isinstance(value, list) else value

    return [walk(avp) for avp in message.avps]


def row(raws: list[bytes]) -> list[float]:
    """Measure scan, parse, tree, encode, build; and parse, tree, encode of the other."""
    from diameter.message import Message as Other

    messages = [parse_message(raw) for raw in raws]
    assert [message.to_bytes() for message in messages] == raws
    trees = [(message, message.tree()) for message in messages]

    def build_all(pair: tuple[Message, Tree]) -> bytes:
        message, tree = pair
        head = message.command_code, message.application_id, message.flags
        return Message(*head, message.hop_by_hop_id, message.end_to_end_id, build(tree)).to_bytes()

    assert [build_all(pair) for pair in trees] == raws
    return [
        best_us(scan_avps, raws),
        best_us(parse_message, raws),
        best_us(read_tree, raws),
        best_us(Message.to_bytes, messages),
        best_us(build_all, trees),
        best_us(Other.from_bytes, raws, OTHER_ROUNDS),
        best_us(lambda raw: other_tree(Other.from_bytes(raw)), raws, OTHER_ROUNDS),
        best_us(Other.as_bytes, [Other.from_bytes(raw) for raw in raws], OTHER_ROUNDS),
    ]


def main() -> None:
    """Print one table."""
    logging.disable(logging.CRITICAL)
    before = yardstick_us()
    print(f"us a message, best of {ROUNDS} rounds over {COUNT} messages; other = python-diameter 0.9.0")
    print("tree: every value at every depth; encode: AVPs to bytes; build: names and typed values to AVPs to bytes")
    heads = ("bytes", "scan", "parse", "tree", "encode", "build", "other parse", "tree", "encode")
    heads += ("ratio parse", "tree", "encode")
    print(f"{'':5}" + "".join(f"{name:>12}" for name in heads))
    recorded = {name: variants(raw) for name, raw in sorted(one_of_each().items())}
    mix = [raw for group in zip(*(recorded[name] for name in MIX), strict=True) for raw in group]
    named = {command_name(int(name[:-1]), name[-1] == "R"): raws for name, raws in recorded.items()}
    for name, raws in {**named, "mix": mix}.items():
        cells = row(raws)
        ratios = [cells[other] / cells[ours] for ours, other in ((1, 5), (2, 6), (3, 7))]
        numbers = [sum(map(len, raws)) / len(raws), *cells]
        text = [f"{number:.{0 if at == 0 or at > 5 else 1}f}" for at, number in enumerate(numbers)]
        print(f"{name:5}" + "".join(f"{cell:>12}" for cell in [*text, *(f"{ratio:.1f}x" for ratio in ratios)]))
    yardstick = (before + yardstick_us()) / 2
    print(f"mix: {', '.join(command_name(int(name[:-1]), name[-1] == 'R') for name in MIX)} in turn")
    print(f"yardstick {yardstick:.1f} us here, {TARGET_US} us on the machine of the targets: see yardstick.py")


if __name__ == "__main__":
    main()
