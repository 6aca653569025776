"""What the HSS knows about each subscriber, and the SQLite file that keeps it over a restart.

Three facts make up the state of a subscriber (TS 29.228 section 6, TS 23.228 section 5.2.1):

* `state`: not registered, registered, or unregistered (no phone, but an S-CSCF serves the user all the same);
* the S-CSCF: its SIP name, and its Diameter name, which RTR and PPR are sent to;
* `pending`: an S-CSCF has asked for a challenge (MAR), and nobody knows yet whether the phone will pass it.

All of it lives in memory; the rows that a batch of requests has changed are written in one transaction before the
answers leave, so an answer that somebody has seen is never forgotten, whatever kills the process.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from labkit.errors import LabkitError, StackError
from labkit.peers.hss.profile import user_data_xml
from labkit.peers.hss.subscribers import Subscriber, subscriber_from_fields
from labkit.wire.aka import Milenage, digest_ha1
from labkit.wire.diameter import Avp

NOT_REGISTERED: Final = "not_registered"
REGISTERED: Final = "registered"
UNREGISTERED: Final = "unregistered"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS user_state (
    impi TEXT PRIMARY KEY, sqn INTEGER NOT NULL, state TEXT NOT NULL, pending INTEGER NOT NULL,
    scscf_name BLOB NOT NULL, scscf_host BLOB NOT NULL, scscf_realm BLOB NOT NULL,
    previous_name BLOB NOT NULL, previous_host BLOB NOT NULL, previous_realm BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subscriber_change (
    impi TEXT PRIMARY KEY, removed INTEGER NOT NULL, fields TEXT NOT NULL
) WITHOUT ROWID;
"""
_COLUMNS = (
    "impi, sqn, state, pending, scscf_name, scscf_host, scscf_realm, previous_name, previous_host, previous_realm"
)


@dataclass(frozen=True, slots=True)
class Scscf:
    """One S-CSCF, by both of its names."""

    name: bytes = b""
    """SIP URI, from Server-Name; empty when there is none."""
    host: bytes = b""
    """Diameter name, from Origin-Host."""
    realm: bytes = b""
    """From Origin-Realm."""


NOBODY: Final = Scscf()


class User:
    """One subscriber at run time: what is provisioned, what has happened, and answers' parts made beforehand."""

    __slots__ = (
        "allowed_networks",
        "capabilities_avp",
        "ha1",
        "home_realm",
        "impu_avps",
        "milenage",
        "pending",
        "previous",
        "registrable",
        "scscf",
        "server_name_avp",
        "sqn",
        "state",
        "subscriber",
        "user_data_avp",
        "user_name_avp",
    )

    def __init__(self, subscriber: Subscriber) -> None:
        self.sqn = subscriber.sqn
        self.state = NOT_REGISTERED
        self.pending = False
        self.scscf = NOBODY
        self.previous = NOBODY
        self.server_name_avp = b""
        self.provision(subscriber)

    def provision(self, subscriber: Subscriber) -> None:
        """Take over what is provisioned, and make the AVPs that depend on nothing else."""
        self.subscriber = subscriber
        self.milenage: Milenage | None = subscriber.milenage() if subscriber.auth == "aka" else None
        self.home_realm = subscriber.impi.rpartition("@")[2]
        self.ha1 = ""
        if subscriber.password:
            self.ha1 = digest_ha1(subscriber.impi, self.home_realm, subscriber.password)
        networks = subscriber.visited_networks
        self.allowed_networks = None if networks is None else frozenset(name.encode() for name in networks)
        # One barred identity beside a free one does not stop a registration (TS 29.228 section 6.1.1.1).
        self.registrable = not subscriber.barred and any(
            impu not in subscriber.barred_impus for impu in subscriber.impus
        )
        self.user_name_avp = Avp.of("User-Name", subscriber.impi).to_bytes()
        self.impu_avps = {impu.encode(): Avp.of("Public-Identity", impu).to_bytes() for impu in subscriber.impus}
        self.user_data_avp = Avp.of("User-Data", user_data_xml(subscriber)).to_bytes()
        self.capabilities_avp = Avp.of(
            "Server-Capabilities",
            [
                *(Avp.of("Mandatory-Capability", number) for number in subscriber.mandatory_capabilities),
                *(Avp.of("Optional-Capability", number) for number in subscriber.optional_capabilities),
            ],
        ).to_bytes()

    def assign(self, scscf: Scscf) -> None:
        """Set the S-CSCF, and the AVP that names it."""
        if scscf.name != self.scscf.name:
            self.server_name_avp = Avp.of("Server-Name", scscf.name).to_bytes() if scscf.name else b""
        self.scscf = scscf

    def clear(self) -> None:
        """Forget the registration and the S-CSCF; SQN is kept."""
        self.state = NOT_REGISTERED
        self.pending = False
        self.previous = NOBODY
        self.assign(NOBODY)


class Store:
    """All subscribers, found by private or public identity, and the file behind them.

    Raises:
        StackError: the file cannot be used, for example because another HSS has it open.
    """

    def __init__(self, path: str | Path, subscribers: Iterable[Subscriber], realm: str) -> None:
        self.realm = realm
        self.by_impi: dict[bytes, User] = {}
        self.by_impu: dict[bytes, User] = {}
        self._provisioned = {subscriber.impi: subscriber for subscriber in subscribers}
        self._dirty: set[User] = set()
        self._database = _open(path)
        self._load()

    # --- reading ---

    def users(self) -> Iterator[User]:
        """Walk all users in the order of provisioning."""
        return iter(self.by_impi.values())

    def find(self, identity: str) -> User | None:
        """Find a user by short name, private or public identity."""
        key = identity.encode()
        found = self.by_impi.get(key) or self.by_impu.get(key)
        if found is not None:
            return found
        return next((user for user in self.users() if user.subscriber.name == identity), None)

    def find_impu(self, impu: bytes) -> User | None:
        """Find the owner of a public identity; case of the host and parameters do not matter."""
        return self.by_impu.get(impu) or self.by_impu.get(canonical_impu(impu))

    # --- writing ---

    def touch(self, user: User) -> None:
        """Mark a user as changed; `flush` writes it."""
        self._dirty.add(user)

    def flush(self) -> None:
        """Write all changed users in one transaction."""
        if not self._dirty:
            return
        rows = [_row(user) for user in self._dirty]
        self._dirty.clear()
        marks = ",".join("?" * 10)
        database = self._database
        database.execute("BEGIN")
        database.executemany(f"INSERT OR REPLACE INTO user_state ({_COLUMNS}) VALUES ({marks})", rows)
        database.execute("COMMIT")

    def add(self, subscriber: Subscriber, fields: dict[str, Any]) -> User:
        """Add a subscriber that the file does not hold, for good.

        Raises:
            LabkitError: an identity is taken.
        """
        taken = [name for name in (subscriber.name, subscriber.impi, *subscriber.impus) if self.find(name)]
        if taken:
            raise LabkitError(f"{taken[0]} exists already; remove it first, or choose another")
        self._remember(subscriber.impi, False, fields)
        user = User(subscriber)
        self._index(user)
        return user

    def change(self, user: User, fields: dict[str, Any]) -> None:
        """Change what is provisioned about a user, for good; `fields` as in data/subscribers.toml.

        Raises:
            LabkitError: a field is unknown or wrong, or an identity belongs to somebody else.
        """
        merged = subscriber_fields(user.subscriber) | fields
        sqn = merged.pop("sqn")
        changed = subscriber_from_fields(merged, self.realm, "change")
        if changed.impi != user.subscriber.impi:
            raise LabkitError("the private identity cannot be changed; remove the subscriber and add it again")
        for name in (changed.name, *changed.impus):
            owner = self.find(name)
            if owner is not None and owner is not user:
                raise LabkitError(f"{name} belongs to {owner.subscriber.name}")
        self._remember(changed.impi, False, merged)
        self._unindex(user)
        user.provision(changed)
        if "sqn" in fields:
            user.sqn = int(str(sqn), 16)
        self._index(user)
        self.touch(user)
        self.flush()

    def remove(self, user: User) -> None:
        """Take a subscriber out, for good."""
        self._remember(user.subscriber.impi, True, {})
        self._unindex(user)
        self._dirty.discard(user)
        self._database.execute("DELETE FROM user_state WHERE impi = ?", (user.subscriber.impi,))

    def reset(self) -> None:
        """Forget all registrations, SQNs and changes: as in the subscribers' file again."""
        self._dirty.clear()
        self._database.execute("DELETE FROM user_state")
        self._database.execute("DELETE FROM subscriber_change")
        self._load()

    def close(self) -> None:
        """Write what is open and close the file."""
        self.flush()
        self._database.close()

    # --- inside ---

    def _load(self) -> None:
        self.by_impi.clear()
        self.by_impu.clear()
        subscribers = dict(self._provisioned)
        for impi, removed, text in self._database.execute("SELECT impi, removed, fields FROM subscriber_change"):
            if removed:
                subscribers.pop(impi, None)
            else:
                subscribers[impi] = subscriber_from_fields(json.loads(text), self.realm, "state file")
        for subscriber in subscribers.values():
            self._index(User(subscriber))
        for impi, sqn, state, pending, *names in self._database.execute(f"SELECT {_COLUMNS} FROM user_state"):
            user = self.by_impi.get(impi.encode())
            if user is not None:
                user.sqn, user.state, user.pending = sqn, state, bool(pending)
                user.assign(Scscf(*names[:3]))
                user.previous = Scscf(*names[3:])

    def _index(self, user: User) -> None:
        self.by_impi[user.subscriber.impi.encode()] = user
        for impu in user.impu_avps:
            self.by_impu[impu] = user

    def _unindex(self, user: User) -> None:
        self.by_impi.pop(user.subscriber.impi.encode(), None)
        for impu in user.impu_avps:
            self.by_impu.pop(impu, None)

    def _remember(self, impi: str, removed: bool, fields: dict[str, Any]) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO subscriber_change (impi, removed, fields) VALUES (?, ?, ?)",
            (impi, int(removed), json.dumps(fields)),
        )


def _open(path: str | Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, isolation_level=None, timeout=0.5)
        # One process owns the file, and a crash of the process must lose nothing; a crash of the machine may.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_SCHEMA)
    except sqlite3.Error as error:
        raise StackError(
            f"the state file {path} cannot be used: {error}. Is another HSS running on it? Else remove the file."
        ) from error
    return database


def _row(user: User) -> tuple[Any, ...]:
    now, before = user.scscf, user.previous
    return (
        user.subscriber.impi,
        user.sqn,
        user.state,
        user.pending,
        now.name,
        now.host,
        now.realm,
        before.name,
        before.host,
        before.realm,
    )


def canonical_impu(impu: bytes) -> bytes:
    """Write a public identity in its canonical form: no parameters, scheme and host in lower case.

    Spec:
        TS 23.003 section 13.4, RFC 3261 section 19.1.4
    """
    bare = impu.split(b";", 1)[0].split(b"?", 1)[0]
    scheme, _, rest = bare.partition(b":")
    if scheme.lower() == b"tel":
        return b"tel:" + rest.translate(None, b"-.() ")
    user, at, host = rest.rpartition(b"@")
    return scheme.lower() + b":" + user + at + host.lower()


def subscriber_fields(subscriber: Subscriber) -> dict[str, Any]:
    """Write a subscriber as the keys of data/subscribers.toml, bytes in hex: JSON can carry it."""
    fields = asdict(replace(subscriber, ifcs=()))
    fields["ifc"] = [
        asdict(ifc) | {"triggers": [_trigger_fields(asdict(spt)) for spt in ifc.triggers]} for ifc in subscriber.ifcs
    ]
    del fields["ifcs"]
    fields["sqn"] = f"{subscriber.sqn:012x}"
    for key in ("k", "opc", "amf"):
        fields[key] = fields[key].hex()
    if subscriber.auth != "aka":
        for key in ("k", "opc"):
            del fields[key]
    if subscriber.visited_networks is None:
        del fields["visited_networks"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def _trigger_fields(spt: dict[str, Any]) -> dict[str, Any]:
    groups = spt.pop("groups")
    return {"group": list(groups)} | spt
