"""What the table, the story and the ladder say of a short message in a SIP MESSAGE (TS 24.341)."""

from __future__ import annotations

import re

from labkit.capture.fields import split_sip

_SMS = b"application/vnd.3gpp.sms"
_REPLY_TO = re.compile(rb"\nin-reply-to[ \t]*:[ \t]*([^\r\n,]*)", re.IGNORECASE)


def carries_sms(raw: bytes) -> bool:
    """Whether a SIP message has an RP message as its body."""
    if _SMS not in raw.lower():
        return False
    _, headers, body = split_sip(raw)
    kind = headers.get("content-type", headers.get("c", "")).partition(";")[0].strip().lower()
    return bool(body) and kind.encode("utf-8", "replace") == _SMS


def sms_words(raw: bytes) -> str:
    """Name what a SIP message carries: "RP-DATA SMS-DELIVER", "RP-ACK", "RP-ERROR 22"; "" where that is no SMS."""
    if not carries_sms(raw):
        return ""
    from labkit.wire.sms import label

    return label(split_sip(raw)[2])


def reply_to(raw: bytes) -> str:
    """The Call-ID that In-Reply-To names (RFC 3261 section 20.21); "" without one."""
    found = _REPLY_TO.search(raw)
    return found.group(1).decode("utf-8", "replace").strip() if found else ""
