"""The base protocol of a Diameter node: answers to CER, DWR and DPR (RFC 6733 section 5). No socket in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from labkit.errors import DiameterError
from labkit.peers.hss.checks import RequestReader, check_header, wrong_value
from labkit.peers.hss.exchange import Exchange
from labkit.wire import cx
from labkit.wire.cx import CX_APPLICATION_ID, Command
from labkit.wire.diameter import Avp, Message, avp_key, command_name, parse_message, result_name
from labkit.wire.diameter_names import TGPP_VENDOR

CER: Final = int(Command.CAPABILITIES_EXCHANGE)
BASE_COMMANDS: Final = frozenset({CER, int(Command.DEVICE_WATCHDOG), int(Command.DISCONNECT_PEER)})
"""Requests that this module answers."""

_RELAY: Final = 0xFFFFFFFF
_NO_SECURITY: Final = 0
"""Inband-Security-Id: no TLS inside the connection (RFC 6733 section 6.10)."""
_PRODUCT: Final = "labkit HSS"
_ORIGIN_HOST: Final = avp_key("Origin-Host")
_ORIGIN_REALM: Final = avp_key("Origin-Realm")


@dataclass(frozen=True, slots=True)
class BaseReply:
    """An answer of the base protocol, and what follows from it."""

    raw: bytes
    """The answer."""
    summary: str = ""
    """A line for the log; empty for the everyday DWR."""
    host: str = ""
    """Who the peer is, when its CER was taken."""
    realm: str = ""
    """And of which realm."""
    close: str = ""
    """Why the connection ends after the answer; empty when it stays."""


def answer_base(raw: bytes, exchange: Exchange, own_address: str) -> BaseReply:
    """Answer CER, DWR or DPR.

    Args:
        raw: one whole request with one of `BASE_COMMANDS`.
        exchange: says who this node is, and words refusals.
        own_address: this end's IP address, for Host-IP-Address.
    """
    code = int.from_bytes(raw[5:8], "big")
    try:
        request = parse_message(raw)
        check_header(code, request.application_id, request.flags)
        found, _, _ = RequestReader().read(code, raw)
        if code == CER:
            return _capabilities(request, found, exchange, own_address)
    except DiameterError as error:
        refusal, summary = exchange.refuse(raw, error)
        return BaseReply(refusal, summary, close="CER refused" if code == CER else "")
    if code == Command.DISCONNECT_PEER:
        return BaseReply(_answer(request, exchange, 2001), "DPR -> DIAMETER_SUCCESS", close="DPR")
    return BaseReply(_answer(request, exchange, 2001))


def _answer(request: Message, exchange: Exchange, result_code: int, *avps: Avp) -> bytes:
    return request.answer(
        Avp.of("Result-Code", result_code),
        Avp.of("Origin-Host", exchange.origin_host),
        Avp.of("Origin-Realm", exchange.origin_realm),
        *avps,
    ).to_bytes()


def _capabilities(request: Message, found: dict[int, bytes], exchange: Exchange, own_address: str) -> BaseReply:
    """Answer CER; with ONE Vendor-Specific-Application-Id and nothing beside it.

    Kamailio's cdp makes its table of applications one too small for a CEA that names Cx twice, or that names
    anything in a top-level Auth-Application-Id, and then finds no peer for Cx.
    """
    host = _text(_ORIGIN_HOST, found[_ORIGIN_HOST])
    realm = _text(_ORIGIN_REALM, found[_ORIGIN_REALM])
    result_code, why = 2001, ""
    if not offered_applications(request) & {CX_APPLICATION_ID, _RELAY}:
        result_code, why = 5010, f"{host} offers no Cx"
    elif _NO_SECURITY not in (offered_security(request) or {_NO_SECURITY}):
        result_code, why = 5017, f"{host} wants TLS"
    avps = [
        Avp.of("Host-IP-Address", own_address),
        Avp.of("Vendor-Id", TGPP_VENDOR),
        Avp.of("Product-Name", _PRODUCT),
        Avp.of("Supported-Vendor-Id", TGPP_VENDOR),
    ]
    summary = f"{command_name(CER, True)} -> {result_name(result_code)}"
    if result_code != 2001:
        return BaseReply(_answer(request, exchange, result_code, *avps), summary, close=why)
    return BaseReply(_answer(request, exchange, result_code, *avps, cx.application_avp()), summary, host, realm)


def _text(key: int, payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise wrong_value(key, payload, "is not UTF-8") from error


def offered_applications(request: Message) -> set[int]:
    """Collect the applications that a CER offers, at the top and inside Vendor-Specific-Application-Id."""
    offered = [avp.value for avp in request.find_all("Auth-Application-Id")]
    for group in request.find_all("Vendor-Specific-Application-Id"):
        offered += [avp.value for avp in group.children if avp.name == "Auth-Application-Id"]
    return {int(number) for number in offered}


def offered_security(request: Message) -> set[int]:
    """Collect the Inband-Security-Id AVPs of a CER; none means that nothing is wanted."""
    return {int(avp.value) for avp in request.find_all("Inband-Security-Id")}
