"""Named conditions that say a node is ready. No sleep stands for readiness: each is what a client of the node sees.

A probe is asked again and again with `met()`, which never blocks for long; `bring_up()` starts nodes, asks the probes
of several in turn, and ends early when a node has died.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from labkit.errors import NodeNotReady
from labkit.lab.engine import Engine, Record
from labkit.lab.topology import NodeSpec, ReadyCondition, Topology

POLL_S = 0.01
_STATE_POLL_S = 0.25
_OPTIONS_AGAIN_S = 0.2


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


class OptionsProbe:
    """A SIP server answers an OPTIONS request over UDP with a final response."""

    def __init__(self, address: str, port: int, uri: str, source: str = "") -> None:
        self.awaited = f"an answer to SIP OPTIONS from {address}:{port}/udp"
        self._target, self._uri, self._source = (address, port), uri, source
        self._socket: socket.socket | None = None
        self._sent_at = 0.0

    def met(self) -> bool:
        """Look for an answer; ask again where none has come for a while."""
        try:
            return self._exchange()
        except OSError:
            # Refused: nobody listens yet. A fresh socket forgets the pending error.
            self.close()
            return False

    def _exchange(self) -> bool:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind((self._source, 0))
            self._socket.connect(self._target)
            self._sent_at = 0.0
        while True:
            try:
                words = self._socket.recv(65535).split(b"\r\n", 1)[0].split()
            except BlockingIOError:
                break
            if len(words) > 1 and words[0] == b"SIP/2.0" and words[1][:1] in b"23456":
                return True
        if time.monotonic() - self._sent_at > _OPTIONS_AGAIN_S:
            self._socket.send(self._request(*self._socket.getsockname()))
            self._sent_at = time.monotonic()
        return False

    def _request(self, address: str, port: int) -> bytes:
        token = secrets.token_hex(8)
        lines = (
            f"OPTIONS {self._uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {address}:{port};branch=z9hG4bK{token};rport",
            f"From: <sip:ready@{address}>;tag={token[:8]}",
            f"To: <{self._uri}>",
            f"Call-ID: ready-{token}",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 1",
            "User-Agent: labkit-ready",
            "Content-Length: 0",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


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
    address = record.addresses[node.name]
    if condition.kind == "diameter-peer":
        other = topology.node(condition.at)
        door = (record.addresses[other.name], other.port("admin").number)
        return DiameterPeerProbe(*door, record.token, topology.fqdn(node.name), other.name)
    port = node.port(condition.port)
    if condition.kind == "options":
        return OptionsProbe(address, port.number, f"sip:{topology.fqdn(node.name)}:{port.number}", source)
    return TcpProbe(address, port.number, f"its {port.name} port")


@dataclass(slots=True)
class NodeWait:
    """The waiting for one node."""

    node: str
    probes: list[Probe]
    timeout_s: float
    since: float = field(default_factory=time.monotonic)
    looked_at: float = 0.0

    def poll(self) -> bool:
        """True once every condition has been met, in their order."""
        while self.probes:
            if not self.probes[0].met():
                return False
            self.probes.pop(0).close()
        return True

    def close(self) -> None:
        """Let go of all sockets."""
        for probe in self.probes:
            probe.close()


def node_wait(engine: Engine, topology: Topology, record: Record, node: str) -> NodeWait:
    """What has to be waited for until `node` is ready."""
    spec = topology.node(node)
    source = engine.probe_address(record)
    probes = [make_probe(condition, topology, record, spec, source) for condition in spec.ready]
    return NodeWait(node, probes, max((c.timeout_s for c in spec.ready), default=15.0))


def is_ready(engine: Engine, topology: Topology, record: Record, node: str) -> bool:
    """True where all conditions of the node hold now, or within half a second."""
    wait = node_wait(engine, topology, record, node)
    try:
        deadline = time.monotonic() + 0.5
        while not wait.poll():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True
    finally:
        wait.close()


def bring_up(
    engine: Engine,
    topology: Topology,
    record: Record,
    nodes: Iterable[str],
    *,
    also: Iterable[str] = (),
    started: Callable[[str], None] = lambda node: None,
) -> None:
    """Start `nodes`, each as soon as those it comes `after` are ready, and return when all are ready.

    `also` names running nodes whose conditions must hold as well (peers that have to find each other again). `started`
    is called after each start, so that the record can be saved. NodeNotReady names what did not come.
    """
    pending, ready = list(dict.fromkeys(nodes)), set[str]()
    asked = set(pending)
    waits: dict[str, NodeWait] = {}
    try:
        while pending or waits or also:
            for node in [n for n in pending if _may_start(topology.node(n), asked, ready)]:
                pending.remove(node)
                engine.start_node(topology, record, node)
                started(node)
                waits[node] = node_wait(engine, topology, record, node)
            if not pending and also:
                waits |= {node: node_wait(engine, topology, record, node) for node in also if node not in ready}
                also = ()
            done = [node for node, wait in waits.items() if wait.poll()]
            for node in done:
                waits.pop(node)
                ready.add(node)
            if not done:
                _look(engine, topology, record, waits)
                time.sleep(POLL_S)
    finally:
        for wait in waits.values():
            wait.close()


def _may_start(node: NodeSpec, asked: set[str], ready: set[str]) -> bool:
    return all(other in ready or other not in asked for other in node.after)


def _look(engine: Engine, topology: Topology, record: Record, waits: Mapping[str, NodeWait]) -> None:
    """NodeNotReady where a node that is waited for has died, or its time is over."""
    now = time.monotonic()
    for wait in waits.values():
        over = now - wait.since > wait.timeout_s
        if not over and now - wait.looked_at < _STATE_POLL_S:
            continue
        wait.looked_at = now
        state = engine.state(record, wait.node)
        if over or state.state != "running":
            raise not_ready(engine, topology, record, wait, f"{state.state} ({state.detail})")


def not_ready(engine: Engine, topology: Topology, record: Record, wait: NodeWait, status: str) -> NodeNotReady:
    """The error for a node that did not come, with its last words."""
    lines: list[str] = []
    with contextlib.suppress(Exception):  # the log is a help, never the reason of another error
        lines = list(engine.logs(record, wait.node, tail=12))
    return NodeNotReady(
        wait.node,
        awaited=wait.probes[0].awaited if wait.probes else "its start",
        waited_s=time.monotonic() - wait.since,
        status=status,
        last_logs="\n".join(lines),
        hint=_hint(wait.node, status, "\n".join(lines)),
    )


def _hint(node: str, status: str, log: str) -> str:
    """A next step, from what the log says."""
    said = log.lower()
    if "address already in use" in said or "cannot bind" in said:
        return "another program holds one of its ports; ./lab doctor says which"
    if "no space left" in said or "disk is full" in said:
        return "the disk is full; make room, or point LABKIT_HOME at another disk"
    if "could not find module" in said or "failed to open" in said or "cannot open shared object" in said:
        return "a program or module is not whole; ./lab wipe, remove the lab's programs folder, then ./lab up"
    if "parse error" in said or "bad config" in said:
        return f"a line of the configuration of {node} is wrong; the log names file and line"
    if status.startswith("running"):
        return f"the machine may be very busy; ./lab logs {node} shows all it says"
    return f"./lab logs {node} shows all it said"
