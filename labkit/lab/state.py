"""Files shared between processes: one lock a lab, and folders that can be removed for good."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.errors import StackError


@contextlib.contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] | None = None, timeout_s: float = 600.0) -> Iterator[None]:
    """Hold an exclusive lock on `path` between processes; a lock of a process that died is free at once.

    `on_wait` is called once where somebody else holds it. StackError after `timeout_s`, or where it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise StackError(
            f"cannot write {path}: {error.strerror}. Make it writable for you, or point LABKIT_HOME at another folder."
        ) from error
    try:
        if not _try_lock(handle):
            if on_wait is not None:
                on_wait()
            deadline = time.monotonic() + timeout_s
            while not _try_lock(handle):
                if time.monotonic() > deadline:
                    raise StackError(f"another process has held {path} for {timeout_s:.0f} s; see ./lab status")
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: replay only, nobody to race with
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it; fine where there is none."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StackError(f"cannot remove {folder}: {error.strerror or error}") from error


def lock_is_held(path: Path) -> bool:
    """True where some process holds the lock at this moment."""
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        return not _try_lock(handle)
    finally:
        os.close(handle)
