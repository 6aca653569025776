"""The plain proxy as learners drive it: their routing blocks in, one readable error or a running proxy out."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LessonError, NodeNotReady, StackError
from labkit.lab.learner.hints import strange
from labkit.lab.learner.log import LogLine, read_log
from labkit.lab.learner.refusals import BLOCK_FILE, refusal
from labkit.lab.learner.text import RoutingText, own_name, plain_blocks, read_text
from labkit.lab.programs import required_modules
from labkit.lab.ready import POLL_S
from labkit.lab.topology import read_text as read_file

if TYPE_CHECKING:
    from labkit.lab.running import RunningLab


_LOG_S = 3.0


@dataclass(frozen=True, slots=True)
class Started:
    """A proxy that runs with a learner's blocks."""

    text: str = field(repr=False)
    """The learner's text."""
    blocks: tuple[str, ...]
    """The learner's blocks."""
    plain: tuple[str, ...]
    """Blocks of the plain proxy that are in use beside them."""
    modules: tuple[str, ...] = ()
    """Modules that the text loads."""
    warnings: tuple[str, ...] = ()
    """What Kamailio, or the reader, finds strange and takes all the same."""
    took_s: float = field(repr=False, compare=False, default=0.0)
    """From the text to the running proxy, in seconds."""

    def __repr__(self) -> str:
        lines = ["The proxy runs with " + ", ".join(self.blocks)]
        if self.plain:
            lines.append("  as they were: " + ", ".join(self.plain))
        if self.modules:
            lines.append("  modules: " + ", ".join(self.modules))
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])


class LearnersProxy:
    """The node "proxy" of a running lab."""

    def __init__(self, lab: RunningLab, node: str = "proxy") -> None:
        self._lab, self._node = lab, node
        self._read: RoutingText | None = None
        self.files: dict[str, bytes] = {}
        """What the next `start` puts beside the text."""

    @property
    def host(self) -> str:
        """Address and port where the proxy takes SIP, as in a URI."""
        address, port = self._lab.sip_address(self._node)
        return f"{address}:{port}"

    def start(self, text: str, files: dict[str, str]) -> Started:
        """Start the proxy with a learner's text.

        Args:
            text: routing blocks, and before them what they need (loadmodule, modparam, #!define).
            files: names of `self.files` and what is in them, as `digest` says it.
        Raises:
            BlockRefused: it does not start; says where in the text. The proxy is down then.
        """
        began = time.monotonic()
        spec = self._lab.topology.node(self._node)
        plain = {out: read_file(source) for out, source in spec.templates.items()}
        loaded = sorted(required_modules(plain.values()))
        read = read_text(text, spec.lesson_modules, loaded)
        titles = [block.title for block in read.blocks]
        defines = "".join(f"#!define OWN_{name}\n" for name in map(own_name, titles))
        lesson = {"names.cfg": defines.encode(), BLOCK_FILE: _ended(read.started).encode("utf-8", "surrogateescape")}
        lesson |= {f"files/{name}": content for name, content in self.files.items()}
        self._read = read
        try:
            self._lab.put_lesson(self._node, lesson)
        except NodeNotReady:
            raise refusal(text, self._lab.logs_of_this_start(self._node), [*loaded, *read.modules]) from None
        still = tuple(title for title in plain_blocks(plain["kamailio.cfg"]) if title not in titles)
        warnings = [*strange(text), *(line.text for line in self.log() if line.level in ("WARNING", "ERROR"))]
        return Started(text, tuple(titles), still, read.modules, tuple(warnings), time.monotonic() - began)

    @property
    def plain(self) -> str:
        """The routing blocks of the plain proxy: what runs where a learner writes nothing."""
        text = read_file(self._lab.topology.node(self._node).templates["kamailio.cfg"])
        return re.sub(
            r"^#!(?:ifndef|endif).*\n", "", text.partition("# ---- requests")[2].partition("\n")[2], flags=re.M
        )

    def check(self) -> bool:
        """Ask Kamailio to check the configuration that was started last, without starting it: `kamailio -c`."""
        command = ("@@KAMAILIO@@", "-c", "-f", "@@CONF_DIR@@/kamailio.cfg", "-Y", "@@RUN_DIR@@")
        lab = self._lab
        try:
            said = lab.engine.run(lab.topology, lab.record, self._node, command)
        except StackError:  # an exit code that is not 0
            return False
        return "config file ok" in said

    def restore(self) -> None:
        """Start the plain proxy again, without anything of a learner's."""
        self._read = None
        self._lab.put_lesson(self._node, {})

    def log(self) -> list[LogLine]:
        """What the proxy has logged since its start: at least up to where it answered that it lives."""
        return self._read_log(self._lines_until(" alive "))

    def log_between(self, first: str, last: str) -> list[LogLine]:
        """What the proxy has logged between two questions that it has answered, by their Call-IDs."""
        lines = self._lines_until(f" alive {last}")
        begins = [n for n, line in enumerate(lines) if f" alive {first}" in line]
        ends = [n for n, line in enumerate(lines) if f" alive {last}" in line]
        return self._read_log(lines[begins[-1] if begins else 0 : ends[0] if ends else len(lines)])

    def _lines_until(self, mark: str) -> list[str]:
        """The lines of this start once one of them has the mark, which it was seen to write.

        What a container writes is in its log a moment later. Of a proxy that is down there is no more to wait for.
        """
        give_up = time.monotonic() + _LOG_S
        while True:
            lines = self._lab.logs_of_this_start(self._node)
            if any(mark in line for line in lines) or time.monotonic() > give_up:
                return lines
            if self._lab.engine.state(self._lab.record, self._node).state != "running":
                return self._lab.logs_of_this_start(self._node)
            time.sleep(POLL_S)

    def _read_log(self, lines: list[str]) -> list[LogLine]:
        titles = {block.name: block.title for block in self._read.blocks if block.name} if self._read else {}
        return [line for line in read_log(lines, titles, BLOCK_FILE) if not line.text.startswith("alive ")]


def digest(content: bytes) -> str:
    """Say what is in a file so that the same content gives the same words wherever it was made.

    A SQLite file carries the version of the library that wrote it; its statements do not.
    """
    if not content.startswith(b"SQLite format 3\0"):
        return hashlib.sha256(content).hexdigest()[:16]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.sqlite"
        path.write_bytes(content)
        try:
            with sqlite3.connect(path) as database:
                text = "\n".join(database.iterdump())
        except sqlite3.Error as error:
            raise LessonError(f"this SQLite file cannot be read: {error}") from error
        finally:
            database.close()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def contents(files: Mapping[str, bytes | str | Path]) -> dict[str, bytes]:
    """The files of a lesson as bytes: given as they are, as text, or as the path of a file.

    Raises:
        LessonError: a file that cannot be read.
    """
    found = {}
    for name, given in files.items():
        try:
            found[name] = (
                given.read_bytes() if isinstance(given, Path) else given if isinstance(given, bytes) else given.encode()
            )
        except OSError as error:
            raise LessonError(f"the file {name!r} cannot be read: {error.strerror or error}") from error
    return found


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
