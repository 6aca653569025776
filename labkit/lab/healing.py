"""Putting faults in and taking them out again, so that none stays longer than its time limit.

Theory. The lab's record holds a fault, with all that its heal needs, from before it goes in until after it is healed.
Before it goes in, a *healer* is started: a small process of its own that sleeps until the limit, heals, and ends. It
carries the lab's id in its environment as every process of a lab does, so `down` and `wipe` end it with the lab. So
three can heal: whoever injected the fault, any other process (`./lab heal`), and the healer, which is the one that
is left when the first was killed.

All functions here expect the lab's lock to be held.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, LessonError, StackError
from labkit.lab.faults import MAX_LIMIT_S, Fault, fault_named
from labkit.lab.hands import LabHands
from labkit.lab.process import describe, lab_processes, stop_processes
from labkit.lab.record import Record, home_folder, on_linux

_HEALER_START_S = 20.0


def inject(hands: LabHands, record: Record, fault: Fault, given: Mapping[str, Any], limit_s: float) -> None:
    """Break something; where that fails half way, it is mended at once.

    Raises:
        StackError: this fault, or another one of the same thing, is in already.
        LessonError: an option that the fault does not have, or a limit that cannot be.
    """
    if not 0 < limit_s <= MAX_LIMIT_S:
        raise LessonError(f"a fault may stay for up to {MAX_LIMIT_S:.0f} s, not for {limit_s:g}")
    for name in record.faults:
        if fault_named(name).breaks == fault.breaks:
            raise StackError(f"the fault {name!r} is in already and breaks {fault.breaks} too; heal it first")
    options = fault.prepare(hands, fault.options_from(given))
    until = datetime.now(UTC) + timedelta(seconds=limit_s)
    record.faults[fault.name] = {"until": until.isoformat(timespec="milliseconds"), "options": options}
    record.save()
    try:
        _start_healer(record, fault.name)
        fault.inject(hands, options)
    except BaseException:
        with contextlib.suppress(LabkitError):  # the healer tries again, and the first error is the one to tell
            heal(hands, record, fault)
        raise


def heal(hands: LabHands, record: Record, fault: Fault) -> None:
    """Mend a fault; returns when the lab works again. Fine where it is not in."""
    noted = record.faults.get(fault.name)
    if noted is None:
        return
    fault.heal(hands, noted["options"])
    del record.faults[fault.name]
    record.save()
    stop_healers(record, fault.name)


def overdue(record: Record) -> list[str]:
    """Names of faults that have outlived their limit, the last one in first: it may lie over an earlier one."""
    now = datetime.now(UTC)
    return [name for name, noted in reversed(record.faults.items()) if datetime.fromisoformat(noted["until"]) < now]


def heal_overdue(hands: LabHands, record: Record) -> None:
    """Mend what has outlived its limit; what does not let itself be mended stays noted, and its healer tries again."""
    for name in overdue(record):
        with contextlib.suppress(LabkitError):
            heal(hands, record, fault_named(name))


def describe_faults(record: Record) -> list[dict[str, Any]]:
    """The faults that are in, as `./lab status --json` prints them."""
    return [
        {
            "name": name,
            "title": fault_named(name).title,
            "symptom": fault_named(name).symptom,
            "until": noted["until"],
            "options": {key: noted["options"][key] for key in fault_named(name).options},
        }
        for name, noted in record.faults.items()
    ]


# ---- healers --------------------------------------------------------------------------------------------------------
def _start_healer(record: Record, fault: str) -> None:
    """Start the process that heals at the limit; it lives, detached, when this returns."""
    if not on_linux():
        return  # then whoever attaches to the lab next heals what is overdue
    environment = os.environ | {
        "LABKIT_LAB": record.id,
        "LABKIT_NODE": healer_name(fault),
        "LABKIT_HOME": str(home_folder().resolve()),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    command = [sys.executable, "-m", "labkit.lab.healer", record.name, fault]
    try:
        with open(record.folder / f"{healer_name(fault)}.log", "ab") as log:
            done = subprocess.run(
                command,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                timeout=_HEALER_START_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = describe(error) if isinstance(error, OSError) else f"it did not start in {_HEALER_START_S:.0f} s"
        raise StackError(f"no fault without somebody to heal it: {reason}") from error
    if done.returncode:
        raise StackError(f"no fault without somebody to heal it: the healer ended with exit code {done.returncode}")


def stop_healers(record: Record, fault: str | None = None) -> None:
    """End the healer of one fault, or all of the lab's; never this process itself."""
    if not on_linux():
        return
    wanted = healer_name(fault) if fault else ""
    stop_processes(
        p for p in lab_processes(lab=record.id) if p.node == wanted or (not fault and p.node.startswith("heal-"))
    )


def healer_name(fault: str) -> str:
    """What LABKIT_NODE says in the environment of a fault's healer; no node is called so."""
    return f"heal-{fault}"
