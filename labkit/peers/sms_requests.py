"""What a short message centre reads in what comes, and what a subscriber's profile needs so that it comes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from labkit.errors import SipError, StackError
from labkit.wire.sip import SipMessage, parse_address, parse_uri


def criteria(uri: str, number: str) -> list[dict[str, Any]]:
    """The filter criteria that bring the centre at `uri` a subscriber's messages, and when he comes and goes."""
    content = {"header": "Content-Type", "header_content": "application/vnd[.]3gpp[.]sms"}
    sent = [{"group": 0, "method": "MESSAGE"}, {"group": 1, **content}, {"group": 2, "session_case": 0}]
    return [
        {"priority": 1, "server": uri, "triggers": sent},
        {"priority": 2, "server": uri, "triggers": [{"method": "REGISTER"}], "service_info": number},
    ]


def clock_of(text: str) -> datetime | None:
    """Read what the centre's clock shows; None for a clock that goes.

    Raises:
        StackError: it is no time.
    """
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise StackError(f"{text!r} is no time: write it as 2026-11-28T12:00:00+01:00.") from None


def number_of(request: SipMessage) -> str:
    """Whose message it is: the number that the network asserts; empty where it asserts none."""
    for value in request.all("p-asserted-identity"):
        try:
            user = parse_uri(parse_address(value).uri).user
        except SipError:
            continue
        if user.startswith("+") and user[1:].isdigit():
            return user
    return ""


def service_info(body: bytes) -> str:
    """The number in <service-info> of a third-party REGISTER (TS 24.229 sections 5.4.1.7 and 7.6)."""
    _, found, rest = body.decode("utf-8", "replace").partition("<service-info>")
    return rest.partition("</service-info>")[0].strip() if found else ""
