"""The SIP digest: responses to challenges, and the headers that carry both (RFC 2617, RFC 7616, RFC 3310 for AKA)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.errors import AkaError

_HASHES = {"MD5": hashlib.md5, "AKAv1-MD5": hashlib.md5, "AKAV1-MD5": hashlib.md5, "SHA-256": hashlib.sha256}


def _hasher(algorithm: str) -> Callable[[bytes], Any]:
    hasher = _HASHES.get(algorithm) or _HASHES.get(algorithm.upper().removesuffix("-SESS"))
    if hasher is None:
        known = ", ".join(["MD5", "AKAv1-MD5", "SHA-256"])
        raise AkaError(f"digest algorithm {algorithm!r} is not known; known are {known}", field="algorithm")
    return hasher


_UNQUOTED = frozenset({"algorithm", "stale", "nc"})
"""Parameters that are tokens by grammar (RFC 3261 section 25.1); qop is a token in credentials only."""


def digest_ha1(username: str, realm: str, password: str | bytes, algorithm: str = "MD5") -> str:
    """Hash user, realm and password: the HA1 that an HSS may store instead of a password, in hex."""
    secret = password.encode() if isinstance(password, str) else password
    return str(_hasher(algorithm)(f"{username}:{realm}:".encode() + secret).hexdigest())


def digest_response(
    *,
    username: str,
    realm: str,
    password: str | bytes = b"",
    ha1: str = "",
    method: str,
    uri: str,
    nonce: str,
    qop: str = "",
    nc: str = "",
    cnonce: str = "",
    algorithm: str = "MD5",
    body: bytes = b"",
) -> str:
    """Compute the `response` of a digest.

    Args:
        username: the private identity in IMS.
        password: text, or the RES bytes for AKAv1-MD5; empty when AUTS is sent (RFC 3310 section 3.4).
        ha1: hex, instead of a password.
        uri: the digest URI, as written in the credentials.
        qop: "auth", "auth-int", or empty for the form of RFC 2069.
        nc: eight hex digits, needed with qop.
        body: the message body, used by auth-int only.
    Returns:
        The response in hex.
    Raises:
        AkaError: algorithm or qop is not known.
    Spec:
        RFC 7616 section 3.4.1, RFC 3310 section 3.3
    """
    hasher = _hasher(algorithm)
    secret = ha1 or digest_ha1(username, realm, password, algorithm)
    if algorithm.upper().endswith("-SESS"):
        secret = hasher(f"{secret}:{nonce}:{cnonce}".encode()).hexdigest()
    a2 = f"{method}:{uri}"
    if qop == "auth-int":
        a2 += f":{hasher(body).hexdigest()}"
    elif qop not in ("", "auth"):
        raise AkaError(f"qop {qop!r} is not known; use auth or auth-int", field="qop", spec="RFC 7616 section 3.4")
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return str(hasher(f"{secret}:{middle}:{hasher(a2.encode()).hexdigest()}".encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class AuthParams:
    """A challenge or credentials: WWW-Authenticate, Authorization and their proxy twins (RFC 3261, 25.1)."""

    scheme: str
    """As written, usually "Digest"."""
    params: tuple[tuple[str, str], ...]
    """Name and value in the order of the header, values as written, with their quotes."""

    @classmethod
    def challenge(cls, **params: str) -> AuthParams:
        """Build a Digest challenge; values are given without quotes."""
        return cls("Digest", tuple((name, _quote(name, value)) for name, value in params.items()))

    @classmethod
    def credentials(cls, **params: str) -> AuthParams:
        """Build Digest credentials; values are given without quotes, qop becomes a token."""
        pairs = ((name, value if name == "qop" else _quote(name, value)) for name, value in params.items())
        return cls("Digest", tuple(pairs))

    def get(self, name: str) -> str | None:
        """Return a value without quotes and escapes; names match whatever their case; None when absent."""
        wanted = name.lower()
        for key, value in self.params:
            if key.lower() == wanted:
                return _unquote(value)
        return None

    def __str__(self) -> str:
        return f"{self.scheme} " + ", ".join(f"{name}={value}" for name, value in self.params)


def _quote(name: str, value: str) -> str:
    if name in _UNQUOTED:
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    inner = value[1:-1]
    if "\\" not in inner:
        return inner
    out: list[str] = []
    escaped = False
    for char in inner:
        if char == "\\" and not escaped:
            escaped = True
            continue
        out.append(char)
        escaped = False
    return "".join(out)


def _split_commas(text: str) -> list[tuple[int, str]]:
    """Split at commas outside quotes; each piece with its offset."""
    pieces: list[tuple[int, str]] = []
    start, quoted, at = 0, False, 0
    while at < len(text):
        char = text[at]
        if char == "\\" and quoted:
            at += 1
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            pieces.append((start, text[start:at]))
            start = at + 1
        at += 1
    if quoted:
        raise AkaError("a quoted value does not end", offset=start, field="params", spec="RFC 3261 section 25.1")
    pieces.append((start, text[start:]))
    return pieces


_PLAIN_PARAM = re.compile(r'(?:^|,)\s*+([A-Za-z0-9_-]++)=("[^"\\,]*+"|[^\s",\\]*+)\s*+(?=,|\Z)')
"""A parameter without escapes, and without a comma in its quotes, as nearly all are."""


def _plain_params(text: str) -> tuple[tuple[str, str], ...]:
    """Read parameters that are all plain, in one go; empty when one is not, so that the slower way has its say."""
    params = _PLAIN_PARAM.findall(text)
    return tuple(params) if len(params) == text.count(",") + 1 else ()


def parse_auth(text: str) -> AuthParams:
    """Read the value of a WWW-Authenticate or Authorization header.

    Args:
        text: the header's value, one challenge.
    Raises:
        AkaError: no scheme, or a parameter without '=', with the offset in the text.
    Spec:
        RFC 3261 section 25.1
    Example:
        >>> parse_auth('Digest realm="ims", nonce="x,y", algorithm=AKAv1-MD5').get("nonce")
        'x,y'
    """
    stripped = text.strip()
    scheme, _, rest = stripped.partition(" ")
    if scheme.isalpha() and (plain := _plain_params(rest)):
        return AuthParams(scheme, plain)
    if not scheme or "=" in scheme or "," in scheme:
        raise AkaError("no scheme before the parameters", offset=0, field="scheme", spec="RFC 3261 section 25.1")
    shift = len(scheme) + 1
    params: list[tuple[str, str]] = []
    for offset, piece in _split_commas(rest):
        name, equals, value = piece.partition("=")
        if not piece.strip():
            continue
        if not equals or not name.strip():
            raise AkaError(
                f"parameter {piece.strip()!r} has no '='",
                offset=shift + offset,
                field="params",
                spec="RFC 3261 section 25.1",
            )
        params.append((name.strip(), value.strip()))
    return AuthParams(scheme, tuple(params))
