"""Faults: things broken on purpose, each with its cure, a time limit and the symptom to expect.

Theory. A fault is a pair of functions on a running lab, `inject` and `heal`, and `heal` may be called at any time,
twice, by any process: so the lab's record holds every fault from before it goes in until after it is healed. Whoever
attaches to a lab whose fault has outlived its time limit heals it; a notebook that was killed leaves no broken lab
behind for ever.
A later fault is one more entry of FAULTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError

if TYPE_CHECKING:
    from labkit.lab.lab import LabHands

Step = Callable[["LabHands", Mapping[str, Any]], None]
"""Does something to a lab whose lock is held; gets the fault's options."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can be broken and mended."""

    name: str
    title: str
    """What it does, as a phrase."""
    symptom: str
    """What a person at a phone or a trace sees."""
    inject: Step
    heal: Step
    time_limit_s: float = 300.0
    """After this it is healed, whoever forgot to."""


def fault_named(name: str) -> Fault:
    """The fault; LessonError with the names there are."""
    try:
        return FAULTS[name]
    except KeyError:
        raise LessonError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}") from None


def _hss_down(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.stop("hss")


def _hss_up(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.start("hss")


def _scscf_restart(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.stop("scscf")
    lab.start("scscf")


def _nothing(lab: LabHands, options: Mapping[str, Any]) -> None:
    """The fault mends itself."""


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "hss-down",
            title="the HSS is stopped",
            symptom="the core cannot ask who a subscriber is: no UAA or MAA comes, REGISTER gets a 4xx or 5xx",
            inject=_hss_down,
            heal=_hss_up,
        ),
        Fault(
            "scscf-restarted",
            title="the S-CSCF is started anew and has forgotten every registration",
            symptom="calls to registered phones get 480 until they register again; the HSS still says 'registered'",
            inject=_scscf_restart,
            heal=_nothing,
        ),
    )
}
"""Every fault by its name."""
