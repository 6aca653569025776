"""The docker engine: one container a node, on one bridge network a lab.

Theory. Everything the engine makes carries two labels, the lab's id and its user, and everything it removes
it finds by them: nothing depends on what a process remembered, so any process can end a lab that another one
started and lost.

Docker chooses the subnet (`labkit.lab.docker_network`), labkit the addresses in it. Known addresses let config files
be written before anything runs, and a node that is started again keeps its own.

A container sees its rendered configs read-only, a scratch folder in memory, and, where its command names
STATE_DIR, a volume that outlives a restart. It runs as an ordinary user with no capability, no way to gain
one, and a read-only root. Phones run on the host, bound to the bridge's own address: each has its own port.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Network
from threading import BoundedSemaphore
from typing import Any

from labkit.errors import DockerNotRunning, StackError
from labkit.lab.building import build_missing
from labkit.lab.docker_client import Daemon, connect, is_own_address, said_plainly
from labkit.lab.docker_container import (
    CONF_DIR,
    ENDED,
    LAB_LABEL,
    RENEWED,
    USER_LABEL,
    conf_folder,
    container_name,
    create_container,
    image_recipe,
    is_renewing,
    places,
    why_exited,
    write_files,
)
from labkit.lab.docker_network import gateway_of, make_network
from labkit.lab.engine import NodeState, Progress, Sniffer
from labkit.lab.record import Record, labs_folder, owner_label
from labkit.lab.templates import placeholders, render, render_files
from labkit.lab.topology import Topology

_MARKER_PORT = 9
"""Discard (RFC 863): nobody listens there."""
FIRST_PHONE_PORT = 5101
_SNIFFER_IMAGE = "python"
_STOP_S = 2
"""Seconds a program has after SIGTERM."""


class DockerEngine:
    """Runs nodes as containers (see labkit.lab.engine.Engine)."""

    name = "docker"

    def __init__(self, user: str | None = None) -> None:
        """Talk to the daemon in DOCKER_HOST.

        Args:
            user: the label that tells one user's labs from another's; see `owner_label` for the default.
        """
        self._daemon = Daemon()
        self._user = user or owner_label()
        self._starting: dict[str, Future[None]] = {}
        self._tags: dict[str, str] = {}
        # More at once than there are processors would only delay the first ones, for which others wait.
        self._slots = BoundedSemaphore(max(2, os.cpu_count() or 2))

    # ---- before a lab ----------------------------------------------------------------------------

    def available(self) -> str | None:
        """Return None where containers can run here, else the reason and its cure."""
        try:
            with said_plainly("asking the Docker daemon"):
                networks = self._daemon.api().networks(names=["bridge"])
        except StackError as error:
            return str(error)
        gateways = [gateway_of(network) for network in networks if network["Name"] == "bridge"]
        return None if all(map(is_own_address, filter(None, gateways))) else _ELSEWHERE

    def prepare(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> None:
        """Build the images that these nodes and the capture need and that are not there yet."""
        wanted = {topology.node(node).image for node in nodes} | {_SNIFFER_IMAGE} & set(topology.images)
        recipes = [image_recipe(topology, name) for name in sorted(wanted)]
        self._tags |= {recipe.name: recipe.tag for recipe in recipes}
        with said_plainly("building images"):
            build_missing(self._daemon.api(), recipes, progress)

    def _tag(self, topology: Topology, image: str) -> str:
        """The image as it was prepared: sources that change meanwhile make another one, for the next lab."""
        if image not in self._tags:
            self._tags[image] = image_recipe(topology, image).tag
        return self._tags[image]

    def allocate(self, topology: Topology, record: Record) -> None:
        """Make the lab's network and give every node its address."""
        with said_plainly("making the lab's network"):
            network = make_network(self._daemon.api(), f"labkit-{record.id}", self._labels(record))
        subnet, gateway = IPv4Network(network["IPAM"]["Config"][0]["Subnet"]), gateway_of(network)
        if not is_own_address(gateway):
            self.teardown(record)
            raise DockerNotRunning(_ELSEWHERE)
        record.own |= {"network": network["Id"], "bridge": f"br-{network['Id'][:12]}", "gateway": gateway}
        record.own["broadcast"] = str(subnet.broadcast_address)
        record.own["sniffer_image"] = self._tag(topology, _SNIFFER_IMAGE)
        for index, node in enumerate(topology.nodes.values()):
            offset = node.host if subnet.num_addresses >= 256 else index + 2
            record.addresses[node.name] = str(subnet[offset])

    # ---- nodes -----------------------------------------------------------------------------------

    def release(self, record: Record) -> None:
        """Let the daemon finish what it was asked to start."""
        self._wait_for_starts(node.get("container", "") for node in record.nodes.values())

    def start_node(self, topology: Topology, record: Record, node: str) -> None:
        """Start a node's container, making it first unless a stopped one of the same image is there.

        The daemon needs half a second to start one, so it is asked in the background and several start at once;
        what it says against it comes out of `state`.
        """
        spec = topology.node(node)
        write_files(conf_folder(record, node), render_files(topology, spec, places(topology, record, node)))
        if self.renews(topology, record, node):
            record.nodes[node] |= {"asked": time.time(), "renewing": True}
            with said_plainly(f"starting {node} anew"):
                self._daemon.api().kill(record.nodes[node]["container"], signal="SIGHUP")
            return
        with said_plainly(f"starting {node}"):
            image = self._tag(topology, spec.image)
            container = self._reusable(record, node, image) or create_container(
                self._daemon.api(), topology, record, spec, image, self._labels(record)
            )
            record.nodes[node] = {"container": container, "asked": time.time()}
        self._starting[container] = _in_background(partial(self._start, node, container))

    def renews(self, topology: Topology, record: Record, node: str) -> bool:
        """Whether the node's container runs, and starts its program anew when it is told to."""
        container = record.nodes.get(node, {}).get("container", "")
        if not topology.node(node).lesson_modules or not container or self.is_starting(record, node):
            return False
        found = self._inspect(container)
        return found is not None and bool(found["State"]["Running"])

    def _start(self, node: str, container: str) -> None:
        with said_plainly(f"starting {node}"), self._slots:
            self._daemon.api().start(container)

    def _wait_for_starts(self, containers: Iterable[str]) -> None:
        """Return once the daemon has answered, whatever it said."""
        for container in containers:
            start = self._starting.pop(container, None)
            if start is not None:
                start.exception()

    def stop_nodes(self, record: Record, nodes: tuple[str, ...], *, kill: bool = False) -> None:
        """Stop containers and keep them: their logs can be read, and starting again is quick."""

        self._wait_for_starts(record.nodes.get(node, {}).get("container", "") for node in nodes)

        def stop(node: str) -> None:
            container = record.nodes.get(node, {}).get("container")
            found = self._inspect(container) if container else None
            if found is not None and found["State"]["Running"]:
                api = self._daemon.api()
                with said_plainly(f"stopping {node}"), _absent_is_fine():
                    if kill:
                        api.kill(container)
                        api.wait(container)
                    else:
                        api.stop(container, timeout=_STOP_S)

        _at_once([partial(stop, node) for node in nodes])

    def state(self, record: Record, node: str) -> NodeState:
        """Look the node's container up.

        Raises:
            StackError: the daemon did not start it; says why.
        """
        container = record.nodes.get(node, {}).get("container", "")
        address = record.addresses.get(node, "")
        start = self._starting.get(container)
        if start is not None and not start.done():
            return NodeState("running", "starting", address=address, container=container)
        if start is not None:
            self._starting.pop(container, None)
            start.result()
        found = self._inspect(container) if container else None
        if found is None:
            return NodeState("absent", address=address)
        now = found["State"]
        if now["Running"]:
            ended = self._ended_inside(record, node) if is_renewing(found) else ""
            return NodeState("exited" if ended else "running", ended, address=address, container=container)
        if now["Status"] == "created":
            return NodeState("absent", "made but not started", address=address, container=container)
        return NodeState("exited", why_exited(now), address=address, container=container)

    def is_starting(self, record: Record, node: str) -> bool:
        """Whether the daemon is still at it. Until the container is on the network, nothing may be sent to it: the
        kernel would ask once for its hardware address, and then not again for a second.
        """
        start = self._starting.get(record.nodes.get(node, {}).get("container", ""))
        if start is not None:
            return not start.done()
        if record.nodes.get(node, {}).get("renewing") and not self.logs_of_this_start(record, node):
            return True
        record.nodes.get(node, {}).pop("renewing", None)
        return False

    def logs(self, record: Record, node: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Yield the lines that the node's program wrote."""
        container = record.nodes.get(node, {}).get("container")
        if not container:
            return
        # A client of its own: a followed log holds its connection for as long as it is read.
        api = connect(timeout_s=None) if follow else self._daemon.api()
        with said_plainly(f"reading the log of {node}"), _absent_is_fine():
            said = api.logs(container, stream=True, follow=follow, tail="all" if tail is None else tail)
            yield from _lines(said)

    def logs_of_this_start(self, record: Record, node: str) -> list[str]:
        """What the node's program has written since it was last started; nothing yet where that is still to happen."""
        noted = record.nodes.get(node, {})
        if not noted.get("container"):
            return []
        said = b""
        with said_plainly(f"reading the log of {node}"), _absent_is_fine():
            # By the daemon's clock, which is this host's: it was asked to start it then.
            said = self._daemon.api().logs(noted["container"], since=float(noted.get("asked", 0.0)))
        lines = list(_lines([said]))
        begun = [number for number, line in enumerate(lines) if line == RENEWED]
        return lines[begun[-1] :] if begun else [] if noted.get("renewing") else lines

    def _ended_inside(self, record: Record, node: str) -> str:
        """How a program ended whose container goes on, so that it can be started anew; empty while it runs."""
        last = self.logs_of_this_start(record, node)[-1:]
        return last[0].removeprefix(ENDED) if last and last[0].startswith(ENDED) else ""

    def run(self, topology: Topology, record: Record, node: str, command: tuple[str, ...]) -> str:
        """Run a command inside the node's container and return what it printed.

        Raises:
            StackError: the command failed; with its output.
        """
        values = placeholders(topology, topology.node(node), places(topology, record, node))
        words = [render(word, values, f"a command for {node}") for word in command]
        with said_plainly(f"running {words[0]} in {node}"):
            api = self._daemon.api()
            made = api.exec_create(record.nodes.get(node, {}).get("container", f"{node}, not started"), words)
            text = bytes(api.exec_start(made["Id"])).decode(errors="replace")
            code = api.exec_inspect(made["Id"])["ExitCode"]
        if code:
            raise StackError(f"{' '.join(words)} in {node} ended with exit code {code}: {text.strip()}")
        return text

    def conf_dir(self, record: Record, node: str) -> str:
        """Return the folder inside the container."""
        return CONF_DIR

    # ---- phones and packets ----------------------------------------------------------------------

    def phone_address(self, record: Record, index: int) -> tuple[str, int]:
        """Return the bridge's own address, which is this host, and a port for this phone."""
        return record.own["gateway"], FIRST_PHONE_PORT + index

    def probe_address(self, record: Record) -> str:
        """Return nothing: the host's routes choose where probes come from."""
        return ""

    def sniffer(self, record: Record) -> Sniffer:
        """Return a capture container on the lab's bridge, not yet started."""
        from labkit.lab.docker_sniffer import DockerSniffer

        own = record.own
        marker_target = (own["broadcast"], _MARKER_PORT)
        return DockerSniffer(own["sniffer_image"], own["bridge"], own["gateway"], marker_target, self._labels(record))

    # ---- the end ---------------------------------------------------------------------------------

    def teardown(self, record: Record) -> None:
        """Remove every container, the network and the volumes of this lab."""
        self._wait_for_starts(list(self._starting))
        self._remove(f"{LAB_LABEL}={record.id}")

    def leftovers(self) -> list[str]:
        """List what is labelled as this user's and belongs to no lab that has a record."""
        records = (Record.load(folder) for folder in labs_folder().glob("*"))
        known = {record.id for record in records if record}
        try:
            found = self._labelled(f"{USER_LABEL}={self._user}")
        except DockerNotRunning:
            return []
        return [f"{kind} {name}" for kind, name, _, lab in found if lab not in known]

    def wipe(self) -> list[str]:
        """Remove everything that is labelled as this user's."""
        try:
            return self._remove(f"{USER_LABEL}={self._user}")
        except DockerNotRunning:
            return []

    def _labelled(self, label: str) -> list[tuple[str, str, str, str]]:
        """List (kind, name, id, lab id) of all that carries a label."""
        with said_plainly("listing what labs left"):
            api, chosen = self._daemon.api(), {"label": label}
            containers = api.containers(all=True, filters=chosen)
            networks = api.networks(filters=chosen)
            volumes = api.volumes(filters=chosen).get("Volumes") or []
        found = [("container", one["Names"][0].lstrip("/"), one["Id"], one["Labels"]) for one in containers]
        found += [("network", one["Name"], one["Id"], one["Labels"]) for one in networks]
        found += [("volume", one["Name"], one["Name"], one["Labels"]) for one in volumes]
        return [(kind, name, key, (labels or {}).get(LAB_LABEL, "")) for kind, name, key, labels in found]

    def _remove(self, label: str) -> list[str]:
        found = self._labelled(label)
        for kind in ("container", "network", "volume"):
            _at_once([partial(self._remove_one, kind, key) for what, _, key, _ in found if what == kind])
        return [f"{kind} {name}" for kind, name, _, _ in found]

    def _remove_one(self, kind: str, key: str) -> None:
        api = self._daemon.api()
        with said_plainly(f"removing {kind} {key[:40]}"), _absent_is_fine():
            if kind == "container":
                api.remove_container(key, force=True, v=True)
            elif kind == "network":
                api.remove_network(key)
            else:
                api.remove_volume(key)

    # ---- how a container is made -----------------------------------------------------------------

    def _labels(self, record: Record) -> dict[str, str]:
        return {LAB_LABEL: record.id, USER_LABEL: self._user}

    def _inspect(self, container: str) -> dict[str, Any] | None:
        from docker.errors import NotFound

        with said_plainly("looking at a container"):
            try:
                found: dict[str, Any] = self._daemon.api().inspect_container(container)
            except NotFound:
                return None
            return found

    def _reusable(self, record: Record, node: str, image: str) -> str | None:
        """Return the node's stopped container; one of an older image is removed."""
        # Asked by name: a node that had left the lab, or whose starter was killed, is not in the record.
        found = (
            self._inspect(container_name(record, node)) if node in record.nodes or record.phase == "running" else None
        )
        if found is None:
            return None
        if found["Config"]["Image"] == image:
            return str(found["Id"])
        self._remove_one("container", found["Id"])
        return None


_ELSEWHERE = (
    "the Docker daemon's networks are not on this machine (it runs on another one, in Docker Desktop's VM, "
    "or rootless), so phones here could not be reached; use --engine local, or a daemon on this Linux host"
)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream of bytes into lines, whatever the size of its pieces."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def _in_background(job: Callable[[], None]) -> Future[None]:
    """Run a job in a thread of its own, which ends with it."""
    pool = ThreadPoolExecutor(max_workers=1)
    begun = pool.submit(job)
    pool.shutdown(wait=False)
    return begun


def _at_once(jobs: list[Callable[[], None]]) -> None:
    """Run jobs side by side to their ends, then raise the first failure."""
    if not jobs:
        return
    with ThreadPoolExecutor(max_workers=8) as pool:
        running = [pool.submit(job) for job in jobs]
    for future in running:
        future.result()


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    """Let pass that somebody else removed or stopped it first."""
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        gone = ("is not running", "already in progress", "already stopped")
        if error.status_code != 404 and not any(sign in str(error.explanation) for sign in gone):
            raise
