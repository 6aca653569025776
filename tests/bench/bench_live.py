"""What it costs to see traffic as decoded rows while it runs: loss, processor time a packet, delay from wire to row.

    python tests/bench/bench_live.py [--rates 1000,5000,20000,50000,100000] [--seconds 3] [--methods ring,feed,tshark]

RTP of 172 bytes on the loopback, announced by SDP, sent by another process (tests/traffic.py); each packet holds the
time at which it was sent. A row is there when the decoder has given it. `ring` hands what labkit's packet socket reads
to labkit's decoder as it comes, `socket` does so where the kernel refuses a ring, `feed` is all that a live ladder and
`./lab capture` do, which look every 50 ms; `tshark` is `tshark -l -T fields` with the fields of the same columns, read
line by line. CPU is user and system time of all that captures and decodes. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import argparse
import resource
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labkit.capture import sniff
from labkit.capture.decode import Decoder
from labkit.capture.live import LiveFeed
from labkit.capture.ring import Block
from labkit.capture.source import AfPacketSniffer
from labkit.view.live_rows import LiveRows
from labkit.wire import pcap
from tests.traffic import RTP_PORT

ADDRESS = "127.205.6.7"
TRAFFIC = Path(__file__).resolve().parents[1] / "traffic.py"
TURN_S = 0.05
"""A live ladder and `./lab capture` look so often for what is new."""
_SENT_AT, _PAYLOAD_BYTES = 12, 160
"""The RTP header stands before the time of sending."""
_EACH = 5
"""The delays of every fifth block of packets, or of every fifth line, are looked at; looking costs time, too."""
_TSHARK_FIELDS = (
    *("frame.number", "frame.time_epoch", "ip.src", "udp.srcport", "ip.dst", "udp.dstport"),
    *("rtp.ssrc", "rtp.seq", "rtp.timestamp", "rtp.p_type", "rtp.marker", "rtp.payload"),
)


@dataclass(slots=True)
class Seen:
    """What one method saw at one rate."""

    sent: int = 0
    rows: int = 0
    lost: int = 0
    cpu_s: float = 0.0
    delays_ms: list[float] = field(default_factory=list)

    def end(self, before_s: float, sender: subprocess.Popen[str], lost: int) -> None:
        """Note what it cost since a reading of the processor's time, what was sent and what was lost."""
        self.cpu_s = time.process_time() - before_s
        self.rows -= 1  # the INVITE
        self.lost = lost
        self.sent = int(sender.communicate()[0].split()[0])

    def line(self, method: str, rate: int) -> str:
        """One row of the table."""
        delays = sorted(self.delays_ms) or [float("nan")]
        at = [delays[int(len(delays) * share)] for share in (0.5, 0.99)]
        missing = self.sent - self.rows
        cpu_us = self.cpu_s * 1e6 / max(self.rows, 1)
        counts = f"{method:>8} {rate:>8} {self.sent:>9} {missing:>8} {self.lost:>8}"
        return f"{counts} {cpu_us:>10.2f} {at[0]:>8.2f} {at[1]:>8.2f}"


def send(rate: int, seconds: float) -> subprocess.Popen[str]:
    """Let another process send."""
    return subprocess.Popen(
        [sys.executable, str(TRAFFIC), "rtp", ADDRESS, str(rate), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def by_labkit(rate: int, seconds: float) -> Seen:
    """The ring (or the socket) and the decoder, in a loop that waits for nothing but packets."""
    seen, decoder = Seen(), Decoder(keep_raw=True)
    packets = sniff.PacketSocket(("lo", f"{ADDRESS}/32"))
    warm_up()
    before = time.process_time()
    sender = send(rate, seconds)
    quiet = blocks = 0
    while quiet < 5 or sender.poll() is None:
        if not select.select([packets], [], [], 0.1)[0]:
            quiet += 1
            continue
        quiet = 0
        while block := packets.read():
            found = decoder.feed_block(block)
            rows = found.batches() if found.arrow else found.rows()  # few packets are rows already
            now_ns = time.time_ns()
            seen.rows += len(found)
            blocks += 1
            if blocks % _EACH == 0:
                seen.delays_ms += delays_ms(rows, now_ns)
    seen.end(before, sender, packets.dropped())
    packets.close()
    return seen


def by_feed(rate: int, seconds: float) -> Seen:
    """What a live ladder and `./lab capture` do: a source that keeps the frames, and rows for the eye, turn by turn."""
    seen, sniffer = Seen(), AfPacketSniffer("lo", f"{ADDRESS}/32")
    sniffer.start()
    feed, story = LiveFeed(sniffer), LiveRows()
    warm_up()
    before = time.process_time()
    sender = send(rate, seconds)
    quiet = turns = 0
    while quiet < 5 or sender.poll() is None:
        time.sleep(TURN_S)
        rows = feed.take()
        story.feed(rows)
        story.streams(now_ns := time.time_ns())
        quiet = 0 if rows else quiet + 1
        seen.rows += len(rows)
        turns += 1
        if turns % _EACH == 0:
            seen.delays_ms += delays_ms(rows, now_ns)
    seen.end(before, sender, feed.lost)
    sniffer.stop()
    return seen


def delays_ms(rows: list[Any], now_ns: int) -> Iterator[float]:
    """How long ago the packets were sent that these batches, or rows, hold."""
    raws = chain.from_iterable([row["raw"]] if isinstance(row, dict) else row["raw"].to_pylist() for row in rows)
    for raw in raws:
        if len(raw) == _SENT_AT + _PAYLOAD_BYTES:
            yield (now_ns - struct.unpack_from(">Q", raw, _SENT_AT)[0]) / 1e6


def warm_up() -> None:
    """Import what decodes many frames at once, and use it: that happens once, and is no part of what is measured."""
    frame = pcap.udp_frame(ADDRESS, 1, ADDRESS, 2, b"x")
    Decoder().feed_block(Block.of([(0, frame)] * 200)).batches()


def by_socket(rate: int, seconds: float) -> Seen:
    """The same without the ring."""
    ring = sniff._ring
    sniff._ring = lambda packets: None
    try:
        return by_labkit(rate, seconds)
    finally:
        sniff._ring = ring


def by_tshark(rate: int, seconds: float) -> Seen:
    """tshark's lines, each flushed as it is made."""
    seen = Seen()
    fields = [word for name in _TSHARK_FIELDS for word in ("-e", name)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time()
    with subprocess.Popen(
        ["tshark", "-l", "-n", "-i", "lo", "-f", f"udp dst port {RTP_PORT} and dst host {ADDRESS}",
         "-d", f"udp.port=={RTP_PORT},rtp", "-T", "fields", *fields],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as tshark:  # fmt: skip
        assert tshark.stdout is not None
        assert tshark.stderr is not None
        while "Capturing" not in tshark.stderr.readline():
            pass
        time.sleep(1)
        sender = send(rate, seconds)
        ending = subprocess.Popen(["sh", "-c", f"sleep {seconds + 4}; kill -INT {tshark.pid}"])
        for number, line in enumerate(tshark.stdout):
            seen.rows += 1
            if number % _EACH == 0:
                sent_ns = int(line.rsplit("\t", 1)[1].replace(":", "")[:16], 16)
                seen.delays_ms.append((time.time_ns() - sent_ns) / 1e6)
        ending.wait()
        seen.sent = int(sender.communicate()[0].split()[0])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seen.cpu_s = used + time.process_time() - own - _sender_cpu(rate, seconds)
    return seen


def _sender_cpu(rate: int, seconds: float) -> float:
    """The sender is a child as tshark is; what it uses is measured alone and taken off."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    send(rate, seconds).communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


METHODS: dict[str, Callable[[int, float], Seen]] = {
    "ring": by_labkit,
    "socket": by_socket,
    "feed": by_feed,
    "tshark": by_tshark,
}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,5000,20000,50000,100000")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--methods", default="ring,socket,feed,tshark")
    args = parser.parse_args()
    print("  method   rate/s      sent   no row  dropped  CPU us/pkt   p50 ms   p99 ms")
    for rate in map(int, args.rates.split(",")):
        for method in args.methods.split(","):
            print(METHODS[method](rate, args.seconds).line(method, rate), flush=True)


if __name__ == "__main__":
    main()
