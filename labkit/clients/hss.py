"""The HSS's admin door, typed: who is registered where, throw somebody out, change a profile.

    with HssClient("http://127.0.0.1:8380", token) as hss:
        hss.subscriber("alice").state            # "registered"
        hss.deregister("alice").result           # "DIAMETER_SUCCESS", the S-CSCF's answer to RTR

Results are frozen dataclasses of plain values, so `dataclasses.asdict` makes JSON of them. What differs from run to
run (counters, times, ports) is left out of their repr, so that a printed result is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from labkit.errors import LabkitError, StackError
from labkit.peers.hss.criteria import FilterCriterion, criterion_fields

TIMEOUT_S = 10.0
"""The HSS itself waits 3 s for an RTA; no answer of the door takes longer."""


@dataclass(frozen=True, slots=True)
class SubscriberState:
    """What the HSS knows about one subscriber."""

    name: str
    """Short name: "alice"."""
    impi: str
    """Private identity."""
    impus: tuple[str, ...]
    """Public identities of the implicit registration set."""
    state: str
    """"not_registered", "registered" or "unregistered"."""
    pending: bool
    """True between MAR and SAR: a challenge is out."""
    scscf_name: str
    """SIP URI of the S-CSCF; empty when none is stored."""
    scscf_host: str
    """Its Diameter name, where RTR and PPR go."""
    sqn: int = field(repr=False)
    """Last SQN given out."""
    provisioned: Mapping[str, Any] = field(repr=False)
    """Keys as in data/subscribers.toml."""
    profile: str = field(repr=False)
    """User-Data as XML, the way the S-CSCF gets it."""


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """What came of a request that the HSS sent: RTR or PPR."""

    command: str
    """"RTR" or "PPR"."""
    peer: str
    """Diameter name of the S-CSCF."""
    answered: bool
    """False: no answer came. Kamailio answers neither PPR nor an RTR for somebody it does not know."""
    result_code: int | None
    """Number in the answer."""
    experimental: bool
    """True: it stood in Experimental-Result."""
    result: str
    """Its name, else what happened instead: "no answer", "not connected"."""
    waited_ms: float = field(repr=False)
    """Time until then."""


@dataclass(frozen=True, slots=True)
class DiameterPeer:
    """One CSCF that is connected to the HSS."""

    host: str
    """Origin-Host."""
    realm: str
    """Origin-Realm."""
    address: str = field(repr=False)
    """Address it comes from."""
    port: int = field(repr=False)
    """Port it comes from."""
    state: str
    """"open" once capabilities were exchanged."""
    requests: int = field(repr=False)
    """Requests it has sent so far."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One thing that the HSS does wrong on purpose."""

    name: str
    """By which it is ended."""
    commands: tuple[str, ...]
    """Requests that it is about: UAR, MAR, SAR, LIR; empty is all."""
    delay_s: float
    """How long each answer is held back."""
    result: int | None
    """What is answered instead of the truth; None: the truth."""
    experimental: bool
    """True: `result` stands in Experimental-Result."""
    user: str
    """Of which subscriber something is wrong."""
    wrong: str
    """"k", "opc", "sqn-ahead" or "sqn-behind"; empty when nothing of a subscriber is."""
    left_s: float = field(repr=False)
    """It ends by itself after this time."""


class HssClient:
    """Talks to the admin door of one HSS.

    Every method raises `StackError` when the HSS cannot be reached, and `LabkitError` with the HSS's own sentence
    when it says no.
    """

    def __init__(self, base_url: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # The lab's addresses are local: a proxy of the environment must not get between.
        self._client = httpx.Client(base_url=base_url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self.base_url = base_url

    def __enter__(self) -> HssClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def subscribers(self) -> tuple[SubscriberState, ...]:
        """List all subscribers in the order of data/subscribers.toml."""
        return tuple(_subscriber(fields) for fields in self._ask("GET", "/subscribers"))

    def subscriber(self, user: str) -> SubscriberState:
        """Show one subscriber.

        Args:
            user: short name, private or public identity.
        """
        return _subscriber(self._ask("GET", _path(user)))

    def peers(self) -> tuple[DiameterPeer, ...]:
        """List the CSCFs that are connected."""
        return tuple(DiameterPeer(**fields) for fields in self._ask("GET", "/peers"))

    def deregister(
        self, user: str, *, reason: int = 0, text: str = "", identities: Sequence[str] | None = None
    ) -> RequestOutcome:
        """Throw a subscriber out: RTR to the S-CSCF that serves it; a success clears the registration as a whole.

        Args:
            user: short name, private or public identity.
            reason: Reason-Code, see `labkit.wire.cx.DeregistrationReason`.
            text: Reason-Info for people; empty leaves it out.
            identities: what stands in Public-Identity; None is all that are not barred, [] none.
        """
        wanted = {"reason": int(reason), "text": text, "identities": None if identities is None else list(identities)}
        return _outcome(self._ask("POST", _path(user, "deregister"), wanted))

    def set_profile(self, user: str, ifc: Sequence[Mapping[str, Any] | FilterCriterion]) -> SubscriberState:
        """Replace a subscriber's initial filter criteria; an S-CSCF sees them at its next SAR, or by `push_profile`.

        Args:
            user: short name, private or public identity.
            ifc: criteria, typed or as tables like `[[subscriber.ifc]]` in data/subscribers.toml.
        """
        tables = [criterion_fields(one) if isinstance(one, FilterCriterion) else dict(one) for one in ifc]
        return self.update_subscriber(user, ifc=tables)

    def push_profile(self, user: str) -> RequestOutcome:
        """Send the profile to the S-CSCF that serves the subscriber: PPR."""
        return _outcome(self._ask("POST", _path(user, "push")))

    def add_subscriber(self, **fields: Any) -> SubscriberState:
        """Add a subscriber; keys as in data/subscribers.toml."""
        return _subscriber(self._ask("POST", "/subscribers", fields))

    def update_subscriber(self, user: str, **fields: Any) -> SubscriberState:
        """Change some keys of a subscriber, for example `barred=True` or `visited_networks=[]`."""
        return _subscriber(self._ask("PATCH", _path(user), fields))

    def remove_subscriber(self, user: str) -> None:
        """Take a subscriber out."""
        self._ask("DELETE", _path(user))

    def restore_subscriber(self, user: str) -> SubscriberState:
        """Make what is provisioned as in data/subscribers.toml again: profile, secret, all; the registration stays."""
        return _subscriber(self._ask("POST", _path(user, "restore")))

    def assign(self, user: str, scscf_name: str, *, scscf_host: str = "", state: str = "registered") -> SubscriberState:
        """Set by hand which S-CSCF serves a subscriber; nobody is told.

        Args:
            user: short name, private or public identity.
            scscf_name: SIP URI that UAA and LIA name.
            scscf_host: Diameter name where RTR and PPR go; empty when there will be none.
            state: "registered" or "unregistered".
        """
        wanted = {"state": state, "scscf_name": scscf_name, "scscf_host": scscf_host}
        return _subscriber(self._ask("POST", _path(user, "assign"), wanted))

    def reset_subscriber(self, user: str) -> SubscriberState:
        """Make the HSS forget a registration without telling anybody."""
        return _subscriber(self._ask("POST", _path(user, "reset")))

    def reset(self) -> None:
        """Make everything as in data/subscribers.toml again, and end all misbehaviour."""
        self._ask("POST", "/reset")

    def misbehave(
        self,
        *,
        delay_s: float = 0.0,
        result: int | None = None,
        experimental: bool = False,
        commands: Sequence[str] = (),
        user: str = "",
        wrong: str = "",
        limit_s: float = 300.0,
        name: str = "default",
    ) -> Misbehaviour:
        """Make the HSS do something wrong for a limited time; the same name again replaces what was.

        Args:
            delay_s: hold each answer back so long, at most 60.
            result: answer with this Result-Code instead of the truth; nothing is written down then.
            experimental: put `result` into Experimental-Result.
            commands: requests that the above is about, of UAR, MAR, SAR, LIR; none is all. Watchdogs are never touched.
            user: the subscriber of whom something is `wrong`.
            wrong: "k" or "opc": the HSS has one bit of it wrong; "sqn-ahead": it counts SQN from where no SIM follows;
                "sqn-behind": it counts from 0.
            limit_s: the HSS behaves again after this time, whatever becomes of the caller.
            name: by which `behave` ends it.
        """
        wanted: dict[str, Any] = {"name": name, "delay_s": delay_s, "commands": list(commands), "limit_s": limit_s}
        wanted |= {"result": result, "experimental": experimental, "user": user, "wrong": wrong}
        return _misbehaviour(self._ask("POST", "/misbehaviours", wanted))

    def behave(self, name: str | None = None) -> None:
        """End the misbehaviour of that name, or all; answers that are held back leave at once."""
        self._ask("DELETE", "/misbehaviours" if name is None else f"/misbehaviours/{quote(name, safe='')}")

    def misbehaviours(self) -> tuple[Misbehaviour, ...]:
        """List what the HSS does wrong on purpose at the moment."""
        return tuple(_misbehaviour(fields) for fields in self._ask("GET", "/misbehaviours"))

    def _ask(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._client.request(method, path, json=fields)
        except httpx.HTTPError as error:
            raise StackError(
                f"the HSS's admin door at {self.base_url} does not answer ({error}). Is the lab up? './lab status'"
            ) from error
        try:
            body = answer.json()
        except ValueError as error:
            raise StackError(f"{self.base_url} is no HSS: it answers {answer.text[:80]!r}") from error
        if answer.is_success:
            return body
        raise LabkitError(f"the HSS says {answer.status_code} to {method} {path}: {body.get('error', body)}")


def _path(user: str, action: str = "") -> str:
    path = f"/subscribers/{quote(user, safe='')}"
    return f"{path}/{action}" if action else path


def _subscriber(fields: dict[str, Any]) -> SubscriberState:
    return SubscriberState(**(fields | {"impus": tuple(fields["impus"])}))


def _outcome(fields: dict[str, Any]) -> RequestOutcome:
    return RequestOutcome(**fields)


def _misbehaviour(fields: dict[str, Any]) -> Misbehaviour:
    return Misbehaviour(**(fields | {"commands": tuple(fields["commands"])}))
