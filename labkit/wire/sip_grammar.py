"""The parts that SIP headers are made of: names, lists, parameters, URIs, addresses, Via (RFC 3261 section 25.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from labkit.errors import SipError

# RFC 3261 section 25.1: token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~")
TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_PARAM_NAME = re.compile(r"[;\s]*([^;=\s]+)\s*")

# RFC 3261 section 7.3.3 and the registry of SIP header fields: the compact form of a name.
COMPACT_NAMES: Final[dict[str, str]] = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

# Headers whose grammar is a comma separated list, so that one line may hold several values (RFC 3261 section 7.3.1).
_LIST_SPELLINGS = (
    "Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events Call-Info Contact "
    "Content-Encoding Content-Language Error-Info History-Info In-Reply-To P-Asserted-Identity P-Associated-URI "
    "P-Preferred-Identity P-Visited-Network-ID Path Proxy-Require Reason Record-Route Recv-Info Reject-Contact "
    "Request-Disposition Require Route Security-Client Security-Server Security-Verify Service-Route Supported "
    "Unsupported Via Warning"
)
_OTHER_SPELLINGS = (
    "Authentication-Info Authorization Call-ID Content-Disposition Content-Length Content-Type CSeq Date Diversion "
    "Event Expires From Info-Package Max-Forwards MIME-Version Min-Expires Min-SE Organization P-Access-Network-Info "
    "P-Called-Party-ID P-Charging-Vector P-Charging-Function-Addresses P-Served-User Priority Privacy "
    "Proxy-Authenticate Proxy-Authorization RAck Refer-To Replaces Reply-To Retry-After RSeq Server Session-Expires "
    "SIP-ETag SIP-If-Match Subject Subscription-State Timestamp To User-Agent WWW-Authenticate"
)
LIST_HEADERS: Final = frozenset(_LIST_SPELLINGS.lower().split())

# Spellings that are met every day, each to its key; anything else takes the slower road of `header_key`.
KNOWN_KEYS: Final[dict[str, str]] = {
    spelling: name.lower()
    for name in f"{_LIST_SPELLINGS} {_OTHER_SPELLINGS}".split()
    for spelling in (name, name.lower(), name.upper())
}
KNOWN_KEYS.update(COMPACT_NAMES)


def header_key(name: str) -> str:
    """Name a header the one way in which it is compared: long form, lower case ("v" -> "via")."""
    known = KNOWN_KEYS.get(name)
    if known is not None:
        return known
    lower = name.lower()
    return COMPACT_NAMES.get(lower, lower)


@dataclass(frozen=True, slots=True)
class SipUri:
    """A URI of a phone, a server or a number: sip:, sips: or tel: (RFC 3261 section 19.1, RFC 3966)."""

    scheme: str
    """"sip", "sips", "tel" or whatever else was written, in lower case."""
    user: str
    """User part as written (escapes kept); for tel: the number; empty when absent."""
    host: str
    """Host name or address; an IPv6 address without its brackets; empty for tel:."""
    port: int | None
    """Port, None when the URI names none."""
    params: tuple[tuple[str, str | None], ...]
    """Parameters in order; a parameter without "=" has the value None."""
    headers: str
    """What stands after "?", as written."""
    text: str
    """The whole URI as it was written."""

    def param(self, name: str) -> str | None:
        """The value of a parameter, "" when it stands alone, None when it is absent."""
        return find_param(self.params, name)


@dataclass(frozen=True, slots=True)
class Address:
    """A name-addr or addr-spec with its header parameters, as in From, To, Contact, Route (RFC 3261 section 20.10)."""

    display: str
    """Display name without its quotes; empty when absent."""
    uri: str
    """The URI as written."""
    params: tuple[tuple[str, str | None], ...]
    """Header parameters (tag, expires, q, ...) in order."""

    def param(self, name: str) -> str | None:
        """The value of a header parameter, "" when it stands alone, None when it is absent."""
        return find_param(self.params, name)


@dataclass(frozen=True, slots=True)
class Via:
    """One hop that a request took (RFC 3261 section 20.42)."""

    transport: str
    """"UDP", "TCP", "TLS", ... in upper case."""
    host: str
    """Sent-by host; an IPv6 address without its brackets."""
    port: int | None
    """Sent-by port, None when not written (then 5060, or 5061 for TLS)."""
    params: tuple[tuple[str, str | None], ...]
    """branch, received, rport and others, in order."""

    def param(self, name: str) -> str | None:
        """The value of a parameter, "" when it stands alone, None when it is absent."""
        return find_param(self.params, name)


def split_list(value: str) -> tuple[str, ...]:
    """Split a header value at its commas, not at those inside quotes or angle brackets (RFC 3261 section 7.3.1)."""
    if "," not in value:
        return (value,) if value else ()
    items: list[str] = []
    start, depth, quoted, escaped = 0, 0, False, False
    for position, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character == "<":
            depth = 1
        elif character == ">":
            depth = 0
        elif character == "," and not depth:
            items.append(value[start:position].strip())
            start = position + 1
    items.append(value[start:].strip())
    return tuple(item for item in items if item)


def parse_params(text: str) -> tuple[tuple[str, str | None], ...]:
    """Read `a=1;b;c="x;y"` into pairs in order; a name without "=" gets None, quotes around a value are taken off."""
    if not text:
        return ()
    if '"' not in text:
        pairs = (piece.partition("=") for piece in text.split(";"))
        return tuple((name.strip(), value.strip() if equals else None) for name, equals, value in pairs if name.strip())
    params: list[tuple[str, str | None]] = []
    position = 0
    while match := _PARAM_NAME.match(text, position):
        position = match.end()
        value: str | None = None
        if text[position : position + 1] == "=":
            value, position = _param_value(text, position + 1)
        params.append((match[1], value))
        if position < len(text) and text[position] not in "; \t":
            position += 1
    return tuple(params)


def _param_value(text: str, start: int) -> tuple[str, int]:
    while text[start : start + 1] in (" ", "\t"):
        start += 1
    if text[start : start + 1] != '"':
        end = text.find(";", start)
        end = len(text) if end < 0 else end
        return text[start:end].strip(), end
    end = start + 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    return re.sub(r"\\(.)", r"\1", text[start + 1 : end]), min(end + 1, len(text))


def find_param(params: Iterable[tuple[str, str | None]], name: str) -> str | None:
    """Return the first parameter of that name in any letter case: "" when it stands alone, None when absent."""
    for written, value in params:
        if written == name or written.lower() == name:
            return "" if value is None else value
    return None


def parse_address(value: str) -> Address:
    """Read a name-addr or addr-spec: `"Bob" <sip:bob@b>;tag=1`, `<sip:bob@b>`, `sip:bob@b;tag=1`.

    Raises:
        SipError: a quote or an angle bracket is not closed, or there is no URI.
    """
    display, rest = "", value.strip()
    if rest[:1] == '"':
        display, end = _param_value(rest, 0)
        if rest[end - 1] != '"' or end < 2:
            raise SipError(f"The quote of a display name does not end: {value[:60]!r}", spec="RFC 3261 section 20.10")
        rest = rest[end:].lstrip()
    opened = rest.find("<")
    if opened < 0:
        uri, _, tail = rest.partition(";")
        if display or not uri.strip():
            raise SipError(f"No URI in {value[:60]!r}", spec="RFC 3261 section 20.10")
        return Address("", uri.strip(), parse_params(tail))
    closed = rest.find(">", opened)
    if closed < 0:
        raise SipError(f"The angle bracket of a URI is not closed: {value[:60]!r}", spec="RFC 3261 section 20.10")
    return Address(
        display or rest[:opened].strip(),
        rest[opened + 1 : closed].strip(),
        parse_params(rest[closed + 1 :].lstrip(" \t;")),
    )


def parse_uri(text: str) -> SipUri:
    """Read a sip:, sips: or tel: URI; other schemes give scheme and text only.

    Raises:
        SipError: no scheme, no host, or a port that is no port.
    """
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon or not scheme.isascii() or not TOKEN.fullmatch(scheme):
        raise SipError(f"A URI without a scheme: {text[:60]!r}", field="URI", spec="RFC 3261 section 19.1")
    if scheme == "tel":
        number, _, params = rest.partition(";")
        return SipUri(scheme, number, "", None, parse_params(params), "", text)
    if scheme not in ("sip", "sips"):
        return SipUri(scheme, "", "", None, (), "", text)
    # userinfo may hold ";" and "?", so it is cut off first (torture message "semiuri", RFC 4475 section 3.1.1.9)
    user, at, hostpart = rest.rpartition("@") if "?" not in rest else _cut_user(rest)
    hostpart, _, headers = hostpart.partition("?")
    hostport, _, params = hostpart.partition(";")
    host, port = parse_host_port(hostport)
    if not host:
        raise SipError(f"A URI without a host: {text[:60]!r}", field="URI", spec="RFC 3261 section 19.1")
    return SipUri(scheme, user.partition(":")[0] if at else "", host, port, parse_params(params), headers, text)


def _cut_user(rest: str) -> tuple[str, str, str]:
    return rest.partition("@") if "@" in rest else ("", "", rest)


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Read `host`, `host:port`, `[v6]` or `[v6]:port`; the brackets are taken off.

    Raises:
        SipError: the port is none.
    """
    host, port = text.strip(), ""
    if host[:1] == "[":
        host, _, port = host[1:].partition("]")
        port = port.lstrip(" \t:")
    elif ":" in host:
        host, _, port = host.partition(":")
    host, port = host.rstrip(), port.strip()
    if not port:
        return host, None
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise SipError(f"Not a port: {port[:20]!r} in {text[:60]!r}", field="port", spec="RFC 3261 section 19.1.1")
    return host, int(port)


def parse_via(value: str) -> Via:
    """Read one Via value, for example `SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1;rport`.

    Raises:
        SipError: protocol, transport or sent-by are missing.
    """
    head, _, params = value.partition(";")
    protocol, _, rest = head.partition("/")
    version, _, rest = rest.partition("/")
    pieces = rest.split(None, 1)
    if protocol.strip().upper() != "SIP" or not version.strip() or len(pieces) != 2:
        raise SipError(f"Not a Via: {value[:60]!r}", field="Via", spec="RFC 3261 section 20.42")
    host, port = parse_host_port(pieces[1])
    return Via(pieces[0].upper(), host, port, parse_params(params))
