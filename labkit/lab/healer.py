"""The process that heals a fault at its time limit: `python -m labkit.lab.healer LAB FAULT`.

It is started by `labkit.lab.healing` before the fault goes in, and ended by whoever heals first.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from labkit.errors import LabkitError
from labkit.lab.record import Record, labs_folder

_AGAIN_S = 5.0
_ATTEMPTS = 60
"""A lab that cannot be healed for five minutes (its daemon is gone, its disk full) is left to a person."""


def main(arguments: Sequence[str]) -> int:
    """Detach, sleep until the limit, heal."""
    lab, fault = arguments
    if os.fork():
        return 0  # who started us goes on; the child has no parent to leave it as a zombie
    _sleep_until_limit(lab, fault)
    for _ in range(_ATTEMPTS):
        try:
            if _heal(lab, fault):
                return 0
        except LabkitError as error:
            print(f"healing {fault}: {error}", file=sys.stderr, flush=True)
        time.sleep(_AGAIN_S)
    return 1


def _sleep_until_limit(lab: str, fault: str) -> None:
    while (left_s := _left_s(lab, fault)) > 0:
        # In pieces: the clock of a laptop that was asleep has moved on, a sleep's own has not.
        time.sleep(min(left_s, 10.0))


def _left_s(lab: str, fault: str) -> float:
    record = Record.load(labs_folder() / lab)
    if record is None or fault not in record.faults:
        return 0.0
    return (datetime.fromisoformat(record.faults[fault]["until"]) - datetime.now(UTC)).total_seconds()


def _heal(name: str, fault: str) -> bool:
    """Heal; True when the fault is out, or the lab it was in is no more."""
    from labkit.lab.lab import attach

    lab = attach(name)
    if lab is None or lab.id != os.environ.get("LABKIT_LAB"):
        return True
    lab.heal(fault)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
