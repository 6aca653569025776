"""The HSS as a process: starts, says why it cannot, stops cleanly, mirrors its messages."""

from __future__ import annotations

import ast
import asyncio
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cx_client import USERS, CxClient, running_hss
from in_loop import in_loop

from labkit.errors import PortBusy
from labkit.peers.hss.__main__ import main
from labkit.wire.hep import PROTOCOL_DIAMETER, parse_packet

ALICE = USERS["alice"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_life_of_the_process(tmp_path):
    """It accepts on both ports, logs a line per exchange, and ends with 0 after SIGTERM, with the state kept."""
    ports = _free_port(), _free_port()
    token = tmp_path / "token"
    token.write_text("secret\n")
    argv = [
        *(sys.executable, "-m", "labkit.peers.hss", "--diameter-port", str(ports[0]), "--admin-port", str(ports[1])),
        *("--state", str(tmp_path / "hss.sqlite"), "--token-file", str(token)),
    ]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                for port in ports:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)

        async def talk() -> None:
            async with CxClient(ports[0]) as client:
                await client.sar(ALICE, 1)

        asyncio.run(talk())
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        log = process.stderr.read()
        assert f"SAR {ALICE.impus[0]} -> DIAMETER_SUCCESS" in log
        assert "stopped" in log
        assert "Traceback" not in log
        assert (tmp_path / "hss.sqlite").exists()
    finally:
        process.kill()
        process.wait()


def test_imports_stay_small():
    """The HSS needs neither pandas nor httpx nor any other large library."""
    code = (
        "import sys, labkit.peers.hss.__main__;"
        "print([name for name in ('pandas', 'httpx', 'numpy', 'plotly', 'scapy', 'sipmessage') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_no_import_circle():
    """No module of the HSS imports, over others or for typing alone, one that imports it."""
    folder = Path(main.__code__.co_filename).parent
    imports = {
        path.stem: {
            node.module.rpartition(".")[2]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("labkit.peers.hss.")
        }
        for path in folder.glob("*.py")
    }
    settled: set[str] = set()
    while len(settled) < len(imports):
        now = {name for name, others in imports.items() if name not in settled and others <= settled}
        assert now, f"a circle among {sorted(imports.keys() - settled)}"
        settled |= now


@in_loop
async def test_port_taken():
    """A port that is taken is a sentence with address and port, and no half-open server stays."""
    async with running_hss() as hss:
        with pytest.raises(PortBusy, match=str(hss.diameter_port)):
            async with running_hss(diameter_port=hss.diameter_port):
                pass
        with pytest.raises(PortBusy, match=str(hss.admin_port)):
            async with running_hss(admin_port=hss.admin_port):
                pass


@pytest.mark.parametrize(
    "argv", [["--subscribers", "/no/such/file"], ["--state", "/no/such/folder/x"], ["--token-file", "/no/such/file"]]
)
def test_what_it_says_when_it_cannot_start(argv, capsys):
    """A missing file is one sentence on stderr and exit code 1."""
    assert main([*argv, "--diameter-port", "0", "--admin-port", "0"]) == 1
    assert capsys.readouterr().err.startswith("hss: ")


def test_wrong_arguments(capsys):
    """An address without a port is explained."""
    with pytest.raises(SystemExit):
        main(["--mirror", "127.0.0.1"])
    assert "ADDRESS:PORT" in capsys.readouterr().err


@in_loop
async def test_mirror():
    """Every message in both directions is copied as HEP with the connection's true addresses, byte for byte."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.setblocking(False)
        async with running_hss(mirror=collector.getsockname()) as hss, CxClient(hss.diameter_port) as client:
            await client.uar(ALICE)
            asking = asyncio.create_task(hss.requests.terminate(hss.store.find("alice"), 0, ""))
            with pytest.raises(Exception, match="not registered"):
                await asking
            packets = []
            while True:
                try:
                    packets.append(parse_packet(collector.recv(65535)))
                except BlockingIOError:
                    break
            here = client.writer.get_extra_info("sockname")
            there = ("127.0.0.1", hss.diameter_port)
        assert [packet.payload[5:8].hex() for packet in packets] == ["000101", "000101", "00012c", "00012c"]
        for number, packet in enumerate(packets):
            source, target = (here, there) if number % 2 == 0 else (there, here)
            assert (packet.src, packet.src_port) == source
            assert (packet.dst, packet.dst_port) == target
            assert (packet.transport, packet.protocol) == ("tcp", PROTOCOL_DIAMETER)
            assert packet.payload[1:4] == len(packet.payload).to_bytes(3, "big")


@in_loop
async def test_mirror_without_a_collector():
    """A collector that is not there disturbs nothing."""
    async with running_hss(mirror=("127.0.0.1", _free_port())) as hss, CxClient(hss.diameter_port) as client:
        for _ in range(5):
            assert (await client.uar(ALICE)).name == "UAA"


@in_loop
async def test_log_that_nobody_reads():
    """A log whose reader is gone does not stop the HSS."""

    class Gone:
        def write(self, text):
            raise BrokenPipeError

        flush = write

    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        hss._log_to = Gone()
        for _ in range(3):
            assert (await client.uar(ALICE)).name == "UAA"
