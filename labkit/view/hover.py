"""What the pointer shows over an arrow: the headers and AVPs that one looks at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.capture.fields import split_sip
from labkit.view.drawing import Arrow

if TYPE_CHECKING:
    from labkit.capture.table import Messages

_WIDTH = 88
_SIP_HEADERS = {
    "from": "From",
    "to": "To",
    "call-id": "Call-ID",
    "cseq": "CSeq",
    "contact": "Contact",
    "expires": "Expires",
    "route": "Route",
    "record-route": "Record-Route",
    "www-authenticate": "WWW-Authenticate",
    "warning": "Warning",
}
_DIAMETER_COLUMNS = {
    "session_id": "Session-Id",
    "user_name": "User-Name",
    "public_identity": "Public-Identity",
    "visited_network": "Visited-Network-Identifier",
    "server_name": "Server-Name",
    "result_code": "Result-Code",
    "experimental_result_code": "Experimental-Result-Code",
    "origin_host": "Origin-Host",
}


def hover_text(arrow: Arrow, messages: Messages, *, full: bool = True) -> str:
    """Return the text for one arrow, in the little HTML that plotly understands.

    Args:
        arrow: the arrow.
        messages: the capture that it comes from.
        full: with headers and AVPs; False gives the first two lines only, for very long ladders.
    """
    number = "" if arrow.number is None else f"{arrow.number} · "
    lines = [
        f"<b>{number}{_safe(arrow.message)}</b>{' (sent again)' if arrow.again else ''}",
        f"{_safe(arrow.source)} → {_safe(arrow.target)}, frame {arrow.frame}",
    ]
    if full:
        pairs = _sip_pairs(messages.raw[arrow.row]) if arrow.protocol == "sip" else _diameter_pairs(arrow, messages)
        lines += [f"<b>{name}</b> {_safe(value)}" if name else _safe(value) for name, value in pairs]
    return "<br>".join(lines)


def _sip_pairs(raw: bytes) -> list[tuple[str, str]]:
    start_line, headers, body = split_sip(raw)
    pairs = [("", start_line)] if not start_line.startswith("SIP/") else []
    pairs += [(shown, headers[name]) for name, shown in _SIP_HEADERS.items() if name in headers]
    if body:
        pairs.append(("body", f"{len(body)} bytes {headers.get('content-type', headers.get('c', ''))}"))
    return pairs


def _diameter_pairs(arrow: Arrow, messages: Messages) -> list[tuple[str, str]]:
    cells = messages.table.loc[arrow.row, list(_DIAMETER_COLUMNS)]
    return [(_DIAMETER_COLUMNS[str(name)], str(value)) for name, value in cells.dropna().items()]


def _safe(value: str) -> str:
    """Shorten and disarm: what stands in a message comes from the network."""
    shown = "".join(letter if letter.isprintable() else "·" for letter in value)
    shown = shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
