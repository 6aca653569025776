"""What the pointer shows over an arrow: the headers and AVPs that one looks at first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labkit.capture.fields import split_sip
from labkit.capture.rpc_words import RPC_PROTOCOLS
from labkit.view.arrow import Arrow
from labkit.view.message_rpc import explain_rpc

if TYPE_CHECKING:
    from labkit.capture.table import Messages

_WIDTH = 88
_MOST_MEMBERS = 12
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


def hover_texts(arrows: Iterable[Arrow], messages: Messages) -> list[str]:
    """Return the text for each arrow, in the little HTML that plotly understands."""
    columns = {name: messages.table[name].tolist() for name in _DIAMETER_COLUMNS}
    texts = []
    for arrow in arrows:
        cells = {name: column[arrow.row] for name, column in columns.items()}
        texts.append(_text(arrow, headers_of(arrow, messages.raw[arrow.row], cells)))
    return texts


def key_headers(arrow: Arrow, messages: Messages) -> list[tuple[str, str]]:
    """Return names and values of what one looks at first; the start line of a request has no name."""
    row = arrow.row
    cells = {name: messages.table[name].iloc[row : row + 1].tolist()[0] for name in _DIAMETER_COLUMNS}
    return headers_of(arrow, messages.raw[row], cells)


def _text(arrow: Arrow, pairs: list[tuple[str, str]]) -> str:
    number = "" if arrow.number is None else f"{arrow.number} · "
    lines = [
        f"<b>{number}{_safe(arrow.message)}</b>{' (sent again)' if arrow.again else ''}",
        f"{_safe(arrow.source)} → {_safe(arrow.target)}, frame {arrow.frame}",
    ]
    return "<br>".join(lines + [f"<b>{name}</b> {_safe(value)}" if name else _safe(value) for name, value in pairs])


def headers_of(arrow: Arrow, raw: bytes, cells: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same as `key_headers`, from a message and its cells; absent cells may be missing, None or <NA>."""
    if arrow.protocol == "rtp":
        return [("", arrow.detail)] if arrow.detail else []
    if arrow.protocol == "sip":
        return _sip_pairs(raw)
    if arrow.protocol in RPC_PROTOCOLS:
        members = [(part.name, part.value) for part in explain_rpc(raw, arrow.protocol).parts if part.value]
        return members[:_MOST_MEMBERS]
    found = [(shown, cells.get(name)) for name, shown in _DIAMETER_COLUMNS.items()]
    return [(shown, str(cell)) for shown, cell in found if isinstance(cell, str | int)]


def _sip_pairs(raw: bytes) -> list[tuple[str, str]]:
    start_line, headers, body = split_sip(raw)
    pairs = [("", start_line)] if not start_line.startswith("SIP/") else []
    pairs += [(shown, headers[name]) for name, shown in _SIP_HEADERS.items() if name in headers]
    if body:
        pairs.append(("body", f"{len(body)} bytes {headers.get('content-type', headers.get('c', ''))}"))
    return pairs


def _safe(value: str) -> str:
    """Shorten and disarm: what stands in a message comes from the network."""
    shown = "".join(letter if letter.isprintable() else "·" for letter in value)
    shown = shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
