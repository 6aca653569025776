"""Values as CGrateS writes them and as Python has them: durations, times, money, counts.

The engine speaks Go: a duration is a number of nanoseconds in some answers ("Usage": 61000000000) and a text in others
("1m1s"); money is a JSON number, which is read as Decimal so that not a cent is lost; a time is RFC 3339 with a zone.
Messages and bytes are counted in the same fields, as plain numbers.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from labkit.errors import BadChargingRequest

Usage = timedelta | int
"""Of a call a duration; of messages or data a number of messages or bytes."""

_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|h|m|s)")
_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_NOTHING = "0001-01-01T00:00:00Z"
"""Go's zero time: "never"."""


def money(value: Decimal | int | str) -> Decimal:
    """An amount as Decimal, not negative; BadChargingRequest for floats (0.1 is no exact float) and for text."""
    if isinstance(value, float):
        raise BadChargingRequest(f'{value!r} is a float, which cannot hold cents exactly: write "{value}" as text')
    try:
        amount = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise BadChargingRequest(f"{value!r} is no amount of money; write for example '0.06'") from None
    if not amount.is_finite() or amount < 0:
        raise BadChargingRequest(f"an amount is zero or more, not {value}")
    return amount


def go_duration(value: Usage) -> str:
    """What the engine reads: timedelta(seconds=61) -> "61s", 2000000 (bytes, messages) -> "2000000"."""
    if isinstance(value, timedelta):
        microseconds = value // timedelta(microseconds=1)
        whole, rest = divmod(microseconds, 10**6)
        return f"{whole}s" if not rest else f"{microseconds}us"
    return str(value)


def duration(value: str | int | Decimal) -> timedelta:
    """A duration of an answer, text or nanoseconds, to the microsecond below."""
    if isinstance(value, str):
        nanoseconds = sum(Decimal(number) * _UNIT_NS[unit] for number, unit in _GO_DURATION.findall(value))
        sign = -1 if value.startswith("-") else 1
        return timedelta(microseconds=sign * int(nanoseconds) // 1000)
    return timedelta(microseconds=int(value) // 1000)


def usage(value: str | int | Decimal, kind: str) -> Usage:
    """How long or how much: `kind` is the ToR, "*voice" or another."""
    if kind == "*voice":
        return duration(value)
    return int(value)


def go_time(value: datetime) -> str:
    """RFC 3339; BadChargingRequest for a time without a zone, which the engine would take as UTC."""
    if value.tzinfo is None:
        raise BadChargingRequest(f"{value} has no time zone; write datetime(..., tzinfo=UTC)")
    return value.isoformat().replace("+00:00", "Z")


def moment(value: str) -> datetime | None:
    """A time of an answer, in UTC; None for Go's zero time."""
    if not value or value == _NOTHING:
        return None
    return datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(UTC)


class _Amounts(json.JSONEncoder):
    def default(self, value: object) -> Any:
        # The engine holds amounts as doubles anyway; repr of the nearest double is the same text.
        return float(value) if isinstance(value, Decimal) else super().default(value)


def to_json(value: Any) -> str:
    """A request as text."""
    return json.dumps(value, cls=_Amounts, separators=(",", ":"), ensure_ascii=False)


def from_json(raw: bytes | str) -> Any:
    """An answer; numbers with a point are Decimal. ValueError where it is no JSON."""
    return json.loads(raw, parse_float=Decimal)
