"""How fast is the decoder? User CPU against `tshark -T fields` on the same captures, in turn, and every row checked.

python tests/bench/bench_decode.py [--runs 3] FILE...

Where FILE.truth.parquet lies beside a capture (one row a message, written by whoever made the capture), every field of
every row is held against it in the same run; else the messages of each frame are counted against tshark's. A speed
counts only where the last column says "right". cold = a process with all imports, started as `./lab decode` starts;
warm = the second reading in one process. Ratios are medians over pairs (ours, tshark's) run one after the other.
LABKIT_PURE=1 leaves the compiled loops aside.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

NAMES = {
    "frame": "number time_epoch",
    "ip": "src dst",
    "udp": "srcport",
    "tcp": "srcport",
    "sip": "Method Status-Code Call-ID CSeq.seq CSeq.method from.user to.user",
    "diameter": "cmd.code flags Result-Code Session-Id User-Name Public-Identity hopbyhopid",
    "rtp": "ssrc seq timestamp",
}
FIELDS = [f"{protocol}.{name}" for protocol, names in NAMES.items() for name in names.split()]
COUNTED = [FIELDS.index(name) for name in ("sip.Method", "sip.Status-Code", "diameter.cmd.code", "rtp.ssrc")]
TRUTH = {
    "frame": "frame", "src": "src", "src_port": "sport", "dst": "dst", "dst_port": "dport", "protocol": "proto",
    "method": "method", "status": "status", "call_id": "callid", "cseq": "cseq", "cseq_method": "cseqm",
    "command_code": "cmd", "flags": "flags", "session_id": "sid", "user_name": "user", "public_identity": "pub",
    "hop_by_hop_id": "hbh", "ssrc": "ssrc", "sequence": "seq", "rtp_timestamp": "rts",
}  # fmt: skip
"""Our column to the column of a truth file."""


def read(path: str) -> list[Any]:
    """Decode a capture to batches."""
    from labkit.capture.decode import Decoder
    from labkit.capture.decode.decoder import PIECE_BYTES

    decoder = Decoder()
    batches = []
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            batches += decoder.feed(piece).batches()
    return batches + decoder.finish().batches()


def user_s() -> float:
    """User CPU of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def child(path: str, warm: bool) -> None:
    """Read a capture, once or twice; print user CPU of the last reading, rows, and bytes that a row keeps."""
    from labkit.cli.decode import spare_the_machine

    spare_the_machine()
    if warm:
        read(path)
    before = user_s()
    batches = read(path)
    spent = user_s() - before
    rows = sum(map(len, batches))
    print(spent, rows, sum(batch.nbytes for batch in batches) / max(1, rows))


def run(command: list[str]) -> tuple[float, float, str]:
    """Run a command: user CPU in seconds, peak memory in MiB, output."""
    # As users start it: what was imported once is there as bytecode.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        out = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    if status:
        raise SystemExit(f"{command[0]} failed with {status}: {' '.join(command)}")
    return usage.ru_utime, usage.ru_maxrss / 1024, out


def tshark(path: str) -> list[str]:
    """The yardstick."""
    fields = [part for name in FIELDS for part in ("-e", name)]
    shape = ["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|"]
    return ["tshark", "-n", "-r", path, "-Y", "sip or diameter or rtp", "-T", "fields", *shape, *fields]


def verdict(path: str, tshark_out: str) -> str:
    """Hold every row against the truth, or the messages a frame against tshark."""
    from labkit.capture.decode.schema import join

    table = join(read(path))
    truth_path = Path(path + ".truth.parquet")
    if truth_path.exists():
        import pyarrow.parquet as parquet

        truth = parquet.read_table(truth_path)
        wrong = [ours for ours, theirs in TRUTH.items() if table[ours].to_pylist() != truth[theirs].to_pylist()]
        return f"wrong: {', '.join(wrong)}" if wrong else f"right ({len(table)} rows)"
    ours = Counter(
        frame
        for frame, protocol in zip(table["frame"].to_pylist(), table["protocol"].to_pylist(), strict=True)
        if protocol != "rtcp"
    )
    theirs: Counter[int] = Counter()
    for line in tshark_out.splitlines():
        cells = line.split("\t")
        messages = sum(len(cells[index].split("|")) for index in COUNTED if cells[index])
        theirs[int(cells[0])] += messages
    different = sum(1 for frame in ours | theirs if ours[frame] != theirs[frame])
    return f"{different} frames differ from tshark" if different else f"right ({len(table)} rows, as tshark counts)"


def checked(command: list[str], tshark_out: str) -> str:
    """The verdict, by a process of its own: a big parent would be counted in its children's memory."""
    return subprocess.run(command, input=tshark_out, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", choices=["cold", "warm", "check"])
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    if options.child == "check":
        print(verdict(options.files[0], sys.stdin.read()))
        return
    if options.child:
        child(options.files[0], options.child == "warm")
        return
    from labkit import native

    print("inner loops:", "in Python" if native.compiled is None else "compiled")
    heads = ("tshark s", "warm s", "cold s", "x warm", "x cold", "MiB", "tshark", "ratio", "B/row")
    print(f"{'capture':18}" + "".join(f"{head:>9}" for head in heads) + "  rows")
    for path in options.files:
        ours = [sys.executable, __file__, path, "--child"]
        warm, cold, theirs, memory, their_memory, row_bytes = [], [], [], [], [], 0.0
        for _ in range(options.runs):
            text = ""  # what this process holds would be counted in its children's memory
            out = run([*ours, "warm"])[2].split()
            warm.append(float(out[0]))
            row_bytes = float(out[2])
            user, peak, _ = run([*ours, "cold"])
            cold.append(user)
            memory.append(peak)
            user, peak, text = run(tshark(path))
            theirs.append(user)
            their_memory.append(peak)
        middle = statistics.median
        numbers = [
            f"{middle(theirs):.2f}",
            f"{middle(warm):.3f}",
            f"{middle(cold):.3f}",
            f"{middle(their / our for their, our in zip(theirs, warm, strict=True)):.1f}",
            f"{middle(their / our for their, our in zip(theirs, cold, strict=True)):.1f}",
            f"{middle(memory):.0f}",
            f"{middle(their_memory):.0f}",
            f"{middle(memory) / middle(their_memory):.2f}",
            f"{row_bytes:.0f}",
        ]
        rows = checked([*ours, "check"], text)
        print(f"{Path(path).name:18}" + "".join(f"{cell:>9}" for cell in numbers) + f"  {rows}", flush=True)


if __name__ == "__main__":
    main()
