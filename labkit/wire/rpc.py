"""JSON between a charging engine and those who ask it: JSON-RPC over HTTP, and evapi, JSON in netstrings over TCP.

JSON-RPC as CGrateS speaks it: {"method", "params": [one value], "id"} is answered by {"id", "result", "error"}, always
with HTTP status 200 (RFC 9112 says where an HTTP message ends). An evapi message is an object with "event" (Kamailio to
the engine) or "Event" (the engine to Kamailio), in a netstring: its length, a colon, the bytes, a comma.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import RpcError

LONGEST_LENGTH = 7
"""Digits of the length of a netstring: ten megabytes are more than anybody sends."""
_NETSTRING = re.compile(rb"(\d{1,7}):")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.[01] (\d{3})")
_REPLIES = ("_REPLY", "_RESPONSE")
"""How the names of evapi events end that answer another."""


@dataclass(frozen=True, slots=True)
class RpcMessage:
    """One JSON-RPC request or answer."""

    request: bool
    """True where somebody asks."""
    number: str
    """The id, as text: which answer belongs to which request on one connection."""
    method: str = ""
    """Of a request, for example "SessionSv1.AuthorizeEvent"."""
    parameter: Any = None
    """Of a request: what "params" holds one of."""
    result: Any = None
    """Of an answer."""
    error: str = ""
    """Of an answer: empty where all is well."""
    status: int | None = None
    """Of an answer over HTTP."""

    @property
    def event(self) -> Mapping[str, Any]:
        """The event that a session call is about; empty where there is none."""
        return _event_of(self.parameter)


@dataclass(frozen=True, slots=True)
class EvapiMessage:
    """One message between Kamailio's evapi and an engine."""

    event: str
    """For example "CGR_AUTH_REQUEST"."""
    from_engine: bool
    """Who speaks: the engine, else Kamailio."""
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """All its members."""

    @property
    def request(self) -> bool:
        """False where it answers another."""
        return not (self.event.endswith(_REPLIES) or (self.event == "CGR_DLG_LIST" and not self.from_engine))

    @property
    def number(self) -> str:
        """What question and answer have in common: the SIP transaction, else the dialog; empty without either."""
        for names in (("tr_index", "tr_label"), ("TransactionIndex", "TransactionLabel"), ("h_entry", "h_id")):
            if all(name in self.fields for name in names):
                return ":".join(str(self.fields[name]) for name in names)
        if self.event == "CGR_SESSION_DISCONNECT":
            return f"{self.fields.get('HashEntry', '')}:{self.fields.get('HashId', '')}"
        return ""

    @property
    def error(self) -> str:
        """Why it was refused; empty where it was not."""
        return str(self.fields.get("Error") or "")


def parse_evapi(raw: bytes) -> EvapiMessage:
    """Read a netstring with its JSON.

    Raises:
        RpcError: it is no netstring, no JSON, or no evapi event.
    """
    found = _NETSTRING.match(raw)
    if found is None:
        raise RpcError("a netstring begins with its length and a colon", offset=0, spec="netstrings, 1997")
    end = found.end() + int(found.group(1))
    if raw[end : end + 1] != b",":
        raise RpcError("a netstring ends with a comma where its length says", offset=end, spec="netstrings, 1997")
    members = _object(raw[found.end() : end], found.end())
    for name, from_engine in (("event", False), ("Event", True)):
        if isinstance(members.get(name), str):
            return EvapiMessage(members[name], from_engine, members)
    raise RpcError('an evapi message names its "event"', offset=found.end(), field="event")


def parse_rpc(raw: bytes) -> RpcMessage:
    """Read a JSON-RPC message, with its HTTP head or without.

    Raises:
        RpcError: there is no JSON in it, or neither a question nor an answer.
    """
    start_line, _headers, body = split_http(raw) if raw[:1] != b"{" else ("", {}, raw)
    members = _object(body, 0)
    number = members.get("id")
    text = "" if number is None else str(number)
    if isinstance(members.get("method"), str):
        params = members.get("params")
        parameter = params[0] if isinstance(params, list) and len(params) == 1 else params
        return RpcMessage(True, text, members["method"], parameter)
    if "result" not in members and "error" not in members:
        raise RpcError('JSON-RPC has a "method" or a "result"', offset=0, field="method")
    status = _STATUS.match(start_line)
    error = members.get("error")
    if isinstance(error, Mapping):
        error = error.get("message", error)
    return RpcMessage(
        False, text, "", None, members.get("result"), str(error or ""), int(status.group(1)) if status else None
    )


def split_http(raw: bytes) -> tuple[str, dict[str, str], bytes]:
    """Split an HTTP/1.1 message into start line, headers (lower-case names) and body, chunks put together."""
    found = _HEAD_END.search(raw)
    head, body = (raw[: found.start()], raw[found.end() :]) if found else (raw, b"")
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    if headers.get("transfer-encoding", "").lower().endswith("chunked"):
        body = _joined(body)
    return lines[0], headers, body


def _joined(body: bytes) -> bytes:
    """The chunks of a body (RFC 9112 section 7.1), as far as they go."""
    joined, position = b"", 0
    while (size := chunk_at(body, position)) is not None and size[1]:
        start, length = size
        joined += body[start : start + length]
        position = start + length + 2
    return joined


def chunk_at(raw: bytes, position: int) -> tuple[int, int] | None:
    """Where the data of the chunk at a position begins, and its size; None where its first line is not there yet.

    Raises:
        RpcError: what stands there is no size.
    """
    end = raw.find(b"\r\n", position, position + 256)
    if end < 0:
        return None
    digits = raw[position:end].partition(b";")[0].strip()
    try:
        return end + 2, int(digits, 16)
    except ValueError:
        raise RpcError("a chunk begins with its size", offset=position, spec="RFC 9112 section 7.1") from None


def _object(raw: bytes, offset: int) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise RpcError("no JSON", offset=offset, spec="RFC 8259") from None
    if not isinstance(found, dict):
        raise RpcError("no JSON object", offset=offset, spec="RFC 8259")
    return found


def _event_of(parameter: Any) -> Mapping[str, Any]:
    if not isinstance(parameter, Mapping):
        return {}
    event = parameter.get("Event", parameter.get("EventStart"))
    return event if isinstance(event, Mapping) else parameter if "OriginID" in parameter else {}
