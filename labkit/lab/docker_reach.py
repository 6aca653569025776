"""Can a container reach a program on this host? A firewall that drops what comes from bridges silences all phones."""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import Any

from labkit.lab.docker_client import Daemon, said_plainly
from labkit.lab.docker_container import LAB_LABEL, LOCKED_DOWN, USER_LABEL
from labkit.lab.docker_network import gateway_of
from labkit.lab.images import IMAGE_LABEL
from labkit.lab.record import owner_label

_IMAGE = "python"
"""Of whichever sources: it only has to send a datagram."""
_WAIT_S = 6.0
_SEND = (
    "import socket, sys, time\n"
    "sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "for _ in range(10):\n"
    "    sender.sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))\n"
    "    time.sleep(0.2)\n"
)


def container_reaches_host(port: int = 0) -> bool | None:
    """Whether a datagram from a container on a new network arrives at a socket of this host on that network's bridge.

    Network and container are gone again when this returns. None where the image that is needed is not built yet.

    Args:
        port: where to listen; 0 takes any free port.
    Raises:
        StackError: Docker refused.
        DockerNotRunning: no daemon answers.
    """
    with said_plainly("asking whether containers reach this host"):
        api = Daemon().api()
        images = api.images(filters={"label": f"{IMAGE_LABEL}={_IMAGE}"})
        if not images:
            return None
        name = f"reach-{secrets.token_hex(3)}"
        labels = {LAB_LABEL: name, USER_LABEL: owner_label()}
        network = api.create_network(f"labkit-{name}", driver="bridge", labels=labels)["Id"]
        try:
            return _datagram_arrives(
                api, gateway_of(api.inspect_network(network)), network, images[0]["Id"], labels, port
            )
        finally:
            api.remove_network(network)


def _datagram_arrives(api: Any, gateway: str, network: str, image: str, labels: dict[str, str], port: int) -> bool:
    word = secrets.token_hex(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((gateway, port))
        listener.settimeout(_WAIT_S)
        command = ["/usr/bin/python3", "-S", "-c", _SEND, gateway, str(listener.getsockname()[1]), word]
        host_config = api.create_host_config(network_mode=network, mem_limit="64m", pids_limit=16, **LOCKED_DOWN)
        container = api.create_container(image, command=command, labels=labels, host_config=host_config)["Id"]
        try:
            api.start(container)
            with contextlib.suppress(TimeoutError):
                return listener.recv(64) == word.encode()
            return False
        finally:
            api.remove_container(container, force=True, v=True)
