"""The local engine: nodes as child processes on loopback addresses of their own. No root, no Docker (Linux).

Theory. Every address of 127.0.0.0/8 can be bound without set-up, so a lab takes a free block 127.B.C.0/24 and gives
each node an address in it: the ports stay those of the containers, and two labs never meet. The block is taken by
binding: while a lab starts, its starter holds a guard port in the block, and afterwards the nodes themselves hold
theirs, so two starters (also of two users) cannot take the same one, and nothing has to be given back.
Names: Kamailio resolves through libresolv, which libresolv_wrapper answers from the lab's own hosts file.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from labkit.errors import CaptureError, EngineMissing, PortBusy, StackError, TopologyError
from labkit.lab.engine import NodeState, Progress, Record, Sniffer, default_home, home_folder, on_linux
from labkit.lab.ports import can_bind, port_holder
from labkit.lab.process import (
    LabProcess,
    alive,
    describe,
    lab_processes,
    reap,
    spawn,
    stop_processes,
    trim_log,
)
from labkit.lab.programs import (
    KamailioProgram,
    can_have_kamailio,
    fetch_kamailio,
    find_kamailio,
    python_program,
    required_modules,
)
from labkit.lab.state import remove_folder
from labkit.lab.topology import (
    NodeSpec,
    Places,
    Topology,
    load_topology,
    placeholders,
    render_command,
    render_files,
    render_words,
)

MIRROR_HOST, MIRROR_PORT = 2, 9060
"""Where the collector of mirrored messages listens, in the lab's block."""
_GUARD_PORT = 3868
_PHONES = 150
"""Phones that get an address of their own (.101 to .250); more share them by port."""
_BLOCKS_TO_TRY = 40
_LONGEST_SOCKET_FOLDER = 80
"""A Unix socket's path has 107 bytes; a folder longer than this leaves too few for a name."""


class LocalEngine:
    """Runs nodes as processes of this user."""

    name = "local"

    def __init__(self) -> None:
        self._guards: dict[str, socket.socket] = {}
        self._exit_codes: dict[tuple[str, str], int] = {}
        self._program: KamailioProgram | None = None

    # ---- before a lab -----------------------------------------------------------------------------------------------
    def available(self) -> str | None:
        """None where this engine can run here, else the reason and its cure."""
        if not on_linux():
            return "the local engine needs Linux"
        if not can_bind("127.81.0.1", 0, "udp"):
            return "this system does not let programs bind addresses of 127.0.0.0/8"
        topology = load_topology()
        spec = topology.programs.get("kamailio")
        return can_have_kamailio(spec, _modules(topology, tuple(topology.nodes))) if spec else None

    def prepare(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> None:
        """Find Kamailio, or fetch its packages."""
        if not on_linux():
            raise EngineMissing("the local engine needs Linux; here take docker or replay")
        if any(topology.node(name).program for name in nodes):
            self._kamailio(topology, nodes, progress)

    def _kamailio(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> KamailioProgram:
        spec = topology.programs["kamailio"]
        modules = _modules(topology, nodes)
        found = find_kamailio(spec, modules)
        if found is None:
            reason = can_have_kamailio(spec, modules)
            if reason is not None:
                raise EngineMissing(f"the local engine cannot run here: {reason}")
            fetch_kamailio(spec, progress)
            found = find_kamailio(spec, modules)
        if found is None:
            raise EngineMissing(
                "the packages were fetched, but do not hold all the modules that the configurations load "
                f"({', '.join(sorted(modules))}); install Kamailio with them, or set {spec.variable}"
            )
        self._program = found
        return found

    def allocate(self, topology: Topology, record: Record) -> None:
        """Take a free block of addresses; choose between wire and mirror; make the lab's files for names."""
        block = self._take_block(topology, record.id)
        record.addresses = {n.name: f"{block}.{n.host}" for n in topology.nodes.values()}
        record.capture = _choose_capture()
        record.mirror = "" if record.capture == "wire" else f"{block}.{MIRROR_HOST}:{MIRROR_PORT}"
        record.own = {"block": block, "sockets": str(_socket_folder(record))}
        if self._program is not None:
            record.own["program"] = asdict(self._program)
        lines = [f"A {topology.fqdn(name)} {address}\n" for name, address in record.addresses.items()]
        _write(record.folder / "hosts", "".join(lines))

    def release(self, record: Record) -> None:
        """The start is over: the nodes hold the block now."""
        guard = self._guards.pop(record.id, None)
        if guard is not None:
            guard.close()

    def _take_block(self, topology: Topology, lab: str) -> str:
        # Blocks are drawn by the lab's id, so that two starters rarely even try the same one.
        chance = random.Random(lab)
        busy = ("", 0, "")
        for _ in range(_BLOCKS_TO_TRY):
            block = f"127.{chance.randint(16, 250)}.{chance.randint(0, 255)}"
            guard = _guard(block)
            if guard is None:
                continue
            found = _busy_port(topology, block, tuple(topology.nodes))
            if found is None:
                self._guards[lab] = guard
                return block
            busy = found
            guard.close()
        raise _port_busy(*busy)

    # ---- nodes ------------------------------------------------------------------------------------------------------
    def start_node(self, topology: Topology, record: Record, node: str) -> None:
        """Write the node's configuration and start its program."""
        spec = topology.node(node)
        busy = _busy_port(topology, record.own["block"], (node,))
        if busy is not None:
            raise _port_busy(*busy)
        program = self._program_of(topology, record, spec)
        places = _places(topology, record, spec, program)
        try:
            for folder in (places.conf_dir, places.run_dir, places.state_dir):
                Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StackError(f"cannot make the folders of {node}: {describe(error)}") from error
        for out, text in render_files(topology, spec, places).items():
            _write(Path(places.conf_dir) / out, text)
        pid, start_ticks = spawn(
            render_command(topology, spec, places),
            _environment(record, spec, program, placeholders(topology, spec, places)),
            Path(places.run_dir),
            _log(record, node),
        )
        self._exit_codes.pop((record.id, node), None)
        record.nodes[node] = {"pid": pid, "start_ticks": start_ticks}

    def _program_of(self, topology: Topology, record: Record, spec: NodeSpec) -> KamailioProgram | None:
        """The Kamailio this lab was started with, so that a node that is restarted is the same program."""
        if not spec.program:
            return None
        noted = record.own.get("program")
        if noted:
            return KamailioProgram(**{**noted, "modules": tuple(noted["modules"])})
        program = self._program or self._kamailio(topology, (spec.name,), print)
        record.own["program"] = asdict(program)
        return program

    def stop_nodes(self, record: Record, nodes: tuple[str, ...], *, kill: bool = False) -> None:
        """Stop nodes with all their children; returns when they are gone."""
        wanted = set(nodes)
        stop_processes((p for p in lab_processes(lab=record.id) if p.node in wanted), kill=kill)
        for node in nodes:
            for path in Path(record.own.get("sockets", "/nonexistent")).glob(f"{node}/*"):
                if path.is_socket() or path.is_fifo():
                    path.unlink(missing_ok=True)

    def state(self, record: Record, node: str) -> NodeState:
        """What the node is doing now."""
        noted = record.nodes.get(node)
        address = record.addresses.get(node, "")
        if noted is None:
            return NodeState("absent", "not started", address)
        trim_log(_log(record, node))
        if alive(noted["pid"], noted["start_ticks"]):
            return NodeState("running", f"pid {noted['pid']}", address, pid=noted["pid"])
        code = reap(noted["pid"])
        if code is not None:
            self._exit_codes[record.id, node] = code
        known = self._exit_codes.get((record.id, node))
        detail = "ended" if known is None else _exit_words(known)
        return NodeState("exited", detail, address)

    def logs(self, record: Record, node: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Lines of the node's log; with `follow` until the node is gone."""
        path = _log(record, node)
        if not path.exists():
            return
        with open(path, encoding="utf-8", errors="replace") as file:
            if tail is None:
                yield from (line.rstrip("\n") for line in file)
            else:
                yield from deque((line.rstrip("\n") for line in file), maxlen=tail)
            rest = ""
            while follow:
                running = self.state(record, node).state == "running"
                while piece := file.readline():
                    rest += piece
                    if rest.endswith("\n"):
                        yield rest.rstrip("\n")
                        rest = ""
                if not running:
                    return
                time.sleep(0.1)

    def run(self, topology: Topology, record: Record, node: str, command: tuple[str, ...]) -> str:
        """Output of a command, run as the node's program would be."""
        spec = topology.node(node)
        program = self._program_of(topology, record, spec)
        places = _places(topology, record, spec, program)
        environment = _environment(record, spec, program, placeholders(topology, spec, places))
        words = render_words(topology, spec, places, command)
        try:
            done = subprocess.run(
                words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"cannot run {words[0]} for {node}: {error}") from error
        return done.stdout + done.stderr

    # ---- the rest of the world --------------------------------------------------------------------------------------
    def phone_address(self, record: Record, index: int) -> tuple[str, int]:
        """An address a phone, port 5060; from the 151st phone on, further ports of the same addresses."""
        return f"{record.own['block']}.{101 + index % _PHONES}", 5060 + index // _PHONES

    def probe_address(self, record: Record) -> str:
        """Where readiness probes come from."""
        return f"{record.own['block']}.1"

    def sniffer(self, record: Record) -> Sniffer:
        """The wire where this process may look at it, else the nodes' mirror."""
        from labkit.capture.source import AfPacketSniffer, MirrorSniffer

        if record.capture == "wire":
            return AfPacketSniffer("lo", f"{record.own['block']}.0/24")
        address, _, port = record.mirror.rpartition(":")
        return MirrorSniffer((address, int(port)))

    def teardown(self, record: Record) -> None:
        """Stop every process of the lab and remove its sockets."""
        self.release(record)
        stop_processes(p for p in lab_processes(lab=record.id) if p.node)
        if sockets := record.own.get("sockets"):
            remove_folder(Path(sockets))
        record.nodes.clear()

    def leftovers(self) -> list[str]:
        """Processes and socket folders of labs of this home, one line each."""
        found = [f"process {p.name} (pid {p.pid}) of {p.node or 'lab'} in {p.lab}" for p in _own_processes()]
        return found + [f"folder {path}" for path in _socket_folders()]

    def wipe(self) -> list[str]:
        """End every process of every lab of this home and remove their sockets."""
        if not on_linux():
            return []
        removed = self.leftovers()
        stop_processes(_own_processes())
        for path in _socket_folders():
            remove_folder(path)
        return removed


# ---- where things are -----------------------------------------------------------------------------------------------
def _places(topology: Topology, record: Record, node: NodeSpec, program: KamailioProgram | None) -> Places:
    folder = record.node_folder(node.name)
    programs = {name: "" for name in topology.programs} | {"python": python_program()}
    if program is not None:
        programs["kamailio"] = program.binary
    return Places(
        addresses=record.addresses,
        own_address=record.addresses[node.name],
        conf_dir=str(folder / "conf"),
        run_dir=str(Path(record.own["sockets"]) / node.name),
        state_dir=str(folder / "state"),
        programs=programs,
        hss_peer=record.addresses.get("hss", ""),
        modules_dir=program.modules_dir if program is not None else "",
        mirror=record.mirror,
        token=record.token,
    )


def _environment(
    record: Record, node: NodeSpec, program: KamailioProgram | None, values: dict[str, str]
) -> dict[str, str]:
    """A small environment of the node's own, so that a learner's shell cannot change what a node does."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")}
    kept |= {
        "LABKIT_LAB": record.id,
        "LABKIT_NODE": node.name,
        "LABKIT_HOME": str(home_folder().resolve()),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    if program is not None:
        kept |= {"LD_PRELOAD": program.resolv_wrapper, "RESOLV_WRAPPER_HOSTS": str(record.folder / "hosts")}
        if program.library_path:
            kept["LD_LIBRARY_PATH"] = program.library_path
    for name, value in node.environment.items():
        for key, filled in values.items():
            value = value.replace(f"@@{key}@@", filled)
        kept[name] = value
    return kept


def _log(record: Record, node: str) -> Path:
    return record.node_folder(node) / "log"


def _socket_folder(record: Record) -> Path:
    """Where the nodes' sockets go: in the lab's folder, or in a short one where its path is too long for a socket."""
    inside = record.folder / "run"
    longest = max(len(str(inside)) + 1 + 16, 0)
    if longest <= _LONGEST_SOCKET_FOLDER:
        return inside
    short = Path(tempfile.gettempdir()) / f"labkit-{os.getuid()}-{record.id[-12:]}"
    try:
        short.mkdir(mode=0o700)
    except FileExistsError:
        if short.is_symlink() or short.stat().st_uid != os.getuid():
            raise StackError(f"{short} belongs to somebody else; point LABKIT_HOME at a shorter path") from None
    except OSError as error:
        raise StackError(f"cannot make {short}: {describe(error)}") from error
    with contextlib.suppress(OSError):
        (short / "home").write_text(str(home_folder().resolve()), encoding="utf-8")
    return short


def _socket_folders() -> list[Path]:
    """Short socket folders that belong to labs of this home."""
    home = str(home_folder().resolve())
    found = []
    for path in Path(tempfile.gettempdir()).glob(f"labkit-{os.getuid()}-*"):
        with contextlib.suppress(OSError):
            owner = (path / "home").read_text(encoding="utf-8")
            if path.stat().st_uid == os.getuid() and (owner == home or not Path(owner).is_dir()):
                found.append(path)
    return found


def _own_processes() -> list[LabProcess]:
    """Processes of labs of this home, and of homes that are no more; never this process or those it came from."""
    home = home_folder().resolve()
    ancestors = _ancestors()
    return [p for p in lab_processes() if p.pid not in ancestors and _is_home(p.home, home)]


def _is_home(said: str, home: Path) -> bool:
    """Whether a process that has LABKIT_HOME=`said` belongs to a lab of `home`, or of no home that is left."""
    theirs = Path(said).expanduser().resolve() if said else default_home().resolve()
    return theirs == home or (bool(said) and not theirs.is_dir())


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(text[text.rindex(")") + 2 :].split()[1])
    return found


def _modules(topology: Topology, nodes: tuple[str, ...]) -> set[str]:
    """The Kamailio modules that the nodes' configurations load."""
    texts = []
    for node in (topology.node(name) for name in nodes):
        for source in node.templates.values() if node.program else ():
            try:
                texts.append(source.read_text(encoding="utf-8"))
            except OSError as error:
                raise TopologyError(f"template {source} of node {node.name}: {error.strerror}") from error
    return required_modules(texts)


# ---- ports ----------------------------------------------------------------------------------------------------------
def _guard(block: str) -> socket.socket | None:
    """Hold the block against other starters; None where one holds it."""
    guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        guard.bind((f"{block}.1", _GUARD_PORT))
    except OSError:
        guard.close()
        return None
    return guard


def _busy_port(topology: Topology, block: str, nodes: tuple[str, ...]) -> tuple[str, int, str] | None:
    """The first port of `nodes` in this block that cannot be bound."""
    for node in (topology.node(name) for name in nodes):
        for port in node.ports.values():
            for transport in port.transports:
                address = f"{block}.{node.host}"
                if not can_bind(address, port.number, transport):
                    return address, port.number, transport
    return None


def _port_busy(address: str, port: int, transport: str) -> PortBusy:
    if not address:
        return PortBusy("no free block of loopback addresses was found; stop other labs (./lab wipe) and try again")
    holder = port_holder(address, port, transport)
    text = f"{address}:{port}/{transport} cannot be bound"
    text += f": it is held by {holder}." if holder else "."
    if "kamailio" in holder:
        return PortBusy(f"{text} If that is the system's own service: sudo systemctl disable --now kamailio")
    return PortBusy(f"{text} Stop that program, or take the docker engine.")


def _choose_capture() -> str:
    """ "wire" where this process may sniff, else "mirrored"; LABKIT_CAPTURE=wire|mirror decides otherwise."""
    chosen = os.environ.get("LABKIT_CAPTURE", "")
    if chosen not in ("", "wire", "mirror"):
        raise CaptureError(f"LABKIT_CAPTURE={chosen}: it can be wire or mirror")
    if chosen == "mirror":
        return "mirrored"
    from labkit.capture.source import can_sniff

    if can_sniff():
        return "wire"
    if chosen == "wire":
        raise CaptureError("LABKIT_CAPTURE=wire, but this process may not sniff (it needs CAP_NET_RAW); unset it")
    return "mirrored"


def _exit_words(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"


def _write(path: Path, text: str) -> None:
    """Write a file that only this user may read: configurations hold keys and tokens."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StackError(f"cannot write {path}: {describe(error)}") from error
