"""`./lab faults`, `./lab break`, `./lab heal`: things broken on purpose, for trainers and the curious."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit.cli import exits
from labkit.cli.labs import add_name, running_lab
from labkit.errors import LessonError

if TYPE_CHECKING:
    from labkit.lab.faults import Fault

ALL = "all"
_WIDTH = 110


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the three commands."""
    listing = commands.add_parser(
        "faults",
        help="list what can be broken on purpose",
        description="List what can be broken on purpose: what each fault does, the symptom to expect, its options with "
        "their values by default, its time limit, and whether it is in.",
    )
    listing.add_argument("--json", action="store_true", help="the same for programs")
    add_name(listing)
    listing.set_defaults(run=run_list)
    breaking = commands.add_parser(
        "break",
        help="break something on purpose",
        description="Break something on purpose. It heals itself at its time limit, whatever happens to this terminal.",
    )
    breaking.add_argument("fault", metavar="NAME", help="one of ./lab faults")
    breaking.add_argument("options", metavar="KEY=VALUE", nargs="*", help="options of the fault, for example user=bob")
    breaking.add_argument("--for", dest="limit_s", type=float, metavar="SECONDS", help="another time limit")
    add_name(breaking)
    breaking.set_defaults(run=run_break)
    healing = commands.add_parser(
        "heal",
        help="mend what was broken",
        description="Mend what was broken. Nothing to mend is a success too.",
    )
    healing.add_argument("fault", metavar="NAME", nargs="?", default=ALL, help="a fault, or all (default: %(default)s)")
    add_name(healing)
    healing.set_defaults(run=run_heal)


def run_list(args: argparse.Namespace) -> int:
    """Print every fault."""
    from labkit.lab.faults import faults
    from labkit.lab.lab import attach

    lab = attach(args.name)
    active = {each["name"]: each for each in lab.status()["faults"]} if lab is not None else {}
    if args.json:
        import json

        print(json.dumps([_fields(fault, active.get(fault.name)) for fault in faults.values()], indent=2))
        return exits.OK
    print("\n".join(_lines(fault, active.get(fault.name)) for fault in faults.values()))
    print("\nBreak: ./lab break NAME [KEY=VALUE ...] [--for SECONDS]    Mend: ./lab heal [NAME]")
    return exits.OK


def run_break(args: argparse.Namespace) -> int:
    """Inject one fault."""
    from labkit.lab.faults import fault_named

    fault_named(args.fault)  # a wrong name is told before the lab is looked for
    options = _options(args.options)
    fault = running_lab(args.name).inject(args.fault, time_limit_s=args.limit_s, **options)
    limit_s = fault.time_limit_s if args.limit_s is None else args.limit_s
    print(f"{fault.name}: {fault.title}.\nExpect: {fault.symptom}")
    print(f"It heals itself in {limit_s:g} s; sooner: ./lab heal {fault.name}")
    return exits.OK


def run_heal(args: argparse.Namespace) -> int:
    """Mend one fault, or all."""
    from labkit.lab.faults import fault_named

    if args.fault != ALL:
        fault_named(args.fault)
    lab = running_lab(args.name)
    healed = [name for name in reversed(lab.record.faults) if args.fault in (ALL, name)]
    for name in healed:
        lab.heal(name)
        print(f"healed {name}")
    if not healed:
        print("nothing is broken" if args.fault == ALL else f"{args.fault} is not in")
    return exits.OK


def _options(words: Sequence[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for key, sign, _ in pairs:
        if not key or not sign:
            raise LessonError(f"{key!r} is no option; write KEY=VALUE, for example user=bob")
    return {key: value for key, _, value in pairs}


def _fields(fault: Fault, active: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "name": fault.name,
        "title": fault.title,
        "symptom": fault.symptom,
        "breaks": fault.breaks,
        "options": dict(fault.options),
        "time_limit_s": fault.time_limit_s,
        "until": active["until"] if active else None,
    }


def _lines(fault: Fault, active: dict[str, Any] | None) -> str:
    """A fault as a heading and two indented paragraphs: a table of five columns would be too wide for any terminal."""
    options = ", ".join(f"{key}={value}" for key, value in fault.options.items())
    state = f"IN, heals itself in {left_s(active['until']):.0f} s" if active else f"limit {fault.time_limit_s:.0f} s"
    rows = [("does", fault.title), ("expect", fault.symptom), *([("options", options)] if options else [])]
    text = [
        textwrap.fill(text, _WIDTH, initial_indent=f"    {head:8}", subsequent_indent=" " * 12) for head, text in rows
    ]
    return "\n".join([f"{fault.name}  ({state})", *text])


def left_s(until: str) -> float:
    """Seconds until a time as the lab's record writes it; 0 when it is over."""
    return max(0.0, (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds())
