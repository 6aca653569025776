"""Which engine runs a lab: the one that was asked for, or the best that this machine has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labkit.errors import EngineMissing
from labkit.lab.engine import Engine


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine taken and why."""

    name: str
    """"docker", "local" or "replay"."""
    engine: Engine | None
    """None for replay, which runs nothing."""
    sentence: str
    """Which, why, and how to get a better one."""


def make_engine(name: str) -> Engine:
    """The engine called "docker" or "local"; EngineMissing for any other name."""
    if name == "docker":
        from labkit.lab.docker import DockerEngine

        engine: Engine = DockerEngine()
        return engine
    if name == "local":
        from labkit.lab.local import LocalEngine

        return LocalEngine()
    raise EngineMissing(
        f"there is no engine {name!r} that runs nodes; take docker or local (or replay, which needs none)"
    )


def choose_engine(name: str = "auto", *, make: Callable[[str], Engine] = make_engine) -> Choice:
    """The engine to use. "auto" takes docker where a daemon answers, else local, else replay.

    A name that cannot run here raises EngineMissing with the reason and the cure.
    """
    if name == "replay":
        return Choice("replay", None, "Engine: replay, as asked: packets come from the recordings, nothing is started.")
    if name != "auto":
        engine = make(name)
        reason = engine.available()
        if reason is not None:
            raise EngineMissing(f"the {name} engine cannot run here: {reason}")
        return Choice(name, engine, f"Engine: {name}, as asked.")
    reasons: dict[str, str] = {}
    for candidate in ("docker", "local"):
        engine = make(candidate)
        reason = engine.available()
        if reason is None:
            return Choice(candidate, engine, _why(candidate, reasons))
        reasons[candidate] = reason
    return Choice("replay", None, _why("replay", reasons))


def _why(name: str, reasons: Mapping[str, str]) -> str:
    docker, local = (reasons.get(key, "").rstrip(".") for key in ("docker", "local"))
    if name == "docker":
        return "Engine: docker, because a Docker daemon answers."
    if name == "local":
        return f"Engine: local (your own processes), because {docker}; with that cured, the lab runs in containers."
    return f"Engine: replay (recordings, nothing live), because {docker}; and {local}."
