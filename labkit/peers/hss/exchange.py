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
    FLAG_REQUEST,
    HEADER_SIZE,
    TGPP_VENDOR,
    Avp,
    avp_key,
    command_name,
    parse_avps,
    result_name,
)

_HEADER = struct.Struct("!IIIII")
_DESTINATION_REALM: Final = avp_key("Destination-Realm")
_DESTINATION_HOST: Final = avp_key("Destination-Host")
_FAILED_AVP: Final = avp_key("Failed-AVP")
_PROXY_INFO: Final = avp_key("Proxy-Info")
_SUPPORTED_FEATURES: Final = avp_key("Supported-Features")
_PROXIABLE_WORD: Final = FLAG_PROXIABLE << 24
_USUAL_WORDS: Final = frozenset((FLAG_REQUEST | FLAG_PROXIABLE) << 24 | code for code in CX_COMMANDS)
"""Flags and command code of the requests that need no look at their header."""
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
        self._handlers: dict[int, Callable[[dict[int, bytes], tuple[bytes, ...]], Outcome]] = {
            int(Command.USER_AUTHORIZATION): application.uar,
            int(Command.MULTIMEDIA_AUTH): application.mar,
            int(Command.LOCATION_INFO): application.lir,
            int(Command.SERVER_ASSIGNMENT): application.sar,
        }

    def answer(self, raw: bytes, describe: bool = True) -> Reply:
        """Answer one request; whatever it holds, an answer comes out.

        Args:
            raw: one whole message with the R flag, 20 bytes or more.
            describe: False leaves the text for the log empty where all went well.
        """
        _, word, application_id, hop, end = _HEADER.unpack_from(raw)
        code = word & 0xFFFFFF
        try:
            if word not in _USUAL_WORDS or application_id != cx.CX_APPLICATION_ID:
                check_header(code, application_id, word >> 24)
            found, session, usual = self._reader.read(code, raw)
            if found[_DESTINATION_REALM] != self._realm or _DESTINATION_HOST in found:
                self._check_destination(found)
            result, extra = self._handlers[code](found, ()) if usual else self._serve_unusual(code, raw, found)
        except DiameterError as error:
            return self.refuse(raw, error)
        fixed, name = self._results.get(result) or self._prepare(result)
        size = HEADER_SIZE + len(session) + len(fixed) + len(extra)
        header = _HEADER.pack(0x01000000 | size, word & _PROXIABLE_WORD | code, application_id, hop, end)
        answer = b"".join((header, session, fixed, extra))
        if not describe:
            return answer, ""
        who = found.get(PUBLIC_IDENTITY) or found.get(USER_NAME) or b""
        return answer, f"{command_name(code, True)} {who.decode('utf-8', 'replace')} -> {name}"

    def _serve_unusual(self, code: int, raw: bytes, found: dict[int, bytes]) -> Outcome:
        """Serve a request that holds something twice, or asks for more than its command does."""
        result, extra = self._refuse_features(raw) or self._handlers[code](found, _identities(raw))
        return result, extra + self._features(raw) + _copies(raw, _PROXY_INFO)  # in their order, RFC 6733 section 6.2

    def _prepare(self, result: Result) -> tuple[bytes, str]:
        """Make what all answers with a result have in common: the AVPs between Session-Id and their own, and a name."""
        name = result_name(result.code, result.experimental)
        prepared = self._results[result] = self._common + result.avp().to_bytes(), name
        return prepared

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

    def _refuse_features(self, raw: bytes) -> Outcome | None:
        """Refuse a request that cannot do without a feature: this HSS has none (TS 29.229 section 7.2.1)."""
        wanted = [avp for avp in parse_avps(raw, HEADER_SIZE) if _key(avp) == _SUPPORTED_FEATURES]
        if any(avp.flags & AVP_MANDATORY and _feature_bits(avp) for avp in wanted):
            return cx.FEATURE_UNSUPPORTED, b""
        return None

    def _features(self, raw: bytes) -> bytes:
        """Say of each feature list that a request names that nothing of it is supported."""
        named = [avp for avp in parse_avps(raw, HEADER_SIZE) if _key(avp) == _SUPPORTED_FEATURES]
        lists = [avp.find("Feature-List-ID", TGPP_VENDOR) for avp in named]
        return b"".join(
            Avp.of(
                "Supported-Features",
                [Avp.of("Vendor-Id", TGPP_VENDOR), number, Avp.of("Feature-List", 0)],
            ).to_bytes()
            for number in lists
            if number is not None
        )

    def refuse(self, raw: bytes, error: DiameterError) -> Reply:
        """Answer a request that cannot be served: Result-Code, Failed-AVP and a text for people.

        Args:
            raw: the request; its first 20 bytes must be there, the rest may be anything.
            error: why not.
        Spec:
            RFC 6733 sections 6.2, 7.1 and 7.2
        """
        failed = Avp(_FAILED_AVP, error.failed_avp, 0, AVP_MANDATORY).to_bytes() if error.failed_avp else b""
        return self.decline(raw, Result(error.result_code), str(error), failed)

    def decline(self, raw: bytes, result: Result, why: str, failed: bytes = b"") -> Reply:
        """Answer a request with a result alone.

        Args:
            raw: the request; its first 20 bytes must be there, the rest may be anything.
            result: a plain 3xxx sets the E flag, and such an answer carries nothing of Cx.
            why: text for people, in Error-Message.
            failed: the Failed-AVP, header and all.
        """
        _, word, application_id, hop, end = _HEADER.unpack_from(raw)
        code, flags = word & 0xFFFFFF, word >> 24
        protocol_error = not result.experimental and 3000 <= result.code < 4000
        of_cx = application_id == cx.CX_APPLICATION_ID and not protocol_error
        parts = [_session_id(raw), self._common if of_cx else self._origin, result.avp().to_bytes(), failed]
        parts.append(Avp.of("Error-Message", why).to_bytes())
        if code == Command.MULTIMEDIA_AUTH:
            parts.append(_copies(raw, USER_NAME, PUBLIC_IDENTITY))
        parts.append(_copies(raw, _PROXY_INFO))
        body = b"".join(parts)
        answer_flags = (flags & FLAG_PROXIABLE) | (FLAG_ERROR if protocol_error else 0)
        header = _HEADER.pack(0x01000000 | HEADER_SIZE + len(body), answer_flags << 24 | code, application_id, hop, end)
        name = result_name(result.code, result.experimental)
        return header + body, f"{command_name(code, True)} -> {name}: {why}"


def _identities(raw: bytes) -> tuple[bytes, ...]:
    """Collect the Public-Identity AVPs of a request, of which a SAR may have several."""
    return tuple(avp.raw for avp in parse_avps(raw, HEADER_SIZE) if _key(avp) == PUBLIC_IDENTITY)


def _key(avp: Avp) -> int:
    return avp.code | avp.vendor << 32


def _feature_bits(avp: Avp) -> int:
    listed = avp.find("Feature-List", TGPP_VENDOR)
    return 0 if listed is None else int(listed.value)


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
    return b"".join([avp.to_bytes() for avp in avps if _key(avp) in keys])
