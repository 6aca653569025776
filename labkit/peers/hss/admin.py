"""The admin door: a few HTTP/1.1 requests with JSON bodies and a bearer token, on asyncio alone.

    GET    /subscribers                     all, with their state
    GET    /subscribers/NAME                one; NAME is the short name, the private or a public identity
    POST   /subscribers                     add one (keys as in data/subscribers.toml)
    PATCH  /subscribers/NAME                change some keys
    DELETE /subscribers/NAME                take one out
    POST   /subscribers/NAME/deregister     send RTR: {"reason": 0, "text": "", "identities": null}
    POST   /subscribers/NAME/push           send PPR with the profile
    POST   /subscribers/NAME/reset          forget the registration, tell nobody
    POST   /subscribers/NAME/assign         {"state": "registered", "scscf_name": SIP URI, "scscf_host": "", ...}
    POST   /subscribers/NAME/restore        what is provisioned as in the file again; the registration stays
    GET    /peers                           Diameter peers
    GET    /misbehaviours                   what the HSS does wrong on purpose
    POST   /misbehaviours                   begin: {"name": "slow", "delay_s": 2, "limit_s": 60, ...}
    DELETE /misbehaviours/NAME              end one; without NAME end all
    POST   /reset                           all as in the subscribers' file again, and no misbehaviour

Errors are {"error": sentence} with 400, 401, 404, 405, 409 or 413.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from labkit.errors import LabkitError
from labkit.peers.hss.behaviour import Behaviour, Misbehaviour
from labkit.peers.hss.connection import Connection
from labkit.peers.hss.requests import OwnRequests
from labkit.peers.hss.state import Store
from labkit.peers.hss.subscribers import subscriber_fields, subscriber_from_fields
from labkit.peers.hss.user import NOT_REGISTERED, User
from labkit.wire.cx import Result

MAX_BODY: Final = 1 << 18
"""Largest request body, in bytes."""

MAX_CLIENTS: Final = 32
"""Connections to the door at a time."""

IDLE_S: Final = 60.0
"""A connection without a request for so long is closed."""


LINGER_S: Final = 1.0
"""How long a client that was hung up on may go on talking to nobody."""


class HttpError(Exception):
    """A request that gets an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request to the door."""

    method: str
    """GET, POST, PATCH or DELETE."""
    path: tuple[str, ...]
    """The path's parts, percent signs resolved."""
    token: str
    """What stands after "Bearer " in Authorization."""
    fields: dict[str, Any]
    """The JSON object of the body; empty without a body."""
    keep: bool
    """True: the client wants to use the connection again."""


class AdminDoor:
    """Serves the admin requests of one HSS."""

    def __init__(
        self,
        store: Store,
        requests: OwnRequests,
        behaviour: Behaviour,
        peers: Mapping[str, Connection],
        token: str,
    ) -> None:
        """Serve whoever knows `token`; an empty one is known to all."""
        self._store = store
        self._requests = requests
        self._behaviour = behaviour
        self._peers = peers
        self._token = token
        self._clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client or the clock ends it."""
        if self._clients >= MAX_CLIENTS:
            writer.close()
            return
        self._clients += 1
        try:
            # What ends it: the client has gone, or sends no HTTP, or nothing.
            with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.LimitOverrunError):
                while await self._serve_one(reader, writer):
                    pass
            await _let_go(reader, writer)
        finally:
            self._clients -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        keep = False
        try:
            request = await asyncio.wait_for(_read_request(reader), IDLE_S)
            keep = request.keep
            if self._token and not hmac.compare_digest(request.token.encode(), self._token.encode()):
                raise HttpError(401, "the token is missing or wrong; send 'Authorization: Bearer TOKEN'")
            status, body = 200, await self._dispatch(request)
        except HttpError as error:
            status, body = error.status, {"error": str(error)}
        except LabkitError as error:
            status, body = 409, {"error": str(error)}
        raw = json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        writer.write(head.encode() + raw)
        await writer.drain()
        return keep

    async def _dispatch(self, request: HttpRequest) -> Any:
        match request.method, request.path:
            case "GET", ("subscribers",):
                return [describe(user) for user in self._store.users()]
            case "POST", ("subscribers",):
                return self._add(request.fields)
            case "GET", ("peers",):
                return [describe_peer(peer) for peer in self._peers.values()]
            case "GET", ("misbehaviours",):
                return [describe_misbehaviour(what, left_s) for what, left_s in self._behaviour.in_force()]
            case "POST", ("misbehaviours",):
                return self._misbehave(dict(request.fields))
            case "DELETE", ("misbehaviours",):
                self._behaviour.end()
                return {}
            case "DELETE", ("misbehaviours", name):
                self._behaviour.end(name)
                return {}
            case "POST", ("reset",):
                self._behaviour.end()
                self._store.reset()
                return {}
            case "GET", ("subscribers", name):
                return describe(self._user(name))
            case "PATCH", ("subscribers", name):
                return self._change(self._user(name), request.fields)
            case "DELETE", ("subscribers", name):
                self._store.remove(self._user(name))
                return {}
            case "POST", ("subscribers", name, action):
                return await self._act(self._user(name), action, request.fields)
        raise HttpError(404, f"there is no {request.method} /{'/'.join(request.path)}")

    def _user(self, name: str) -> User:
        user = self._store.find(name)
        if user is None:
            raise HttpError(404, f"there is no subscriber {name}")
        return user

    def _add(self, fields: dict[str, Any]) -> dict[str, Any]:
        store = self._store
        return describe(store.add(subscriber_from_fields(fields, store.realm, "request"), fields))

    def _change(self, user: User, fields: dict[str, Any]) -> dict[str, Any]:
        self._store.change(user, fields)
        self._behaviour.spoil_secret(user)
        return describe(user)

    async def _act(self, user: User, action: str, fields: dict[str, Any]) -> Any:
        match action:
            case "deregister":
                return await self._deregister(user, fields)
            case "push":
                return await self._requests.push_profile(user)
            case "assign":
                self._store.assign(user, **_texts(fields, "state", "scscf_name", "scscf_host", "scscf_realm"))
            case "reset":
                self._store.assign(user, NOT_REGISTERED)
            case "restore":
                self._store.restore(user)
                self._behaviour.spoil_secret(user)
            case _:
                raise HttpError(404, f"there is no action {action}; there are assign, deregister, push, reset, restore")
        return describe(user)

    async def _deregister(self, user: User, fields: dict[str, Any]) -> dict[str, Any]:
        reason, identities = fields.get("reason", 0), fields.get("identities")
        if not isinstance(reason, int) or not 0 <= reason <= 3:
            raise HttpError(400, f"reason is {reason!r}; it must be 0, 1, 2 or 3")
        if not isinstance(identities, list | None):
            raise HttpError(400, f"identities is {identities!r}; it must be a list")
        return await self._requests.terminate(user, reason, str(fields.get("text", "")), identities)

    def _misbehave(self, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            name = str(fields.pop("user", ""))
            user = self._user(name) if name else None
            limit_s = float(fields.pop("limit_s"))
            result = fields.pop("result", None)
            experimental = bool(fields.pop("experimental", False))
            what = Misbehaviour(
                name=str(fields.pop("name", "") or "default"),
                commands=tuple(fields.pop("commands", ())),
                delay_s=float(fields.pop("delay_s", 0.0)),
                result=None if result is None else Result(int(result), experimental),
                user="" if user is None else user.subscriber.name,
                wrong=str(fields.pop("wrong", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HttpError(400, f"a misbehaviour cannot be read: {error!r}") from error
        if fields:
            raise HttpError(400, f"a misbehaviour has unknown keys {', '.join(sorted(fields))}")
        self._behaviour.start(what, limit_s, user)
        return describe_misbehaviour(what, limit_s)


def describe_misbehaviour(what: Misbehaviour, left_s: float) -> dict[str, Any]:
    """Write a misbehaviour as JSON; the client's `Misbehaviour` has the same fields."""
    return {
        "name": what.name,
        "commands": list(what.commands),
        "delay_s": what.delay_s,
        "result": None if what.result is None else what.result.code,
        "experimental": what.result is not None and what.result.experimental,
        "user": what.user,
        "wrong": what.wrong,
        "left_s": round(left_s, 1),
    }


def describe_peer(peer: Connection) -> dict[str, Any]:
    """Write a connected peer as JSON; the client's `DiameterPeer` has the same fields."""
    return {
        "host": peer.host,
        "realm": peer.realm,
        "address": peer.remote[0],
        "port": peer.remote[1],
        "state": peer.state,
        "requests": peer.requests,
    }


def _texts(fields: dict[str, Any], *allowed: str) -> dict[str, str]:
    unknown = fields.keys() - set(allowed)
    if unknown or "state" not in fields:
        raise HttpError(400, f"give state, and of {', '.join(allowed)} what you want; not {', '.join(sorted(unknown))}")
    return {key: str(value) for key, value in fields.items()}


def describe(user: User) -> dict[str, Any]:
    """Write a user's state as JSON; the client's `SubscriberState` has the same fields."""
    return {
        "name": user.subscriber.name,
        "impi": user.subscriber.impi,
        "impus": list(user.subscriber.impus),
        "state": user.state,
        "pending": user.pending,
        "scscf_name": user.scscf.name.decode("utf-8", "replace"),
        "scscf_host": user.scscf.host.decode("utf-8", "replace"),
        "sqn": user.sqn,
        "provisioned": subscriber_fields(user.subscriber),
        "profile": user.profile.decode(),
    }


async def _let_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that nothing more will come, and hear the client out: closed before that, TCP takes the answer back."""
    with suppress(OSError, TimeoutError):
        writer.write_eof()
        async with asyncio.timeout(LINGER_S):
            while await reader.read(1 << 16):
                pass


async def _read_request(reader: asyncio.StreamReader) -> HttpRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head[:-4].split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.rpartition(" ")
    if not version.startswith("HTTP/1."):
        raise HttpError(400, f"{first[:80]!r} is no HTTP/1.1 request line")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await _read_body(reader, headers)
    try:
        fields = json.loads(body) if body else {}
    except ValueError as error:
        raise HttpError(400, f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise HttpError(400, "the body must be a JSON object")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    path = tuple(unquote(part) for part in target.partition("?")[0].split("/") if part)
    keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return HttpRequest(method, path, token if scheme.lower() == "bearer" else "", fields, keep)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal():
        raise HttpError(400, "give the body's size in Content-Length")
    if int(length) > MAX_BODY:
        raise HttpError(413, f"the body has {length} bytes; at most {MAX_BODY} are taken")
    return await reader.readexactly(int(length))
