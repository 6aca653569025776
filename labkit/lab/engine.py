"""What an engine is: it runs the nodes of a lab, and everything above it does not care how.

`labkit.lab.docker` and `labkit.lab.local` are the two; `labkit.lab.choice` takes one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from labkit.capture.source import Sniffer as Sniffer
from labkit.lab.record import Record
from labkit.lab.topology import Topology

Progress = Callable[[str], None]
"""Takes one line for the person who waits."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """How one node is right now."""

    state: str
    """"running", "exited" or "absent"."""
    detail: str = ""
    """More words for a person, for example "exit code 1"."""
    address: str = ""
    pid: int | None = None
    """Process id on the local engine."""
    container: str = ""
    """Container id on the docker engine."""


class Engine(Protocol):
    """Runs the nodes of a lab. Methods raise StackError and its kinds; none needs root."""

    name: str

    def available(self) -> str | None:
        """None where this engine can run here, else the reason and its cure in a sentence."""

    def prepare(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> None:
        """Make programs or images ready. Safe to repeat and to interrupt; quick when all is there."""

    def allocate(self, topology: Topology, record: Record) -> None:
        """Fill in the record's addresses and own notes: the network or the address block."""

    def release(self, record: Record) -> None:
        """The start has ended, well or not: let go of what was held only while starting."""

    def start_node(self, topology: Topology, record: Record, node: str) -> None:
        """Start one node and note it in `record.nodes` (the caller saves). Does not wait for readiness."""

    def renews(self, topology: Topology, record: Record, node: str) -> bool:
        """Whether `start_node` ends this node's running program by itself, quicker than `stop_nodes` would."""

    def stop_nodes(self, record: Record, nodes: tuple[str, ...], *, kill: bool = False) -> None:
        """Stop nodes at once, politely unless `kill`; returns when they are gone. Absent ones are fine."""

    def state(self, record: Record, node: str) -> NodeState:
        """What the node is doing now, looked up and not remembered."""

    def is_starting(self, record: Record, node: str) -> bool:
        """True while the node's program has not been set going yet, because others do that in the background."""

    def logs(self, record: Record, node: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Log lines without line ends; with `follow` until the node is gone."""

    def logs_of_this_start(self, record: Record, node: str) -> list[str]:
        """What the node has logged since it was last started; whole once the node has ended."""

    def run(self, topology: Topology, record: Record, node: str, command: tuple[str, ...]) -> str:
        """Output of a command (placeholders allowed) run where the node runs, as its version command is."""

    def conf_dir(self, record: Record, node: str) -> str:
        """Where the node's program finds its rendered files."""

    def phone_address(self, record: Record, index: int) -> tuple[str, int]:
        """Address and SIP port for the phone number `index` (0, 1, ...)."""

    def probe_address(self, record: Record) -> str:
        """Local address that readiness probes are sent from; empty where the system may choose."""

    def sniffer(self, record: Record) -> Sniffer:
        """A source of this lab's packets, not yet started."""

    def teardown(self, record: Record) -> None:
        """Remove all that the lab holds outside its folder; repeating it is fine."""

    def leftovers(self) -> list[str]:
        """What labs of this user left on this machine outside any running lab, one line each."""

    def wipe(self) -> list[str]:
        """Remove everything any lab of this user has on this engine; what was removed, one line each."""
