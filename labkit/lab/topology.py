"""The lab as a description: `docker/lab.toml` read and checked.

A *node* is one running program with a name, ports, a command, templates and readiness conditions. A new node is a new
section of the file. How templates are filled in: `labkit.lab.templates`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from labkit.errors import TopologyError
from labkit.paths import project_root

READY_KINDS = ("tcp", "options", "diameter-peer", "uar-type", "cgrates", "charging", "postgres")
"""The conditions that `labkit.lab.probes` knows how to ask for."""

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
    """Name of the node's own port."""
    at: str = ""
    """The other node that is asked, for "diameter-peer" (where that is external, the own port is asked) and "charging"
    (where that is not in the lab, nobody is)."""
    user: str = ""
    """Somebody who may register nowhere (`visited_networks = []` in data/subscribers.toml), for "uar-type"."""
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
    binary: str = ""
    """Name of the file that is run; with "/" in it a pattern of its path below the system's root."""
    go_folder: Path = Path()
    """Folder of the Go module it is built from, where it is built."""
    go_package: str = ""
    """Its package in that module; empty where nothing is built."""
    go_files: str = ""
    """"MODULE FOLDER": files of a module that go_folder pins, which the program is given; empty where it needs none."""
    refuses_root: bool = False
    """It ends where it finds itself to be root; a lab of root runs it as another user."""


@dataclass(frozen=True, slots=True)
class External:
    """A node that is not ours: somebody else runs it, at a place of his own."""

    address: str
    """IPv4 address."""
    port: int
    """Of its first port: for an HSS, Diameter over TCP."""
    realm: str
    """Its Diameter realm."""


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
    starts: int = 1
    """How often it may be started until it is ready: some programs lose a race of their own at start."""
    optional: bool = False
    """Starts on demand only."""
    environment: Mapping[str, str] = field(default_factory=dict)
    switches: tuple[str, ...] = ()
    """Names for its templates' conditions that are empty until somebody turns them on: what faults change."""
    lesson_modules: tuple[str, ...] = ()
    """Modules that a learner's routing block may load; where there are any, a lesson may put files of its own into
    CONF_DIR/lesson (`labkit.lab.lesson_files`)."""
    external: External | None = None
    """Where the one is that takes its place; then this node is never started."""
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

    def own(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that a lab starts itself."""
        return tuple(name for name in names if self.node(name).external is None)

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
        tree = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(f"{path} is no TOML: {error}") from error
    reader = _Reader(path)
    reader.only(tree, "the file", {"lab", "image", "program", "node"})
    lab = reader.table(tree, "lab", "the file")
    reader.only(lab, "[lab]", {"realm", "default"})
    reader.take_realm(lab)
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
            elif condition.kind == "charging":
                topology.node(condition.at).port("sip")
            else:
                node.port(condition.port)
    for name in topology.default:
        topology.node(name)
    topology.waves(tuple(topology.nodes))


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(f"cannot read {path}: {error}") from error


def external_node(address: str, port: int, realm: str, where: str) -> External:
    """A place outside of the lab; TopologyError where it cannot be one. Names would not do: cdp resolves by itself."""
    try:
        IPv4Address(address)
    except ValueError:
        raise TopologyError(f"{where}: {address!r} is no IPv4 address") from None
    if not 0 < port < 65536:
        raise TopologyError(f"{where}: {port} is no port")
    return External(address, port, realm)


def with_external(topology: Topology, places: Mapping[str, External]) -> Topology:
    """The same topology with these nodes, and no others, run by somebody else."""
    nodes = {name: replace(node, external=places.get(name)) for name, node in topology.nodes.items()}
    return replace(topology, nodes=nodes)


def external_hss(topology: Topology, text: str) -> Topology:
    """The topology with the HSS that LABKIT_HSS names, "ADDRESS[:PORT][,REALM]"; as it is where that is empty."""
    if not text:
        return topology
    place, _, realm = text.partition(",")
    address, _, port = place.strip().partition(":")
    if port and not port.isdecimal():
        raise TopologyError(f"LABKIT_HSS={text}: {port!r} is no port; write ADDRESS[:PORT][,REALM]")
    found = external_node(address, int(port or 3868), realm.strip() or topology.realm, f"LABKIT_HSS={text}")
    return with_external(topology, {"hss": found})


class _Reader:
    """Takes TOML tables apart; each complaint names the file, the section and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._realm = ""

    def take_realm(self, lab: Mapping[str, Any]) -> None:
        """Note the realm that nodes have where they say nothing else."""
        self._realm = self.text(lab, "realm", "[lab]")

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

    def yes(self, table: Mapping[str, Any], key: str, where: str) -> bool:
        found = table.get(key, False)
        if not isinstance(found, bool):
            raise TopologyError(f"{self._path}: {where} needs {key} = true or false")
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
        self.only(table, where, set(ProgramSpec.__dataclass_fields__) - {"name"})
        return ProgramSpec(
            name,
            self.text(table, "variable", where, ""),
            self.texts(table, "packages", where),
            self.text(table, "binary", where, name),
            self._path.parent / self.text(table, "go_folder", where, ""),
            self.text(table, "go_package", where, ""),
            self.text(table, "go_files", where, ""),
            self.yes(table, "refuses_root", where),
        )

    def node(self, name: str, table: Mapping[str, Any]) -> NodeSpec:
        where = f"[node.{name}]"
        if not _NAME.match(name):
            raise TopologyError(f"{self._path}: {where}: a name is 1 to 16 of a-z and 0-9, a letter first")
        known = set(NodeSpec.__dataclass_fields__) - {"name"}
        self.only(table, where, known)
        host = self.number(table, "host", where)
        if not 3 <= host <= 100:
            raise TopologyError(f"{self._path}: {where}: host = 3 to 100 (2 is the mirror, 101 and up are phones)")
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
            starts=self.number(table, "starts", where, 1),
            optional=self.yes(table, "optional", where),
            environment={k: str(v) for k, v in self.table(table, "environment", where).items()},
            switches=self.texts(table, "switches", where),
            lesson_modules=self.texts(table, "lesson_modules", where),
            external=self._external(table, where),
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

    def _external(self, table: Mapping[str, Any], where: str) -> External | None:
        if "external" not in table:
            return None
        entry = self.table(table, "external", where)
        where = f"{where} external"
        self.only(entry, where, {"address", "port", "realm"})
        port = self.number(entry, "port", where, 3868)
        realm = self.text(entry, "realm", where, self._realm)
        return external_node(self.text(entry, "address", where), port, realm, f"{self._path}: {where}")

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
