"""The local engine: nodes as child processes on loopback addresses of their own. No root, no Docker (Linux).

Theory. A lab takes a free block 127.B.C.0/24 and gives each node an address in it: the ports stay those of the
containers, and two labs never meet (`labkit.lab.local_block`).
Names: Kamailio resolves through libresolv, which libresolv_wrapper answers from the lab's own hosts file.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from labkit.errors import CaptureError, EngineMissing, StackError, TopologyError
from labkit.lab.engine import NodeState, Progress, Sniffer
from labkit.lab.go_program import build_go_program, fetch_go_files
from labkit.lab.local_block import require_free, take_block
from labkit.lab.local_node import (
    Program,
    apart_folder,
    environment,
    log_file,
    places,
    socket_folder,
    socket_folders,
    write_private,
)
from labkit.lab.other_user import hand_over, other_user
from labkit.lab.package_program import find_program, get_program
from labkit.lab.packages import fetch_packages
from labkit.lab.ports import can_bind
from labkit.lab.process import (
    LabProcess,
    alive,
    describe,
    kill_group,
    lab_processes,
    reap,
    spawn,
    stop_processes,
    trim_log,
)
from labkit.lab.programs import (
    KamailioProgram,
    can_have_kamailio,
    find_kamailio,
    required_modules,
)
from labkit.lab.record import Record, default_home, home_folder, on_linux
from labkit.lab.state import remove_folder
from labkit.lab.templates import placeholders, render_command, render_files, render_words
from labkit.lab.topology import NodeSpec, Topology, load_topology

_KAMAILIO = "kamailio"
MIRROR_HOST, MIRROR_PORT = 2, 9060
"""Where the collector of mirrored messages listens, in the lab's block."""
_PHONES = 150
"""Phones that get an address of their own (.101 to .250); more share them by port."""


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
        spec = topology.programs.get(_KAMAILIO)
        return can_have_kamailio(spec, _modules(topology, tuple(topology.nodes))) if spec else None

    def prepare(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> None:
        """Find the nodes' programs; fetch or build what is not here."""
        if not on_linux():
            raise EngineMissing("the local engine needs Linux; here take docker or replay")
        wanted = {topology.node(name).program for name in nodes}
        if _KAMAILIO in wanted:
            self._kamailio(topology, nodes, progress)
        for spec in (spec for name, spec in topology.programs.items() if name in wanted - {_KAMAILIO}):
            if spec.packages:
                get_program(spec, progress)
            if spec.go_package:
                build_go_program(spec, progress)
            if spec.go_files:
                fetch_go_files(spec, progress)

    def _kamailio(self, topology: Topology, nodes: tuple[str, ...], progress: Progress) -> KamailioProgram:
        spec = topology.programs[_KAMAILIO]
        modules = _modules(topology, nodes)
        found = find_kamailio(spec, modules)
        if found is None:
            reason = can_have_kamailio(spec, modules)
            if reason is not None:
                raise EngineMissing(f"the local engine cannot run here: {reason}")
            fetch_packages(spec, progress)
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
        block, self._guards[record.id] = take_block(topology, record.id)
        record.addresses = {n.name: f"{block}.{n.host}" for n in topology.nodes.values()}
        record.capture = _choose_capture()
        record.mirror = "" if record.capture == "wire" else f"{block}.{MIRROR_HOST}:{MIRROR_PORT}"
        record.own = {"block": block, "sockets": str(socket_folder(record))}
        if self._program is not None:
            record.own["program"] = asdict(self._program)
        lines = [f"A {topology.fqdn(name)} {address}\n" for name, address in record.addresses.items()]
        write_private(record.folder / "hosts", "".join(lines))

    def release(self, record: Record) -> None:
        """The start is over: the nodes hold the block now."""
        guard = self._guards.pop(record.id, None)
        if guard is not None:
            guard.close()

    # ---- nodes ------------------------------------------------------------------------------------------------------
    def start_node(self, topology: Topology, record: Record, node: str) -> None:
        """Write the node's configuration and start its program."""
        spec = topology.node(node)
        if self.renews(topology, record, node):
            kill_group(record.nodes[node]["pid"], record.nodes[node]["start_ticks"])
        require_free(topology, record.own["block"], (node,))
        program = self._program_of(topology, record, spec)
        user = other_user(topology.programs.get(spec.program))
        if user is not None:
            record.own["apart"] = str(apart_folder(record))
        found = places(topology, record, spec, program)
        try:
            for folder in (found.conf_dir, found.run_dir, found.state_dir):
                Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StackError(f"cannot make the folders of {node}: {describe(error)}") from error
        for out, text in render_files(topology, spec, found).items():
            write_private(Path(found.conf_dir) / out, text)
        log = log_file(record, node)
        begins = log.stat().st_size if log.exists() else 0
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if user is not None:
            hand_over(Path(found.run_dir).parent, user)
        pid, start_ticks = spawn(
            render_command(topology, spec, found),
            environment(record, spec, program, placeholders(topology, spec, found)),
            Path(found.run_dir),
            log,
            user=user,
        )
        self._exit_codes.pop((record.id, node), None)
        record.nodes[node] = {"pid": pid, "start_ticks": start_ticks, "log_begins": begins}

    def _program_of(self, topology: Topology, record: Record, spec: NodeSpec) -> Program | None:
        """The node's program; the Kamailio this lab was started with, so that one that is restarted is the same."""
        own = topology.programs.get(spec.program)
        if spec.program != _KAMAILIO:
            return find_program(own) if own is not None and own.packages else None
        noted = record.own.get("program")
        if noted:
            return KamailioProgram(**{**noted, "modules": tuple(noted["modules"])})
        program = self._program or self._kamailio(topology, (spec.name,), print)
        record.own["program"] = asdict(program)
        return program

    def renews(self, topology: Topology, record: Record, node: str) -> bool:
        """Whether it is one that lessons change, and runs: its configuration changes often, and it keeps nothing."""
        noted = record.nodes.get(node)
        return (
            bool(topology.node(node).lesson_modules) and noted is not None and alive(noted["pid"], noted["start_ticks"])
        )

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
        trim_log(log_file(record, node))
        if alive(noted["pid"], noted["start_ticks"]):
            return NodeState("running", f"pid {noted['pid']}", address, pid=noted["pid"])
        code = reap(noted["pid"])
        if code is not None:
            self._exit_codes[record.id, node] = code
        known = self._exit_codes.get((record.id, node))
        detail = "ended" if known is None else _exit_words(known)
        return NodeState("exited", detail, address)

    def is_starting(self, record: Record, node: str) -> bool:
        """Never: a process is there when `start_node` returns."""
        return False

    def logs(self, record: Record, node: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Lines of the node's log; with `follow` until the node is gone."""
        path = log_file(record, node)
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

    def logs_of_this_start(self, record: Record, node: str) -> list[str]:
        """What the node's program has written since it was started (all there is, where the log was cut meanwhile)."""
        path, begins = log_file(record, node), record.nodes.get(node, {}).get("log_begins", 0)
        try:
            with open(path, "rb") as file:
                file.seek(begins if begins <= path.stat().st_size else 0)
                return file.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []

    def run(self, topology: Topology, record: Record, node: str, command: tuple[str, ...]) -> str:
        """Output of a command, run as the node's program would be."""
        spec = topology.node(node)
        program = self._program_of(topology, record, spec)
        found = places(topology, record, spec, program)
        variables = environment(record, spec, program, placeholders(topology, spec, found))
        words = render_words(topology, spec, found, command)
        try:
            done = subprocess.run(
                words, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"cannot run {words[0]} for {node}: {error}") from error
        return done.stdout + done.stderr

    def conf_dir(self, record: Record, node: str) -> str:
        """A folder of the lab."""
        return str(record.node_folder(node) / "conf")

    # ---- the rest of the world --------------------------------------------------------------------------------------
    def phone_address(self, record: Record, index: int) -> tuple[str, int]:
        """An address a phone, port 5060; from the 151st phone on, further ports of the same addresses."""
        return f"{record.own['block']}.{101 + index % _PHONES}", 5060 + index // _PHONES

    def probe_address(self, record: Record) -> str:
        """Where readiness probes come from."""
        return f"{record.own['block']}.1"

    def sniffer(self, record: Record) -> Sniffer:
        """The wire where this process may look at it, else the nodes' mirror."""
        from labkit.capture.mirror_source import MirrorSniffer
        from labkit.capture.source import AfPacketSniffer

        if record.capture == "wire":
            return AfPacketSniffer("lo", f"{record.own['block']}.0/24")
        address, _, port = record.mirror.rpartition(":")
        return MirrorSniffer((address, int(port)))

    def teardown(self, record: Record) -> None:
        """Stop every process of the lab and remove its sockets."""
        self.release(record)
        stop_processes(p for p in lab_processes(lab=record.id) if p.node)
        for folder in (record.own.get("sockets"), record.own.get("apart")):
            if folder:
                remove_folder(Path(folder))
        record.nodes.clear()

    def leftovers(self) -> list[str]:
        """Processes and socket folders of labs of this home, one line each."""
        found = [f"process {p.name} (pid {p.pid}) of {p.node or 'lab'} in {p.lab}" for p in _own_processes()]
        return found + [f"folder {path}" for path in socket_folders()]

    def wipe(self) -> list[str]:
        """End every process of every lab of this home and remove their sockets."""
        if not on_linux():
            return []
        removed = self.leftovers()
        stop_processes(_own_processes())
        for path in socket_folders():
            remove_folder(path)
        return removed


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
        for source in node.templates.values() if node.program == _KAMAILIO else ():
            try:
                texts.append(source.read_text(encoding="utf-8"))
            except OSError as error:
                raise TopologyError(f"template {source} of node {node.name}: {error.strerror}") from error
    return required_modules(texts)


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
