"""All subscribers, and the SQLite file that keeps their state over a restart.

What happens to them lives in memory; the rows that a batch of requests has changed are written in one transaction
before the answers leave, so an answer that somebody has seen is never forgotten, whatever kills the process. SQN alone
is written ahead: the file holds a number that is not given out yet, so that not every challenge costs a write, and an
HSS that was killed goes on with it. A SIM takes such a step for what it is.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from labkit.errors import LabkitError, StackError
from labkit.peers.hss.subscribers import Subscriber, subscriber_fields, subscriber_from_fields
from labkit.peers.hss.user import NOBODY, NOT_REGISTERED, REGISTERED, UNREGISTERED, Scscf, User
from labkit.wire.aka import SQN_LIMIT

SQN_AHEAD: Final = 64 * 33
"""How far ahead SQN is written: 64 challenges."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scscf (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, host TEXT NOT NULL, realm TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS user (
    id INTEGER PRIMARY KEY, impi TEXT NOT NULL UNIQUE, sqn INTEGER NOT NULL, state TEXT NOT NULL,
    pending INTEGER NOT NULL, scscf INTEGER NOT NULL, previous INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS subscriber_change (
    impi TEXT PRIMARY KEY, removed INTEGER NOT NULL, fields TEXT NOT NULL
) WITHOUT ROWID;
"""
# An UPDATE of short fixed columns by number costs a quarter of replacing a row of names.
_WRITE = "UPDATE user SET sqn = ?, state = ?, pending = ?, scscf = ?, previous = ? WHERE id = ?"
_MAX_SCSCFS: Final = 256
"""More S-CSCFs than this are not remembered once nobody is assigned to them."""


class Store:
    """All subscribers, found by private or public identity, and the file behind them.

    Raises:
        StackError: the file cannot be used, for example because another HSS has it open.
    """

    def __init__(self, path: str | Path, subscribers: Iterable[Subscriber], realm: str) -> None:
        self.realm = realm
        self.by_impi: dict[bytes, User] = {}
        self.by_impu: dict[bytes, User] = {}
        self._provisioned = {subscriber.impi: subscriber for subscriber in subscribers if subscriber.provisioned}
        self._dirty: set[User] = set()
        self._scscf_ids: dict[Scscf, int] = {}
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
        for user in self._dirty:
            if user.sqn > user.sqn_kept:
                user.sqn_kept = min(user.sqn + SQN_AHEAD, SQN_LIMIT - 1)
        self._write(self._dirty)
        self._dirty.clear()

    def _write(self, users: Iterable[User]) -> None:
        database = self._database
        database.execute("BEGIN")
        database.executemany(_WRITE, [self._row(user) for user in users])
        database.execute("COMMIT")

    def _row(self, user: User) -> tuple[Any, ...]:
        now, before = self._scscf_id(user.scscf), self._scscf_id(user.previous)
        return user.sqn_kept, user.state, user.pending, now, before, user.row_id

    def _scscf_id(self, scscf: Scscf) -> int:
        found = self._scscf_ids.get(scscf)
        return self._note_scscf(scscf) if found is None else found

    def _note_scscf(self, scscf: Scscf) -> int:
        if len(self._scscf_ids) >= _MAX_SCSCFS:
            self._forget_scscfs()
        names = (scscf.name.decode(), scscf.host.decode(), scscf.realm.decode())
        row = self._database.execute("INSERT INTO scscf (name, host, realm) VALUES (?, ?, ?) RETURNING id", names)
        found = self._scscf_ids[scscf] = int(row.fetchone()[0])
        return found

    def _forget_scscfs(self) -> None:
        used = {NOBODY} | {user.scscf for user in self.users()} | {user.previous for user in self.users()}
        for scscf in [known for known in self._scscf_ids if known not in used]:
            self._database.execute("DELETE FROM scscf WHERE id = ?", (self._scscf_ids.pop(scscf),))

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
        self._make_rows()
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
            user.sqn, user.sqn_kept = int(str(sqn), 16), -1
        self._index(user)
        self.touch(user)
        self.flush()

    def restore(self, user: User) -> None:
        """Make what is provisioned as in the subscribers' file again; registration and SQN stay.

        Raises:
            LabkitError: the file does not hold this subscriber.
        """
        impi = user.subscriber.impi
        if impi not in self._provisioned:
            raise LabkitError(f"{user.subscriber.name} is not in the subscribers' file; remove the subscriber instead")
        self._database.execute("DELETE FROM subscriber_change WHERE impi = ?", (impi,))
        self._unindex(user)
        user.provision(self._provisioned[impi])
        self._index(user)

    def assign(self, user: User, state: str, scscf_name: str = "", scscf_host: str = "", scscf_realm: str = "") -> None:
        """Set by hand which S-CSCF serves a user; an empty name forgets the registration. Nobody is told.

        Raises:
            LabkitError: state and name do not fit each other.
        """
        if state not in (REGISTERED, UNREGISTERED, NOT_REGISTERED) or (state == NOT_REGISTERED) == bool(scscf_name):
            raise LabkitError(
                f"state {state!r} and S-CSCF {scscf_name!r} do not fit: {REGISTERED} or {UNREGISTERED} with a name,"
                f" {NOT_REGISTERED} without"
            )
        user.clear()
        if scscf_name:
            user.assign(Scscf(scscf_name.encode(), scscf_host.encode(), (scscf_realm or self.realm).encode()))
        user.state = state
        self.touch(user)
        self.flush()

    def remove(self, user: User) -> None:
        """Take a subscriber out, for good."""
        self._remember(user.subscriber.impi, True, {})
        self._unindex(user)
        self._dirty.discard(user)
        self._database.execute("DELETE FROM user WHERE id = ?", (user.row_id,))

    def reset(self) -> None:
        """Forget all registrations, SQNs and changes: as in the subscribers' file again."""
        self._dirty.clear()
        self._database.execute("DELETE FROM user")
        self._database.execute("DELETE FROM subscriber_change")
        self._load()

    def close(self) -> None:
        """Write all, SQN as it is, and close the file."""
        ahead = [user for user in self.users() if user.sqn_kept > user.sqn or user in self._dirty]
        for user in ahead:
            user.sqn_kept = user.sqn
        self._write(ahead)
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
        self._scscf_ids = {
            Scscf(name.encode(), host.encode(), realm.encode()): number
            for number, name, host, realm in self._database.execute("SELECT id, name, host, realm FROM scscf")
        }
        scscfs = {number: scscf for scscf, number in self._scscf_ids.items()}
        rows = self._database.execute("SELECT id, impi, sqn, state, pending, scscf, previous FROM user").fetchall()
        for row_id, impi, sqn, state, pending, now, before in rows:
            user = self.by_impi.get(impi.encode())
            if user is None:  # no longer in the subscribers' file
                self._database.execute("DELETE FROM user WHERE id = ?", (row_id,))
                continue
            user.row_id, user.sqn, user.sqn_kept = row_id, sqn, sqn
            user.state, user.pending = state, bool(pending)
            user.assign(scscfs.get(now, NOBODY))
            user.previous = scscfs.get(before, NOBODY)
        self._make_rows()

    def _make_rows(self) -> None:
        """Give each user without a row one."""
        database = self._database
        database.execute("BEGIN")
        for user in self.users():
            if not user.row_id:
                row = database.execute(
                    "INSERT INTO user (impi, sqn, state, pending, scscf, previous) VALUES (?, ?, ?, 0, 0, 0)"
                    " RETURNING id",
                    (user.subscriber.impi, user.sqn, user.state),
                )
                user.row_id = int(row.fetchone()[0])
        database.execute("COMMIT")

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
