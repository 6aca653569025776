"""The lab as a compose.yaml, for people who like compose. labkit itself never reads it.

What is the same as on the docker engine: images, commands, configuration files, names, and all that locks a container
down; it is taken from the same places. What differs:

- The subnet is said, because configurations hold addresses: 172.31.77.0/24, or LABKIT_NET when compose runs.
- Compose cannot put inline files into a container whose root is read-only, so a first service, `conf`, receives all
  of them and copies them into a volume that the nodes mount read-only.
- No port is published: SIP carries addresses, and a translated one is a wrong one. Phones run on this host, which
  reaches the bridge's addresses as they are; `expose` says what listens where.
- Compose knows no Cx peers and no SIP OPTIONS: a CSCF that is too early finds its HSS 5 seconds later (Tc in cdp.xml).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from labkit.lab.docker_container import (
    CONF_DIR,
    LOCKED_DOWN,
    RUN_DIR,
    SCRATCH,
    STATE_DIR,
    hss_peer,
    keeps_state,
    programs,
)
from labkit.lab.images import DEFAULT_BASE_IMAGE
from labkit.lab.templates import Places, render_command, render_files
from labkit.lab.topology import NodeSpec, Topology, load_topology

NETWORK = "lab"
CONF_SERVICE = "conf"
CONF_IMAGE = "python"
"""Any image with `cp` does."""
NET = "172.31.77"
"""First three numbers of the addresses where LABKIT_NET says nothing."""

_INLINE_DIR = "/inline"
_NET_VARIABLE = f"${{LABKIT_NET:-{NET}}}"
_TOKEN = "@@LABKIT_TOKEN@@"
_TOKEN_VARIABLE = "${LABKIT_TOKEN:?set it to a secret of your own, it opens the admin door of the HSS}"

HEADER = f"""\
# The lab of docker/lab.toml for compose, written by `./lab compose`. In the project's folder:
#
#     export LABKIT_TOKEN=$(openssl rand -hex 16)     # the secret of the HSS's admin door
#     docker compose up --build
#
# LABKIT_NET         other first three numbers of all addresses, where {NET} is taken
# LABKIT_BASE_IMAGE  another Debian 13 image to build on
# LABKIT_ROOT        the project's folder, where this file stands elsewhere
#
# The service `{CONF_SERVICE}` only copies the configuration files into a volume, as compose cannot put them into
# containers whose root is read-only. No port is published: phones on this host reach the addresses below as they are.
"""


def compose_yaml(topology: Topology | None = None) -> str:
    """Return the lab as the text of a compose.yaml."""
    return HEADER + "\n" + "\n".join(to_yaml(compose_tree(topology or load_topology()))) + "\n"


def compose_tree(topology: Topology) -> dict[str, Any]:
    """Return the lab as the compose specification's tree of values."""
    own = [node for node in topology.nodes.values() if node.external is None]
    files = {node.name: render_files(topology, node, _places(topology, node)) for node in own}
    services = {CONF_SERVICE: _conf_service(topology, files)}
    services |= {node.name: _service(topology, node) for node in own}
    return {
        "name": "labkit",
        "services": services,
        "networks": {NETWORK: {"driver": "bridge", "ipam": {"config": [{"subnet": f"{_NET_VARIABLE}.0/24"}]}}},
        "volumes": {CONF_SERVICE: {}} | {_state_volume(node): {} for node in own if keeps_state(node)},
        "configs": {
            _config_name(name, path): {"content": _literal(text)}
            for name, texts in files.items()
            for path, text in texts.items()
        },
    }


def _places(topology: Topology, node: NodeSpec) -> Places:
    return Places(
        addresses={name: f"{NET}.{other.host}" for name, other in topology.nodes.items()},
        own_address=f"{NET}.{node.host}",
        conf_dir=f"{CONF_DIR}/{node.name}",
        run_dir=RUN_DIR,
        state_dir=STATE_DIR,
        programs=programs(topology),
        hss_peer=hss_peer(topology),
        token=_TOKEN,
    )


def _literal(text: str) -> str:
    """Return a text as compose has to read it: a dollar sign is written twice, and our two variables are put in."""
    doubled = text.replace("$", "$$").replace(_TOKEN, _TOKEN_VARIABLE)
    return re.sub(rf"\b{re.escape(NET)}\.(?=\d)", lambda _: f"{_NET_VARIABLE}.", doubled)


def _image(topology: Topology, name: str) -> dict[str, Any]:
    root = topology.path.parent.parent
    dockerfile = (topology.images[name].folder / "Dockerfile").relative_to(root).as_posix()
    return {
        "image": f"labkit/{name}:compose",
        "build": {
            "context": "${LABKIT_ROOT:-.}",
            "dockerfile": dockerfile,
            "args": {"BASE_IMAGE": f"${{LABKIT_BASE_IMAGE:-{DEFAULT_BASE_IMAGE}}}"},
        },
    }


def _locked_down(topology: Topology, image: str) -> dict[str, Any]:
    """What is the same for every container, as compose calls it."""
    log = LOCKED_DOWN["log_config"]
    user = topology.images[image].user
    return ({"user": user} if user else {}) | {
        "init": LOCKED_DOWN["init"],
        "read_only": LOCKED_DOWN["read_only"],
        "cap_drop": LOCKED_DOWN["cap_drop"],
        "security_opt": LOCKED_DOWN["security_opt"],
        "logging": {"driver": log["type"], "options": log["config"]},
    }


def _conf_service(topology: Topology, files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    placed = [
        {"source": _config_name(name, path), "target": f"{_INLINE_DIR}/{name}/{path}"}
        for name, texts in files.items()
        for path in texts
    ]
    return (
        _image(topology, CONF_IMAGE)
        # A volume that is new gets the owner of the folder it covers, and that one is the ordinary user's.
        | {"command": ["cp", "-rf", f"{_INLINE_DIR}/.", STATE_DIR], "network_mode": "none"}
        | _locked_down(topology, CONF_IMAGE)
        | {"read_only": False, "mem_limit": "64m", "pids_limit": 16}
        | {"volumes": [f"{CONF_SERVICE}:{STATE_DIR}"], "configs": placed}
    )


def _service(topology: Topology, node: NodeSpec) -> dict[str, Any]:
    waits = {CONF_SERVICE: {"condition": "service_completed_successfully"}}
    waits |= {other: {"condition": "service_started"} for other in topology.own(node.after)}
    volumes = [f"{CONF_SERVICE}:{CONF_DIR}:ro"]
    if keeps_state(node):
        volumes.append(f"{_state_volume(node)}:{STATE_DIR}")
    aliases = {"aliases": [topology.fqdn(node.name)], "ipv4_address": f"{_NET_VARIABLE}.{node.host}"}
    return (
        _image(topology, node.image)
        | {"command": [_literal(word) for word in render_command(topology, node, _places(topology, node))]}
        | ({"profiles": [node.name]} if node.optional else {})
        | ({"environment": {k: _literal(v) for k, v in node.environment.items()}} if node.environment else {})
        | {"hostname": node.name, "depends_on": waits, "networks": {NETWORK: aliases}}
        | {"expose": [f"{port.number}/{kind}" for port in node.ports.values() for kind in port.transports]}
        | _locked_down(topology, node.image)
        | {"mem_limit": f"{node.memory_mb}m", "pids_limit": node.pids}
        | {"tmpfs": [f"{folder}:{SCRATCH}" for folder in (RUN_DIR, "/tmp")], "volumes": volumes}
    )


def _state_volume(node: NodeSpec) -> str:
    return f"{node.name}-state"


def _config_name(node: str, path: str) -> str:
    return f"{node}-{re.sub(r'[^a-zA-Z0-9._-]', '-', path)}"


# ---- YAML -----------------------------------------------------------------------------------------------------------
_PLAIN_KEY = re.compile(r"^[A-Za-z_][A-Za-z0-9._-]*$")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def to_yaml(tree: Mapping[str, Any], indent: str = "") -> list[str]:
    """Write nested mappings as lines of block-style YAML; all that is small is JSON, which YAML contains."""
    lines: list[str] = []
    for key, value in tree.items():
        begin = f"{indent}{_key(key)}:"
        if isinstance(value, Mapping) and value:
            lines += [begin, *to_yaml(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [begin, *(f"{indent}  - {_json(item)}" for item in value)]
        elif isinstance(value, str) and "\n" in value and _fits_a_block(value):
            lines += _block(begin, value, indent + "  ")
        else:
            lines.append(f"{begin} {_json(value)}")
        if not indent:
            lines.append("")
    return lines[:-1] if not indent else lines


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.match(key) and key.lower() not in _RESERVED else _json(key)


def _fits_a_block(text: str) -> bool:
    """Tell whether a literal block can hold a text as it is: no control characters, no other line ends."""
    return all(char.isprintable() or char in "\n\t" for char in text) and text.strip("\n") != ""


def _block(begin: str, text: str, indent: str) -> list[str]:
    """Write a text as a literal block; the marks say how it is indented and how it ends."""
    body = text.rstrip("\n")
    ends = len(text) - len(body)
    mark = {0: "-", 1: ""}.get(ends, "+")
    lines = text.split("\n")[: -1 if ends else None]
    return [f"{begin} |2{mark}", *(indent + line if line else "" for line in lines)]
