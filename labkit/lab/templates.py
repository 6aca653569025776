"""Commands and configurations of a node, filled in.

Theory. Engines differ only in *places*: which address a node has, where its files lie, how its program is called.
`placeholders()` turns a node and its places into the one table of names that commands and templates may use;
`render()` fills it in. So one config text serves both engines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from labkit.errors import TopologyError
from labkit.lab.topology import External, NodeSpec, Topology, read_text

_PLACEHOLDER = re.compile(r"@@([A-Z][A-Z0-9_]*)@@")
_CONDITION = re.compile(r"^\s*(?:#|<!--)@@(if|endif)\b\s*(!?)([A-Z][A-Z0-9_]*)?\s*(?:-->)?\s*$")


@dataclass(frozen=True, slots=True)
class Places:
    """Where an engine puts one node: what turns a NodeSpec into a runnable thing."""

    addresses: Mapping[str, str]
    """Node name -> what others send to (a name where the engine resolves names, else an address)."""
    own_address: str
    """What this node binds to."""
    conf_dir: str
    run_dir: str
    state_dir: str
    programs: Mapping[str, str]
    """Program name -> how it is called, for example {"kamailio": "/usr/sbin/kamailio", "python": ...}."""
    hss_peer: str
    """How cdp.xml names the HSS."""
    modules_dir: str = ""
    """Kamailio's modules where they are not in the built-in place."""
    mirror: str = ""
    """"address:port" of the collector of mirrored messages; empty where packets are sniffed."""
    token: str = ""
    """Secret of the lab's admin doors."""
    switches: frozenset[str] = frozenset()
    """Switches that are on."""
    padding: int = 0
    """How long PADDING is; see labkit.lab.probes.UarTypeProbe."""
    lesson: bool = False
    """Whether a lesson has put files of its own into CONF_DIR/lesson."""
    running: frozenset[str] = frozenset()
    """Nodes that were started before this one."""


def placeholders(topology: Topology, node: NodeSpec, places: Places) -> dict[str, str]:
    """Every name that the commands and templates of `node` may use, with its value."""
    mirror_address, _, mirror_port = places.mirror.rpartition(":")
    values = {
        "REALM": topology.realm,
        "NODE": node.name,
        "OWN_HOST": topology.fqdn(node.name),
        "OWN_ADDRESS": places.own_address,
        "HSS_PEER": places.hss_peer,
        "CONF_DIR": places.conf_dir,
        "RUN_DIR": places.run_dir,
        "STATE_DIR": places.state_dir,
        "MODULES_DIR": places.modules_dir,
        "MIRROR": places.mirror,
        "MIRROR_ADDRESS": mirror_address,
        "MIRROR_PORT": mirror_port,
        "TOKEN": places.token,
        "PADDING": "/." * 8 * places.padding,
        "LESSON": "yes" if places.lesson else "",
    }
    values |= {name.upper(): called for name, called in places.programs.items()}
    for other in topology.nodes.values():
        key = other.name.upper()
        values[f"{key}_HOST"] = topology.fqdn(other.name)
        values[f"{key}_ADDRESS"] = places.addresses.get(other.name, topology.fqdn(other.name))
        values[f"WITH_{key}"] = "yes" if other.name in places.running else ""
        values |= {f"{key}_{p.name.upper()}_PORT": str(p.number) for p in other.ports.values()}
        values[f"{key}_REALM"] = topology.realm
        if other.external is not None:
            values |= _external_values(key, other, other.external)
    values["DIAMETER_SOURCE"] = "" if _is_far(topology, places) else places.own_address
    values |= {f"OWN_{p.name.upper()}_PORT": str(p.number) for p in node.ports.values()}
    values |= {name: "on" if name in places.switches else "" for name in node.switches}
    return values


def _external_values(key: str, node: NodeSpec, external: External) -> dict[str, str]:
    """What is otherwise about a node that somebody else runs."""
    first = next(iter(node.ports), "")
    return {
        f"{key}_ADDRESS": external.address,
        f"{key}_REALM": external.realm,
        f"{key}_{first.upper()}_PORT": str(external.port),
    }


def _is_far(topology: Topology, places: Places) -> bool:
    """Whether a node on loopback has to reach somebody who is not: then the system chooses its source address."""
    external = [node.external.address for node in topology.nodes.values() if node.external is not None]
    return places.own_address.startswith("127.") and any(not address.startswith("127.") for address in external)


def render(text: str, values: Mapping[str, str], where: str) -> str:
    """`text`, placeholders filled in, unmet conditions dropped; TopologyError names the line."""
    out: list[str] = []
    open_blocks: list[bool] = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        condition = _CONDITION.match(line)
        if condition is None:
            if all(open_blocks):
                out.append(_fill(line, values, f"{where} line {number}"))
            continue
        word, negated, name = condition.groups()
        if word == "endif":
            if not open_blocks:
                raise TopologyError(f"{where} line {number}: '@@endif' without '@@if'")
            open_blocks.pop()
        elif name not in values:
            raise TopologyError(f"{where} line {number}: unknown name {name!r} in '@@if'")
        else:
            open_blocks.append(bool(values[name]) != bool(negated))
    if open_blocks:
        raise TopologyError(f"{where}: '@@if' without '@@endif'")
    return "".join(out)


def render_words(topology: Topology, node: NodeSpec, places: Places, words: tuple[str, ...]) -> list[str]:
    """Any command's words with their placeholders filled in."""
    values = placeholders(topology, node, places)
    return [_fill(word, values, f"{topology.path}: command of {node.name}") for word in words]


def render_command(topology: Topology, node: NodeSpec, places: Places) -> list[str]:
    """The node's command line for these places."""
    words = node.command + (node.mirror_arguments if places.mirror else ())
    return render_words(topology, node, places, words)


def render_files(topology: Topology, node: NodeSpec, places: Places) -> dict[str, str]:
    """Path below CONF_DIR -> text, for every template of the node."""
    values = placeholders(topology, node, places)
    return {out: render(read_text(source), values, str(source)) for out, source in node.templates.items()}


def _fill(text: str, values: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise TopologyError(f"{where}: unknown placeholder @@{match[1]}@@") from None

    return _PLACEHOLDER.sub(value, text)
