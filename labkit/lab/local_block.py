"""A block of loopback addresses for a lab: 127.B.C.0/24, taken by binding (Linux).

Every address of 127.0.0.0/8 can be bound without set-up. While a lab starts, its starter holds a guard port in the
block, and afterwards the nodes themselves hold theirs, so two starters (also of two users) cannot take the same one,
and nothing has to be given back.
"""

from __future__ import annotations

import random
import socket

from labkit.errors import PortBusy
from labkit.lab.ports import can_bind, port_holder
from labkit.lab.topology import Topology

_GUARD_PORT = 3868
_BLOCKS_TO_TRY = 40


def take_block(topology: Topology, lab: str) -> tuple[str, socket.socket]:
    """A free block, as its first three numbers, and the guard that holds it until the nodes do.

    Args:
        lab: id of the lab; blocks are drawn by it, so that two starters rarely even try the same one.
    Raises:
        PortBusy: no block is free; names the port that was in the way last, and who holds it.
    """
    chance = random.Random(lab)
    last = PortBusy("no free block of loopback addresses was found; stop other labs (./lab wipe) and try again")
    for _ in range(_BLOCKS_TO_TRY):
        block = f"127.{chance.randint(16, 250)}.{chance.randint(0, 255)}"
        guard = _guard(block)
        if guard is None:
            continue
        try:
            require_free(topology, block, tuple(topology.nodes))
        except PortBusy as busy:
            guard.close()
            last = busy
        else:
            return block, guard
    raise last


def require_free(topology: Topology, block: str, nodes: tuple[str, ...]) -> None:
    """Raise PortBusy where a port of `nodes` cannot be bound in this block."""
    for node in map(topology.node, nodes):
        for port in node.ports.values():
            for transport in port.transports:
                address = f"{block}.{node.host}"
                if not can_bind(address, port.number, transport):
                    raise _port_busy(address, port.number, transport)


def _guard(block: str) -> socket.socket | None:
    """Hold the block against other starters; None where one holds it."""
    guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        guard.bind((f"{block}.1", _GUARD_PORT))
    except OSError:
        guard.close()
        return None
    return guard


def _port_busy(address: str, port: int, transport: str) -> PortBusy:
    holder = port_holder(address, port, transport)
    text = f"{address}:{port}/{transport} cannot be bound"
    text += f": it is held by {holder}." if holder else "."
    if "kamailio" in holder:
        return PortBusy(f"{text} If that is the system's own service: sudo systemctl disable --now kamailio")
    return PortBusy(f"{text} Stop that program, or take the docker engine.")
