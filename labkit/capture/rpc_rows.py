"""JSON-RPC and evapi messages to the columns of their rows. Lenient, as `labkit.capture.fields` is.

They have no columns of their own. `method` is the method, or the event of evapi; `session_id` what question and answer
have in common on a connection: the id of JSON-RPC, the SIP transaction or dialog of evapi; `call_id` the call or
session it is about (OriginID: of a SIP call its Call-ID); `reason` the error of an answer; `status` its HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.capture.fields import Row
from labkit.errors import RpcError
from labkit.wire.rpc import RpcMessage, parse_evapi, parse_rpc

_LONGEST_ERROR = 200


def rpc_row(raw: bytes) -> Row:
    """Read the columns of a JSON-RPC message."""
    row: Row = {"protocol": "jsonrpc"}
    try:
        message = parse_rpc(raw)
    except RpcError:
        return row
    row["request"], row["session_id"] = message.request, message.number or None
    row["call_id"] = _call_of(message) or None
    if message.request:
        row["method"] = message.method
    else:
        row["status"] = message.status
        row["reason"] = message.error[:_LONGEST_ERROR] or None
    return row


def evapi_row(raw: bytes) -> Row:
    """Read the columns of an evapi message."""
    row: Row = {"protocol": "evapi"}
    try:
        message = parse_evapi(raw)
    except RpcError:
        return row
    row["method"], row["request"] = message.event, message.request
    row["session_id"] = message.number or None
    row["call_id"] = sip_call_id(message.fields.get("OriginID")) or None
    row["reason"] = message.error[:_LONGEST_ERROR] or None
    return row


def sip_call_id(origin_id: Any) -> str:
    """The Call-ID in an OriginID as our proxy makes them, Call-ID;from-tag; an OriginID of another kind as it is."""
    return origin_id.partition(";")[0] if isinstance(origin_id, str) else ""


def _call_of(message: RpcMessage) -> str:
    """The one call that a question names, or that its answer holds the record of."""
    if message.request:
        named = message.parameter.get("OriginIDs") if isinstance(message.parameter, Mapping) else None
        if isinstance(named, list):
            return sip_call_id(named[0]) if len(named) == 1 else ""
        return sip_call_id(message.event.get("OriginID"))
    found = message.result
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], Mapping):
        return sip_call_id(found[0].get("OriginID"))
    return ""
