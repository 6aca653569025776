"""`lab.proxy` and `%%kamailio` as a notebook holds them, with a stub in the node's place."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import LessonError
from labkit.lab.learner.proxy import Started, contents, digest
from labkit.session import magic
from labkit.session.proxy import Proxy, Running
from labkit.session.tape import Tape
from labkit.session.taped import Switchboard
from labkit.view.kamailio import highlighted

BLOCK = 'request_route {\n    xlog("L_NOTICE", "a < b: $rU\\n");  # <b>why</b>\n    exit;\n}\n'


class Stub:
    """Takes the place of a real proxy's driver."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.started: list[tuple[str, dict[str, str], dict[str, bytes]]] = []

    def start(self, text: str, files: dict[str, str]) -> Started:
        """Note what was asked."""
        self.started.append((text, files, dict(self.files)))
        return Started(text, ("request_route",), ("route[RELAY]",), (), ("line 2: strange",), 0.25)


class Session:
    """As much of a session as the magic needs."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy


def proxy(tape: Tape, stub: Stub | None) -> Proxy:
    """A proxy over that tape; live where there is a stub."""
    return Proxy(Switchboard(tape, live=stub is not None), lambda: stub)


def database(path: Path) -> Path:
    """A SQLite file with a row."""
    with sqlite3.connect(path) as connection:
        connection.executescript("CREATE TABLE rules (a TEXT); INSERT INTO rules VALUES ('x');")
    connection.close()
    return path


def test_a_block_and_its_files_go_to_the_node_and_over_the_tape(tmp_path: Path) -> None:
    """Live, the node gets the files' bytes; the tape keeps what is in them in a few letters, and replays the answer."""
    stub, tape = Stub(), Tape("lesson", "06")
    files = {"rules.sqlite": database(tmp_path / "a.sqlite"), "note": "text"}
    live = proxy(tape, stub).route(BLOCK, files=files)
    assert isinstance(live, Running)
    text, named, given = stub.started[0]
    assert text == BLOCK
    assert given["note"] == b"text"
    assert given["rules.sqlite"].startswith(b"SQLite format 3")
    assert all(len(words) == 16 for words in named.values())
    again = proxy(Tape("lesson", "06", calls=tape.calls), None).route(BLOCK, files=files)
    assert repr(again) == repr(live)


def test_the_same_rows_are_the_same_file_wherever_they_were_written(tmp_path: Path) -> None:
    """A SQLite file differs from machine to machine in bytes that say nothing about its rows."""
    first, second = (database(tmp_path / name).read_bytes() for name in ("a", "b"))
    other = bytearray(second)
    other[96:100] = b"\0\0\0\1"  # version of the library that wrote it last (sqlite.org/fileformat2.html section 1.3)
    assert digest(first) == digest(bytes(other))
    with sqlite3.connect(tmp_path / "b") as connection:
        connection.execute("INSERT INTO rules VALUES ('y')")
    connection.close()
    assert digest((tmp_path / "b").read_bytes()) != digest(first)
    with pytest.raises(LessonError, match="cannot be read"):
        digest(b"SQLite format 3\0 and no more")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The name is the one that the lesson gave it."""
    with pytest.raises(LessonError, match=r"'rules' cannot be read: No such file"):
        contents({"rules": tmp_path / "nothing"})


def test_lines_of_a_magic_cell_count_from_the_cells_first_line() -> None:
    """`%%kamailio` is line 1, as JupyterLab counts; a word behind it names the files."""
    stub = Stub()
    session: Any = Session(proxy(Tape("lesson", "06"), stub))
    shown = magic.run_cell(session, " rules ", BLOCK, {"rules": {"a": "b"}})
    text, _named, given = stub.started[0]
    assert text.splitlines()[1] == BLOCK.splitlines()[0]
    assert given == {"a": b"b"}
    assert "<details open>" in shown._repr_html_()
    with pytest.raises(LessonError, match="name of a dictionary"):
        magic.run_cell(session, "nothing", BLOCK, {})


def test_what_runs_is_shown_with_its_warnings_and_not_with_its_time() -> None:
    """Text has what is the same in every run; HTML has the time and the block as well."""
    shown = proxy(Tape("lesson", "06"), Stub()).route(BLOCK)
    assert repr(shown).splitlines() == [
        "The proxy runs with request_route",
        "  as they were: route[RELAY]",
        "  warning: line 2: strange",
    ]
    html = shown._repr_html_()
    assert "(0.2 s)" in html
    assert "warning: line 2: strange" in html


def test_a_block_is_shown_with_numbers_and_colours_and_harmless() -> None:
    """Every line has its number; what stands in it is escaped; each span ends in its line."""
    html = highlighted("/* two\nlines */ " + BLOCK)
    rows = html.removesuffix("</pre>").split("\n")
    assert len(rows) == 5
    assert all(f">{number}  </span>" in row for number, row in enumerate(rows, start=1))
    assert all(row.count("<span") == row.count("</span>") for row in rows)
    assert "&lt;b&gt;why&lt;/b&gt;" in html
    assert "<b>" not in html
    assert ">$rU</span>" in html
    assert ">request_route</span>" in html
