"""Starting nodes and awaiting that they are ready. No sleep stands for readiness: named conditions do.

`bring_up()` starts nodes, asks the probes of several in turn (`labkit.lab.probes`), and ends early when one has died.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from labkit.errors import NodeNotReady, StackError
from labkit.lab.engine import Engine
from labkit.lab.probes import MissedProbe, Probe, StartAgain, make_probe
from labkit.lab.record import Record
from labkit.lab.topology import NodeSpec, ReadyCondition, Topology

POLL_S = 0.01
_STATE_POLL_S = 0.25
_LAYOUTS_TO_TRY = 8


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


def node_wait(engine: Engine, topology: Topology, record: Record, node: str, *, layout_known: bool = True) -> NodeWait:
    """What has to be waited for until `node` is ready.

    Args:
        layout_known: its memory was looked at when it first started and has stayed the same: no "uar-type".
    """
    spec = topology.node(node)
    source = engine.probe_address(record)
    asked = [c for c in spec.ready if not _needless(c, record, layout_known)]
    probes = [make_probe(condition, topology, record, spec, source) for condition in asked]
    return NodeWait(node, probes, max((c.timeout_s for c in spec.ready), default=15.0))


def _needless(condition: ReadyCondition, record: Record, layout_known: bool) -> bool:
    """What is known already, and a partner that this lab does not have."""
    if condition.kind == "charging":
        return condition.at not in record.nodes
    return layout_known and condition.kind == "uar-type"


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


def await_missed(engine: Engine, topology: Topology, record: Record, condition: ReadyCondition) -> None:
    """Return when the proxy of a "charging" condition says that it has no engine; StackError where it never does."""
    other = topology.node(condition.at)
    number = other.port("sip").number
    uri = f"sip:{topology.fqdn(other.name)}:{number}"
    probe = MissedProbe(record.address(other.name), number, uri, engine.probe_address(record))
    give_up = time.monotonic() + condition.timeout_s
    try:
        while not probe.met():
            if time.monotonic() > give_up:
                raise StackError(f"{other.name} still believes in its charging engine; ./lab logs {other.name}")
            time.sleep(POLL_S)
    finally:
        probe.close()


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
    starts: dict[str, int] = {}
    paddings: dict[str, int] = {}
    waits: dict[str, NodeWait] = {}

    def start(node: str) -> None:
        engine.start_node(topology, record, node)
        started(node)
        starts[node] = starts.get(node, 0) + 1
        known = node in record.padding and node not in paddings
        waits[node] = node_wait(engine, topology, record, node, layout_known=known)

    def polled(wait: NodeWait) -> bool:
        try:
            return not engine.is_starting(record, wait.node) and wait.poll()
        except StartAgain as reason:
            if paddings.setdefault(wait.node, 0) == _LAYOUTS_TO_TRY:
                raise not_ready(engine, topology, record, wait, str(reason)) from reason
            wait.close()
            engine.stop_nodes(record, (wait.node,))
            paddings[wait.node] += 1
            record.padding[wait.node] = paddings[wait.node]
            start(wait.node)
            return False

    try:
        while pending or waits or also:
            for node in [n for n in pending if _may_start(topology.node(n), asked, ready)]:
                pending.remove(node)
                start(node)
            if not pending and also:
                waits |= {node: node_wait(engine, topology, record, node) for node in also if node not in ready}
                also = ()
            done = [node for node, wait in waits.items() if polled(wait)]
            for node in done:
                waits.pop(node)
                ready.add(node)
                record.padding.setdefault(node, 0)
            if not done:
                for node in _look(engine, topology, record, waits, starts):
                    start(node)
                time.sleep(POLL_S)
    finally:
        for wait in waits.values():
            wait.close()


def _may_start(node: NodeSpec, asked: set[str], ready: set[str]) -> bool:
    return all(other in ready or other not in asked for other in node.after)


def _look(
    engine: Engine, topology: Topology, record: Record, waits: Mapping[str, NodeWait], starts: Mapping[str, int]
) -> list[str]:
    """Nodes that died and may be started again; NodeNotReady where one may not, or its time is over."""
    now = time.monotonic()
    again = []
    for wait in waits.values():
        over = now - wait.since > wait.timeout_s
        if not over and now - wait.looked_at < _STATE_POLL_S:
            continue
        wait.looked_at = now
        state = engine.state(record, wait.node)
        if state.state != "running" and starts.get(wait.node, 0) < topology.node(wait.node).starts:
            again.append(wait.node)
        elif over or state.state != "running":
            raise not_ready(engine, topology, record, wait, f"{state.state} ({state.detail})")
    return again


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
