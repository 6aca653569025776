"""What may be done to a lab while its lock is held: the verbs that faults are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from labkit.errors import StackError, TopologyError
from labkit.lab.engine import Engine
from labkit.lab.ready import await_missed, bring_up
from labkit.lab.record import Record
from labkit.lab.topology import Topology

if TYPE_CHECKING:
    from labkit.clients.cgrates.blocking import BlockingRpc
    from labkit.clients.hss import HssClient


class LabHands:
    """Stops, starts and changes nodes of one lab. Every step may be repeated."""

    def __init__(self, engine: Engine, topology: Topology, record: Record) -> None:
        self._engine, self._topology, self._record = engine, topology, record

    def stop(self, *nodes: str, kill: bool = False) -> None:
        """Stop nodes; returns when they are gone."""
        self._engine.stop_nodes(self._record, nodes, kill=kill)

    def start(self, *nodes: str) -> None:
        """Start nodes that do not run; returns when they, and those that depend on them, are ready."""
        for node in nodes:
            if node in self._record.external:
                raise StackError(f"{node} is external, at {self._record.address(node)}: it is not ours to start")
        missing = [n for n in nodes if not self.runs(n)]
        missing += self._stop_strangers_of(missing)
        also = [n for n in self._record.nodes if n not in missing and (n in nodes or self._waits_for(n, nodes))]
        bring_up(
            self._engine,
            self._topology,
            self._record,
            missing,
            also=also,
            started=lambda node: self._record.save(),
        )

    def restart(self, node: str) -> None:
        """Stop and start a node; its configuration is written anew.

        A charging proxy takes its engine along: one whose connection is reset ends by itself, sooner or later.
        """
        engines = [n for n in self._charging() if self._waits_for(n, [node])]
        self.stop(*engines, node)
        self.start(node, *engines)

    def renew(self, node: str) -> None:
        """Start a node that keeps nothing anew, as quickly as the engine can; its configuration is written anew."""
        if not self._engine.renews(self._topology, self._record, node):
            self._engine.stop_nodes(self._record, (node,), kill=True)
        save = self._record.save
        bring_up(self._engine, self._topology, self._record, [node], started=lambda node: save())

    def runs(self, node: str) -> bool:
        """True while the node's program runs."""
        return self._engine.state(self._record, node).state == "running"

    def require(self, node: str) -> None:
        """Raise StackError where the node is not part of the running lab."""
        self._topology.node(node)
        if node in self._record.external:
            raise StackError(f"{node} is external, at {self._record.address(node)}: nothing can be broken there")
        if not self.runs(node):
            raise StackError(f"{node} does not run in the lab {self._record.name!r}; start it first")

    def await_missed(self, node: str) -> None:
        """Return when the proxy that a charging engine was connected to has noticed that it is gone.

        Raises:
            StackError: it has not noticed within some seconds.
        """
        for condition in self._topology.node(node).ready:
            if condition.kind == "charging" and condition.at in self._record.nodes:
                await_missed(self._engine, self._topology, self._record, condition)

    def switch(self, node: str, name: str, on: bool) -> None:
        """Turn a switch of a node's configuration (`switches` in lab.toml) on or off, and restart the node with it."""
        if name not in self._topology.node(node).switches:
            raise TopologyError(f"{self._topology.path}: [node.{node}] has no switch {name!r}")
        kept = [each for each in self._record.switches if each != name]
        self._record.switches = [*kept, name] if on else kept
        self._record.save()
        self.restart(node)

    def nobodys_address(self) -> tuple[str, int]:
        """An address and port of the lab's network where nobody listens: the place of a phone that nobody takes."""
        return self._engine.phone_address(self._record, 98)

    @contextlib.contextmanager
    def hss(self) -> Iterator[HssClient]:
        """The admin door of the HSS; StackError where it does not answer."""
        from labkit.clients.hss import HssClient

        address, port = self._record.address("hss"), self._topology.node("hss").port("admin").number
        with HssClient(f"http://{address}:{port}", self._record.token) as client:
            yield client

    def _stop_strangers_of(self, nodes: Sequence[str]) -> list[str]:
        """Stop engines that were configured before their charging proxy was in the lab: they do not look for it."""
        new = [n for n in nodes if n not in self._record.nodes]
        found = [n for n in self._charging() if n not in nodes and self._waits_for(n, new)]
        if found:
            self.stop(*found)
        return found

    @contextlib.contextmanager
    def cgrates(self) -> Iterator[BlockingRpc]:
        """CGrateS's own API, call by call."""
        from labkit.clients.cgrates.blocking import BlockingRpc

        address, port = self._record.address("cgrates"), self._topology.node("cgrates").port("http").number
        with BlockingRpc(f"http://{address}:{port}") as rpc:
            yield rpc

    def _charging(self) -> list[str]:
        """The nodes that connect to a charging proxy."""
        return [n for n in self._record.nodes if any(c.kind == "charging" for c in self._topology.node(n).ready)]

    def _waits_for(self, node: str, others: Sequence[str]) -> bool:
        return any(c.at in others for c in self._topology.node(node).ready) and self.runs(node)
