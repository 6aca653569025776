"""The docker engine: one container a node, on one bridge network a lab.

Theory. Everything the engine makes carries two labels, the lab's id and its user, and everything it removes
it finds by them: nothing depends on what a process remembered, so any process can end a lab that another one
started and lost.

Docker chooses the subnet, labkit the addresses in it. Docker gives fixed addresses only where the user named
the subnet, so a network is made, its subnet read, and the network made again with that subnet said. Known
addresses let config files be written before anything runs, and a node that is started again keeps its own.

A container sees its rendered configs read-only, a scratch folder in memory, and, where its command names
STATE_DIR, a volume that outlives a restart. It runs as an ordinary user with no capability, no way to gain
one, and a read-only root. Phones run on the host, bound to the bridge's own address: each has its own port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from labkit.errors import DockerNotRunning, StackError
from labkit.lab.docker_client import Daemon, connect, is_own_address, said_plainly
from labkit.lab.engine import NodeState, Progress, Record, Sniffer, labs_folder, owner_label
from labkit.lab.images import ImageRecipe, build_image, missing_images, read_recipe
from labkit.lab.topology import NodeSpec, Places, Topology, placeholders, render, render_command, render_files

LAB_LABEL, USER_LABEL, NODE_LABEL = "labkit.lab", "labkit.user", "labkit.node"

CONF_DIR, RUN_DIR, STATE_DIR = "/etc/lab", "/run/lab", "/var/lib/lab"
PROGRAMS = {"kamailio": "/usr/sbin/kamailio", "python": "/usr/bin/python3"}
"""How the images call their programs; the local engine has other paths for the same names."""

CONTAINER_USER = 900
"""Number of the user in every image: scratch folders are mounted as his."""

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

    # ---- before a lab ----------------------------------------------------------------------------

    def available(self) -> str | None:
        """Return None where containers can run here, else the reason and its cure."""
        try:
            with said_plainly("asking the Docker daemon"):
                networks = self._daemon.api().networks(names=["bridge"])
        except StackError as error:
            return str(error)
        gateways = [_gateway(network) for network in networks if network["Name"] == "bridge"]
        return None if all(map(is_own_address, filter(None, gateways))) else _ELSEWHERE

    def prepare(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> None:
        """Build the images that these nodes and the capture need and that are not there yet."""
        recipes = {topology.node(node).image for node in nodes} | {_SNIFFER_IMAGE} & set(topology.images)
        with said_plainly("building images"):
            missing = missing_images(self._daemon.api(), [image_recipe(topology, n) for n in sorted(recipes)])
            for recipe in missing:
                build_image(connect(timeout_s=900), recipe, progress)

    def allocate(self, topology: Topology, record: Record) -> None:
        """Make the lab's network and give every node its address."""
        network = self._make_network(record)
        subnet, gateway = IPv4Network(network["IPAM"]["Config"][0]["Subnet"]), _gateway(network)
        if not is_own_address(gateway):
            self.teardown(record)
            raise DockerNotRunning(_ELSEWHERE)
        record.own |= {"network": network["Id"], "bridge": f"br-{network['Id'][:12]}", "gateway": gateway}
        record.own["broadcast"] = str(subnet.broadcast_address)
        record.own["sniffer_image"] = image_recipe(topology, _SNIFFER_IMAGE).tag
        for index, node in enumerate(topology.nodes.values()):
            offset = node.host if subnet.num_addresses >= 256 else index + 2
            record.addresses[node.name] = str(subnet[offset])

    def _make_network(self, record: Record) -> dict[str, Any]:
        with said_plainly("making the lab's network"):
            last: Exception | None = None
            for _ in range(5):
                try:
                    chosen = self._create_network(record, None)
                    self._daemon.api().remove_network(chosen["Id"])
                    return self._create_network(record, chosen["IPAM"]["Config"][0])
                except Exception as error:
                    if "overlaps" not in str(error):
                        raise
                    last = error  # another lab took the subnet between the two steps: ask again
            raise StackError(f"no subnet could be had in five attempts ({last})")

    def _create_network(self, record: Record, pool: dict[str, str] | None) -> dict[str, Any]:
        from docker.types import IPAMConfig, IPAMPool

        api = self._daemon.api()
        pools = [IPAMPool(subnet=pool["Subnet"], gateway=pool.get("Gateway"))] if pool else []
        made = api.create_network(
            f"labkit-{record.id}",
            driver="bridge",
            ipam=IPAMConfig(pool_configs=pools) if pools else None,
            labels=self._labels(record),
        )
        found: dict[str, Any] = api.inspect_network(made["Id"])
        return found

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
        _write_files(
            record.node_folder(node) / "conf",
            render_files(topology, spec, self._places(topology, record, node)),
        )
        with said_plainly(f"starting {node}"):
            image = image_recipe(topology, spec.image).tag
            container = self._reusable(record, node, image) or self._create(topology, record, spec, image)
            record.nodes[node] = {"container": container}
        self._starting[container] = _in_background(partial(self._start, node, container))

    def _start(self, node: str, container: str) -> None:
        with said_plainly(f"starting {node}"):
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
            if container and self.state(record, node).state == "running":
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
            return NodeState("running", address=address, container=container)
        if now["Status"] == "created":
            return NodeState("absent", "made but not started", address=address, container=container)
        return NodeState("exited", _why_exited(now), address=address, container=container)

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

    def run(self, topology: Topology, record: Record, node: str, command: tuple[str, ...]) -> str:
        """Run a command inside the node's container and return what it printed.

        Raises:
            StackError: the command failed; with its output.
        """
        values = placeholders(topology, topology.node(node), self._places(topology, record, node))
        words = [render(word, values, f"a command for {node}") for word in command]
        with said_plainly(f"running {words[0]} in {node}"):
            api = self._daemon.api()
            made = api.exec_create(record.nodes.get(node, {}).get("container", f"{node}, not started"), words)
            text = bytes(api.exec_start(made["Id"])).decode(errors="replace")
            code = api.exec_inspect(made["Id"])["ExitCode"]
        if code:
            raise StackError(f"{' '.join(words)} in {node} ended with exit code {code}: {text.strip()}")
        return text

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
        return DockerSniffer(own["sniffer_image"], own["bridge"], marker_target, self._labels(record))

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

    def _places(self, topology: Topology, record: Record, node: str) -> Places:
        return Places(
            addresses=dict(record.addresses),  # SIP URIs have names, which Docker's own resolver knows
            own_address=record.addresses[node],
            conf_dir=CONF_DIR,
            run_dir=RUN_DIR,
            state_dir=STATE_DIR,
            programs=PROGRAMS,
            hss_peer=topology.fqdn("hss") if "hss" in topology.nodes else "",
            token=record.token,
        )

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
        container = record.nodes.get(node, {}).get("container", "")
        found = self._inspect(container) if container else None
        if found is None:
            return None
        if found["Config"]["Image"] == image:
            return str(container)
        self._remove_one("container", container)
        return None

    def _create(self, topology: Topology, record: Record, spec: NodeSpec, image: str) -> str:
        from docker.types import Mount

        api = self._daemon.api()
        conf = record.node_folder(spec.name) / "conf"
        mounts = [Mount(CONF_DIR, str(conf.resolve()), type="bind", read_only=True)]
        if any("@@STATE_DIR@@" in word for word in spec.command):
            volume = f"labkit-{record.id}-{spec.name}"
            api.create_volume(volume, labels=self._labels(record))
            mounts.append(Mount(STATE_DIR, volume, type="volume"))
        made = api.create_container(
            image,
            command=render_command(topology, spec, self._places(topology, record, spec.name)),
            name=f"labkit-{record.id}-{spec.name}",
            hostname=spec.name,
            user=topology.images[spec.image].user or None,
            environment=dict(spec.environment) | {"LABKIT_LAB": record.id},
            labels=self._labels(record) | {NODE_LABEL: spec.name},
            host_config=api.create_host_config(
                network_mode=record.own["network"],
                mounts=mounts,
                tmpfs={RUN_DIR: SCRATCH, "/tmp": SCRATCH},
                mem_limit=f"{spec.memory_mb}m",
                pids_limit=spec.pids,
                **LOCKED_DOWN,
            ),
            networking_config=api.create_networking_config(
                {
                    record.own["network"]: api.create_endpoint_config(
                        aliases=[topology.fqdn(spec.name), spec.name],
                        ipv4_address=record.addresses[spec.name],
                    )
                }
            ),
        )
        return str(made["Id"])


SCRATCH = f"uid={CONTAINER_USER},gid={CONTAINER_USER},mode=0755,size=64m"

LOCKED_DOWN: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "init": True,
    "log_config": {"type": "json-file", "config": {"max-size": "5m", "max-file": "2"}},
}
"""What every node's container is started with."""

_ELSEWHERE = (
    "the Docker daemon's networks are not on this machine (it runs on another one, in Docker Desktop's VM, "
    "or rootless), so phones here could not be reached; use --engine local, or a daemon on this Linux host"
)


def image_recipe(topology: Topology, name: str) -> ImageRecipe:
    """Return what goes into the image called `name` in lab.toml."""
    return read_recipe(name, topology.images[name].folder / "Dockerfile", topology.path.parent.parent)


def _gateway(network: dict[str, Any]) -> str:
    """Address of the host on a network; empty when it has none."""
    for pool in network["IPAM"]["Config"] or ():
        return str(pool.get("Gateway") or IPv4Network(pool["Subnet"])[1])
    return ""


def _write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write rendered configs so that the container's user, who is nobody here, may read them.

    The folders above are closed to other users of this host; the container sees this one alone.
    """
    try:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(0o644)
        for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            inner.chmod(0o755)
    except OSError as error:
        raise StackError(f"cannot write {error.filename or folder}: {error.strerror or error}") from error


def _why_exited(now: Mapping[str, Any]) -> str:
    if now.get("OOMKilled"):
        return "killed by the kernel: it needed more than memory_mb of docker/lab.toml allows"
    return f"exit code {now.get('ExitCode')}" + (f", {now['Error']}" if now.get("Error") else "")


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
