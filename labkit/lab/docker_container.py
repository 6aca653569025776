"""One node as a container of the docker engine: where its files are, and what it may not do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import StackError
from labkit.lab.images import ImageRecipe, read_recipe
from labkit.lab.lesson_files import has_lesson
from labkit.lab.record import Record
from labkit.lab.templates import Places, render_command
from labkit.lab.topology import NodeSpec, Topology

LAB_LABEL, USER_LABEL, NODE_LABEL = "labkit.lab", "labkit.user", "labkit.node"

CONF_DIR, RUN_DIR, STATE_DIR = "/etc/lab", "/run/lab", "/var/lib/lab"
_PATHS = {"kamailio": "/usr/sbin/kamailio", "python": "/usr/bin/python3"}
"""How the images call their programs, where it is not /usr/bin and the program's own name."""

CONTAINER_USER = 900
"""Number of the user in every image: scratch folders are mounted as his."""

SCRATCH = f"uid={CONTAINER_USER},gid={CONTAINER_USER},mode=0755,size=64m"

LOCKED_DOWN: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "init": True,
    "log_config": {"type": "json-file", "config": {"max-size": "5m", "max-file": "2"}},
}
"""What every node's container is started with."""

RENEWING = """\
trap 'again=yes; kill -KILL -$pid 2>/dev/null' HUP
trap 'kill -TERM -$pid 2>/dev/null; wait $pid; exit' TERM INT
await_end() { # of all that the last program has started: until then its ports are taken
    tries=500
    while [ "$tries" -gt 0 ] && kill -0 -$pid 2>/dev/null; do
        wait $pid 2>/dev/null
        tries=$((tries - 1))
        sleep 0.01
    done
}
pid=
again=yes
while :; do
    if [ "$again" ]; then
        again=
        [ -z "$pid" ] || await_end
        echo "labkit: starting" >&2
        setsid "$@" &
        pid=$!
        wait $pid
        code=$?
        [ "$again" ] || echo "labkit: ended with exit code $code" >&2
    else
        sleep 1 &
        wait $!
    fi
done
"""
"""What runs the program of a node that lessons change: SIGHUP starts it anew within its container, in a third of the
time that Docker needs for a container. It is given the command of lab.toml and never anything that a learner wrote.

What it says goes to stderr, as what Kamailio says does: lines of two streams have no order in a container's log."""
RENEWED, ENDED = "labkit: starting", "labkit: ended with "
"""What it says there."""


def programs(topology: Topology) -> dict[str, str]:
    """Path of each program, and of files it is given, in its image; the local engine has others for the same names."""
    files = {f"{name}_files": f"/usr/share/lab/{name}" for name, spec in topology.programs.items() if spec.go_files}
    return {name: f"/usr/bin/{Path(spec.binary).name}" for name, spec in topology.programs.items()} | files | _PATHS


def places(topology: Topology, record: Record, node: str) -> Places:
    """Where the node's files and the others are, as its program sees them."""
    return Places(
        addresses=dict(record.addresses),  # SIP URIs have names, which Docker's own resolver knows
        own_address=record.address(node),
        conf_dir=CONF_DIR,
        run_dir=RUN_DIR,
        state_dir=STATE_DIR,
        programs=programs(topology),
        hss_peer=hss_peer(topology),
        token=record.token,
        switches=frozenset(record.switches),
        padding=record.padding.get(node, 0),
        lesson=has_lesson(record, node),
        running=frozenset(record.nodes) - {node},
    )


def hss_peer(topology: Topology) -> str:
    """How cdp.xml names the HSS: its name, or the address of an external one, whose name nobody here resolves."""
    hss = topology.nodes.get("hss")
    if hss is None:
        return ""
    return hss.external.address if hss.external is not None else topology.fqdn("hss")


def keeps_state(node: NodeSpec) -> bool:
    """Tell whether a node's command names the folder that outlives a restart."""
    return any("@@STATE_DIR@@" in word for word in node.command)


def conf_folder(record: Record, node: str) -> Path:
    """This host's folder that the container sees as its configurations."""
    return record.node_folder(node) / "conf"


def container_name(record: Record, node: str) -> str:
    """What Docker calls the node's container."""
    return f"labkit-{record.id}-{node}"


def create_container(
    api: Any, topology: Topology, record: Record, spec: NodeSpec, image: str, labels: Mapping[str, str]
) -> str:
    """Make the node's container, with its volume where it keeps state; return its id.

    Args:
        labels: by which container and volume are found again.
    """
    from docker.types import Mount

    mounts = [Mount(CONF_DIR, str(conf_folder(record, spec.name).resolve()), type="bind", read_only=True)]
    if keeps_state(spec):
        volume = container_name(record, spec.name)
        api.create_volume(volume, labels=dict(labels))
        mounts.append(Mount(STATE_DIR, volume, type="volume"))
    network = record.own["network"]
    endpoint = api.create_endpoint_config(
        aliases=[topology.fqdn(spec.name), spec.name], ipv4_address=record.address(spec.name)
    )
    command = render_command(topology, spec, places(topology, record, spec.name))
    made = api.create_container(
        image,
        command=["/bin/sh", "-c", RENEWING, "labkit", *command] if spec.lesson_modules else command,
        name=container_name(record, spec.name),
        hostname=spec.name,
        user=topology.images[spec.image].user or None,
        environment=dict(spec.environment) | {"LABKIT_LAB": record.id},
        labels=dict(labels) | {NODE_LABEL: spec.name},
        host_config=api.create_host_config(
            network_mode=network,
            mounts=mounts,
            tmpfs={RUN_DIR: SCRATCH, "/tmp": SCRATCH},
            mem_limit=f"{spec.memory_mb}m",
            pids_limit=spec.pids,
            **LOCKED_DOWN,
        ),
        networking_config=api.create_networking_config({network: endpoint}),
    )
    return str(made["Id"])


def is_renewing(container: Mapping[str, Any]) -> bool:
    """Whether a container, as Docker describes it, goes on when its program ends."""
    return RENEWING in (container["Config"].get("Cmd") or ())


def image_recipe(topology: Topology, name: str) -> ImageRecipe:
    """Return what goes into the image called `name` in lab.toml."""
    return read_recipe(name, topology.images[name].folder / "Dockerfile", topology.path.parent.parent)


def write_files(folder: Path, files: Mapping[str, str]) -> None:
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


def why_exited(now: Mapping[str, Any]) -> str:
    if now.get("OOMKilled"):
        return "killed by the kernel: it needed more than memory_mb of docker/lab.toml allows"
    return f"exit code {now.get('ExitCode')}" + (f", {now['Error']}" if now.get("Error") else "")
