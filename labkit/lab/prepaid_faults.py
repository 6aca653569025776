"""Faults of calls that are charged while they last (entries of labkit.faults)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.lab.fault import Fault
from labkit.lab.hands import LabHands


def _both_run(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    lab.require("prepaid")
    lab.require("cgrates")
    return options


def _stop(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.stop("cgrates")
    lab.await_missed("cgrates")


def _kill(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.stop("cgrates", kill=True)
    lab.await_missed("cgrates")


def _start(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.start("cgrates")


_EMPTY = "Its tariffs, accounts and open sessions were in memory: after the cure they have to be loaded again."

PREPAID_FAULTS = (
    Fault(
        "charging-down",
        title="the charging engine is stopped",
        symptom="every new call gets 503 Charging Unavailable from the charging proxy, at once. " + _EMPTY,
        breaks="the charging engine",
        prepare=_both_run,
        inject=_stop,
        heal=_start,
    ),
    Fault(
        "charging-killed",
        title="the charging engine dies while calls are charged",
        symptom="calls go on, for nobody is there to cut them, until the dialog's own timer does, five seconds after "
        "the money's end. No CDR is written, and the reserved money is as lost as the account. " + _EMPTY,
        breaks="the charging engine",
        prepare=_both_run,
        inject=_kill,
        heal=_start,
    ),
)
