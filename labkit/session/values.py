"""Answers as JSON and back, for the tape: plain values, bytes, SIP messages, and our own frozen dataclasses."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from typing import Any

from labkit import errors
from labkit.clients.rows import Rows
from labkit.errors import LabkitError, ReplayError
from labkit.session.rows_text import rows_from_text, rows_to_text
from labkit.wire import sip

_MODULES = (
    "labkit.clients.cgrates.events",
    "labkit.clients.cgrates.month",
    "labkit.clients.cgrates.tariff",
    "labkit.clients.cgrates.values",
    "labkit.clients.hss",
    "labkit.lab.learner.log",
    "labkit.lab.learner.proxy",
    "labkit.peers.app_server",
    "labkit.peers.charging_trigger",
    "labkit.peers.hss.subscribers",
    "labkit.peers.media",
    "labkit.peers.registration",
    "labkit.peers.sms_phone",
    "labkit.peers.sms_queue",
    "labkit.peers.sms_shelf",
    "labkit.peers.subscription",
    "labkit.peers.ussd_gateway",
    "labkit.session.probe",
    "labkit.wire.multipart",
    "labkit.wire.reginfo",
    "labkit.wire.ussd",
)
"""Where a dataclass on a tape may come from: a tape must not name any other class."""


_FEW = 3
"""More amounts or lengths than these in a row are one text."""


def to_json(value: Any) -> Any:
    """Return `value` as something that JSON can hold; what is not known is kept as its text."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, timedelta):
        return {"$microseconds": value // timedelta(microseconds=1)}
    if isinstance(value, Rows):
        return {"$rows": rows_to_text(value)}
    if isinstance(value, sip.SipMessage):
        return {"$sip": value.to_bytes().decode("latin-1")}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and len(value) > _FEW and all(isinstance(item, Decimal) for item in value):
        return {"$decimals": " ".join(map(str, value))}
    if isinstance(value, list | tuple) and len(value) > _FEW and all(isinstance(item, timedelta) for item in value):
        return {"$all_microseconds": " ".join(str(item // timedelta(microseconds=1)) for item in value)}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [to_json(item) for item in items]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"$dataclass": f"{type(value).__module__}:{type(value).__qualname__}", "fields": fields}
    return {"$text": str(value)}


def from_json(value: Any) -> Any:
    """Return what `to_json` was given (tuples come back as tuples inside dataclasses, as lists elsewhere)."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return bytes.fromhex(value["$bytes"])
    if "$sip" in value:
        return sip.parse_message(value["$sip"].encode("latin-1"))
    if "$rows" in value:
        return rows_from_text(value["$rows"])
    if "$decimals" in value:
        return [Decimal(text) for text in value["$decimals"].split()]
    if "$all_microseconds" in value:
        return [timedelta(microseconds=int(text)) for text in value["$all_microseconds"].split()]
    if "$decimal" in value:
        return Decimal(value["$decimal"])
    if "$time" in value:
        return datetime.fromisoformat(value["$time"])
    if "$microseconds" in value:
        return timedelta(microseconds=value["$microseconds"])
    if "$text" in value:
        return value["$text"]
    if "$dataclass" in value:
        return _dataclass(value["$dataclass"], value["fields"])
    return {key: from_json(item) for key, item in value.items()}


def _dataclass(name: str, fields: dict[str, Any]) -> Any:
    module, _, cls_name = name.partition(":")
    if module not in _MODULES:
        raise ReplayError(f"A recording names the type {name}, which no recording of this labkit holds.")
    cls = getattr(import_module(module), cls_name, None)
    if cls is None or not dataclasses.is_dataclass(cls):
        raise ReplayError(f"A recording names the type {name}, which this labkit does not know: record it anew.")
    decoded = {key: from_json(item) for key, item in fields.items()}
    make: Any = cls
    return make(**{key: tuple(item) if isinstance(item, list) else item for key, item in decoded.items()})


def error_to_json(error: LabkitError) -> dict[str, Any]:
    """Return an error of ours with all it carries."""
    carried = {key: to_json(item) for key, item in vars(error).items() if not key.startswith("_")}
    return {"type": type(error).__name__, "message": str(error), "carried": carried}


def error_from_json(kept: dict[str, Any]) -> LabkitError:
    """Return the error again, with the same class, text and fields."""
    cls = getattr(errors, str(kept["type"]), LabkitError)
    if not (isinstance(cls, type) and issubclass(cls, LabkitError)):
        cls = LabkitError
    error = cls.__new__(cls)
    Exception.__init__(error, kept["message"])
    for key, item in kept["carried"].items():
        setattr(error, key, from_json(item))
    return error
