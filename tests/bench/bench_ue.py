"""How many registrations a core-second gives on the phones' side, against a stub registrar in a process of its own.

One registration is what a phone does in IMS: REGISTER, 401 with an AKA challenge, REGISTER with the answer, 200. The
figure counts user and system time of the phones' process alone: everything between socket and `await ue.register()`.
The phones answer at once here (answer_delay_s=0). The yardstick column tells how fast this machine was right before and
after a run: the goal of 12 000 was set on one where reading the headers of a SIP message into a dict of lists takes
3.9 us, and the last column scales the figure to such a machine.

    python tests/bench/bench_ue.py [--phones 32] [--seconds 3] [--repeat 3]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import socket
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from yardstick import TARGET_US, yardstick_us

from labkit.peers.ue import UE
from labkit.wire.aka import Milenage, build_nonce, next_sqn

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
K = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
OPC = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
_COPIED = re.compile(rb"^(?:Via|From|To|Call-ID|CSeq|Contact):[^\r]*\r\n", re.MULTILINE)


@dataclass(frozen=True)
class Owner:
    """A subscriber for a benchmark phone."""

    impi: str
    impus: tuple[str, ...]
    k: bytes = K
    opc: bytes = OPC
    password: str = ""


def run_stub(pipe: Connection, scheme: str) -> None:
    """Challenge every REGISTER without an answer, accept every one with an answer."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("127.0.0.1", 0))
    pipe.send(sock.getsockname()[1])
    milenage, sqn = Milenage(K, OPC), 32
    granted = (
        b"Path: <sip:term@127.0.0.13;lr>\r\n"
        b"P-Associated-URI: <sip:alice@%b>, <tel:+15550001>\r\n"
        b"Service-Route: <sip:orig@scscf.%b:6060;lr>\r\nContent-Length: 0\r\n\r\n"
    ) % (REALM.encode(), REALM.encode())
    while True:
        raw, source = sock.recvfrom(4096)
        copied = b"".join(_COPIED.findall(raw))
        if b'response=""' not in raw:
            sock.sendto(b"SIP/2.0 200 OK\r\n" + copied + granted, source)
            continue
        if scheme == "AKAv1-MD5":
            sqn = next_sqn(sqn)
            rand = os.urandom(16)
            vector = milenage.vector(rand, sqn, b"\x80\x00")
            nonce = build_nonce(rand, vector.autn)
        else:
            nonce = os.urandom(16).hex()
        challenge = f'WWW-Authenticate: Digest realm="{REALM}", nonce="{nonce}", algorithm={scheme}, qop="auth"\r\n'
        answer = b"SIP/2.0 401 Unauthorized\r\n" + copied + challenge.encode() + b"Content-Length: 0\r\n\r\n"
        sock.sendto(answer, source)


async def register_all(port: int, phones: int, seconds: float, scheme: str) -> tuple[int, float, float, list[float]]:
    """Let every phone register again and again; returns (registrations, CPU s, wall s, times of each in s)."""
    secret = {"k": K, "opc": OPC} if scheme == "AKAv1-MD5" else {"k": b"", "opc": b"", "password": "secret"}
    owners = [
        Owner(f"0010100000{n:05d}@{REALM}", (f"sip:0010100000{n:05d}@{REALM}", f"sip:u{n}@{REALM}"), **secret)
        for n in range(phones)
    ]
    ues = [UE(owner, address="127.0.0.1", port=0, pcscf=("127.0.0.1", port), answer_delay_s=0) for owner in owners]
    for ue in ues:
        await ue.start()
    times: list[float] = []
    begin, cpu = time.perf_counter(), time.process_time()

    async def keep_on(ue: UE) -> None:
        while time.perf_counter() - begin < seconds:
            started = time.perf_counter()
            ue._credentials.forget()
            await ue.register()
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(keep_on(ue) for ue in ues))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - begin
    for ue in ues:
        await ue.stop()
    return len(times), cpu, wall, times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phones", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(
        "scheme      phones  registrations  per core-s  CPU us each  per s wall  p50 ms  p99 ms  yardstick us  scaled"
    )
    for scheme, phones in (("AKAv1-MD5", options.phones), ("MD5", options.phones), ("AKAv1-MD5", 1)):
        ours, theirs = multiprocessing.Pipe()
        stub = multiprocessing.Process(target=run_stub, args=(theirs, scheme), daemon=True)
        stub.start()
        port = ours.recv()
        for _ in range(options.repeat):
            before = yardstick_us()
            count, cpu, wall, times = asyncio.run(register_all(port, phones, options.seconds, scheme))
            p50, p99 = statistics.median(times), sorted(times)[int(len(times) * 0.99)]
            yardstick = (before + yardstick_us()) / 2
            scaled = count / cpu * yardstick / TARGET_US
            print(
                f"{scheme:11} {phones:6} {count:14} {count / cpu:11.0f} {cpu / count * 1e6:12.1f} {count / wall:11.0f}"
                f" {p50 * 1e3:7.2f} {p99 * 1e3:7.2f} {yardstick:13.1f} {scaled:7.0f}"
            )
        stub.terminate()
        stub.join()


if __name__ == "__main__":
    main()
