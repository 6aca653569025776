"""Which lab a lesson gets, and in which state it finds it.

Mode: LABKIT_ENGINE says docker, local, replay or auto (`./lab up` and `./lab test` set it). Without it a lab that runs
already is used, and where none runs the lesson is replayed, so that a notebook opened on any machine works.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.clients.hss import SubscriberState
    from labkit.lab.running import RunningLab


NEEDS_THE_WIRE = (
    "it looks at what only the wire shows, and here packets cannot be sniffed: run as root, give this Python "
    "CAP_NET_RAW, or use the docker engine"
)
"""Why a lesson cannot be run on a lab whose nodes send copies of their messages, and the cure."""


def find_lab(engine: str | None, nodes: Sequence[str], wire: bool = False) -> RunningLab | None:
    """Return the lab for a lesson, fresh and with the nodes that it asks for; None for a replay.

    Args:
        engine: "docker", "local", "replay" or "auto"; by default as this module says.
        nodes: nodes besides those that every lab has.
        wire: whether the lesson is no use where packets cannot be sniffed; it is replayed then, with a word about it.
    Raises:
        EngineMissing: the engine that was asked for is not to be had here.
    """
    lab = _running_lab(engine or os.environ.get("LABKIT_ENGINE") or "running")
    if lab is None:
        return None
    if wire and lab.capture_kind != "wire":
        print(f"This lesson is replayed: {NEEDS_THE_WIRE}.")
        return None
    lab.restore_nodes()  # first: a learner's block that was refused would be refused again
    if nodes:
        _start_empty(lab, nodes)
    _forget_subscribers(lab)
    return lab


def _running_lab(wanted: str) -> RunningLab | None:
    if wanted == "replay":
        return None
    from labkit.lab.lab import attach, start_lab

    name = os.environ.get("LABKIT_NAME", "lab")
    found = attach(name)
    if wanted == "running":
        return found
    if found is not None and wanted in ("auto", found.engine_name):
        return found
    return start_lab(name=name, engine=wanted)


def _start_empty(lab: RunningLab, nodes: Sequence[str]) -> None:
    """Start further nodes; CGrateS, which keeps what it knows in memory and in its database, is empty afterwards."""
    full = "cgrates" in nodes and "cgrates" in lab.record.nodes
    lab.start_nodes(nodes, print)  # the first time it may build a program, for minutes
    if "cgrates" in nodes and "postgres" in lab.record.nodes:
        from labkit.clients.postgres import Postgres

        with Postgres(*lab.address("postgres", "sql"), lab.record.token, user="cgrates") as database:
            database.clear()
    if full:
        lab.restart_node("cgrates")


def _forget_subscribers(lab: RunningLab) -> None:
    """Bring the core to where a lesson starts: nobody registered, nothing changed.

    The S-CSCF keeps a record for some seconds after a de-registration, so where the HSS says that anybody was ever
    served since the last fresh start, the S-CSCF is started anew (about a second) and the HSS forgets.
    """
    if not lab.has_own_hss or all(_untouched(subscriber) for subscriber in lab.hss.subscribers()):
        return
    lab.hss.reset()
    lab.restart_node("scscf")


def _untouched(subscriber: SubscriberState) -> bool:
    """Whether the HSS was never asked for a challenge for this subscriber."""
    served = subscriber.pending or subscriber.scscf_name or subscriber.state != "not_registered"
    return not served and subscriber.sqn == int(subscriber.provisioned.get("sqn", "0"), 16)
