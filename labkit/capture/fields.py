"""One message to the columns of its row. Lenient: a capture also shows messages that break the rules.

What a damaged message still tells is given, the rest is absent; `labkit.wire` has the strict readers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from labkit.wire.diameter_names import command_name

Row = dict[str, object]
"""Column name to value; a column that is not in it is absent."""

_FOLD = re.compile(r"\r?\n[ \t]+")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id"}
_TAG = re.compile(r";\s*tag\s*=\s*([^;,\s\"]+)", re.IGNORECASE)
_BRANCH = re.compile(r";\s*branch\s*=\s*([^;,\s\"]+)", re.IGNORECASE)
_TOKEN = re.compile(r"\s*([^;,\s\"]+)")
_DIGITS = re.compile(r"[0-9]+")
_VIA_LINE = re.compile(r"^(?:via|v)[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_URI_USER = re.compile(r"\s*(?:sips?:(?:([^@:<>]+)(?::[^@]*)?@)?|tel:([^;>\s]+))", re.IGNORECASE)
"""A user part may hold ";" and "?": "sip:+1555;npdi;rn=+1556@host" (RFC 3261 section 25.1, RFC 4694)."""


def split_sip(raw: bytes) -> tuple[str, dict[str, str], bytes]:
    """Split a SIP message into start line, headers (first of each name, long lower-case names) and body."""
    raw = raw.lstrip(b"\r\n")
    head_end = _HEAD_END.search(raw)
    head, body = (raw[: head_end.start()], raw[head_end.end() :]) if head_end else (raw, b"")
    lines = _FOLD.sub(" ", head.decode("utf-8", "replace")).replace("\r\n", "\n").split("\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.strip(" \t").lower()
        if colon:
            headers.setdefault(_COMPACT.get(name, name), value.strip())
    return lines[0], headers, body


def via_branches(raw: bytes) -> tuple[str, ...]:
    """Give the branches of all Via headers, top first: the way that a request took (RFC 3261 section 20.42)."""
    head_end = _HEAD_END.search(raw)
    head = raw[: head_end.start()] if head_end else raw
    text = _FOLD.sub(" ", head.decode("utf-8", "replace"))
    values = [value for line in _VIA_LINE.findall(text) for value in line.split(",")]
    return tuple(match.group(1) if (match := _BRANCH.search(value)) else "" for value in values)


def uri_user(uri: str) -> str | None:
    """Give the user part of a sip:, sips: or tel: URI, None where it has none."""
    match = _URI_USER.match(uri)
    return (match.group(1) or match.group(2)) if match else None


def sip_row(raw: bytes) -> Row:
    """Read the columns of a SIP message (RFC 3261)."""
    start_line, headers, _body = split_sip(raw)
    row: Row = {"protocol": "sip"}
    row["method"], row["status"], row["reason"] = start_line_columns(start_line)
    row["call_id"] = headers.get("call-id")
    row["cseq"], row["cseq_method"] = cseq_columns(headers.get("cseq", ""))
    for side in ("from", "to"):
        if side in headers:
            row[f"{side}_user"], row[f"{side}_tag"] = user_and_tag(headers[side])
    row["branch"] = branch_of(headers.get("via", ""))
    return row


def start_line_columns(start_line: str) -> tuple[str | None, int | None, str | None]:
    """Read method, status and reason from a start line (RFC 3261 section 7)."""
    first, _, rest = start_line.partition(" ")
    if not first.upper().startswith("SIP/"):
        return first, None, None
    status, _, reason = rest.partition(" ")
    return None, int(status) if _DIGITS.fullmatch(status) and len(status) == 3 else None, reason.strip()


def cseq_columns(value: str) -> tuple[int | None, str | None]:
    """Read number and method from CSeq (RFC 3261 section 20.16)."""
    number, *methods = value.split() or [""]
    if not _DIGITS.fullmatch(number) or len(number) > 10:
        return None, None
    return int(number), methods[0] if methods else None


def branch_of(via: str) -> str | None:
    """Read the branch of the first of the values in a Via header (RFC 3261 section 20.42)."""
    top = via.split(",")[0]
    plain = top.find(";branch=")
    match = _TOKEN.match(top, plain + 8) if plain >= 0 else None
    match = match or _BRANCH.search(top)
    return match.group(1) if match else None


def user_and_tag(value: str) -> tuple[str | None, str | None]:
    """User part of the URI and the tag of a From or To header (RFC 3261 section 20.20)."""
    value = _QUOTED.sub("", value)  # a display name may hold anything, even "<sip:"
    _, bracket, inside = value.partition("<")
    if bracket:
        uri, _, parameters = inside.partition(">")
    else:
        uri, semicolon, parameters = value.partition(";")
        parameters = semicolon + parameters
    tag = _TAG.search(parameters)
    return uri_user(uri), tag.group(1) if tag else None


# ---------------------------------------------------------------- Diameter

_VENDOR_3GPP = 10415
TEXT, NUMBER = "text", "number"
AVP_COLUMNS = {
    (1, 0): ("user_name", TEXT),
    (263, 0): ("session_id", TEXT),
    (264, 0): ("origin_host", TEXT),
    (268, 0): ("result_code", NUMBER),
    (600, _VENDOR_3GPP): ("visited_network", TEXT),
    (601, _VENDOR_3GPP): ("public_identity", TEXT),
    (602, _VENDOR_3GPP): ("server_name", TEXT),
    (614, _VENDOR_3GPP): ("server_assignment_type", NUMBER),
    (623, _VENDOR_3GPP): ("user_authorization_type", NUMBER),
}
EXPERIMENTAL_RESULT, EXPERIMENTAL_RESULT_CODE = (297, 0), (298, 0)


def diameter_row(raw: bytes) -> Row:
    """Read the columns of a Diameter message (RFC 6733 section 3); AVPs at the top level, first of each."""
    flags, command_code = raw[4], int.from_bytes(raw[5:8], "big")
    application_id, hop_by_hop_id, end_to_end_id = struct.unpack_from(">III", raw, 8)
    row: Row = {
        "protocol": "diameter",
        "command_code": command_code,
        "command": command_name(command_code, bool(flags & 0x80)),
        "request": bool(flags & 0x80),
        "flags": flags,
        "application_id": application_id,
        "hop_by_hop_id": hop_by_hop_id,
        "end_to_end_id": end_to_end_id,
    }
    for key, value in _avps(raw, 20):
        if key == EXPERIMENTAL_RESULT:
            for inner, code in _avps(value, 0):
                if inner == EXPERIMENTAL_RESULT_CODE and len(code) == 4:
                    row.setdefault("experimental_result_code", int.from_bytes(code, "big"))
        elif key in AVP_COLUMNS:
            column, kind = AVP_COLUMNS[key]
            if kind == TEXT:
                row.setdefault(column, value.decode("utf-8", "replace"))
            elif len(value) == 4:
                row.setdefault(column, int.from_bytes(value, "big"))
    return row


def _avps(raw: bytes, position: int) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Walk AVPs: ((code, vendor), value). Ends at the first that does not fit."""
    while len(raw) - position >= 8:
        code, word = struct.unpack_from(">II", raw, position)
        size = word & 0xFFFFFF
        header = 12 if word & 0x80000000 else 8
        if size < header or position + size > len(raw):
            return
        vendor = int.from_bytes(raw[position + 8 : position + 12], "big") if header == 12 else 0
        yield (code, vendor), raw[position + header : position + size]
        position += size + -size % 4
