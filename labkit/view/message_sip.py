"""A SIP message with its headers and its body explained."""

from __future__ import annotations

from labkit.errors import SipError
from labkit.view.explained import Explained, Part, readable, xml_lines
from labkit.view.sip_words import CLASSES, HEADERS, METHODS, SDP_ATTRIBUTES, SDP_LINES
from labkit.wire import sip, sms

_SAME_IN_EVERY_RUN = {
    "content-type",
    "event",
    "expires",
    "max-forwards",
    "min-expires",
    "p-visited-network-id",
    "proxy-require",
    "require",
    "unsupported",
}
"""Headers whose values an outline shows; those of others hold addresses, identifiers or versions."""
_DIFFERS_IN_EVERY_RUN = {"RP-Message-Reference", "TP-SCTS", "TP-DT"}
"""Fields of a short message whose values an outline leaves out."""


def explain_sip(raw: bytes) -> Explained:
    """Take a SIP message apart; see `labkit.view.message.explain`."""
    try:
        message = sip.parse_message(raw)
    except SipError as error:
        return _damaged(raw, error)
    parts = [_header(name, value) for name, value in message.headers]
    parts += _body(message.body, message.content_type or "")
    if message.is_request:
        title, about = f"SIP request {message.method}", METHODS.get(message.method, "")
    else:
        title = f"SIP response {message.status} {sip.REASONS.get(message.status, '')}".rstrip()
        about = f"{CLASSES.get(message.status // 100, '')} (answers {message.cseq_method})"
    return Explained(title, about, message.start_line, tuple(parts), raw)


def _damaged(raw: bytes, error: SipError) -> Explained:
    lines = raw.decode("utf-8", "replace").splitlines() or [""]
    parts = tuple(Part("", line) for line in lines[1:])
    return Explained("Damaged SIP message", str(error), lines[0], parts, raw)


def _header(name: str, value: str) -> Part:
    key = sip.header_key(name)
    about, spec = HEADERS.get(key, ("", ""))
    return Part(name, value, about, spec, stable=key in _SAME_IN_EVERY_RUN)


def _body(body: bytes, content_type: str) -> list[Part]:
    if not body:
        return []
    if content_type == "application/sdp":
        lines = body.decode("utf-8", "replace").splitlines()
        return [Part("body", f"{len(lines)} lines of SDP"), *(_sdp_line(line) for line in lines)]
    if content_type == sms.CONTENT_TYPE:
        return _short_message(body)
    if content_type.endswith("xml"):
        return [Part("body", "XML", lines=xml_lines(body.decode("utf-8", "replace")))]
    if content_type.startswith(("text/", "multipart/")):
        return [Part("body", content_type, lines=tuple(body.decode("utf-8", "replace").splitlines()))]
    return [Part("body", f"{len(body)} bytes", lines=(readable(body),))]


def _short_message(body: bytes) -> list[Part]:
    """The octets of an RP message; `Capture.sms` shows them beside the hex."""
    found = sms.dissect(body)
    parts = [
        Part(field.name, field.value, field.about, field.spec, 1, stable=field.name not in _DIFFERS_IN_EVERY_RUN)
        for field in found.fields
    ]
    damage = [Part("damaged", found.problem, depth=1)] if found.problem else []
    return [
        Part("body", f"{sms.label(body)}, {len(body)} octets", lines=(body.hex(" "),), stable=True),
        *parts,
        *damage,
    ]


def _sdp_line(line: str) -> Part:
    letter, _, value = line.partition("=")
    about, spec = SDP_LINES.get(letter, ("", ""))
    name = f"{letter}="
    if letter == "a":
        attribute, colon, rest = value.partition(":")
        about, spec = SDP_ATTRIBUTES.get(attribute, (about, spec))
        name, value = f"a={attribute}", colon + rest
    return Part(name, value, about, spec, depth=1)
