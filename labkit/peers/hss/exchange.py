"""From the bytes of a request to the bytes of its answer: the frame around `application`.

No socket in here: the connection hands in whole messages and sends what comes out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from labkit.errors import DiameterError
from labkit.peers.hss.application import (
    PUBLIC_IDENTITY,
    USER_NAME,
    Application,
    Outcome,
)
from labkit.peers.hss.checks import CX_COMMANDS, RequestReader, check_header
from labkit.wire import cx
from labkit.wire.cx import Command, Result
from labkit.wire.diameter import (
    AVP_MANDATORY,
    FLAG_ERROR,
    FLAG_PROXIABLE,
    HEADER_SIZE,
    Avp,
    avp_key,
    command_name,
    parse_avps,
    result_name,
)

_HEADER = struct.Struct("!IIIII")
_SESSION_ID: Final = avp_key("Session-Id")
_DESTINATION_REALM: Final = avp_key("Destination-Realm")
_DESTINATION_HOST: Final = avp_key("Destination-Host")
_FAILED_AVP: Final = avp_key("Failed-AVP")
_PROXY_INFO: Final = avp_key("Proxy-Info")
_SAR: Final = int(Command.SERVER_ASSIGNMENT)
_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")


Reply = tuple[bytes, str]
"""An answer, and what a log line says about it: "UAR sip:alice@realm -> DIAMETER_FIRST_REGISTRATION"."""


class Exchange:
    """Answers the Cx requests of one connection in the name of one Diameter node."""

    def __init__(self, application: Application, origin_host: str, origin_realm: str) -> None:
        self.application = application
        self._reader = RequestReader()
        self.origin_host = origin_host
        self.origin_realm = origin_realm
        self._host = origin_host.encode()
        self._realm = origin_realm.encode()
        origin = Avp.of("Origin-Host", origin_host).to_bytes() + Avp.of("Origin-Realm", origin_realm).to_bytes()
        state = Avp.of("Auth-Session-State", cx.NO_STATE_MAINTAINED).to_bytes()
        self._origin = origin
        self._common = cx.application_avp().to_bytes() + state + origin
        self._results: dict[Result, tuple[bytes, str]] = {}
        self._handlers: dict[int, Callable[[dict[int, bytes]], Outcome]] = {
            int(Command.USER_AUTHORIZATION): application.uar,
            int(Command.MULTIMEDIA_AUTH): application.mar,
            int(Command.LOCATION_INFO): application.lir,
        }

    def answer(self, raw: bytes, describe: bool = True) -> Reply:
        """Answer one request; whatever it holds, an answer comes out.

        Args:
            raw: one whole message with the R flag, 20 bytes or more.
            describe: False leaves the text for the log empty where all went well.
        """
        _, word, application_id, hop, end = _HEADER.unpack_from(raw)
        code, flags = word & 0xFFFFFF, word >> 24
        try:
            if application_id != cx.CX_APPLICATION_ID or code not in CX_COMMANDS or flags & FLAG_ERROR:
                check_header(code, application_id, flags)
            found, single = self._reader.read(code, raw)
            if found[_DESTINATION_REALM] != self._realm or _DESTINATION_HOST in found:
                self._check_destination(found)
            if code == _SAR:
                result, extra = self.application.sar(found, _identities(found, single, raw))
            else:
                result, extra = self._handlers[code](found)
        except DiameterError as error:
            return self.refuse(raw, error)
        session_id = found[_SESSION_ID]
        size = len(session_id)
        packed, name = self._results.get(result) or self._pack_result(result)
        if _PROXY_INFO in found:
            extra += _copies(raw, _PROXY_INFO)  # in their order, RFC 6733 section 6.2
        head = b"\0\0\1\x07\x40" + (size + 8).to_bytes(3, "big")
        body = b"".join((head, session_id, _PAD[size & 3], self._common, packed, extra))
        length = 0x01000000 | HEADER_SIZE + len(body)
        answer = _HEADER.pack(length, (flags & FLAG_PROXIABLE) << 24 | code, application_id, hop, end) + body
        if not describe:
            return answer, ""
        who = found.get(PUBLIC_IDENTITY) or found.get(USER_NAME) or b""
        return answer, f"{command_name(code, True)} {who.decode('utf-8', 'replace')} -> {name}"

    def _check_destination(self, found: dict[int, bytes]) -> None:
        if found[_DESTINATION_REALM].lower() != self._realm.lower():
            realm = found[_DESTINATION_REALM].decode("utf-8", "replace")
            raise DiameterError(
                f"realm {realm} is not served here; {self.origin_realm} is",
                field="Destination-Realm",
                spec="RFC 6733 section 6.1",
                result_code=3003,
            )
        host = found.get(_DESTINATION_HOST, self._host)
        if host.lower() != self._host.lower():
            raise DiameterError(
                f"this is {self.origin_host}, not {host.decode('utf-8', 'replace')}",
                field="Destination-Host",
                spec="RFC 6733 section 6.1",
                result_code=3002,
            )

    def _pack_result(self, result: Result) -> tuple[bytes, str]:
        name = result_name(result.code, result.experimental)
        packed = self._results[result] = result.avp().to_bytes(), name
        return packed

    def refuse(self, raw: bytes, error: DiameterError) -> Reply:
        """Answer a request that cannot be served: Result-Code, Failed-AVP and a text for people.

        Args:
            raw: the request; its first 20 bytes must be there, the rest may be anything.
            error: why not.
        Spec:
            RFC 6733 sections 6.2, 7.1 and 7.2
        """
        _, word, application_id, hop, end = _HEADER.unpack_from(raw)
        code, flags = word & 0xFFFFFF, word >> 24
        protocol_error = 3000 <= error.result_code < 4000
        parts = [_session_id(raw)]
        if application_id == cx.CX_APPLICATION_ID and not protocol_error:
            parts.append(self._common)
        else:
            parts.append(self._origin)
        parts.append(Avp.of("Result-Code", error.result_code).to_bytes())
        if error.failed_avp:
            parts.append(Avp(_FAILED_AVP, error.failed_avp, 0, AVP_MANDATORY).to_bytes())
        parts.append(Avp.of("Error-Message", str(error)).to_bytes())
        if code == Command.MULTIMEDIA_AUTH:
            parts.append(_copies(raw, USER_NAME, PUBLIC_IDENTITY))
        parts.append(_copies(raw, _PROXY_INFO))
        body = b"".join(parts)
        answer_flags = (flags & FLAG_PROXIABLE) | (FLAG_ERROR if protocol_error else 0)
        header = _HEADER.pack(0x01000000 | HEADER_SIZE + len(body), answer_flags << 24 | code, application_id, hop, end)
        name = result_name(error.result_code)
        return header + body, f"{command_name(code, True)} -> {name}: {error}"


def _identities(found: dict[int, bytes], single: bool, raw: bytes) -> tuple[bytes, ...]:
    """Collect the Public-Identity AVPs of a request, of which a SAR may have several."""
    if single:
        return (found[PUBLIC_IDENTITY],) if PUBLIC_IDENTITY in found else ()
    avps = parse_avps(raw, HEADER_SIZE)
    return tuple(avp.raw for avp in avps if avp.code | avp.vendor << 32 == PUBLIC_IDENTITY)


def _session_id(raw: bytes) -> bytes:
    """Take Session-Id, which must come first, out of a request that may be broken further on."""
    if len(raw) < 28 or raw[20:24] != b"\0\0\1\x07" or raw[24] & 0x80:
        return b""
    size = int.from_bytes(raw[25:28], "big")
    stop = 20 + size
    if size < 8 or stop > len(raw):
        return b""
    return raw[20:stop] + _PAD[size & 3]


def _copies(raw: bytes, *keys: int) -> bytes:
    """Copy AVPs of a request as they are; nothing when the request cannot be read."""
    try:
        avps = parse_avps(raw, HEADER_SIZE)
    except DiameterError:
        return b""
    return b"".join([avp.to_bytes() for avp in avps if avp.code | avp.vendor << 32 in keys])
