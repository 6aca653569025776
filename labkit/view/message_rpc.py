"""A message of JSON-RPC or evapi with its members explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.capture.rpc_words import rpc_words
from labkit.errors import RpcError
from labkit.view.explained import Explained, Part
from labkit.wire.rpc import EvapiMessage, RpcMessage, parse_evapi, parse_rpc, split_http

_DEEPEST = 8
_MOST_ITEMS = 40
EVENTS = {
    "CGR_AUTH_REQUEST": "may this call begin, and for how long does the money last? The INVITE waits",
    "CGR_AUTH_REPLY": "so long, or why not",
    "CGR_CALL_START": "the call is answered: open a session, and take its price from now on",
    "CGR_SESSION_DISCONNECT": "hang up: the money is gone",
    "CGR_CALL_END": "the call is over: settle, and write the record",
    "CGR_DLG_LIST": "which calls are there?",
}
"""evapi event to what it says."""
METHODS = {
    "AuthorizeEvent": "for how long would the money last? Nothing is reserved",
    "InitiateSession": "the call begins: open a session and take the first piece of its price",
    "UpdateSession": "take the next piece, and give back what was not used of the last one",
    "TerminateSession": "the call is over: settle the difference",
    "ProcessCDR": "write the record of the call",
    "ProcessMessage": "charge a message at once",
    "ProcessExternalCDR": "rate a call that is over, and store its record",
    "GetAccount": "an account with its balances",
    "GetCDRs": "the records that fit",
    "GetCost": "what would it cost?",
    "SetBalance": "set one balance of an account",
    "DisconnectSession": "the engine asks: hang up",
}
"""JSON-RPC method, without its service, to what it asks."""
MEMBERS = {
    "tr_index": "the SIP transaction that waits in Kamailio, first half",
    "tr_label": "the SIP transaction that waits in Kamailio, second half",
    "TransactionIndex": "the SIP transaction that waits, as it was asked",
    "TransactionLabel": "the SIP transaction that waits, as it was asked",
    "h_entry": "the dialog in Kamailio, first half",
    "h_id": "the dialog in Kamailio, second half",
    "HashEntry": "the dialog to end, first half",
    "HashId": "the dialog to end, second half",
    "OriginID": "names the call: of our proxy Call-ID;from-tag",
    "OriginHost": "the switch that reports",
    "Account": "who pays",
    "Subject": "whose tariff",
    "Destination": "the number that is called",
    "Category": "the kind of service in the tariff",
    "ToR": "type of record: *voice, *sms, *data",
    "RequestType": "*prepaid: money first; *postpaid: debited afterwards; *rated: nobody pays",
    "SetupTime": "when the call was asked for",
    "AnswerTime": "when it was answered; paid time begins here",
    "Usage": "how long or how much",
    "LastUsed": "what was used of the last piece",
    "MaxUsage": "what is granted; 0 is no",
    "CGRDebitInterval": "how often the engine itself takes a piece",
    "cgr_flags": "what the engine shall do: *accounts debits, *cdrs writes the record",
    "Reason": "why the call must end",
    "Error": "why it was refused; empty where it was not",
    "error": "why it was refused; null where it was not",
    "result": "the answer",
    "id": "ties the answer to its question on this connection",
    "params": "a list of exactly one value",
    "Cost": "in the money of the tariff; -1: not rated",
    "CostSource": "*sessions: paid while it lasted; *cdrs: rated afterwards",
}
"""Member of a message to what it means."""
_SAME_IN_EVERY_RUN = {
    *("Account", "Subject", "Category", "ToR", "RequestType", "Tenant", "Reason", "Error", "error", "MaxUsage"),
    *("event", "Event", "method", "CGRDebitInterval", "cgr_flags", "Cost", "CostSource"),
}


def explain_rpc(raw: bytes, protocol: str) -> Explained:
    """Take a JSON-RPC or evapi message apart; see `labkit.view.message.explain`."""
    try:
        return _evapi(parse_evapi(raw), raw) if protocol == "evapi" else _rpc(parse_rpc(raw), raw)
    except RpcError as error:
        return Explained(f"Damaged {protocol} message", str(error), "", (Part("", raw.decode("latin-1")),), raw)


def _evapi(message: EvapiMessage, raw: bytes) -> Explained:
    who = "the engine" if message.from_engine else "Kamailio"
    length, _, _ = raw.partition(b":")
    first = f"netstring of {length.decode()} bytes, from {who}"
    return Explained(
        f"evapi {message.event}", EVENTS.get(message.event, ""), first, tuple(_members(message.fields)), raw
    )


def _rpc(message: RpcMessage, raw: bytes) -> Explained:
    first = split_http(raw)[0] if raw[:1] != b"{" else "JSON without HTTP"
    if message.request:
        about = METHODS.get(message.method.rpartition(".")[2], "")
        parts = [Part("method", message.method, about, stable=True), Part("id", message.number, MEMBERS["id"])]
        parts += _members({"params": message.parameter})
        return Explained(f"JSON-RPC request {message.method}", about, first, tuple(parts), raw)
    words = rpc_words("jsonrpc", raw).message
    members = {"id": message.number, "error": message.error or None, "result": message.result}
    return Explained(f"JSON-RPC answer {words}", "", first, tuple(_members(members)), raw)


def _members(value: Mapping[str, Any], depth: int = 0) -> Iterator[Part]:
    for name, inner in value.items():
        about, stable = MEMBERS.get(name, ""), name in _SAME_IN_EVERY_RUN
        if depth < _DEEPEST and isinstance(inner, Mapping) and inner:
            yield Part(name, "", about, depth=depth)
            yield from _members(inner, depth + 1)
        elif depth < _DEEPEST and isinstance(inner, list) and any(isinstance(one, Mapping) for one in inner):
            yield Part(name, f"{len(inner)} values", about, depth=depth)
            for number, one in enumerate(inner[:_MOST_ITEMS]):
                yield from _members({f"[{number}]": one}, depth + 1)
        else:
            yield Part(name, _text(inner), about, "", depth, stable=stable)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
