"""What stands at an arrow, from the cells of its row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.capture.credit_words import CREDIT_CONTROL, credit_words, diameter_name
from labkit.capture.rpc_words import RPC_PROTOCOLS, rpc_words
from labkit.capture.sms_words import sms_words
from labkit.wire.sip import REASONS

CHALLENGES = (401, 407)
"""Responses from 400 on that are no refusal: they ask for a password, the normal course of things."""


def message_words(cells: Mapping[str, Any], raw: bytes = b"") -> str:
    """Return what kind of message it is: '100 Trying', 'INVITE', 'MESSAGE RP-ACK', 'UAA DIAMETER_SUCCESS'."""
    if cells["protocol"] == "sip":
        status = number_of(cells["status"])
        if status is None:
            method = text_of(cells["method"])
            short_message = sms_words(raw) if method == "MESSAGE" else ""
            return f"{method} {short_message}".strip()
        reason = text_of(cells["reason"])
        standard = status < 300 or status in CHALLENGES  # of other refusals the phrase often says why
        return f"{status} {REASONS.get(status, reason) if standard else reason}".strip()
    if cells["protocol"] in RPC_PROTOCOLS:
        return rpc_words(str(cells["protocol"]), raw).message
    from labkit.wire.diameter import result_name

    command = diameter_name(cells, raw)
    code, experimental = _result_code(cells)
    return command if code is None else f"{command} {result_name(code, experimental=experimental)}"


def has_sms(message: str) -> bool:
    """Return whether the words of a message say what short message it carries."""
    return message.startswith("MESSAGE RP-")


def _result_code(cells: Mapping[str, Any]) -> tuple[int | None, bool]:
    experimental = number_of(cells["experimental_result_code"])
    return (experimental, True) if experimental is not None else (number_of(cells["result_code"]), False)


def detail_words(cells: Mapping[str, Any], raw: bytes) -> str:
    """Return whom a message that is not SIP is about, and what it wants for them or grants."""
    if cells["protocol"] in RPC_PROTOCOLS:
        return rpc_words(str(cells["protocol"]), raw).detail
    if number_of(cells["command_code"]) == CREDIT_CONTROL:
        credit = credit_words(raw)
        return " ".join(part for part in (credit.user, credit.units) if part)
    return _diameter_detail(cells)


def _diameter_detail(cells: Mapping[str, Any]) -> str:
    """Whom a Diameter request is about, and what it wants for them; empty for answers."""
    if cells["request"] is not True and cells["request"] != 1:
        return ""
    user = _user(text_of(cells["user_name"]) or text_of(cells["public_identity"]))
    return " ".join(part for part in (user, _purpose(cells)) if part)


def _purpose(cells: Mapping[str, Any]) -> str:
    """What a SAR or an unusual UAR wants: the name of its type (TS 29.229 sections 6.3.15 and 6.3.24)."""
    from labkit.wire import cx

    assignment = number_of(cells["server_assignment_type"])
    authorization = number_of(cells["user_authorization_type"])
    try:
        if assignment is not None:
            return cx.ServerAssignmentType(assignment).name
        if authorization:
            return cx.UserAuthorizationType(authorization).name
    except ValueError:
        return ""
    return ""


def _user(identity: str) -> str:
    """The user part alone: a ladder's realm is the same everywhere."""
    return identity.removeprefix("sip:").removeprefix("tel:").partition("@")[0]


def is_refused(cells: Mapping[str, Any], raw: bytes = b"") -> bool:
    """Return whether it is a final response or answer that says no."""
    if cells["protocol"] in RPC_PROTOCOLS:
        return rpc_words(str(cells["protocol"]), raw).refused
    status = number_of(cells["status"])
    if status is not None:
        return status >= 400 and status not in CHALLENGES
    code, _experimental = _result_code(cells)
    return code is not None and code >= 3000


def text_of(value: object) -> str:
    """Return a cell's text, empty where it is absent."""
    return value if isinstance(value, str) else ""


def number_of(value: object) -> int | None:
    """Return a cell's number. Absent cells are <NA> or NaN, which equal nothing, not even themselves."""
    return int(value) if isinstance(value, int | float) and value == value else None
