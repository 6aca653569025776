"""What the story and the ladder say of Diameter credit control (RFC 8506): CCR-I, CCR-U, CCR-T and what they count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.errors import DiameterError
from labkit.wire.diameter import Avp, Message, parse_message

CREDIT_CONTROL = 272
"""Command code (RFC 8506 section 3)."""
_LETTERS = {1: "I", 2: "U", 3: "T", 4: "E"}
"""CC-Request-Type: INITIAL, UPDATE, TERMINATION, EVENT (RFC 8506 section 8.3)."""
_WORDS = {"Requested-Service-Unit": "asks", "Granted-Service-Unit": "grants", "Used-Service-Unit": "used"}
_UNITS = {"CC-Time": " s", "CC-Total-Octets": " bytes", "CC-Service-Specific-Units": " units"}


@dataclass(frozen=True, slots=True)
class CreditWords:
    """A credit control message in words."""

    letter: str
    """"I", "U", "T", "E"; empty where it does not say."""
    units: str
    """"used 60 s, asks 60 s", "grants 30 s"; empty where nothing is counted."""
    user: str
    """Subscription-Id-Data, else User-Name; empty in answers."""


def diameter_name(row: Mapping[str, Any], raw: bytes) -> str:
    """The short name of a Diameter message, of credit control with the kind of request: "UAR", "CCR-I", "CCA-T"."""
    name = str(row["command"])
    letter = credit_words(raw).letter if row["command_code"] == CREDIT_CONTROL else ""
    return f"{name}-{letter}" if letter else name


def credit_words(raw: bytes) -> CreditWords:
    """Put a message with command code 272 in words; of a damaged one nothing is said."""
    try:
        message = parse_message(raw)
        kind = message.find("CC-Request-Type")
        letter = _LETTERS.get(int(kind.value) if kind is not None else 0, "")
        return CreditWords(letter, ", ".join(_units(message)), _user(message))
    except (DiameterError, TypeError, ValueError):
        return CreditWords("", "", "")


def _units(message: Message) -> Iterator[str]:
    """What was used first, then what is wanted; inside of Multiple-Services-Credit-Control or beside it."""
    avps = [*message.avps]
    for services in message.find_all("Multiple-Services-Credit-Control"):
        avps += services.children
    for name in ("Used-Service-Unit", "Requested-Service-Unit", "Granted-Service-Unit"):
        for group in avps:
            if group.name == name and (counted := _counted(group)):
                yield f"{_WORDS[name]} {counted}"


def _counted(group: Avp) -> str:
    return next((f"{child.value}{_UNITS[child.name]}" for child in group.children if child.name in _UNITS), "")


def _user(message: Message) -> str:
    for subscription in message.find_all("Subscription-Id"):
        for child in subscription.children:
            if child.name == "Subscription-Id-Data":
                return str(child.value)
    name = message.find("User-Name")
    return str(name.value).partition("@")[0] if name is not None else ""
