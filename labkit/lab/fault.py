"""What a fault is: see labkit.lab.faults for those there are, and for the theory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import LessonError
from labkit.lab.hands import LabHands

Step = Callable[[LabHands, Mapping[str, Any]], None]
"""Does something to a lab whose lock is held; gets the fault's options and what `prepare` added to them."""
Prepare = Callable[[LabHands, dict[str, Any]], dict[str, Any]]
"""Returns the options with all added that the heal will need; plain values, for they go to disk."""

MAX_LIMIT_S = 3600.0
"""No fault stays longer."""


def as_they_are(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    return options


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can be broken and mended."""

    name: str
    """What `./lab break` and `lab.fault()` call it."""
    title: str
    """What it does, as a phrase."""
    symptom: str
    """What a person at a phone or a trace sees."""
    breaks: str
    """The thing it breaks; two faults of one thing cannot be in at once."""
    inject: Step = field(repr=False)
    heal: Step = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    """What may be chosen, with what is taken where nothing is."""
    prepare: Prepare = field(default=as_they_are, repr=False)
    time_limit_s: float = 300.0
    """After this it is healed, whoever forgot to."""

    def options_from(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every option, as given or by default; texts become what the default is.

        Raises:
            LessonError: an option that this fault does not have, or a value that does not fit.
        """
        unknown = sorted(set(given) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "none"
            raise LessonError(f"the fault {self.name!r} has no option {unknown[0]!r}; it has {known}")
        return {key: self._like(key, default, given.get(key, default)) for key, default in self.options.items()}

    def _like(self, key: str, default: Any, value: Any) -> Any:
        try:
            return type(default)(value)
        except (TypeError, ValueError):
            kind = {int: "a whole number", float: "a number"}.get(type(default), "a text")
            raise LessonError(f"the option {key} of the fault {self.name!r} is {kind}, not {value!r}") from None


class Faults(Mapping[str, Fault]):
    """All faults by name, shown as a table."""

    def __init__(self, *faults: Fault) -> None:
        self._by_name = {fault.name: fault for fault in faults}

    def __getitem__(self, name: str) -> Fault:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        width = max(map(len, self._by_name))
        return "\n".join(f"{fault.name:{width}}  {fault.title}" for fault in self._by_name.values())


def switched(node: str, name: str) -> dict[str, Any]:
    """The three steps of a fault that is a switch of a node's template."""

    def prepare(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
        lab.require(node)
        return options

    return {
        "breaks": f"the configuration of {node}",
        "prepare": prepare,
        "inject": lambda lab, options: lab.switch(node, name, True),
        "heal": lambda lab, options: lab.switch(node, name, False),
    }
