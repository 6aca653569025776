"""Folders and archives of captures: a table each, resumable, here or on workers."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pytest
from distributed import Client, LocalCluster

import labkit as lk
from labkit.capture.decode import Decoder
from labkit.cli import exits
from labkit.cli.main import main
from labkit.errors import CaptureError
from labkit.practice.evening import evening


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three captures, one in a folder below, beside a file that is none and one that lies."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "below").mkdir()
    for seed, name in enumerate(("a.pcapng", "below/b.pcap0", "c.cap")):
        (folder / name).write_bytes(evening(1500, seed).file())
    (folder / "notes.txt").write_text("no capture")
    (folder / "liar.pcap").write_text("no capture either")
    return folder


def test_a_table_for_each_capture(archive: Path, tmp_path: Path) -> None:
    """Rows equal those of the file by itself; what is no capture is told and stops nobody."""
    done = lk.decode_folder(archive, tmp_path, progress=False)
    assert done.file.tolist() == ["a.pcapng", "below/b.pcap0", "c.cap", "liar.pcap"]
    assert "no capture file" in done.note.iloc[3]
    for row in done.head(3).itertuples():
        table = pd.read_parquet(tmp_path / f"{row.file}.parquet")
        alone = lk.read_capture(archive / row.file).table
        assert len(table) == row.rows == len(alone) > 1000
        assert table.call_id.fillna("").tolist() == alone.call_id.fillna("").tolist()
    assert not (tmp_path / "liar.pcap.parquet").exists()


def test_it_goes_on_where_it_was(archive: Path, tmp_path: Path) -> None:
    """Tables that are there are left alone, unless the capture is newer; nothing half-written counts."""
    lk.decode_folder(archive, tmp_path, progress=False)
    (tmp_path / "a.pcapng.parquet").unlink()
    (tmp_path / ".c.cap.parquet-half").write_bytes(b"half")
    os.utime(tmp_path / "c.cap.parquet", (1, 1))
    again = lk.decode_folder(archive, tmp_path, progress=False).set_index("file")
    assert again.note["below/b.pcap0"] == "was there already"
    assert again.rows.notna().tolist() == [True, False, True, False]


def test_other_wishes_make_other_tables(archive: Path, tmp_path: Path) -> None:
    """A table that holds something else than what is asked for now is not taken for done."""
    lk.decode_folder(archive, tmp_path, progress=False)
    done = lk.decode_folder(archive, tmp_path, protocols=("sip", "diameter"), progress=False)
    assert done.rows.notna().tolist() == [True, True, True, False]
    assert set(pd.read_parquet(tmp_path / "a.pcapng.parquet").protocol) == {"sip", "diameter"}
    again = lk.decode_folder(archive, tmp_path, protocols=["diameter", "sip"], progress=False)
    assert again.note.tolist()[:3] == ["was there already"] * 3


def test_an_archive_without_unpacking(archive: Path, tmp_path: Path) -> None:
    """A .tar.gz gives the same tables as the folder."""
    packed = tmp_path / "all.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(archive, arcname="all")
    lk.decode_folder(archive, tmp_path / "one", progress=False)
    done = lk.decode_folder(packed, tmp_path / "two", progress=False)
    assert done.rows.notna().sum() == 3
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "one" / "below" / "b.pcap0.parquet"),
        pd.read_parquet(tmp_path / "two" / "all" / "below" / "b.pcap0.parquet"),
    )


def test_an_archive_is_opened_once_for_all(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened for each capture, a packed archive of a thousand would be unpacked a thousand times."""
    packed = tmp_path / "all.tgz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(archive, arcname="all")
    opened: list[object] = []
    really = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda *args, **options: opened.append(args) or really(*args, **options))
    assert lk.decode_folder(packed, tmp_path / "tables", progress=False).rows.notna().sum() == 3
    assert len(opened) == 2  # to list what is in it, and to read that


def test_the_bar(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It grows to its end."""
    lk.decode_folder(archive, tmp_path)
    drawn = capsys.readouterr().err.split("\r")
    assert drawn[-1] == f"[{'#' * 30}] 4 of 4 captures\n"
    assert len(drawn) == 5


def test_nothing_to_do(tmp_path: Path) -> None:
    """A folder without captures, and what is no folder, are told in a sentence."""
    with pytest.raises(CaptureError, match="no capture in"):
        lk.decode_folder(tmp_path, tmp_path / "tables")
    with pytest.raises(CaptureError, match="neither a folder nor"):
        lk.decode_folder(tmp_path / "nowhere", tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_no_place_for_the_tables(archive: Path, tmp_path: Path) -> None:
    """A file in the way of the folder is told in a sentence, before anything is decoded."""
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(CaptureError, match=r"Cannot make the folder .*tables: File exists\."):
        lk.decode_folder(archive, tmp_path / "tables")


@pytest.mark.parametrize("name", ["cut.tar.gz", "cut.tar", "none.tar", "empty.tgz"])
def test_a_broken_archive(archive: Path, tmp_path: Path, name: str) -> None:
    """An archive that ends early, or is none, is told in one line."""
    broken = tmp_path / name
    if name.startswith("cut"):
        with tarfile.open(broken, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(archive)
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    else:
        broken.write_text("" if name.startswith("empty") else "no archive")
    with pytest.raises(CaptureError, match="Cannot read the archive") as told:
        lk.decode_folder(broken, tmp_path / "tables")
    assert "\n" not in str(told.value)


def test_ctrl_c_loses_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped inside the second capture, the first has its table, the second has none; the next run makes the rest."""
    command = ["decode", str(archive), "--to", str(tmp_path / "tables")]
    finish, finished = Decoder.finish, []

    def stop_at_the_second(decoder: Decoder) -> object:
        finished.append(decoder)
        if len(finished) == 2:
            raise KeyboardInterrupt
        return finish(decoder)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "finish", stop_at_the_second)
        assert main(command) == exits.INTERRUPTED
    assert "1 of 4 captures\nlab: the tables in" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "tables").rglob("*") if path.is_file()] == ["a.pcapng.parquet"]
    main(command)
    assert capsys.readouterr().out.count("was there already") == 1
    for path in (archive / "below" / "b.pcap0", archive / "c.cap"):
        table = pd.read_parquet(tmp_path / "tables" / f"{path.relative_to(archive)}.parquet")
        assert len(table) == len(lk.read_capture(path).table)


def test_in_a_terminal(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`decode FOLDER --to TABLES` says what became of each; a file that is none makes it fail."""
    assert main(["decode", str(archive), "--to", str(tmp_path / "tables")]) == 1
    assert "below/b.pcap0" in capsys.readouterr().out
    assert (tmp_path / "tables" / "a.pcapng.parquet").exists()
    assert main(["decode", str(archive)]) != 0
    assert "say --to FOLDER" in capsys.readouterr().err


def test_on_workers(archive: Path, tmp_path: Path) -> None:
    """A Dask cluster here gives the same tables and outcomes as the serial run, and a second run does nothing."""
    alone = lk.decode_folder(archive, tmp_path / "alone", progress=False)
    with (
        dask.config.set(temporary_directory=str(tmp_path / "dask")),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        together = lk.decode_folder(archive, tmp_path / "together", client=client, progress=False)
        again = lk.decode_folder(archive, tmp_path / "together", client=client, progress=False)
    pd.testing.assert_frame_equal(alone, together)
    assert again.note.head(3).tolist() == ["was there already"] * 3
    tables = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.parquet"))
    assert len(tables) == 3
    for table in tables:
        assert (tmp_path / "alone" / table).read_bytes() == (tmp_path / "together" / table).read_bytes()


def test_ctrl_c_on_workers(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are told to leave what nobody waits for any more: the next run would do it beside them."""
    cancelled = []

    class Workers:
        def map(self, function: Callable[..., Any], *items: Any, **options: Any) -> list[Future[Any]]:
            return [Future() for _ in items[0]]

        def cancel(self, futures: list[Future[Any]]) -> None:
            cancelled.extend(futures)

    def interrupted(futures: list[Future[Any]]) -> list[Future[Any]]:
        raise KeyboardInterrupt

    monkeypatch.setattr("distributed.as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lk.decode_folder(archive, tmp_path, client=Workers(), progress=False)
    assert len(cancelled) == 4
