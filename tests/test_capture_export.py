"""A capture to a table in a file: the columns that were promised, the rows of the table, whole or not at all."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.capture import export
from labkit.capture.export import EXPORTED, export_capture
from labkit.capture.table import read_capture
from labkit.errors import CaptureError

RECORDINGS = Path(__file__).parent / "data" / "ims"
CALL = RECORDINGS / "05_call_with_hold.pcap"


def read(path: Path) -> object:
    """The file as a DataFrame."""
    import pandas as pd

    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_feather(path)


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv"])
def test_the_columns_are_the_promised_ones(tmp_path: Path, ending: str) -> None:
    """In their order, in each format."""
    with CALL.open("rb") as source:
        done = export_capture(source, tmp_path / f"out{ending}")
    found = read(tmp_path / f"out{ending}")
    assert tuple(found.columns) == EXPORTED  # type: ignore[attr-defined]
    assert len(found) == done.rows > 20  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [f"out{ending}"]


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*.pcap")), ids=lambda path: path.stem)
def test_rows_are_those_of_the_table(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces of a few hundred bytes, every value is that of the table."""
    monkeypatch.setattr(export, "PIECE_BYTES", 333)
    monkeypatch.setattr(export, "_ROWS_AT_ONCE", 5)
    with path.open("rb") as source:
        export_capture(source, tmp_path / "out.parquet")
    found, table = read(tmp_path / "out.parquet"), read_capture(path).table
    order = ["frame", "protocol", "sequence", "cseq", "hop_by_hop_id", "command_code", "branch", "src"]
    ours = found.sort_values(order).reset_index(drop=True)  # type: ignore[attr-defined]
    theirs = table[list(EXPORTED)].sort_values(order).reset_index(drop=True)
    for name in EXPORTED:
        mine = [None if value != value or value is None else value for value in ours[name].tolist()]
        other = theirs[name].astype(object).where(theirs[name].notna(), None).tolist()
        assert mine == other, name


def test_counts_say_what_is_in_it() -> None:
    """Without a target nothing is written, and everything is counted."""
    with (RECORDINGS / "01_first_registration.pcap").open("rb") as source:
        done = export_capture(source)
    assert done.counts["diameter"]["UAR"] == 1
    assert done.counts["sip"]["REGISTER"] == 2 * done.counts["sip"]["200 to REGISTER"]
    assert sum(sum(counts.values()) for counts in done.counts.values()) == done.rows


def test_only_the_wanted_protocols_are_written() -> None:
    """A filter is a filter."""
    with CALL.open("rb") as source:
        done = export_capture(source, protocols=("diameter",))
    assert {name for name, counts in done.counts.items() if counts} <= {"diameter"}


def test_what_is_no_capture_leaves_no_file(tmp_path: Path) -> None:
    """Nor does one that ends in the middle hide it: what is whole is there, and a sentence says where it ends."""
    with pytest.raises(CaptureError):
        export_capture(io.BytesIO(b"root:x:0:0" * 50), tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []
    done = export_capture(io.BytesIO(CALL.read_bytes()[:-7]), tmp_path / "out.parquet")
    assert done.warning
    assert len(read(tmp_path / "out.parquet")) == done.rows  # type: ignore[arg-type]


def test_a_target_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """With the name."""
    with CALL.open("rb") as source, pytest.raises(CaptureError, match=r"Cannot write .*none/out\.csv"):
        export_capture(source, tmp_path / "none" / "out.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows kills without asking")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_kill_leaves_no_half_of_a_table(tmp_path: Path, number: int) -> None:
    """In the middle of a pipe, as Ctrl-C and `timeout` do it."""
    command = [sys.executable, "-m", "labkit", "decode", "-", "--to", str(tmp_path / "out.csv")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdin is not None
        program.stdin.write(CALL.read_bytes())
        program.stdin.flush()
        until = time.monotonic() + 30
        while not any(tmp_path.iterdir()) and time.monotonic() < until:
            time.sleep(0.02)
        assert any(tmp_path.iterdir())
        program.send_signal(number)
        _, said = program.communicate(timeout=30)
    assert (program.returncode, said) == (130, b"lab: stopped.\n")
    assert list(tmp_path.iterdir()) == []
