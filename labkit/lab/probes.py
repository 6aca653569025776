"""Questions that say whether a node is ready: each is what a client of the node sees.

A probe is asked again and again with `met()`, which never blocks for long.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from typing import Protocol

from labkit.lab.record import Record
from labkit.lab.topology import NodeSpec, ReadyCondition, Topology

_ASK_AGAIN_S = 0.2
_CALL_ID = "ready-"
"""Begins the Call-ID of every question of the lab's own."""


class Probe(Protocol):
    """One condition of one node."""

    awaited: str

    def met(self) -> bool:
        """True once the condition holds; quick, and never an exception."""

    def close(self) -> None:
        """Let go of sockets."""


class TcpProbe:
    """A server accepts connections."""

    def __init__(self, address: str, port: int, what: str) -> None:
        self.awaited = f"{what} to accept connections at {address}:{port}/tcp"
        self._target = (address, port)

    def met(self) -> bool:
        """Connect and hang up."""
        try:
            with socket.create_connection(self._target, timeout=0.5):
                return True
        except OSError:
            return False

    def close(self) -> None:
        """Nothing is kept open."""


def question(method: str, uri: str, address: str, port: int, token: str, headers: tuple[str, ...] = ()) -> bytes:
    """A request of the lab's own, which asks a server whether it lives; `is_question` knows it again.

    Args:
        address, port: who asks.
        token: what makes it different from others.
        headers: From, To and more; by default those of somebody who asks the server itself.
    """
    lines = (
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {address}:{port};branch=z9hG4bK{token};rport",
        f"Call-ID: {_CALL_ID}{token}",
        f"CSeq: 1 {method}",
        "Max-Forwards: 1",
        "User-Agent: labkit-ready",
        "Content-Length: 0",
        *(headers or (f"From: <sip:ready@{address}>;tag={token[:8]}", f"To: <{uri}>")),
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def is_question(frame: bytes) -> bool:
    """Whether a frame carries such a question or its answer: it is no part of what a lesson looks at."""
    return b"\r\nCall-ID: " + _CALL_ID.encode() in frame


class SipProbe:
    """A SIP server gives a final response over UDP; subclasses say to what."""

    method = ""

    def __init__(self, address: str, port: int, uri: str, source: str = "") -> None:
        self.awaited = f"an answer to SIP {self.method} from {address}:{port}/udp"
        self._target, self._uri, self._source = (address, port), uri, source
        self._socket: socket.socket | None = None
        self._sent_at = 0.0

    def met(self) -> bool:
        """Look for an answer; ask again where none has come for a while."""
        try:
            status_line = self._exchange()
        except OSError:
            # Refused: nobody listens yet. A fresh socket forgets the pending error.
            self.close()
            return False
        return bool(status_line) and self._judge(status_line)

    def _judge(self, status_line: str) -> bool:
        """Whether this final response will do."""
        return True

    def _exchange(self) -> str:
        """The status line of a final response, or nothing yet."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind((self._source, 0))
            self._socket.connect(self._target)
            self._sent_at = 0.0
        while True:
            try:
                line = self._socket.recv(65535).split(b"\r\n", 1)[0].decode("latin-1")
            except BlockingIOError:
                break
            words = line.split()
            if len(words) > 1 and words[0] == "SIP/2.0" and words[1][:1] in "23456":
                return line
        if time.monotonic() - self._sent_at > _ASK_AGAIN_S:
            self._socket.send(self._request(*self._socket.getsockname()))
            self._sent_at = time.monotonic()
        return ""

    def _request(self, address: str, port: int) -> bytes:
        token = secrets.token_hex(8)
        return question(self.method, self._uri, address, port, token, self._headers(address, port, token[:8]))

    def _headers(self, address: str, port: int, tag: str) -> tuple[str, ...]:
        """From, To, and what else this method needs."""
        return (f"From: <sip:ready@{address}>;tag={tag}", f"To: <{self._uri}>")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class OptionsProbe(SipProbe):
    """A SIP server answers an OPTIONS request with a final response."""

    method = "OPTIONS"


class ConnectedProbe(OptionsProbe):
    """A SIP server has the connection without which it is of no use: until then it answers 503 to OPTIONS.

    So a CSCF whose HSS is external, with no door that could be asked; so the charging proxy without its engine.
    """

    def __init__(self, address: str, port: int, uri: str, source: str = "", *, awaited: str) -> None:
        super().__init__(address, port, uri, source)
        self.awaited = awaited

    def _judge(self, status_line: str) -> bool:
        return not status_line.startswith("SIP/2.0 503")


class EngineProbe(ConnectedProbe):
    """A charging proxy has its engine, and has had it a moment ago.

    Whoever connects to its port counts as an engine, so also the probe that has just looked whether it listens.
    """

    _seen = False

    def _judge(self, status_line: str) -> bool:
        seen, self._seen = self._seen, super()._judge(status_line)
        return seen and self._seen


class MissedProbe(OptionsProbe):
    """The opposite: a SIP server has noticed that this connection is gone, and answers 503."""

    def _judge(self, status_line: str) -> bool:
        return status_line.startswith("SIP/2.0 503")


class StartAgain(Exception):
    """The node runs and will never be right: it has to be started again, with another padding in its configuration."""


class UarTypeProbe(SipProbe):
    """The I-CSCF's UAR has the type that belongs to the REGISTER.

    Kamailio's ims_icscf (5.6, 6.0) reads the number "0" that the configuration gives it from the wrong place: from the
    bytes of an address in its memory. Where these happen to begin with a digit, every UAR asks for capabilities (type
    2). Which addresses there are follows from the lengths of all texts of the configuration; one layout in some
    thirty is of that kind. So a de-registration is sent for somebody who may register nowhere: the HSS answers a UAR
    of type 1 with IDENTITY_NOT_REGISTERED, and a wrong one with ROAMING_NOT_ALLOWED. Neither changes anything.
    """

    method = "REGISTER"

    def __init__(self, address: str, port: int, user: str, realm: str, source: str = "") -> None:
        super().__init__(address, port, f"sip:{realm}", source)
        self._user, self._realm = user, realm

    def _judge(self, status_line: str) -> bool:
        if "Roaming not allowed" in status_line:
            raise StartAgain("its UARs have the wrong type (a fault of Kamailio, see docker/README.md)")
        return True

    def _headers(self, address: str, port: int, tag: str) -> tuple[str, ...]:
        name = f"{self._user}@{self._realm}"
        return (
            f"From: <sip:{name}>;tag={tag}",
            f"To: <sip:{name}>",
            f"Contact: <sip:ready@{address}:{port}>",
            "Expires: 0",
            f"P-Visited-Network-ID: {self._realm}",
            f'Authorization: Digest username="{name}", realm="{self._realm}", nonce="", uri="{self._uri}", response=""',
        )


class DiameterPeerProbe:
    """Another node has an open Diameter connection (capabilities exchanged) with this one; its admin door tells."""

    def __init__(self, address: str, port: int, token: str, identity: str, at: str) -> None:
        self.awaited = f"its Diameter connection with {at} to be open"
        self._target, self._token, self._identity = (address, port), token, identity

    def met(self) -> bool:
        """Ask the door for its peers."""
        return self._identity in open_peers(*self._target, self._token)

    def close(self) -> None:
        """Nothing is kept open."""


class CgratesProbe:
    """Every service of CGrateS answers, and the rater is really there.

    HTTP answers before the services do. And a race at the start of version 0.10.4 may leave an engine whose first
    GetCost ends it: that call is the last question here, so that such an engine dies now and not in a lesson.
    """

    SERVICES = ("SessionSv1", "AttributeSv1", "ChargerSv1", "RALsV1", "SchedulerSv1", "CDRsV1", "APIerSv1")

    def __init__(self, address: str, port: int) -> None:
        self.awaited = f"all services of CGrateS to answer at {address}:{port}"
        self._target = (address, port)
        self._questions = [f"{service}.Ping" for service in self.SERVICES] + ["APIerSv1.GetCost"]

    def met(self) -> bool:
        """Ask what has not been answered yet."""
        while self._questions:
            answer = self._ask(self._questions[0])
            # To GetCost any answer will do: it says that there is no tariff yet, and that the rater lives.
            if answer.get("result") != "Pong" and not (answer and len(self._questions) == 1):
                return False
            self._questions.pop(0)
        return True

    def _ask(self, method: str) -> dict[str, object]:
        connection = http.client.HTTPConnection(*self._target, timeout=1.0)
        try:
            body = json.dumps({"method": method, "params": [{}], "id": 1})
            connection.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
            return dict(json.loads(connection.getresponse().read()))
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            return {}
        finally:
            connection.close()

    def close(self) -> None:
        """Nothing is kept open."""


class PostgresProbe:
    """A query is answered, over the network, with the password of the notebook's own user, out of CGrateS's tables."""

    def __init__(self, address: str, port: int, password: str) -> None:
        self.awaited = f"PostgreSQL to answer a query at {address}:{port}"
        self._target, self._password = (address, port), password

    def met(self) -> bool:
        """Connect, ask, and hang up."""
        from labkit.clients.postgres import Postgres
        from labkit.errors import DatabaseError, DatabaseGone

        try:
            with Postgres(*self._target, self._password, timeout_s=1) as database:
                return bool(database.query("SELECT item FROM versions").rows)
        except (DatabaseError, DatabaseGone):  # not there yet; there, and still without its tables
            return False

    def close(self) -> None:
        """Nothing is kept open."""


def open_peers(address: str, port: int, token: str) -> set[str]:
    """The Diameter identities that the node's admin door has an open connection with; empty where it does not say."""
    connection = http.client.HTTPConnection(address, port, timeout=1.0)
    try:
        connection.request("GET", "/peers", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        peers = json.loads(answer.read()) if answer.status == 200 else []
        return {str(peer["host"]) for peer in peers if peer["state"] == "open"}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return set()
    finally:
        connection.close()


def make_probe(
    condition: ReadyCondition, topology: Topology, record: Record, node: NodeSpec, source: str = ""
) -> Probe:
    """The probe for one condition of lab.toml (kinds: topology.READY_KINDS)."""
    address = record.address(node.name)
    if condition.kind == "diameter-peer":
        other = topology.node(condition.at)
        if other.external is not None:
            own = node.port(condition.port)
            uri = f"sip:{topology.fqdn(node.name)}:{own.number}"
            awaited = "its Diameter connection with the external HSS to be open"
            return ConnectedProbe(address, own.number, uri, source, awaited=awaited)
        door = (record.address(other.name), other.port("admin").number)
        return DiameterPeerProbe(*door, record.token, topology.fqdn(node.name), other.name)
    if condition.kind == "charging":
        other = topology.node(condition.at)
        number = other.port("sip").number
        uri = f"sip:{topology.fqdn(other.name)}:{number}"
        awaited = f"its connection with {other.name} to be open"
        return EngineProbe(record.address(other.name), number, uri, source, awaited=awaited)
    port = node.port(condition.port)
    if condition.kind == "cgrates":
        return CgratesProbe(address, port.number)
    if condition.kind == "postgres":
        return PostgresProbe(address, port.number, record.token)
    if condition.kind == "uar-type":
        return UarTypeProbe(address, port.number, condition.user, topology.realm, source)
    if condition.kind == "options":
        return OptionsProbe(address, port.number, f"sip:{topology.fqdn(node.name)}:{port.number}", source)
    return TcpProbe(address, port.number, f"its {port.name} port")
