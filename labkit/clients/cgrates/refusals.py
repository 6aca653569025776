"""The engine's error strings as named errors with a hint, and the requests that must never reach it."""

from __future__ import annotations

from typing import Any

from labkit.errors import (
    AccountDisabled,
    AccountNotFound,
    BadChargingRequest,
    ChargingError,
    ChargingNotFound,
    ChargingStoreGone,
    DuplicateCdr,
    NoCharger,
    NoPrice,
    NoRatingPlan,
)

_KNOWN: tuple[tuple[str, type[ChargingError], str], ...] = (
    ("ACCOUNT_NOT_FOUND", AccountNotFound, "make the account first: await cg.set_balance(account, ...)"),
    ("ACCOUNT_DISABLED", AccountDisabled, "switch it on: await cg.set_account(account)"),
    (
        "UNAUTHORIZED_DESTINATION",
        NoPrice,
        "no price for this prefix, or it begins after the call: look at destinations and activation",
    ),
    (
        "RATING_PLAN_NOT_FOUND",
        NoRatingPlan,
        "no rating profile for this category and subject: load one, or one for subject *any",
    ),
    ("CHARGERS_ERROR", NoCharger, "no charger profile: await cg.set_charger('DEFAULT')"),
    (
        "PARTIALLY_EXECUTED",
        NoCharger,
        "nothing was stored; mostly there is no charger profile, or it was done before",
    ),
    ("EXISTS", DuplicateCdr, "one call is charged once: another call needs an origin_id of its own"),
    ("MANDATORY_IE_MISSING", BadChargingRequest, "the part in brackets is missing"),
    *(
        (words, ChargingStoreGone, "the engine does not reach its database; ./lab status says whether it runs")
        for words in ("dial tcp", "bad connection", "connection reset", "broken pipe", "terminating connection", "EOF")
    ),
    ("json: cannot unmarshal", BadChargingRequest, "a value has the wrong type"),
    ("invalid duration", BadChargingRequest, "write for example '61s'"),
    ("Unsupported time format", BadChargingRequest, "write times as RFC 3339"),
    ("INVALID_PATH", BadChargingRequest, "the engine itself must be able to read that folder"),
    ("can't find", BadChargingRequest, "this engine does not have that method"),
    (
        "NOT_FOUND",
        ChargingNotFound,
        "it is not in the engine (any more): after a restart everything is loaded again",
    ),
)
"""(part of the engine's words, error, hint), the more special ones first."""

_KILLED_BY_EMPTY = frozenset(
    (
        "CDRsV1.ProcessExternalCDR",
        "CDRsV2.ProcessExternalCDR",
        "CDRsV1.ProcessCDR",
        "SessionSv1.ProcessCDR",
        "ChargerSv1.GetChargersForEvent",
        "APIerSv1.SetChargerProfile",
        "APIerSv1.SetAttributeProfile",
        "APIerSv2.SetAttributeProfile",
        "Responder.GetCost",
        "Responder.Debit",
    )
)
"""With an empty parameter these end version 0.10.4 (a nil pointer in Go, exit code 2)."""


def refuse_deadly(method: str, parameter: Any) -> None:
    """BadChargingRequest where the call would kill the engine."""
    plain = method.replace("ApierV", "APIerSv")
    if plain in _KILLED_BY_EMPTY and not parameter:
        raise BadChargingRequest(
            f"{method} with an empty parameter kills the engine, so it is not sent; give it an event", method=method
        )


def named_error(method: str, words: str) -> ChargingError:
    """The error for what the engine said in its `error` member."""
    for part, kind, hint in _KNOWN:
        if part in words:
            return kind(f"CGrateS answers {method}: {words}; {hint}", code=words, method=method)
    return ChargingError(f"CGrateS answers {method}: {words}", code=words, method=method)
