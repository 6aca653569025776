"""Live sources: nothing that was sent before a mark is missing after it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from labkit.capture.mirror_source import MirrorSniffer
from labkit.capture.sniff import PacketSocket, main
from labkit.capture.source import AfPacketSniffer, Sniffer, StreamSniffer, can_sniff, to_pcapng
from labkit.capture.table import read_capture
from labkit.errors import CaptureError
from labkit.wire.hep import HepPacket
from labkit.wire.pcap import pcap_header, pcap_record

NET = "127.201.77"
needs_rights = pytest.mark.skipif(not can_sniff(), reason="sniffing needs CAP_NET_RAW (LABKIT_CAPTURE=mirror does not)")


def options(number: int) -> bytes:
    """A small SIP request."""
    return b"OPTIONS sip:x SIP/2.0\r\nCSeq: %d OPTIONS\r\nContent-Length: 0\r\n\r\n" % number


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets in a network of this test, one outside of it."""
    inside, outside = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    inside.bind((f"{NET}.5", 0))
    outside.bind(("127.202.77.5", 0))
    yield inside, outside
    inside.close()
    outside.close()


def exchange(sniffer: Sniffer, ends: tuple[socket.socket, socket.socket], count: int) -> list[int]:
    """Send numbered requests in two spans and return the CSeq numbers seen in the second."""
    inside, outside = ends
    target = inside.getsockname()
    inside.sendto(options(9999), target)
    begin = sniffer.mark()
    for number in range(count):
        inside.sendto(options(number), target)
        outside.sendto(options(7777), outside.getsockname())
    end = sniffer.mark()
    inside.sendto(options(8888), target)
    sniffer.mark()
    messages = read_capture(to_pcapng(sniffer.frames(begin, end), {f"{NET}.5": "phone"}))
    assert set(messages.table["src_node"]) == {"phone"}
    return [int(number) for number in messages.table["cseq"]]


@pytest.fixture(params=["ring", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the ring, and where the kernel refuses one."""
    if request.param != "ring":
        monkeypatch.setattr("labkit.capture.sniff._ring", lambda packets: None)
    return str(request.param)


@needs_rights
def test_sniffing_the_loopback(way: str, ends: tuple[socket.socket, socket.socket]) -> None:
    """Each packet of the net once, none of others, spans cut exactly at the marks; times come from the kernel."""
    sniffer = AfPacketSniffer("lo", f"{NET}.0/24")
    assert sniffer.kind == "wire"
    sniffer.start()
    assert sniffer._packets is not None
    assert (sniffer._packets.ring is None) == (way != "ring")
    try:
        assert exchange(sniffer, ends, 500) == list(range(500))
        assert sniffer.dropped == 0
    finally:
        sniffer.stop()
    sniffer.stop()
    with pytest.raises(CaptureError, match="not running"):
        sniffer.mark()


@needs_rights
def test_the_capture_program_and_its_stream(ends: tuple[socket.socket, socket.socket]) -> None:
    """`python -m labkit.capture.sniff` says ready, writes a pcap, and ends at SIGTERM with code 0."""
    program = subprocess.Popen(
        [sys.executable, "-m", "labkit.capture.sniff", "lo", f"{NET}.0/24"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stderr is not None
    assert program.stdout is not None
    try:
        assert program.stderr.readline() == b"ready\n"
        sniffer = StreamSniffer(program.stdout, (f"{NET}.255", 9), stop=program.terminate)
        sniffer.start()
        assert exchange(sniffer, ends, 200) == list(range(200))
        sniffer.stop()
        assert program.wait(5) == 0
        assert program.stderr.read() == b""
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        program.stderr.close()


@needs_rights
def test_big_frames_and_times_of_both_ways(way: str) -> None:
    """60 000 bytes are whole, and a frame's time lies between before and after it was sent."""
    packets = PacketSocket(("lo", f"{NET}.0/24"))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.bind((f"{NET}.6", 0))
            time.sleep(0.1)  # the kernel begins to stamp a little after it was asked to
            before_ns = time.time_ns()
            for size in (10, 60_000, 0):
                phone.sendto(b"x" * size, phone.getsockname())
            after_ns = time.time_ns()
        frames = frames_of(packets, 3)
        assert [len(raw) for _time_ns, raw in frames] == [52, 60_042, 42]
        assert all(before_ns <= time_ns <= after_ns for time_ns, _raw in frames)
    finally:
        packets.close()


@needs_rights
def test_what_is_lost_is_counted(way: str) -> None:
    """Who does not read is told how much the kernel threw away; nothing is lost in secret."""
    packets = PacketSocket(("lo", f"{NET}.0/24"))
    sent = 1500
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.bind((f"{NET}.7", 0))
            for _ in range(sent):
                phone.sendto(bytes(50_000), phone.getsockname())
        lost = packets.dropped()
        assert lost > 0
        assert len(frames_of(packets, sent - lost)) == sent - lost
        assert packets.dropped() == lost
    finally:
        packets.close()


@needs_rights
def test_several_choices_come_in_the_order_in_which_they_were_sent(way: str) -> None:
    """A socket for more than one interface has one queue; what is neither's is left out."""
    packets = PacketSocket(("lo", f"{NET}.8/32"), ("lo", f"{NET}.9/32"))
    try:
        with contextlib.ExitStack() as opened:
            phones = [opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)]
            for last, phone in zip((8, 9, 10), phones, strict=True):
                phone.bind((f"{NET}.{last}", 0))
            for number in range(30):
                phones[number % 3].sendto(bytes([number]), phones[number % 3].getsockname())
        frames = frames_of(packets, 20)
        assert [raw[42] for _time_ns, raw in frames] == [number for number in range(30) if number % 3 != 2]
    finally:
        packets.close()


def frames_of(packets: PacketSocket, count: int) -> list[tuple[int, bytes]]:
    """Read so many frames, or what there is within two seconds."""
    frames: list[tuple[int, bytes]] = []
    give_up = time.monotonic() + 2
    while len(frames) < count and time.monotonic() < give_up:
        select.select([packets], [], [], 0.1)
        frames += packets.read().frames()
    return frames


@needs_rights
def test_an_interface_that_is_not_there() -> None:
    """One sentence, from the class and from the program."""
    with pytest.raises(CaptureError, match="nowhere0"):
        AfPacketSniffer("nowhere0", f"{NET}.0/24").start()
    assert main(["nowhere0"]) == 2


def test_the_program_explains_its_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an interface it says what it wants."""
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_program_needs_the_standard_library_only() -> None:
    """The capture container has nothing else."""
    code = "import sys, labkit.capture.sniff; print(sorted(m for m in sys.modules if m.split('.')[0] in %r))"
    heavy = ("pandas", "numpy", "cryptography", "docker", "httpx")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_stream_that_ends_or_is_no_pcap_is_told() -> None:
    """Who waits for a mark learns why it will not come."""
    for first, why in ((b"", "has ended"), (b"sh: python3: not found", "no capture")):
        read, write = os.pipe()
        os.write(write, first)
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as stream:
            sniffer = StreamSniffer(stream, ("127.201.77.255", 9))
            with pytest.raises(CaptureError, match=why):
                sniffer.start()
            sniffer.stop()


def test_a_marker_is_found_in_a_stream_and_left_out() -> None:
    """The stream shows the marker some time after it was sent; frames before it belong to the span."""
    read, write = os.pipe()
    catcher = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    catcher.bind(("127.0.0.1", 0))

    def play() -> None:
        os.write(write, pcap_header())
        for count in range(2):
            marker = catcher.recv(100)
            os.write(write, pcap_record(count, b"frame %d" % count))
            os.write(write, pcap_record(count, bytes(42) + marker))

    player = threading.Thread(target=play)
    player.start()
    with os.fdopen(read, "rb", buffering=0) as stream:
        sniffer = StreamSniffer(stream, catcher.getsockname(), stop=lambda: os.close(write))
        sniffer.start()
        assert sniffer.frames(0, sniffer.mark()) == [(0, 1, b"frame 0"), (1, 1, b"frame 1")]
        player.join()
        sniffer.stop()
    catcher.close()


def test_the_mirror_collects_and_chooses() -> None:
    """Copies from before the mark are all there, chosen, in order of the nodes' clocks; garbage is counted."""
    sniffer = MirrorSniffer((f"{NET}.2", 19060))
    assert sniffer.kind == "mirrored"
    sniffer.start()
    try:
        begin = sniffer.mark()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
            node.bind((f"{NET}.13", 0))
            for number in range(300):
                for capture_id, late in ((1, 0), (2, 1)):
                    packet = HepPacket(
                        *(f"{NET}.13", 5060, f"{NET}.11", 4060, "udp", 10**15 + 10 * number + late, 1, options(number)),
                        capture_id,
                    )
                    node.sendto(packet.to_bytes(), (f"{NET}.2", 19060))
            node.sendto(b"garbage", (f"{NET}.2", 19060))
        end = sniffer.mark()
        messages = read_capture(to_pcapng(sniffer.frames(begin, end)))
        assert messages.table["cseq"].tolist() == list(range(300))
        assert messages.table["src_port"].tolist() == [5060] * 300
        assert sniffer.dropped == 1
        with pytest.raises(CaptureError, match="Only one notebook"):
            MirrorSniffer((f"{NET}.2", 19060)).start()
    finally:
        sniffer.stop()
    assert len(sniffer.frames(begin, end)) == 300


def test_a_source_that_was_not_started_says_so() -> None:
    """Marks need a running source."""
    for sniffer in (AfPacketSniffer("lo", f"{NET}.0/24"), MirrorSniffer((f"{NET}.2", 19061))):
        with pytest.raises(CaptureError, match="not running"):
            sniffer.mark()
        sniffer.stop()
