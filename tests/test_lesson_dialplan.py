"""Rows of Kamailio's dialplan as a database and as SQL: what goes in comes out of each of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from labkit.errors import LessonError
from labkit.lesson.dialplan import dialplan

AWKWARD = r"o'Brien \d+ \\ [^\s]"


def test_sqlite_holds_the_rows_and_the_versions_of_the_tables(tmp_path: Path) -> None:
    """Single backslashes, and the version that Kamailio asks for before it starts."""
    path = tmp_path / "rules.sqlite"
    path.write_bytes(dialplan((400, r"m=audio (\d+)", r"\1"), (401, "match", "subst", "x"), (402, AWKWARD, "")).sqlite)
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT dpid, pr, match_op, match_exp, subst_exp, repl_exp FROM dialplan").fetchall()
        version = database.execute("SELECT table_version FROM version WHERE table_name='dialplan'").fetchone()
    assert rows == [
        (400, 1, 1, r"m=audio (\d+)", r"m=audio (\d+)", r"\1"),
        (401, 2, 1, "match", "subst", "x"),
        (402, 3, 1, AWKWARD, AWKWARD, ""),
    ]
    assert version == (2,)


def test_only_mariadb_doubles_the_backslash() -> None:
    """It reads one in a literal as an escape; SQLite and PostgreSQL take it as it is."""
    rules = dialplan((400, r"(\d+)", r"\1"))
    assert r"'(\d+)'" in rules.sql("sqlite")
    assert r"'(\d+)'" in rules.sql("postgresql")
    assert r"'(\\d+)', 0, '(\\d+)', '\\1'" in rules.sql("mariadb")
    assert "'o''Brien" in dialplan((1, AWKWARD, "")).sql("mariadb")


@pytest.mark.parametrize("row", [(400,), ("400", "a", "b"), (400, "a", 1), (400, "a", "b", "c", "d")])
def test_a_row_of_another_shape_is_refused(row: tuple[object, ...]) -> None:
    """With the number of the row."""
    with pytest.raises(LessonError, match="Row 1 is not"):
        dialplan(row)  # type: ignore[arg-type]


def test_another_database_is_refused() -> None:
    """By its name, with those that there are."""
    with pytest.raises(LessonError, match="'oracle' is none of sqlite, mariadb, postgresql"):
        dialplan((400, "a", "b")).sql("oracle")


def test_it_shows_its_rows() -> None:
    """As text and as HTML, expressions letter by letter."""
    rules = dialplan((400, r"<(\d+)>", r"\1"))
    assert r"<(\d+)>" in repr(rules)
    assert r"&lt;(\d+)&gt;" in rules._repr_html_()
