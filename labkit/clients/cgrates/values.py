"""What the engine answers, as frozen values: money is Decimal, lengths are timedelta, times have zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from labkit.clients.cgrates.units import Usage, duration, moment, usage
from labkit.clients.rows import Rows

UNRATED = Decimal(-1)
"""Cost of a CDR that could not be rated: a mark, not an amount."""


@dataclass(frozen=True, slots=True)
class Charge:
    """Increments of one kind, as often as they were counted."""

    increment: timedelta
    """Zero: the connect fee."""
    cost: Decimal
    """Of one increment."""
    times: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What something costs, and by which line of the tariff."""

    total: Decimal
    billed: timedelta
    """Whole increments, so often longer than the call was."""
    charges: tuple[Charge, ...]
    plan: str
    destination: str
    prefix: str
    """The prefix that won."""


@dataclass(frozen=True, slots=True)
class Balance:
    """One pot of an account."""

    kind: str
    """"*monetary", "*voice", "*sms", "*data"."""
    name: str
    value: Decimal
    """Money; seconds of *voice; messages; bytes."""
    weight: Decimal
    """The heavier one is used first."""
    destinations: tuple[str, ...] = ()
    """What it may be used for; empty: all."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays."""

    name: str
    balances: tuple[Balance, ...]
    allow_negative: bool
    disabled: bool

    @property
    def money(self) -> Decimal:
        """All its money; may be negative."""
        return sum((b.value for b in self.balances if b.kind == "*monetary"), Decimal(0))


@dataclass(frozen=True, slots=True)
class Cdr:
    """One charged (or uncharged) record of a call: one for each charger run."""

    origin_id: str
    run: str
    """"*default", or the charger's RunID."""
    request_type: str
    account: str
    subject: str
    destination: str
    answer_time: datetime | None
    usage: Usage
    cost: Decimal
    """UNRATED where no price was found; then `reason` says why."""
    cost_source: str
    """"*cdrs" rated afterwards, "*sessions" by a prepaid session."""
    reason: str
    """The engine's ExtraInfo: empty, or why there is no cost."""
    kind: str
    category: str
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    detail: Cost | None = field(default=None, repr=False)
    """How the cost came about; None where it is unrated."""

    @property
    def rated(self) -> bool:
        """True where `cost` is an amount."""
        return self.cost >= 0


@dataclass(frozen=True, slots=True)
class Session:
    """A call that the engine is charging now."""

    origin_id: str
    run: str
    account: str
    destination: str
    reserved: Usage
    """Debited so far."""
    cost_so_far: Decimal
    debits: int
    debit_interval: timedelta


@dataclass(frozen=True, slots=True)
class Sample:
    """What an account had at one moment."""

    time_s: float
    """Seconds since looking began."""
    money: Decimal
    sessions: int
    """Open sessions of the account."""
    taken: Decimal
    """What these have taken of it so far."""


def cost_of(answer: Mapping[str, Any]) -> Cost:
    """An EventCost of the API."""
    charges = tuple(
        Charge(duration(step["Usage"]), Decimal(step["Cost"]), step["CompressFactor"] * charge["CompressFactor"])
        for charge in answer.get("Charges") or ()
        for step in charge["Increments"] or ()
    )
    filters: Mapping[str, Any] = next(iter((answer.get("RatingFilters") or {}).values()), {})
    return Cost(
        Decimal(answer.get("Cost") or 0),
        duration(answer.get("Usage") or 0),
        charges,
        filters.get("RatingPlanID", ""),
        filters.get("DestinationID", ""),
        filters.get("DestinationPrefix", ""),
    )


def account_of(answer: Mapping[str, Any]) -> Account:
    """An account; one without a balance has null for its map."""
    balances = tuple(
        Balance(
            kind,
            one["ID"],
            Decimal(one["Value"]) / (10**9 if kind == "*voice" else 1),
            Decimal(one["Weight"]),
            tuple(one["DestinationIDs"] or ()),
        )
        for kind, several in sorted((answer.get("BalanceMap") or {}).items())
        for one in sorted(several, key=lambda one: (-one["Weight"], one["ID"]))
    )
    return Account(answer["ID"].partition(":")[2], balances, answer["AllowNegative"], answer["Disabled"])


def cdr_of(answer: Mapping[str, Any]) -> Cdr:
    """A CDR as CDRsV1.GetCDRs gives it: usage in nanoseconds, details as an object."""
    kind = answer["ToR"]
    detail = answer.get("CostDetails")
    return Cdr(
        answer["OriginID"],
        answer["RunID"],
        answer["RequestType"],
        answer["Account"],
        answer["Subject"],
        answer["Destination"],
        moment(answer["AnswerTime"]),
        usage(answer["Usage"], kind),
        Decimal(answer["Cost"]),
        answer["CostSource"],
        answer["ExtraInfo"],
        kind,
        answer["Category"],
        dict(answer.get("ExtraFields") or {}),
        cost_of(detail) if detail and answer["Cost"] >= 0 else None,
    )


_CDR_COLUMNS = ("origin_id", "run_id", "account", "destination", "answer_time", "usage", "cost", "extra_info")


def cdr_rows(cdrs: Sequence[Cdr]) -> Rows:
    """CDRs as rows; usage in whole nanoseconds, as the database has it, of calls."""
    return Rows(
        _CDR_COLUMNS,
        tuple(
            (
                cdr.origin_id,
                cdr.run,
                cdr.account,
                cdr.destination,
                cdr.answer_time,
                cdr.usage // timedelta(microseconds=1) * 1000 if isinstance(cdr.usage, timedelta) else cdr.usage,
                cdr.cost,
                cdr.reason,
            )
            for cdr in cdrs
        ),
    )


def session_of(answer: Mapping[str, Any]) -> Session:
    """An active session."""
    return Session(
        answer["OriginID"],
        answer["RunID"],
        answer["Account"],
        answer["Destination"],
        usage(answer["Usage"], answer["ToR"]),
        Decimal(answer["MaxCostSoFar"]),
        answer["LoopIndex"],
        duration(answer["DebitInterval"]),
    )
