"""How fast does the HSS answer? Answers per core-second against python-diameter, and the time of a single request.

Both servers run in processes of their own, on the same users, and get the same bytes from the same client: a fixed
window of requests is kept open, the server's CPU time is read from /proc. Every answer's result is looked at: only
rightly answered requests count. The two take turns; ratios are made pair by pair, and, as the machine's other work only
ever takes time away, best round by best round.

    python tests/bench/bench_hss.py [--rounds 3] [--requests 20000] [--users 1000]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from labkit_users import REALM, make_users, write_users

from labkit.peers.hss.subscribers import Subscriber
from labkit.wire import cx

HERE = Path(__file__).parent
HOST = f"scscf.{REALM}"
SCSCF = f"sip:scscf.{REALM}:6060"
KINDS = ("UAR", "MAR", "SAR", "LIR")
LIFE = ("UAR", "MAR", "UAR", "SAR", "LIR", "UAR", "SAR")
"""Registration, a call, de-registration: what one subscriber's life makes of Cx; every SAR changes the state."""
TICK = os.sysconf("SC_CLK_TCK")
GOOD = (b"\x00\x00\x01\x0c\x40\x00\x00\x0c\x00\x00\x07\xd1", b"\x00\x00\x01\x2a\x40\x00\x00\x0c\x00\x00\x07")


def build_request(kind: str, number: int, user: Subscriber, leaving: bool = False) -> bytes:
    """Make one request about one user."""
    envelope = cx.Envelope(f"{HOST};1;{number}", HOST, REALM, REALM, hop_by_hop_id=number, end_to_end_id=number)
    impi, impu = user.impi, user.impus[0]
    if kind == "UAR":
        message = cx.uar(
            envelope,
            user_name=impi,
            public_identity=impu,
            visited_network=REALM,
            user_authorization_type=1 if leaving else None,
        )
    elif kind == "MAR":
        message = cx.mar(envelope, user_name=impi, public_identity=impu, server_name=SCSCF)
    elif kind == "SAR":
        message = cx.sar(
            envelope,
            user_name=impi,
            public_identities=[impu],
            server_name=SCSCF,
            server_assignment_type=5 if leaving else 1,
        )
    else:
        message = cx.lir(envelope, public_identity=impu)
    return message.to_bytes()


def build_requests(kind: str, count: int) -> list[bytes]:
    """Make requests of one kind, one a user; of "mix", one of each kind in turn; of "life", the life of each user."""
    users = make_users(count)
    if kind == "life":
        return [
            build_request(step, number * len(LIFE) + place, user, leaving=place > 4)
            for number, user in enumerate(users)
            for place, step in enumerate(LIFE)
        ]
    kinds = KINDS if kind == "mix" else (kind,)
    return [build_request(kinds[n % len(kinds)], n, user) for n, user in enumerate(users)]


class Peer:
    """A blocking Diameter client with a window of open requests."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""
        self.socket.sendall(cx.cer(HOST, REALM, "127.0.0.1").to_bytes())
        self.receive()

    def receive(self) -> list[bytes]:
        """Wait for at least one whole message."""
        while True:
            self.rest += self.socket.recv(1 << 18)
            messages, at = [], 0
            while len(self.rest) - at >= 4:
                size = int.from_bytes(self.rest[at + 1 : at + 4], "big")
                if len(self.rest) - at < size:
                    break
                messages.append(self.rest[at : at + size])
                at += size
            self.rest = self.rest[at:]
            if messages:
                return messages

    def run(self, requests: list[bytes], total: int, window: int) -> int:
        """Send `total` requests, `window` open at a time; return how many were answered well.

        The answers are looked at when all is over, and batches are joined beforehand: the two processes may share one
        physical core, and what the client does would count against the faster server.
        """
        answers: list[bytes] = []
        repeated = requests + requests[:window]
        sent = 0
        while len(answers) < total:
            room = min(window - (sent - len(answers)), total - sent)
            if room > 0:
                at = sent % len(requests)
                self.socket.sendall(b"".join(repeated[at : at + room]))
                sent += room
            answers += self.receive()
        return sum(any(mark in answer for mark in GOOD) for answer in answers)

    def latencies_ms(self, requests: list[bytes], total: int) -> list[float]:
        """Send one request after the other; return the round trip times."""
        times = []
        for number in range(total):
            started = time.perf_counter_ns()
            self.socket.sendall(requests[number % len(requests)])
            self.receive()
            times.append((time.perf_counter_ns() - started) / 1e6)
        return times


def cpu_s(pid: int) -> float:
    """Read the CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def free_port() -> int:
    """Find a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")


class Server:
    """One of the two servers, running."""

    def __init__(self, name: str, folder: Path, users: int, logging: bool = False) -> None:
        self.name = name
        port = free_port()
        if name == "labkit":
            argv = [
                *("-m", "labkit.peers.hss", "--diameter-port", str(port), "--admin-port", "0"),
                *("--state", str(folder / f"hss-{port}.sqlite"), "--subscribers", str(folder / "users.toml")),
                *("--realm", REALM),
                *([] if logging else ["--quiet"]),
            ]
        else:
            argv = [str(HERE / "other_hss.py"), str(port), str(users)]
        log = (folder / "log").open("a") if logging else subprocess.DEVNULL
        self.process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL, stderr=log)
        wait_for(port)
        time.sleep(0.3)
        self.peer = Peer(port)

    def measure(self, requests: list[bytes], total: int, window: int) -> tuple[float, float]:
        """Return answers per core-second of the server, and answers per second."""
        self.peer.run(requests, min(total, 500), window)
        cpu, wall = cpu_s(self.process.pid), time.perf_counter()
        good = self.peer.run(requests, total, window)
        cpu, wall = cpu_s(self.process.pid) - cpu, time.perf_counter() - wall
        if good != total:
            raise SystemExit(f"{self.name}: {total - good} of {total} requests were not answered well")
        return total / max(cpu, 1 / TICK), total / wall

    def stop(self) -> None:
        """End the process."""
        self.peer.socket.close()
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()


def percentile(values: list[float], share: float) -> float:
    """Pick a percentile."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> None:
    """Run all, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20000, help="a round, for labkit; python-diameter gets a tenth")
    parser.add_argument("--users", type=int, default=1000)
    arguments = parser.parse_args()
    print(
        "mix: UAR, MAR, SAR, LIR in turn, users stay registered; life: UAR MAR UAR SAR LIR UAR SAR, every user leaves"
    )
    print(
        "answers per core-second of the server (user + system), median of rounds; ratio pair by pair, and best by best"
    )
    print(f"{'requests':10}{'window':>7}{'labkit':>10}{'other':>8}{'ratio':>8}{'best':>8}{'labkit/s wall':>15}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_users(str(folder / "users.toml"), arguments.users)
        ours, other = (Server(which, folder, arguments.users) for which in ("labkit", "other"))
        prepare = [build_requests("MAR", arguments.users), build_requests("SAR", arguments.users)]
        for requests in prepare:  # every user is registered, as on the other side
            ours.peer.run(requests, arguments.users, 16)
        try:
            for kind, window in (("mix", 16), ("mix", 64), *((kind, 64) for kind in KINDS), ("life", 16), ("life", 64)):
                requests = build_requests(kind, arguments.users)
                pairs = []
                for _ in range(arguments.rounds):
                    mine = ours.measure(requests, arguments.requests, window)
                    theirs = other.measure(requests, arguments.requests // 10, window)
                    pairs.append((mine[0], theirs[0], mine[0] / theirs[0], mine[1]))
                cells = [statistics.median(column) for column in zip(*pairs, strict=True)]
                best = max(pair[0] for pair in pairs) / max(pair[1] for pair in pairs)
                rates = f"{cells[0]:>10.0f}{cells[1]:>8.0f}{cells[2]:>7.1f}x{best:>7.1f}x{cells[3]:>15.0f}"
                print(f"{kind:10}{window:>7}{rates}", flush=True)
            requests = build_requests("mix", arguments.users)
            ours.stop()
            ours = Server("labkit", folder, arguments.users, logging=True)
            for preparing in prepare:
                ours.peer.run(preparing, arguments.users, 16)
            rate = ours.measure(requests, arguments.requests, 64)
            print(f"{'mix, log':10}{64:>7}{rate[0]:>10.0f}{'':>24}{rate[1]:>15.0f}")
            times = ours.peer.latencies_ms(requests, 5000)
            line = ", ".join(f"p{share} {percentile(times, share / 100):.3f}" for share in (50, 99))
            print(
                f"single request, ms: {line}, max {max(times):.3f} (5000 of the mix, state in SQLite, a log line each)"
            )
        finally:
            for server in (ours, other):
                server.stop()


if __name__ == "__main__":
    main()
