"""The admin door: a few HTTP/1.1 requests with JSON bodies and a bearer token, on asyncio alone.

    GET    /subscribers                     all, with their state
    GET    /subscribers/NAME                one; NAME is the short name, the private or a public identity
    POST   /subscribers                     add one (keys as in data/subscribers.toml)
    PATCH  /subscribers/NAME                change some keys
    DELETE /subscribers/NAME                take one out
    POST   /subscribers/NAME/deregister     send RTR: {"reason": 0, "text": ""}
    POST   /subscribers/NAME/push           send PPR with the profile
    POST   /subscribers/NAME/reset          forget the registration, tell nobody
    GET    /peers                           Diameter peers
    POST   /reset                           all as in the subscribers' file again

Errors are {"error": sentence} with 400, 401, 404, 405, 409 or 413.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from labkit.errors import LabkitError
from labkit.peers.hss.profile import user_data_xml
from labkit.peers.hss.state import User, subscriber_fields
from labkit.peers.hss.subscribers import subscriber_from_fields

if TYPE_CHECKING:
    from labkit.peers.hss.server import HssServer

MAX_BODY: Final = 1 << 18
"""Largest request body, in bytes."""

MAX_CLIENTS: Final = 32
"""Connections to the door at a time."""

IDLE_S: Final = 60.0
"""A connection without a request for so long is closed."""


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

    def __init__(self, server: HssServer, token: str) -> None:
        self._server = server
        self._token = token
        self._clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client or the clock ends it."""
        if self._clients >= MAX_CLIENTS:
            writer.close()
            return
        self._clients += 1
        try:
            keep = True
            while keep:
                keep = await self._serve_one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.LimitOverrunError):
            pass  # the client has gone, or sends no HTTP
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
                return [describe(user) for user in self._server.store.users()]
            case "POST", ("subscribers",):
                return self._add(request.fields)
            case "GET", ("peers",):
                return self._peers()
            case "POST", ("reset",):
                self._server.store.reset()
                return {}
            case "GET", ("subscribers", name):
                return describe(self._user(name))
            case "PATCH", ("subscribers", name):
                user = self._user(name)
                self._server.store.change(user, request.fields)
                return describe(user)
            case "DELETE", ("subscribers", name):
                self._server.store.remove(self._user(name))
                return {}
            case "POST", ("subscribers", name, action):
                return await self._act(self._user(name), action, request.fields)
        raise HttpError(404, f"there is no {request.method} /{'/'.join(request.path)}")

    def _user(self, name: str) -> User:
        user = self._server.store.find(name)
        if user is None:
            raise HttpError(404, f"there is no subscriber {name}")
        return user

    def _add(self, fields: dict[str, Any]) -> dict[str, Any]:
        store = self._server.store
        return describe(store.add(subscriber_from_fields(fields, store.realm, "request"), fields))

    async def _act(self, user: User, action: str, fields: dict[str, Any]) -> Any:
        if action == "deregister":
            reason = fields.get("reason", 0)
            if not isinstance(reason, int) or not 0 <= reason <= 3:
                raise HttpError(400, f"reason is {reason!r}; it must be 0, 1, 2 or 3")
            return await self._server.terminate(user, reason, str(fields.get("text", "")))
        if action == "push":
            return await self._server.push_profile(user)
        if action == "reset":
            user.clear()
            self._server.store.touch(user)
            self._server.store.flush()
            return describe(user)
        raise HttpError(404, f"there is no action {action}; there are deregister, push and reset")

    def _peers(self) -> list[dict[str, Any]]:
        return [
            {
                "host": peer.host,
                "realm": peer.realm,
                "address": peer.remote[0],
                "port": peer.remote[1],
                "state": peer.state,
                "requests": peer.requests,
            }
            for peer in self._server.peers.values()
        ]


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
        "profile": user_data_xml(user.subscriber).decode(),
    }


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
