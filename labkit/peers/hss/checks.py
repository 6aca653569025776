"""Is a request well-formed? What RFC 6733 section 7.1 wants checked before a request is looked into.

The common case is settled by comparing headers, or by a few set operations on what `scan_avps` found; anything unusual
is parsed in full and either turns out to be allowed, or is named in a `DiameterError` with its Result-Code and
Failed-AVP.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from labkit.errors import DiameterError
from labkit.wire.cx import CX_APPLICATION_ID, Command
from labkit.wire.diameter import (
    AVP_MANDATORY,
    AVP_RESERVED,
    AVP_VENDOR,
    FLAG_ERROR,
    Avp,
    avp_key,
    avp_name,
    command_name,
    parse_avps,
    scan_avps,
)
from labkit.wire.diameter_names import AVPS

_COMMON = (
    "Session-Id",
    "Vendor-Specific-Application-Id",
    "Auth-Session-State",
    "Origin-Host",
    "Origin-Realm",
    "Destination-Realm",
)

_REQUIRED_NAMES: Final[dict[int, tuple[str, ...]]] = {
    Command.USER_AUTHORIZATION: (*_COMMON, "User-Name", "Public-Identity", "Visited-Network-Identifier"),
    Command.SERVER_ASSIGNMENT: (
        *_COMMON,
        "Server-Name",
        "Server-Assignment-Type",
        "User-Data-Already-Available",
    ),
    Command.LOCATION_INFO: (*_COMMON, "Public-Identity"),
    Command.MULTIMEDIA_AUTH: (
        *_COMMON,
        "User-Name",
        "Public-Identity",
        "SIP-Number-Auth-Items",
        "SIP-Auth-Data-Item",
        "Server-Name",
    ),
    # RFC 6733 wants Host-IP-Address, Vendor-Id and Product-Name too; Kamailio's cdp leaves out the first.
    Command.CAPABILITIES_EXCHANGE: ("Origin-Host", "Origin-Realm"),
    Command.DEVICE_WATCHDOG: ("Origin-Host", "Origin-Realm"),
    Command.DISCONNECT_PEER: ("Origin-Host", "Origin-Realm", "Disconnect-Cause"),
}
"""What a request must carry (TS 29.229 section 6.1, RFC 6733 section 5)."""

_REQUIRED: Final = {int(code): tuple(avp_key(name) for name in names) for code, names in _REQUIRED_NAMES.items()}
SESSION_ID: Final = avp_key("Session-Id")
_SESSION_ID_HEAD: Final = b"\0\0\1\x07\x40"
_COMMON_KEYS: Final = frozenset(avp_key(name) for name in (*_COMMON[1:], "Destination-Host"))
_REQUIRED_SETS: Final = {code: frozenset(keys) for code, keys in _REQUIRED.items()}

_MANY: Final = frozenset(
    avp_key(name)
    for name in (
        "Proxy-Info",
        "Route-Record",
        "Supported-Features",
        "Supported-Vendor-Id",
        "Vendor-Specific-Application-Id",
        "Auth-Application-Id",
        "Acct-Application-Id",
        "Inband-Security-Id",
        "Host-IP-Address",
        "Public-Identity",
        "Class",
    )
)
"""AVPs that may stand more than once."""

_ONE_IDENTITY: Final = frozenset({Command.USER_AUTHORIZATION, Command.MULTIMEDIA_AUTH, Command.LOCATION_INFO})
_PUBLIC_IDENTITY: Final = avp_key("Public-Identity")
CX_COMMANDS: Final = frozenset(
    {
        int(Command.USER_AUTHORIZATION),
        int(Command.SERVER_ASSIGNMENT),
        int(Command.LOCATION_INFO),
        int(Command.MULTIMEDIA_AUTH),
    }
)
"""Cx requests that an HSS serves."""

_KNOWN: Final = frozenset(code | vendor << 32 for code, vendor in AVPS)
_ASKING_MORE: Final = frozenset({avp_key("Proxy-Info"), avp_key("Supported-Features")})
"""AVPs that want something in the answer, whatever the command is."""
_USUAL: Final = _KNOWN - _ASKING_MORE
_AVP_HEAD = struct.Struct("!II")
_MAX_LAYOUTS: Final = 256
"""Layouts remembered on one connection; there are as many as commands and lengths of names."""

_SIZES: Final = {
    code | vendor << 32: {"Unsigned32": 4, "Enumerated": 4, "Unsigned64": 8}[entry.kind]
    for (code, vendor), entry in AVPS.items()
    if entry.kind in ("Unsigned32", "Enumerated", "Unsigned64")
}


def check_header(code: int, application_id: int, flags: int) -> None:
    """Refuse a request whose header this node cannot serve.

    Raises:
        DiameterError: 3008 for the E flag on a request, 3007 for an application that is not Cx, 3001 for a command
            that an HSS does not serve.
    Spec:
        RFC 6733 sections 3, 6.1 and 7.1.3
    """
    if flags & FLAG_ERROR:
        raise DiameterError(
            "the E flag is set on a request", offset=4, field="flags", spec="RFC 6733 section 3", result_code=3008
        )
    base = code in (Command.CAPABILITIES_EXCHANGE, Command.DEVICE_WATCHDOG, Command.DISCONNECT_PEER)
    if application_id != CX_APPLICATION_ID and not (base or application_id == 0):
        raise DiameterError(
            f"application {application_id} is not served here; {CX_APPLICATION_ID} (Cx) is",
            offset=8,
            field="Application-Id",
            spec="RFC 6733 section 7.1.3",
            result_code=3007,
        )
    if code not in _REQUIRED or (base and application_id != 0) or (not base and application_id == 0):
        raise DiameterError(
            f"command {command_name(code, True)} is not served here",
            offset=5,
            field="Command Code",
            spec="RFC 6733 section 7.1.3",
            result_code=3001,
        )


Read = tuple[dict[int, bytes], bytes, bool]
"""What a request holds: payload by `avp_key`, the last where an AVP stands more than once, Session-Id not always; the
Session-Id AVP as it belongs into the answer, with header and padding; and True when each AVP stands once and none of
them asks for more than its command does (`_ASKING_MORE`)."""


class _Layout(NamedTuple):
    """Where the AVPs stand behind the common ones, in a request of one command and size."""

    unpack: Callable[[bytes, int], tuple[bytes, ...]]
    """Cuts header, payload, header, payload, ... in one go."""
    headers: tuple[bytes, ...]
    """The headers, lengths included, without which the layout is another one."""
    keys: tuple[int, ...]
    """`avp_key` of each AVP."""


class RequestReader:
    """Reads the requests of one connection, and refuses what the RFC refuses.

    Two things that a CSCF repeats make this quick. Behind the Session-Id of every request stand the same AVPs: its own
    name, the realm, the application; their bytes and what they mean are remembered. And what follows stands at the
    same places in every request of that command and size; whether it does, the AVPs' headers tell at one glance.
    Anything else is read AVP by AVP, and whatever is not usual is looked at in full.
    """

    def __init__(self) -> None:
        self._block = b""
        self._block_found: dict[int, bytes] = {}
        self._layouts: dict[int, _Layout] = {}

    def read(self, code: int, raw: bytes) -> Read:
        """Read the AVPs of a request.

        Args:
            code: command code, one that `check_header` let pass.
            raw: the whole message.
        Raises:
            DiameterError: 5014 wrong length, 3009 unknown AVP flags, 5001 unknown mandatory AVP, 5009 too many, 5005
                missing; each with the Failed-AVP.
        """
        if len(raw) >= 28 and self._block:
            session_code, word = _AVP_HEAD.unpack_from(raw, 20)
            body = 20 + (word & 0xFFFFFF) + 3 & ~3
            at = body + len(self._block)
            layout = self._layouts.get(code << 24 | len(raw) - at)
            if layout and session_code == SESSION_ID and word >> 24 == AVP_MANDATORY:
                unpack, headers, keys = layout
                parts = unpack(raw, at)
                if parts[::2] == headers and raw.startswith(self._block, body):
                    found = self._block_found.copy()
                    found.update(zip(keys, parts[1::2], strict=False))  # they are as many; asking again takes time
                    return found, raw[20:body], True
        return self._read_all(code, raw)

    def _read_all(self, code: int, raw: bytes) -> Read:
        found, count, flags = scan_avps(raw)
        clean = count == len(found) and not flags & AVP_RESERVED
        session = Avp(SESSION_ID, found.get(SESSION_ID, b""), 0, AVP_MANDATORY).to_bytes()
        if not (clean and found.keys() >= _REQUIRED_SETS[code] and found.keys() <= _USUAL):
            _check_in_full(code, raw)
            return found, session, clean and found.keys() <= _USUAL
        if raw.startswith(_SESSION_ID_HEAD, 20):
            self._learn(code, raw, 20 + len(session))
        return found, session, True

    def _learn(self, code: int, raw: bytes, body: int) -> None:
        """Remember how a request looks that was read in full and found right; `body` is where Session-Id has ended."""
        avps = parse_avps(raw, body)
        common = list(itertools.takewhile(lambda avp: _key(avp) in _COMMON_KEYS, avps))
        start = body + sum(avp.size_bytes + 3 & ~3 for avp in common)
        if raw[body:start] != self._block:
            self._block = raw[body:start]
            self._block_found = {_key(avp): avp.raw for avp in common}
            self._layouts.clear()
        if len(self._layouts) >= _MAX_LAYOUTS:
            self._layouts.clear()
        shape, headers, at = "!", [], start
        for avp in avps[len(common) :]:
            head = 12 if avp.flags & AVP_VENDOR else 8
            headers.append(raw[at : at + head])
            shape += f"{head}s{len(avp.raw)}s{-len(avp.raw) % 4}x"
            at += avp.size_bytes + 3 & ~3
        if at == len(raw) and not code & ~0xFFFFFF:
            keys = tuple(_key(avp) for avp in avps[len(common) :])
            self._layouts[code << 24 | at - start] = _Layout(struct.Struct(shape).unpack_from, tuple(headers), keys)


def _key(avp: Avp) -> int:
    return avp.code | avp.vendor << 32


def _check_in_full(code: int, raw: bytes) -> None:
    seen: set[int] = set()
    for avp in parse_avps(raw, 20):
        key = avp.code | avp.vendor << 32
        if avp.flags & AVP_RESERVED:
            raise _refusal(3009, avp, "has flags that are not defined", "4.1")
        if key not in _KNOWN and avp.flags & AVP_MANDATORY:
            raise _refusal(5001, avp, "is mandatory and not known here", "4.1")
        if key in seen and (key not in _MANY or (key == _PUBLIC_IDENTITY and code in _ONE_IDENTITY)):
            raise _refusal(5009, avp, "stands more than once", "7.1.5")
        size = _SIZES.get(key)
        if size is not None and len(avp.raw) != size:
            raise wrong_size(avp.code, avp.vendor, size)
        seen.add(key)
    for key in _REQUIRED[code]:
        if key not in seen:
            raise missing(key)


def missing(key: int) -> DiameterError:
    """Say that an AVP is missing; Failed-AVP holds an example of it, zeros of the smallest size."""
    code, vendor = key & 0xFFFFFFFF, key >> 32
    flags = (0x80 if vendor else 0) | AVP_MANDATORY
    example = Avp(code, bytes(_SIZES.get(key, 0)), vendor, flags)
    return DiameterError(
        f"{avp_name(code, vendor)} is missing",
        field=avp_name(code, vendor),
        spec="RFC 6733 section 7.5",
        result_code=5005,
        failed_avp=example.to_bytes(),
    )


def wrong_size(code: int, vendor: int, size_bytes: int) -> DiameterError:
    """Say that a number has the wrong size (5014)."""
    flags = (0x80 if vendor else 0) | AVP_MANDATORY
    return DiameterError(
        f"{avp_name(code, vendor)} must have {size_bytes} bytes",
        field=avp_name(code, vendor),
        spec="RFC 6733 section 7.1.5",
        result_code=5014,
        failed_avp=Avp(code, bytes(size_bytes), vendor, flags).to_bytes(),
    )


def wrong_value(key: int, payload: bytes, why: str) -> DiameterError:
    """Say that an AVP's value cannot be served (5004)."""
    code, vendor = key & 0xFFFFFFFF, key >> 32
    flags = (0x80 if vendor else 0) | AVP_MANDATORY
    return DiameterError(
        f"{avp_name(code, vendor)} {why}",
        field=avp_name(code, vendor),
        spec="RFC 6733 section 7.1.5",
        result_code=5004,
        failed_avp=Avp(code, payload, vendor, flags).to_bytes(),
    )


def read_number(found: dict[int, bytes], key: int, default: int | None = None) -> int:
    """Read a 32 bit number.

    Raises:
        DiameterError: 5005 when it is missing and has no default, 5014 when its size is wrong.
    """
    payload = found.get(key)
    if payload is None:
        if default is None:
            raise missing(key)
        return default
    if len(payload) != 4:
        raise wrong_size(key & 0xFFFFFFFF, key >> 32, 4)
    return int.from_bytes(payload, "big")


def _refusal(result_code: int, avp: Avp, why: str, section: str) -> DiameterError:
    return DiameterError(
        f"{avp.name} {why}",
        field=avp.name,
        spec=f"RFC 6733 section {section}",
        result_code=result_code,
        failed_avp=avp.to_bytes(),
    )
