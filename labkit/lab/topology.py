"""The lab as a description: `docker/lab.toml` read, checked, and filled into templates.

Theory. A *node* is one running program with a name, ports, a command, templates and readiness conditions.
Engines differ only in *places*: which address a node has, where its files lie, how its program is called.
`placeholders()` turns a node and its places into the one table of names that commands and templates may use;
`render()` fills it in. So one config text serves both engines, and a new node is a new section of the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.errors import TopologyError
from labkit.paths import project_root

READY_KINDS = ("tcp", "options", "diameter-peer")
"""The conditions that `labkit.lab.ready` knows how to await."""

_PLACEHOLDER = re.compile(r"@@([A-Z][A-Z0-9_]*)@@")
_CONDITION = re.compile(r"^\s*(?:#|<!--)@@(if|endif)\b\s*(!?)([A-Z][A-Z0-9_]*)?\s*(?:-->)?\s*$")
_NAME = re.compile(r"^[a-z][a-z0-9]{0,15}$")


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a node."""

    name: str
    """What the port is for, for example "sip"."""
    number: int
    transports: tuple[str, ...]
    """"udp", "tcp", or both."""

    def __str__(self) -> str:
        return f"{self.number}/{'+'.join(self.transports)}"


@dataclass(frozen=True, slots=True)
class ReadyCondition:
    """What must be true before a node counts as ready."""

    kind: str
    """One of READY_KINDS."""
    port: str = ""
    """Name of the node's own port, for "tcp" and "options"."""
    at: str = ""
    """The other node that is asked, for "diameter-peer"."""
    timeout_s: float = 15.0
    """How long a slow machine may take."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image of the docker engine: a folder below docker/ with a Dockerfile."""

    name: str
    folder: Path
    user: str = ""
    """The user that the node's program runs as inside."""


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program that the local engine finds or fetches."""

    name: str
    variable: str = ""
    """Environment variable that may name the program's path."""
    packages: tuple[str, ...] = ()
    """Packages of the distribution that hold it."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node as lab.toml describes it."""

    name: str
    title: str
    """What a ladder writes above its lifeline."""
    image: str
    """Name of its ImageSpec."""
    program: str
    """Name of its ProgramSpec; empty where Python is all it needs."""
    host: int
    """Last number of its address on the local engine."""
    ports: Mapping[str, Port]
    command: tuple[str, ...]
    """With placeholders still in it."""
    mirror_arguments: tuple[str, ...] = ()
    """Added to the command where messages are mirrored instead of sniffed."""
    templates: Mapping[str, Path] = field(default_factory=dict)
    """Path below CONF_DIR -> template file."""
    ready: tuple[ReadyCondition, ...] = ()
    after: tuple[str, ...] = ()
    """Nodes that must be ready before this one starts."""
    version: tuple[str, ...] = ()
    """Command that prints the program's version."""
    version_pattern: str = r"(\S+)"
    """Its group 1 in that output is the version."""
    optional: bool = False
    """Starts on demand only."""
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_mb: int = 256
    """Limit of the docker engine."""
    pids: int = 64
    """Limit of the docker engine."""

    def port(self, name: str) -> Port:
        """The port called `name`; TopologyError when there is none."""
        try:
            return self.ports[name]
        except KeyError:
            raise TopologyError(
                f"node {self.name} has no port {name!r}; it has {', '.join(self.ports) or 'none'}"
            ) from None


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole of lab.toml."""

    path: Path
    realm: str
    nodes: Mapping[str, NodeSpec]
    """In the order of their lifelines."""
    images: Mapping[str, ImageSpec]
    programs: Mapping[str, ProgramSpec]
    default: tuple[str, ...]
    """Nodes that a lab starts with."""

    def node(self, name: str) -> NodeSpec:
        """The node called `name`; TopologyError with the names there are."""
        try:
            return self.nodes[name]
        except KeyError:
            raise TopologyError(f"there is no node {name!r}; {self.path} has {', '.join(self.nodes)}") from None

    def fqdn(self, name: str) -> str:
        """The full name of a node, as SIP URIs and Diameter identities carry it."""
        return f"{self.node(name).name}.{self.realm}"

    def waves(self, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        """`names` grouped by start order: each group may start together once the groups before it are ready.

        A node's `after` counts only where that node is among `names`.
        """
        left, done, groups = list(names), set[str](), list[tuple[str, ...]]()
        while left:
            group = tuple(n for n in left if all(a in done or a not in names for a in self.node(n).after))
            if not group:
                raise TopologyError(f"{self.path}: 'after' runs in a circle among {', '.join(left)}")
            groups.append(group)
            done.update(group)
            left = [n for n in left if n not in group]
        return groups


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
        "CAPTURE_ID": str(list(topology.nodes).index(node.name) + 1),
        "TOKEN": places.token,
    }
    values |= {name.upper(): called for name, called in places.programs.items()}
    for other in topology.nodes.values():
        key = other.name.upper()
        values[f"{key}_HOST"] = topology.fqdn(other.name)
        values[f"{key}_ADDRESS"] = places.addresses.get(other.name, topology.fqdn(other.name))
        values |= {f"{key}_{p.name.upper()}_PORT": str(p.number) for p in other.ports.values()}
    values |= {f"OWN_{p.name.upper()}_PORT": str(p.number) for p in node.ports.values()}
    return values


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
    return {out: render(_read(source), values, str(source)) for out, source in node.templates.items()}


def default_path() -> Path:
    """docker/lab.toml of this checkout."""
    return project_root() / "docker" / "lab.toml"


def load_topology(path: Path | None = None) -> Topology:
    """lab.toml as values; TopologyError says which section and key is wrong.

    Template and image paths are relative to the file's folder. Files are not opened here: a template that is
    missing is said when its node starts.
    """
    path = path or default_path()
    try:
        tree = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(f"{path} is no TOML: {error}") from error
    reader = _Reader(path)
    reader.only(tree, "the file", {"lab", "image", "program", "node"})
    lab = reader.table(tree, "lab", "the file")
    reader.only(lab, "[lab]", {"realm", "default"})
    images = {n: reader.image(n, t) for n, t in reader.tables(tree, "image").items()}
    programs = {n: reader.program(n, t) for n, t in reader.tables(tree, "program").items()}
    nodes = {n: reader.node(n, t) for n, t in reader.tables(tree, "node").items()}
    default = reader.texts(lab, "default", "[lab]") or tuple(n for n, s in nodes.items() if not s.optional)
    topology = Topology(path, reader.text(lab, "realm", "[lab]"), nodes, images, programs, default)
    _check(topology)
    return topology


def _check(topology: Topology) -> None:
    """References between sections that cannot be followed are errors here, not at start."""
    hosts: dict[int, str] = {}
    for node in topology.nodes.values():
        where = f"{topology.path}: [node.{node.name}]"
        if node.image not in topology.images:
            raise TopologyError(f"{where} names image {node.image!r}, which no [image.{node.image}] describes")
        if node.program and node.program not in topology.programs:
            raise TopologyError(f"{where} names program {node.program!r}, which no [program.{node.program}] describes")
        if node.host in hosts:
            raise TopologyError(f"{where} and [node.{hosts[node.host]}] have the same host = {node.host}")
        hosts[node.host] = node.name
        for other in (*node.after, *(c.at for c in node.ready if c.at)):
            if other not in topology.nodes:
                raise TopologyError(f"{where} refers to node {other!r}, which is not there")
        for condition in node.ready:
            if condition.kind not in READY_KINDS:
                raise TopologyError(f"{where}: ready kind {condition.kind!r}; known are {', '.join(READY_KINDS)}")
            if condition.kind == "diameter-peer":
                topology.node(condition.at).port("admin")
            else:
                node.port(condition.port)
    for name in topology.default:
        topology.node(name)
    topology.waves(tuple(topology.nodes))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(f"cannot read {path}: {error}") from error


def _fill(text: str, values: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise TopologyError(f"{where}: unknown placeholder @@{match[1]}@@") from None

    return _PLACEHOLDER.sub(value, text)


class _Reader:
    """Takes TOML tables apart; each complaint names the file, the section and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def only(self, table: Mapping[str, Any], where: str, known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise TopologyError(f"{self._path}: {where} has {key!r}; known are {', '.join(sorted(known))}")

    def table(self, tree: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
        found = tree.get(key, {})
        if not isinstance(found, dict):
            raise TopologyError(f"{self._path}: {key} of {where} must be a table")
        return found

    def tables(self, tree: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
        return {name: self.table(self.table(tree, key, "the file"), name, key) for name in tree.get(key, {})}

    def text(self, table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
        found = table.get(key, default)
        if not isinstance(found, str):
            raise TopologyError(f"{self._path}: {where} needs {key} = a text")
        return found

    def number(self, table: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
        found = table.get(key, default)
        if not isinstance(found, int) or isinstance(found, bool) or found < 0:
            raise TopologyError(f"{self._path}: {where} needs {key} = a number, 0 or more")
        return found

    def texts(self, table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise TopologyError(f"{self._path}: {where} needs {key} = a list of texts")
        return tuple(found)

    def image(self, name: str, table: Mapping[str, Any]) -> ImageSpec:
        where = f"[image.{name}]"
        self.only(table, where, {"folder", "user"})
        return ImageSpec(
            name, self._path.parent / self.text(table, "folder", where), self.text(table, "user", where, "")
        )

    def program(self, name: str, table: Mapping[str, Any]) -> ProgramSpec:
        where = f"[program.{name}]"
        self.only(table, where, {"variable", "packages"})
        return ProgramSpec(name, self.text(table, "variable", where, ""), self.texts(table, "packages", where))

    def node(self, name: str, table: Mapping[str, Any]) -> NodeSpec:
        where = f"[node.{name}]"
        if not _NAME.match(name):
            raise TopologyError(f"{self._path}: {where}: a name is 1 to 16 of a-z and 0-9, a letter first")
        known = set(NodeSpec.__dataclass_fields__) - {"name"}
        self.only(table, where, known)
        host = self.number(table, "host", where)
        if not 3 <= host <= 100:
            raise TopologyError(f"{self._path}: {where}: host = 3 to 100 (2 is the mirror, 101 and up are phones)")
        optional = table.get("optional", False)
        if not isinstance(optional, bool):
            raise TopologyError(f"{self._path}: {where} needs optional = true or false")
        return NodeSpec(
            name=name,
            title=self.text(table, "title", where, name),
            image=self.text(table, "image", where),
            program=self.text(table, "program", where, ""),
            host=host,
            ports=self._ports(self.table(table, "ports", where), where),
            command=self.texts(table, "command", where),
            mirror_arguments=self.texts(table, "mirror_arguments", where),
            templates=self._templates(self.table(table, "templates", where), where),
            ready=self._ready(table.get("ready", []), where),
            after=self.texts(table, "after", where),
            version=self.texts(table, "version", where),
            version_pattern=self._pattern(table, where),
            optional=optional,
            environment={k: str(v) for k, v in self.table(table, "environment", where).items()},
            memory_mb=self.number(table, "memory_mb", where, 256),
            pids=self.number(table, "pids", where, 64),
        )

    def _ports(self, table: Mapping[str, Any], where: str) -> dict[str, Port]:
        ports = {}
        for name, text in table.items():
            found = re.fullmatch(r"(\d{1,5})/(udp|tcp|udp\+tcp)", str(text))
            if found is None or not 0 < int(found[1]) < 65536:
                raise TopologyError(f'{self._path}: {where} port {name} = {text!r}; write for example "5060/udp+tcp"')
            ports[name] = Port(name, int(found[1]), tuple(found[2].split("+")))
        return ports

    def _templates(self, table: Mapping[str, Any], where: str) -> dict[str, Path]:
        for out in table:
            if Path(out).is_absolute() or ".." in Path(out).parts:
                raise TopologyError(f"{self._path}: {where} template {out!r} must stay below CONF_DIR")
        return {out: self._path.parent / str(source) for out, source in table.items()}

    def _ready(self, entries: Any, where: str) -> tuple[ReadyCondition, ...]:
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise TopologyError(f"{self._path}: {where} needs ready = a list of tables")
        for entry in entries:
            self.only(entry, f"{where} ready", set(ReadyCondition.__dataclass_fields__))
            if "kind" not in entry:
                raise TopologyError(f"{self._path}: {where} ready entry without kind")
        return tuple(ReadyCondition(**entry) for entry in entries)

    def _pattern(self, table: Mapping[str, Any], where: str) -> str:
        text = self.text(table, "version_pattern", where, r"(\S+)")
        try:
            groups = re.compile(text).groups
        except re.error as error:
            raise TopologyError(f"{self._path}: {where} version_pattern: {error}") from error
        if groups < 1:
            raise TopologyError(f"{self._path}: {where} version_pattern needs a group for the version")
        return text
