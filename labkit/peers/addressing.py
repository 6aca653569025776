"""Whom a phone calls, and who calls it: from what people write to URIs, and from headers to URIs."""

from __future__ import annotations

from labkit.errors import CallFailed, SipError
from labkit.wire.sip import SipMessage, parse_address, parse_uri


def dialled_uri(target: str, realm: str) -> str:
    """Make a URI of what somebody dials.

    Args:
        target: a sip: or tel: URI, a name in the home network ("bob"), user@host, or a number ("+15550002").
        realm: the home network.
    Raises:
        CallFailed: it is none of these.
    """
    text = target.strip()
    if text[:1] == "+" and text[1:].isdigit():
        return f"tel:{text}"
    if ":" not in text and "@" not in text:
        text = f"sip:{text}@{realm}"
    elif ":" not in text.partition("@")[0]:
        text = f"sip:{text}"
    try:
        scheme = parse_uri(text).scheme
    except SipError as error:
        raise CallFailed(f"{target!r} cannot be called: {error}") from error
    if scheme not in ("sip", "sips", "tel"):
        raise CallFailed(f"{target!r} cannot be called: it is no sip: or tel: URI, no name and no number.")
    return text


def caller_uri(request: SipMessage) -> str:
    """URI of who calls: what the network asserts, else From (RFC 3325)."""
    for value in (*request.all("p-asserted-identity"), request.header("from") or ""):
        try:
            return parse_address(value).uri
        except SipError:
            continue
    return ""
