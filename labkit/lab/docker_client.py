"""The door to the Docker daemon: one client a thread, and its errors in words that say what to do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labkit.errors import DockerNotRunning, LabkitError, StackError

_START_CURE = "start it with `sudo systemctl start docker`"
_GROUP_CURE = "join its group with `sudo usermod -aG docker $USER` and log in again"


class Daemon:
    """Clients of one daemon, which DOCKER_HOST names. Clients are not shared between threads."""

    def __init__(self) -> None:
        self._clients = threading.local()
        self._version: str | None = None

    def api(self) -> Any:
        """Return this thread's low-level client.

        Raises:
            DockerNotRunning: no daemon answers, or this user may not talk to it; says the cure.
        """
        client = getattr(self._clients, "api", None)
        if client is None:
            client = self._clients.api = connect(version=self._version)
            self._version = client.api_version
        return client


def connect(*, version: str | None = None, timeout_s: int | None = 120) -> Any:
    """Open a low-level client of the daemon in DOCKER_HOST (else the local socket).

    Raises:
        DockerNotRunning: with the cure.
    """
    try:
        import docker
    except ImportError as error:
        raise DockerNotRunning(
            "Docker's Python SDK is not installed in this environment; `./lab up` installs it"
        ) from error
    try:
        client = docker.from_env(version=version, timeout=timeout_s)  # type: ignore[arg-type]
        return client.api
    except Exception as error:  # from requests, urllib3, ssl, paramiko: whatever DOCKER_HOST leads to
        raise DockerNotRunning(explain_connection(error, docker_host())) from error


def docker_host() -> str:
    """Return where the daemon is expected."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def explain_connection(error: BaseException, host: str) -> str:
    """Say in a sentence why no daemon answered, and what helps."""
    for cause in _causes(error):
        if isinstance(cause, PermissionError):
            return f"you may not talk to the Docker daemon at {host}; {_GROUP_CURE}"
        if isinstance(cause, FileNotFoundError) and host.startswith("unix:"):
            return (
                f"there is no Docker daemon (no socket {host}); install Docker "
                f"(Debian: `sudo apt install docker.io`), or {_START_CURE}"
            )
        if isinstance(cause, ConnectionRefusedError):
            return f"the Docker daemon at {host} is not running; {_START_CURE}"
    return f"the Docker daemon at {host} does not answer ({error}); check DOCKER_HOST, or {_START_CURE}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Every exception that led to this one; urllib3 and requests keep some in their arguments."""
    seen: list[BaseException] = [error]
    for found in seen:
        inner = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        seen += [one for one in inner if isinstance(one, BaseException) and one not in seen]
        yield found


@contextmanager
def said_plainly(doing: str) -> Iterator[None]:
    """Turn what Docker says while `doing` something into a StackError with the cure.

    Raises:
        StackError: Docker refused.
        DockerNotRunning: the daemon went away.
    """
    try:
        yield
    except LabkitError:
        raise
    except Exception as error:
        module = type(error).__module__
        if module.startswith("docker."):
            raise StackError(f"{doing}: {explain_refusal(error)}") from error
        if module.startswith(("requests.", "urllib3.")):
            raise DockerNotRunning(f"{doing}: {explain_connection(error, docker_host())}") from error
        raise


def explain_refusal(error: Exception) -> str:
    """Say what Docker refused; for the refusals that learners meet, what to do as well."""
    text = str(getattr(error, "explanation", None) or error).strip()
    said = text.lower()
    if "address pool" in said:
        return (
            f"Docker has no free subnet left ({text}). `./lab wipe` removes the networks of old labs, "
            "`docker network prune` those of other projects"
        )
    if "no space left" in said:
        return f"the Docker daemon's disk is full ({text}); make room, for example with `docker system prune`"
    if "bind source path" in said:
        return (
            f"the daemon does not see this machine's files ({text}): it runs on another machine or in a "
            "container. Point LABKIT_HOME at a folder both see, or use --engine local"
        )
    if "no such image" in said:
        return f"{text}; `./lab up` builds it"
    return f"Docker said: {text}"


def is_own_address(address: str) -> bool:
    """Tell whether this host can bind `address`: the bridge of a daemon elsewhere is not here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
