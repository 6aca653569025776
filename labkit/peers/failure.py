"""What a phone says when a request got no success: which message it was, what SIP answered, and why."""

from __future__ import annotations

from labkit.errors import CallFailed
from labkit.wire.sip import SipMessage, parse_message


def refused(request: SipMessage, response: SipMessage, hint: str = "") -> CallFailed:
    """Make the error for a final response that is no success."""
    warning = "; ".join(response.all("warning"))
    text = f"{which(request)} was answered {response.status} {response.reason}.".replace(" .", ".")
    if warning:
        text += f" Warning: {warning}."
    if hint:
        text += f" {hint}"
    return CallFailed(text, status=response.status, reason=response.reason, warning=warning, raw=response.to_bytes())


def no_answer(raw_request: bytes, why: str, where: str, times: int) -> CallFailed:
    """Make the error for a request to which no final response came."""
    how_often = "once" if times == 1 else f"{times} times"
    return CallFailed(
        f"{which(parse_message(raw_request))} got no answer {why}: sent {how_often} to {where}. "
        "Does that node run, and is the address right?"
    )


def which(request: SipMessage) -> str:
    """Name a request in words that are the same in every run."""
    return f"{request.method} {request.request_uri} (CSeq {request.cseq})"
