"""Registering a phone in IMS: REGISTER, challenge, proof, and what the network gives back (TS 24.229 section 5.1.1)."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass

from labkit.errors import AkaError, SipError
from labkit.peers.agent import Agent
from labkit.peers.credentials import Credentials, Reply
from labkit.peers.failure import refused
from labkit.wire.sip import SipMessage, parse_address, parse_message

MAX_ROUNDS = 5
"""REGISTERs in one registration: the first, a resynchronisation, the answer, and a little more; then it is a loop."""


MAX_INVALID = 2
"""Challenges without a valid proof, one after another, to which a phone answers (TS 24.229 section 5.1.1.5.3)."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registrar has granted."""

    expires_s: int = 0
    """How long the registration lasts, counted from its 200."""
    service_route: tuple[str, ...] = ()
    """Route headers for requests of ours: through the P-CSCF to our S-CSCF (RFC 3608)."""
    associated_uris: tuple[str, ...] = ()
    """All public identities that were registered together (P-Associated-URI, RFC 7315 section 4.1)."""
    path: tuple[str, ...] = ()
    """How requests to us come: through which proxies (RFC 3327)."""


class Registration:
    """The REGISTER procedure of one phone: one Call-ID for its whole life, CSeq counting on."""

    def __init__(
        self,
        agent: Agent,
        credentials: Credentials,
        public_identity: str,
        contact_user: str,
        answer_delay_s: float,
        features: tuple[str, ...] = (),
    ) -> None:
        self._answer_delay_s = answer_delay_s
        self._agent = agent
        self._credentials = credentials
        self._identity = public_identity
        self._contact_user = contact_user
        self._features = "".join(f";{feature}" for feature in features)
        self._uri = f"sip:{credentials.realm}"
        self._call_id = secrets.token_hex(10)
        self._cseq = 0
        self._accepted: tuple[SipMessage, int] | None = None
        self._granted: Registered | None = None
        self.busy = False
        """Whether a REGISTER is under way."""

    async def register(self, expires_s: int) -> SipMessage:
        """Register for so many seconds (0 takes the registration back), and return the final response.

        Raises:
            CallFailed: the network refused, gave no answer, or could not prove itself.
        """
        self.busy = True
        try:
            return await self._register(expires_s)
        finally:
            self.busy = False

    async def _register(self, expires_s: int) -> SipMessage:
        tag = os.urandom(4).hex()
        proof = self._credentials.again("REGISTER", self._uri) or self._credentials.blank(self._uri)
        headers = {"Authorization": proof}
        proven: set[str] = set()
        reply: Reply | None = None
        invalid = 0
        for _ in range(MAX_ROUNDS):
            raw, branch = self._write(tag, expires_s, headers)
            where = self._agent.proxy or self._agent.next_hop(self._uri, ())
            response = await self._agent.request(raw, branch, "REGISTER", where)
            if response.status < 300:
                self._take(response, expires_s)
                return response
            if response.status == 423 and (shortest := _number(response.header("min-expires"))) > expires_s > 0:
                expires_s = shortest
                continue
            if response.status not in (401, 407):
                break
            header, reply = self._prove(raw, response)
            if (header in proven and not _is_stale(response)) or invalid == MAX_INVALID:
                break
            headers[header] = reply.header
            invalid = 0 if reply.kind == "answer" else invalid + 1
            if reply.kind == "answer" and not reply.by_sim:
                # a wrong password stays wrong; a SIM that has checked the network's proof answers each new challenge
                proven.add(header)
            if self._answer_delay_s > 0:
                await asyncio.sleep(self._answer_delay_s)
        self._credentials.forget()
        raise refused(parse_message(raw), response, _hint(reply))

    def _prove(self, raw: bytes, response: SipMessage) -> tuple[str, Reply]:
        """Answer the challenge of a 401 (407): the name of the header that carries the answer, and the answer."""
        ours, theirs = ("Authorization", "WWW-Authenticate")
        if response.status == 407:
            ours, theirs = ("Proxy-Authorization", "Proxy-Authenticate")
        challenge = response.header(theirs)
        if challenge is None:
            raise refused(parse_message(raw), response, f"It has no {theirs}, so there is nothing to answer.")
        try:
            reply = self._credentials.reply(challenge, "REGISTER", self._uri)
        except AkaError as error:
            raise refused(parse_message(raw), response, f"The phone cannot answer that: {error}.") from error
        return ours, reply

    def _write(self, tag: str, expires_s: int, headers: dict[str, str]) -> tuple[bytes, str]:
        self._cseq += 1
        branch = self._agent.new_branch()
        raw = self._agent.compose(
            "REGISTER",
            self._uri,
            from_=f"<{self._identity}>;tag={tag}",
            to=f"<{self._identity}>",
            call_id=self._call_id,
            cseq=self._cseq,
            branch=branch,
            headers=[
                f"Contact: <{self._agent.contact(self._contact_user)}>{self._features};expires={expires_s}",
                f"Expires: {expires_s}",
                "Supported: path",
                *[f"{name}: {value}" for name, value in headers.items()],
            ],
        )
        return raw, branch

    @property
    def active(self) -> bool:
        """Whether the last REGISTER was accepted and did not take the registration back."""
        return self._accepted is not None

    @property
    def granted(self) -> Registered:
        """What the last 200 gave; empty when not registered."""
        if self._accepted is None:
            return Registered()
        if self._granted is None:
            response, asked_s = self._accepted
            self._granted = Registered(
                expires_s=self._granted_s(response, asked_s),
                service_route=response.all("service-route"),
                associated_uris=tuple(_uri(value) for value in response.all("p-associated-uri")),
                path=response.all("path"),
            )
        return self._granted

    def lose(self) -> None:
        """The network has ended the registration: forget what it gave (TS 24.229 section 5.1.1.7)."""
        self._accepted = self._granted = None
        self._credentials.forget()

    def _take(self, response: SipMessage, asked_s: int) -> None:
        self._granted = None
        self._accepted = (response, asked_s) if asked_s else None
        if not asked_s:
            self._credentials.forget()

    def _granted_s(self, response: SipMessage, asked_s: int) -> int:
        """The expires of our own Contact, else Expires, else what was asked for (RFC 3261 section 10.2.4)."""
        ours = self._agent.contact(self._contact_user)
        for value in response.all("contact"):
            if ours in value:
                return _number(parse_address(value).param("expires")) or asked_s
        return _number(response.header("expires")) or asked_s


def _hint(reply: Reply | None) -> str:
    if reply is None:
        return ""
    if reply.kind == "refusal":
        return f"The phone had found the network's proof wrong: {reply.why}."
    if reply.kind == "resync":
        return "The phone had asked for a resynchronisation of SQN (AUTS)."
    return "The phone had answered the challenge: is its secret (K and OPc, or the password) the one that the HSS has?"


def _is_stale(response: SipMessage) -> bool:
    challenge = response.header("www-authenticate") or response.header("proxy-authenticate") or ""
    return "stale=true" in challenge.lower().replace(" ", "").replace('"', "")


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 11 else 0


def _uri(value: str) -> str:
    try:
        return parse_address(value).uri
    except SipError:
        return value
