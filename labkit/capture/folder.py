"""Many captures to many tables: one Parquet file each, one after the other or on an engine that maps.

Each capture is a world of its own here: what one file leaves unfinished the next does not complete. A file's table
appears when it is whole, and a capture is passed over whose table is there, not older, and made with the same options;
so whatever was interrupted goes on where it was when it is started again.
"""

from __future__ import annotations

import os
import re
import sys
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from labkit.capture.decode.schema import PROTOCOLS
from labkit.errors import CaptureError

if TYPE_CHECKING:
    import pandas as pd

CAPTURE_FILE = re.compile(r"\.(pcap|pcapng|cap)\d*(\.gz)?$", re.IGNORECASE)
"""Names of captures; ring buffers number them behind the ending."""
ARCHIVE = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError)
"""What Python raises for an archive that is cut, damaged or none."""
_BAR_CHARACTERS = 30


class Engine(Protocol):
    """What maps a function over many items elsewhere: a `distributed.Client`."""

    def map(self, function: Callable[..., Any], *items: Any, **options: Any) -> Any:
        """Begin to work on all items, and give a future for each."""

    def cancel(self, futures: Any) -> Any:
        """Begin nothing more of these."""


@dataclass(frozen=True, slots=True)
class Job:
    """One capture to decode."""

    name: str
    """Path below the folder, or name in the archive."""
    source: Path
    """The file, or the archive that holds it."""
    target: Path
    """Where its table belongs."""
    size_bytes: int
    """Size of the capture."""
    packed: bool = False
    """Whether it lies in an archive."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one capture."""

    file: str
    """As in `Job`."""
    frames: int | None = None
    """Whole frames read; None where its table was there already."""
    rows: int | None = None
    """Messages in the table."""
    note: str = ""
    """Empty, or a sentence: was there already, ends early, is no capture."""


def decode_folder(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    protocols: Collection[str] = PROTOCOLS,
    guess_rtp: bool = False,
    client: Engine | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Decode every capture of a folder or a tar archive to a Parquet file of its own, with flat memory.

    Args:
        source: a folder, with all that is below it, or a .tar, .tar.gz or .tgz file.
        target: the folder for the tables; made where it is missing.
        protocols: those to write.
        guess_rtp: take for RTP what behaves like it although no SDP announced it.
        client: a `distributed.Client` to spread the captures over its workers (`pip install labkit[dask]`); they must
            see the same files. Without one they are decoded here, one after the other.
        progress: draw a bar on stderr.
    Returns:
        One row a capture, in the order of names: file, frames, rows, note.
    Raises:
        CaptureError: there is no such folder or archive, or no capture in it; the target cannot be made.
    """
    jobs = list(_jobs(Path(source), Path(target)))
    _make(Path(target))
    bar = _Bar(jobs) if progress else None
    work = partial(decode_job, protocols=tuple(protocols), guess_rtp=guess_rtp)
    outcomes = []
    try:
        for outcome in _mapped(work, jobs, client):
            outcomes.append(outcome)
            if bar is not None:
                bar.done(outcome.file)
    finally:
        if bar is not None:
            bar.close()
    return _table(sorted(outcomes, key=lambda outcome: outcome.file))


def decode_job(
    job: Job, protocols: Collection[str], guess_rtp: bool, archive: tarfile.TarFile | None = None
) -> Outcome:
    """Decode one capture; what is wrong with it is told in the outcome, for the others must go on.

    Args:
        job: the capture.
        protocols: those to write.
        guess_rtp: take for RTP what behaves like it although no SDP announced it.
        archive: the archive that holds it, where it is open already.
    """
    from labkit.capture.export import export_capture, wish_of

    if _is_done(job, wish_of(protocols, guess_rtp)):
        return Outcome(job.name, note="was there already")
    try:
        _make(job.target.parent)
        with _opened(job, archive) as file:
            done = export_capture(file, job.target, protocols=protocols, guess_rtp=guess_rtp)
    except (CaptureError, *_UNREADABLE) as error:
        return Outcome(job.name, note=str(error))
    return Outcome(job.name, done.frames, done.rows, " ".join(filter(None, (done.warning, *done.notes))))


def _is_done(job: Job, wish: str) -> bool:
    """Whether the table is there, not older than the capture, and holds what is asked for now."""
    from labkit.capture.export import wish_in

    newer = job.target.exists() and job.target.stat().st_mtime >= job.source.stat().st_mtime
    return newer and wish_in(job.target) == wish


def _mapped(work: Callable[..., Outcome], jobs: list[Job], client: Engine | None) -> Iterator[Outcome]:
    if client is None:
        # One archive for all: a packed one that is opened anew is unpacked from its beginning to get at its end.
        with tarfile.open(jobs[0].source) if jobs[0].packed else nullcontext() as archive:
            yield from (work(job, archive=archive) for job in jobs)
        return
    from distributed import as_completed

    futures = client.map(work, jobs, pure=False)  # not pure: a table that was removed must be made again
    try:
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            yield future.result()
    finally:
        client.cancel(futures)  # after Ctrl-C nobody waits for the rest, and the next run would do it beside them


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptureError(f"Cannot make the folder {folder}: {error.strerror}.") from error


def _jobs(source: Path, target: Path) -> Iterator[Job]:
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file())
        found = [(str(path.relative_to(source)), path, path.stat().st_size) for path in files]
    elif source.is_file() and ARCHIVE.search(source.name):
        try:
            with tarfile.open(source) as archive:
                found = [(member.name, source, member.size) for member in archive if member.isfile()]
        except _UNREADABLE as error:
            why = str(error).partition("\n")[0].rstrip(".:")  # the rest tells what each kind of packing misses
            raise CaptureError(f"Cannot read the archive {source}: {why}.") from error
    else:
        raise CaptureError(f"{source} is neither a folder nor a .tar, .tar.gz or .tgz archive of captures.")
    found = [one for one in found if CAPTURE_FILE.search(one[0]) and ".." not in Path(one[0]).parts]
    if not found:
        raise CaptureError(f"There is no capture in {source}: no file's name ends in .pcap, .pcapng, .cap or .gz.")
    for name, path, size in found:
        yield Job(name, path, target / (name.lstrip("/") + ".parquet"), size, packed=path is source)


@contextmanager
def _opened(job: Job, archive: tarfile.TarFile | None) -> Iterator[IO[bytes]]:
    if not job.packed:
        with job.source.open("rb") as file:
            yield file
        return
    with nullcontext(archive) if archive is not None else tarfile.open(job.source) as opened:
        member = opened.extractfile(job.name)
        if member is None:
            raise CaptureError(f"The archive {job.source} holds no {job.name} any more.")
        with member:
            yield member


def _table(outcomes: list[Outcome]) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {
        "file": pd.array([outcome.file for outcome in outcomes], dtype="string"),
        "frames": pd.array([outcome.frames for outcome in outcomes], dtype="Int64"),
        "rows": pd.array([outcome.rows for outcome in outcomes], dtype="Int64"),
        "note": pd.array([outcome.note for outcome in outcomes], dtype="string"),
    }
    return pd.DataFrame(columns)


class _Bar:
    """A bar on stderr: by bytes, for captures differ in size."""

    def __init__(self, jobs: list[Job]) -> None:
        self._sizes = {job.name: max(job.size_bytes, 1) for job in jobs}
        self._all, self._done, self._count = sum(self._sizes.values()), 0, 0

    def done(self, name: str) -> None:
        """Draw that one more is finished."""
        self._done += self._sizes[name]
        self._count += 1
        filled = _BAR_CHARACTERS * self._done // self._all
        bar = "#" * filled + "." * (_BAR_CHARACTERS - filled)
        sys.stderr.write(f"\r[{bar}] {self._count} of {len(self._sizes)} captures")
        sys.stderr.flush()

    def close(self) -> None:
        """End its line: what is said next stands below it."""
        sys.stderr.write("\n")
