"""Readiness: conditions that clients would see, asked without blocking."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from labkit.lab.probes import CgratesProbe, DiameterPeerProbe, OptionsProbe, TcpProbe, open_peers

ADDRESS = "127.82.1.1"


def met_soon(probe: OptionsProbe) -> bool:
    """Ask for up to two seconds."""
    deadline = time.monotonic() + 2
    while not probe.met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_tcp_port_is_ready_when_it_accepts() -> None:
    """Refused is not ready; accepted is."""
    with socket.socket() as server:
        server.bind((ADDRESS, 0))
        probe = TcpProbe(ADDRESS, server.getsockname()[1], "its port")
        assert not probe.met()
        server.listen()
        assert probe.met()
    assert not probe.met()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"SIP/2.0 200 OK\r\n\r\n", True),
        (b"SIP/2.0 404 Not here\r\n\r\n", True),
        (b"SIP/2.0 100 Trying\r\n\r\n", False),
        (b"garbage", False),
        (b"", False),
    ],
)
def test_options_wants_a_final_response(answer: bytes, expected: bool) -> None:
    """Any final response shows a running server; a provisional one or garbage does not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((ADDRESS, 0))
        server.settimeout(2)
        probe = OptionsProbe(ADDRESS, server.getsockname()[1], "sip:x.test", source="127.82.1.2")
        assert not probe.met()
        request, sender = server.recvfrom(65535)
        assert request.startswith(b"OPTIONS sip:x.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.82.1.2:")
        assert request.endswith(b"\r\n\r\n")
        server.sendto(answer, sender)
        time.sleep(0.02)
        assert probe.met() is expected
        probe.close()


def test_options_survives_that_nobody_listens_yet() -> None:
    """A refused datagram is no error; the question is asked again until the server is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
        reserved.bind((ADDRESS, 0))
        port = reserved.getsockname()[1]
    probe = OptionsProbe(ADDRESS, port, "sip:x.test")
    for _ in range(5):
        assert not probe.met()
        time.sleep(0.005)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((ADDRESS, port))
        threading.Thread(target=_answer_one, args=(server,), daemon=True).start()
        assert met_soon(probe)
        probe.close()


def _answer_one(server: socket.socket) -> None:
    _, sender = server.recvfrom(65535)
    server.sendto(b"SIP/2.0 200 OK\r\n\r\n", sender)


class Door(BaseHTTPRequestHandler):
    """An admin door whose answer a test chooses."""

    answer: object = []
    status = 200

    def do_GET(self) -> None:
        right = self.headers["Authorization"] == "Bearer secret" and self.path == "/peers"
        body = json.dumps(self.answer).encode()
        self.send_response(self.status if right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def door() -> Iterator[int]:
    """The port of a door."""
    server = HTTPServer((ADDRESS, 0), Door)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([{"host": "a.test", "state": "open"}], True),
        ([{"host": "a.test", "state": "waiting"}], False),
        ([{"host": "b.test", "state": "open"}], False),
        ([], False),
        ({}, False),
        ("a.test", False),
        ([3, None], False),
    ],
)
def test_a_diameter_peer_is_ready_when_the_other_side_says_so(door: int, answer: object, expected: bool) -> None:
    """The admin door's list of open peers decides; an answer of another shape is no list."""
    Door.answer, Door.status = answer, 200
    assert DiameterPeerProbe(ADDRESS, door, "secret", "a.test", "hss").met() is expected


def test_a_door_that_refuses_or_is_absent_shows_no_peers(door: int) -> None:
    """A wrong token, a server error and a closed port all mean: not yet."""
    Door.answer, Door.status = ["a.test"], 200
    assert open_peers(ADDRESS, door, "wrong") == set()
    Door.status = 500
    assert open_peers(ADDRESS, door, "secret") == set()
    assert open_peers(ADDRESS, 1, "secret") == set()


class Charging(BaseHTTPRequestHandler):
    """Says Pong to `up` services and any words to GetCost."""

    up: tuple[str, ...] = ()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service = asked["method"].partition(".")[0]
        known = service in self.up
        pong = known and asked["method"].endswith(".Ping")
        words = "RATING_PLAN_NOT_FOUND" if known else "rpc: can't find service"
        body = json.dumps({"id": 1, "result": "Pong" if pong else None, "error": None if pong else words}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def test_cgrates_is_ready_when_every_service_answers_and_the_rater_lives() -> None:
    """HTTP alone is not enough, and the last question is the one that a broken start does not survive."""
    server = HTTPServer(("127.0.0.1", 0), Charging)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        probe = CgratesProbe("127.0.0.1", server.server_port)
        Charging.up = CgratesProbe.SERVICES[:-1]
        assert not probe.met()
        Charging.up = CgratesProbe.SERVICES
        assert probe.met()
    finally:
        server.shutdown()
        server.server_close()
    assert not CgratesProbe("127.0.0.1", server.server_port).met()
