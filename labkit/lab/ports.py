"""Can a port be bound here, and who holds it when not."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


def can_bind(address: str, port: int, transport: str) -> bool:
    """True where a server could bind `address`:`port` over "udp" or "tcp" right now."""
    try:
        with socket.socket(socket.AF_INET, _KINDS[transport]) as probe:
            if transport == "tcp":
                # Connections that ended a moment ago do not stand in a server's way.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            if transport == "tcp":
                probe.listen(1)
    except OSError:
        return False
    return True


def port_holder(address: str, port: int, transport: str) -> str:
    """Who holds a port that covers `address`, as words: program and pid, else the user; empty where unknown (Linux)."""
    for table in (transport, f"{transport}6"):
        for local, uid, inode in _sockets(table, port):
            if local not in (address, "0.0.0.0", "::"):
                continue
            place = f"{'every address' if local in ('0.0.0.0', '::') else local}:{port}/{transport}"
            return f"{_owner_of_socket(inode) or _user_name(uid)}, on {place}"
    return ""


def _sockets(table: str, port: int) -> Iterator[tuple[str, int, str]]:
    """(local address, uid, inode) of the listening sockets in /proc/net/<table> at `port`."""
    try:
        lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        raw, _, number = fields[1].partition(":")
        listening = fields[3] == ("0A" if table.startswith("tcp") else "07")
        if listening and int(number, 16) == port:
            yield _address(raw), int(fields[7]), fields[9]


def _address(raw: str) -> str:
    """An address as /proc/net writes it: hex, each 32 bits in the order of the machine."""
    words = [bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words))


def _owner_of_socket(inode: str) -> str:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for handle in os.scandir(f"/proc/{entry.name}/fd"):
                if os.readlink(handle.path) == f"socket:[{inode}]":
                    name = Path(f"/proc/{entry.name}/comm").read_text(encoding="utf-8", errors="replace").strip()
                    return f"{name} (pid {entry.name})"
    return ""


def _user_name(uid: int) -> str:
    import pwd

    try:
        return f"a program of user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"a program of user number {uid}"
