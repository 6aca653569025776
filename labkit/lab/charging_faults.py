"""Faults of charging: a wrong clock, a hole in the tariff, no database, no charger (entries of labkit.faults)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.errors import ChargingNotFound, LessonError
from labkit.lab.fault import Fault, switched
from labkit.lab.hands import LabHands

_TENANT = "cgrates.org"
_CLOCK = {"Tenant": _TENANT, "ID": "LABKIT_CLOCK"}


def _needs_engine(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    lab.require("cgrates")
    return options


# ---- a clock that is wrong ------------------------------------------------------------------------------------------
def _move_clock(lab: LabHands, options: Mapping[str, Any]) -> None:
    """A rule of AttributeS on every CDR that comes in: as the record of a switch whose clock is wrong would read."""
    later = f"{options['hours']}h"
    times = ("AnswerTime", "SetupTime")
    moved = [{"Path": f"*req.{name}", "Type": "*sum", "Value": f"~*req.{name};{later}"} for name in times]
    # Only the heaviest rule that fits is applied, and this one fits every CDR.
    rule = _CLOCK | {"Contexts": ["*cdrs"], "FilterIDs": [], "Attributes": moved, "Weight": 1000}
    with lab.cgrates() as rpc:
        rpc.call("APIerSv2.SetAttributeProfile", rule)


def _set_clock(lab: LabHands, options: Mapping[str, Any]) -> None:
    _remove(lab, "APIerSv1.RemoveAttributeProfile", _CLOCK)


def _remove(lab: LabHands, method: str, what: Mapping[str, Any]) -> None:
    if not lab.runs("cgrates"):
        return  # one that is started anew has forgotten it
    with lab.cgrates() as rpc:
        try:
            rpc.call(method, what)
        except ChargingNotFound:
            return


# ---- a hole in the tariff -------------------------------------------------------------------------------------------
def _note_prefixes(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    lab.require("cgrates")
    name, prefix = options["destination"], options["prefix"]
    with lab.cgrates() as rpc:
        try:
            was = list(rpc.call("APIerSv1.GetDestination", name)["Prefixes"])
        except ChargingNotFound:
            raise LessonError(f"no destination {name!r} is loaded; load a tariff first") from None
    if prefix not in was:
        raise LessonError(f"the destination {name!r} has no prefix {prefix!r}; it has {', '.join(was)}")
    return options | {"was": was}


def _drop_prefix(lab: LabHands, options: Mapping[str, Any]) -> None:
    left = [prefix for prefix in options["was"] if prefix != options["prefix"]]
    if left:
        _set_prefixes(lab, options["destination"], left)
    else:
        _remove(lab, "APIerSv1.RemoveDestination", {"DestinationIDs": [options["destination"]]})


def _prefixes_back(lab: LabHands, options: Mapping[str, Any]) -> None:
    if lab.runs("cgrates"):
        _set_prefixes(lab, options["destination"], options["was"])


def _set_prefixes(lab: LabHands, name: str, prefixes: list[str]) -> None:
    with lab.cgrates() as rpc:
        rpc.call("APIerSv1.SetDestination", {"Id": name, "Prefixes": prefixes, "Overwrite": True})


# ---- nobody charges -------------------------------------------------------------------------------------------------
def _note_charger(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    lab.require("cgrates")
    with lab.cgrates() as rpc:
        try:
            was = rpc.call("APIerSv1.GetChargerProfile", {"Tenant": _TENANT, "ID": options["charger"]})
        except ChargingNotFound:
            raise LessonError(f"no charger {options['charger']!r} is loaded: there is nothing to take away") from None
    return options | {"was": {key: value for key, value in was.items() if key != "ActivationInterval"}}


def _drop_charger(lab: LabHands, options: Mapping[str, Any]) -> None:
    _remove(lab, "APIerSv1.RemoveChargerProfile", {"Tenant": _TENANT, "ID": options["charger"]})


def _charger_back(lab: LabHands, options: Mapping[str, Any]) -> None:
    if lab.runs("cgrates"):
        with lab.cgrates() as rpc:
            rpc.call("APIerSv1.SetChargerProfile", options["was"])


# ---- no database ----------------------------------------------------------------------------------------------------
def _database_runs(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    lab.require("postgres")
    return options


CHARGING_FAULTS = (
    Fault(
        "cdr-clock-wrong",
        title="the clock of whoever reports calls is a day ahead",
        symptom="every CDR that comes in is stored a day later than the call was: calls of the last day are missing in "
        "the month's bill and stand in the next one's, at another day's price; nothing complains",
        breaks="the clock of the CDRs",
        options={"hours": 24},
        prepare=_needs_engine,
        inject=_move_clock,
        heal=_set_clock,
    ),
    Fault(
        "prefix-missing",
        title="a destination of the tariff has lost a prefix",
        symptom="calls there are stored with cost -1 and UNAUTHORIZED_DESTINATION, a price asked for is refused, "
        "and so are prepaid calls; where a shorter prefix fits too, they cost what that says, and nothing complains",
        breaks="the tariff",
        options={"destination": "DST_ABROAD", "prefix": "44"},
        prepare=_note_prefixes,
        inject=_drop_prefix,
        heal=_prefixes_back,
    ),
    Fault(
        "charger-missing",
        title="a charger profile is gone",
        symptom="where it was the only one, calls are answered PARTIALLY_EXECUTED and nothing is stored, sessions "
        "CHARGERS_ERROR:NOT_FOUND; where it was one of several, its run is missing, and nothing complains",
        breaks="the chargers",
        options={"charger": "DEFAULT"},
        prepare=_note_charger,
        inject=_drop_charger,
        heal=_charger_back,
    ),
    Fault(
        "chargers-bypassed",
        title="CDRs are rated without asking ChargerS (chargers_conns of cdrs is empty)",
        symptom="every CDR is rated once, as run *default, whatever chargers there are: further runs are missing, and "
        "nothing complains. The engine was started anew for it: tariff, accounts and chargers have to be loaded again",
        **switched("cgrates", "NO_CHARGERS"),
    ),
    Fault(
        "database-gone",
        title="the database of CGrateS is stopped",
        symptom="the engine goes on and answers what it has in memory: prices, accounts. CDRs are refused with a "
        "network error and lost: sent again when the database is back, they are duplicates (EXISTS) for ten minutes",
        breaks="the database",
        prepare=_database_runs,
        inject=lambda lab, options: lab.stop("postgres"),
        heal=lambda lab, options: lab.start("postgres"),
    ),
)
