"""What the story and the ladder say of JSON-RPC and evapi: what is asked and for whom, what is granted or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.errors import RpcError
from labkit.wire.rpc import EvapiMessage, RpcMessage, parse_evapi, parse_rpc

RPC_PROTOCOLS = ("evapi", "jsonrpc")
_NANOSECONDS = 10**9
_SHORTEST_DURATION = 10**6
"""Usage below this many nanoseconds counts messages or bytes, not time."""
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class RpcWords:
    """A message in words."""

    message: str
    """"CGR_AUTH_REPLY 900 s", "SessionSv1.InitiateSession", "MaxUsage 60 s"."""
    detail: str = ""
    """Whom or what a question is about: "alice 60 s"."""
    account: str = ""
    """Who pays; empty where the message does not say."""
    refused: bool = False
    """Whether it says no."""


def rpc_words(protocol: str, raw: bytes) -> RpcWords:
    """Put a message of one of RPC_PROTOCOLS in words."""
    try:
        return _of_evapi(parse_evapi(raw)) if protocol == "evapi" else _of_rpc(parse_rpc(raw))
    except RpcError:
        return RpcWords(f"damaged {protocol}")


def only_looks(method: str) -> bool:
    """Whether a JSON-RPC method only asks how things are and changes nothing: Get..., Count..., Ping, Status."""
    return method.rpartition(".")[2].startswith(("Get", "Count", "Ping", "Status"))


def gives_cdrs(raw: bytes) -> bool:
    """Whether a JSON-RPC answer holds charging records."""
    try:
        return bool(_cdrs(parse_rpc(raw).result))
    except RpcError:
        return False


def _of_evapi(message: EvapiMessage) -> RpcWords:
    fields = message.fields
    account = str(fields.get("Account", ""))
    if message.error:
        return RpcWords(f"{message.event} {_short(message.error)}", refused=True)
    if "MaxUsage" in fields and message.event == "CGR_AUTH_REPLY":
        return RpcWords(f"{message.event} {fields['MaxUsage']} s", refused=not fields["MaxUsage"])
    if message.event == "CGR_SESSION_DISCONNECT":
        return RpcWords(f"{message.event} {fields.get('Reason', '')}".rstrip())
    if message.event == "CGR_CALL_END":
        return RpcWords(f"{message.event} {fields.get('Usage', '?')} s", account, account)
    return RpcWords(message.event, account, account)


def _of_rpc(message: RpcMessage) -> RpcWords:
    if message.error:
        return RpcWords(_short(message.error), refused=True)
    if not message.request:
        return _of_result(message.result)
    asked = message.parameter if isinstance(message.parameter, Mapping) else {}
    event = message.event or asked
    account = str(event.get("Account") or asked.get("Account") or "")
    amount = event.get("Usage") or asked.get("Value", "")
    used = f"used {_spaced(event['LastUsed'])}" if event.get("LastUsed") else ""
    return RpcWords(message.method, " ".join(filter(None, (account, used, _spaced(amount)))), account)


def _of_result(result: Any) -> RpcWords:
    if cdrs := _cdrs(result):
        one = cdrs[0]
        words = f"CDR {_amount(one.get('Usage'))}, {one.get('Cost')}" if len(cdrs) == 1 else f"{len(cdrs)} CDRs"
        return RpcWords(words, account=str(one.get("Account", "")) if len(cdrs) == 1 else "")
    if isinstance(result, Mapping) and "MaxUsage" in result:
        return RpcWords(f"MaxUsage {_amount(result['MaxUsage'])}", refused=not result["MaxUsage"])
    if isinstance(result, list):
        return RpcWords(f"{len(result)} results")
    return RpcWords("OK" if isinstance(result, Mapping) else _short(str(result)))


def _cdrs(result: Any) -> list[Mapping[str, Any]]:
    found = result if isinstance(result, list) else ()
    return [one for one in found if isinstance(one, Mapping) and "Cost" in one and "RunID" in one and "Usage" in one]


def _amount(usage: Any) -> str:
    """A usage of an answer: nanoseconds as seconds, small numbers (messages, bytes) as they are."""
    if isinstance(usage, int) and usage >= _SHORTEST_DURATION:
        return f"{usage / _NANOSECONDS:g} s"
    return str(usage)


def _spaced(usage: Any) -> str:
    """A usage of a question: "60s" as "60 s"."""
    text = str(usage)
    return f"{text[:-1]} s" if text.endswith("s") and text[:-1].replace(".", "").isdigit() else text


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
