"""What a phone knows to prove who it is: a SIM with K and OPc, or a password (TS 24.229 section 5.1.1.5, RFC 3310)."""

from __future__ import annotations

import base64
import os
from typing import NamedTuple, Protocol

from labkit.errors import AkaError
from labkit.wire.aka import Milenage, answer_challenge, digest_response, parse_auth, split_nonce


class Subscription(Protocol):
    """Whose phone it is; a `Subscriber` of data/subscribers.toml is one."""

    @property
    def impi(self) -> str:
        """Private identity, for example 001010000000001@realm."""

    @property
    def impus(self) -> tuple[str, ...]:
        """Public identities; the first one is registered, the others come with it."""

    @property
    def k(self) -> bytes:
        """16 bytes, the SIM's secret key; empty for a user with a password."""

    @property
    def opc(self) -> bytes:
        """16 bytes, the operator's constant for this SIM; empty for a user with a password."""

    @property
    def password(self) -> str:
        """The secret of a user without a SIM; empty for a SIM."""


class Reply(NamedTuple):
    """What the phone says to one challenge."""

    header: str
    """Value of the Authorization header."""
    kind: str
    """One of "answer" (proves who we are), "resync" (tells our SQN, AUTS), "refusal" (the network's proof is wrong)."""
    by_sim: bool = False
    """Whether it answers AKA: then the network has proved itself, too."""
    why: str = ""
    """For a refusal: what was wrong with the challenge."""


class Challenge(NamedTuple):
    """What counts of a WWW-Authenticate (RFC 7616 section 3.3)."""

    realm: str
    """Whose passwords are asked for."""
    nonce: str
    """What is to be hashed; for AKA it holds RAND and AUTN."""
    algorithm: str
    """As written, empty when it was not."""
    qop: str
    """"auth" when that was offered, else empty."""
    opaque: str | None
    """To be sent back as it came."""


def read_challenge(text: str) -> Challenge:
    """Read the value of WWW-Authenticate or Proxy-Authenticate.

    Raises:
        AkaError: it is no digest challenge.
    """
    auth = parse_auth(text)
    found: dict[str, str] = {}
    for name, value in auth.params:
        # without its quotes; escapes stay, for it is sent back and hashed as it came (RFC 7616 section 3.4)
        found[name.lower()] = value[1:-1] if value[:1] == '"' and len(value) > 1 else value
    nonce = found.get("nonce", "")
    if auth.scheme.lower() != "digest" or not nonce:
        raise AkaError(f"No digest challenge: {text[:60]!r}", field="WWW-Authenticate", spec="RFC 7616")
    offered = found.get("qop", "").lower()
    qop = "auth" if offered == "auth" or "auth" in [one.strip() for one in offered.split(",")] else ""
    return Challenge(found.get("realm", ""), nonce, found.get("algorithm", ""), qop, found.get("opaque"))


class Credentials:
    """The secret of one phone and the memory that goes with it: SQN_MS, the last nonce and its count."""

    def __init__(self, subscription: Subscription, realm: str, sqn_ms: int = 0) -> None:
        self.username = subscription.impi
        self.realm = realm
        self.sqn_ms = sqn_ms
        """Highest SQN that this SIM has accepted; challenges must be above it (TS 33.102 annex C)."""
        self._password = subscription.password
        self._milenage = Milenage(subscription.k, subscription.opc) if subscription.k else None
        self._challenge: Challenge | None = None
        self._secret: str | bytes = b""
        self._count = 0

    def blank(self, uri: str) -> str:
        """Authorization of a first REGISTER: who we are, and no answer yet (TS 24.229 section 5.1.1.2.2)."""
        return f'Digest username="{self.username}", realm="{self.realm}", nonce="", uri="{uri}", response=""'

    def again(self, method: str, uri: str) -> str | None:
        """Authorization with the last nonce used once more, None before the first challenge (TS 24.229 5.1.1.4.2)."""
        if self._challenge is None:
            return None
        return self._respond(self._challenge, self._secret, method, uri)

    def reply(self, challenge: str, method: str, uri: str) -> Reply:
        """Answer a challenge.

        Args:
            challenge: value of WWW-Authenticate or Proxy-Authenticate.
            method: method of the request that is to be authorised.
            uri: its digest URI.
        Raises:
            AkaError: the challenge is not readable, or asks for what this phone does not have.
        """
        params = read_challenge(challenge)
        if params.algorithm.upper().startswith("AKAV1"):
            return self._reply_with_sim(params, method, uri)
        if not self._password:
            raise AkaError("The network asks for a password, and this phone has a SIM", field="algorithm")
        self._remember(params, self._password)
        return Reply(self._respond(params, self._password, method, uri), "answer")

    def _reply_with_sim(self, params: Challenge, method: str, uri: str) -> Reply:
        if self._milenage is None:
            raise AkaError("The network asks for a SIM (AKA), and this phone has a password", field="algorithm")
        try:
            rand, autn = split_nonce(params.nonce)
            answer = answer_challenge(self._milenage, rand, autn, self.sqn_ms)
        except AkaError as error:
            # no digest answer and no AUTS tell the network that the SIM did not believe it (TS 24.229 5.1.1.5.3)
            self.forget()
            return Reply(f'{self._lead(params, uri)}, nonce="{params.nonce}", response=""', "refusal", True, str(error))
        if answer.auts:
            self.forget()
            auts = base64.b64encode(answer.auts).decode()
            self._count = 0
            header = self._respond(params, b"", method, uri)
            return Reply(f'{header}, auts="{auts}"', "resync", True)
        self.sqn_ms = answer.sqn
        self._remember(params, answer.res)
        return Reply(self._respond(params, answer.res, method, uri), "answer", True)

    def forget(self) -> None:
        """Forget the last challenge, as after a restart of the phone."""
        self._challenge, self._secret, self._count = None, b"", 0

    def _remember(self, params: Challenge, secret: str | bytes) -> None:
        self._challenge, self._secret, self._count = params, secret, 0

    def _lead(self, params: Challenge, uri: str) -> str:
        return f'Digest username="{self.username}", realm="{params.realm}", uri="{uri}"'

    def _respond(self, params: Challenge, secret: str | bytes, method: str, uri: str) -> str:
        self._count += 1
        count, cnonce = f"{self._count:08x}", os.urandom(8).hex()
        response = digest_response(
            username=self.username,
            realm=params.realm,
            password=secret,
            method=method,
            uri=uri,
            nonce=params.nonce,
            qop=params.qop,
            nc=count,
            cnonce=cnonce,
            algorithm=params.algorithm or "MD5",
        )
        text = f'{self._lead(params, uri)}, nonce="{params.nonce}", response="{response}"'
        if params.algorithm:
            text += f", algorithm={params.algorithm}"
        if params.opaque is not None:
            text += f', opaque="{params.opaque}"'
        return f'{text}, qop={params.qop}, nc={count}, cnonce="{cnonce}"' if params.qop else text
