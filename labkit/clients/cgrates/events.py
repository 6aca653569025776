"""A call, message or data use that is to be charged: what CGrateS names an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from labkit.clients.cgrates.units import Usage, go_duration, go_time
from labkit.errors import BadChargingRequest

REQUEST_TYPES = ("*rated", "*postpaid", "*prepaid", "*pseudoprepaid", "*none")
TENANT = "cgrates.org"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that costs. The same origin_id (with its host and run) is charged once and never again."""

    origin_id: str
    """Of a SIP call its Call-ID; fresh for each."""
    account: str
    destination: str
    """The number, as the destinations' prefixes are written."""
    answer_time: datetime | None = None
    """With a zone; None: not answered (yet)."""
    usage: Usage | None = None
    """Duration of a call; number of messages or bytes."""
    request_type: str = "*postpaid"
    """*rated: no account is touched; *postpaid and *prepaid debit one; *none: is not rated."""
    setup_time: datetime | None = None
    """None: as answer_time."""
    subject: str = ""
    """Whose tariff; empty: the account's name."""
    category: str = "call"
    kind: str = "*voice"
    """ToR: "*voice", "*sms", "*data"."""
    origin_host: str = "192.0.2.1"
    """The switch that reports (a documentation address here)."""
    debit_interval: timedelta | None = None
    """How often the engine itself debits an open session, and hangs up at the end; None: the platform asks."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """More fields, for filters and attributes."""
    tenant: str = TENANT

    def __post_init__(self) -> None:
        if not self.origin_id or not self.account or not self.destination:
            raise BadChargingRequest("an event needs origin_id, account and destination, none of them empty")
        if self.request_type not in REQUEST_TYPES:
            raise BadChargingRequest(f"request_type {self.request_type!r}: write one of {', '.join(REQUEST_TYPES)}")
        if isinstance(self.usage, timedelta) != (self.kind == "*voice") and self.usage is not None:
            raise BadChargingRequest("usage of *voice is a timedelta, of *sms and *data a number")
        if self.usage is not None and self.usage < type(self.usage)(0):  # type: ignore[operator]
            raise BadChargingRequest("usage is not negative")

    def fields(self, usage: Usage | None = None) -> dict[str, Any]:
        """The event as the API takes it; `usage` instead of its own."""
        used = self.usage if usage is None else usage
        found: dict[str, Any] = dict(self.extra) | {
            "ToR": self.kind,
            "OriginID": self.origin_id,
            "OriginHost": self.origin_host,
            "Source": "labkit",
            "RequestType": self.request_type,
            "Tenant": self.tenant,
            "Category": self.category,
            "Account": self.account,
            "Subject": self.subject or self.account,
            "Destination": self.destination,
        }
        setup = self.setup_time or self.answer_time
        if setup is not None:
            found["SetupTime"] = go_time(setup)
        if self.answer_time is not None:
            found["AnswerTime"] = go_time(self.answer_time)
        if self.debit_interval is not None:
            found["CGRDebitInterval"] = go_duration(self.debit_interval)
        if used is not None:
            found["Usage"] = go_duration(used)
        return found
