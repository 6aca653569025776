"""Rows for Kamailio's dialplan module, and the database that holds them.

    rules = lk.dialplan((400, r"m=audio (\\d+)", r"\\1"))
    lab.proxy.route(block, files={"rules.sqlite": rules.sqlite})

A row is one regular expression, once to decide whether the row applies (match_exp) and once to take the value apart
(subst_exp), and the words that come out (repl_exp). The same rows are SQL for SQLite, MariaDB and PostgreSQL, which
read a backslash in a literal each in its own way.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from labkit.errors import LessonError

if TYPE_CHECKING:
    import pandas as pd

# Kamailio's own tables: db_sqlite/standard-create.sql and dialplan-create.sql, the same in 5.6 and 6.0. Kamailio reads
# the version of a table's layout first, and does not start where it is another one.
TABLES: Final = """\
CREATE TABLE version (
    id INTEGER PRIMARY KEY NOT NULL,
    table_name VARCHAR(32) NOT NULL,
    table_version INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT version_table_name_idx UNIQUE (table_name)
);
INSERT INTO version (table_name, table_version) values ('version','1');
CREATE TABLE dialplan (
    id INTEGER PRIMARY KEY NOT NULL,
    dpid INTEGER NOT NULL,
    pr INTEGER NOT NULL,
    match_op INTEGER NOT NULL,
    match_exp VARCHAR(64) NOT NULL,
    match_len INTEGER NOT NULL,
    subst_exp VARCHAR(64) NOT NULL,
    repl_exp VARCHAR(256) NOT NULL,
    attrs VARCHAR(64) NOT NULL
);
INSERT INTO version (table_name, table_version) values ('dialplan','2');
"""
WIDEST_EXPRESSION: Final = 64
"""Letters that match_exp and subst_exp have room for in MariaDB and PostgreSQL; SQLite does not count."""
_COLUMNS: Final = ("id", "dpid", "pr", "match_op", "match_exp", "match_len", "subst_exp", "repl_exp", "attrs")
_REGEX: Final = 1
"""match_op of a regular expression; 0 is equality, 2 a shell pattern."""
_ESCAPES: Final = {"sqlite": "'", "mariadb": "\\'", "postgresql": "'"}
"""What each database wants doubled in a text between quotes: only MariaDB takes a backslash there for an escape."""


@dataclass(frozen=True, slots=True)
class Dialplan:
    """Rows of the table dialplan."""

    rows: tuple[tuple[int, int, int, int, str, int, str, str, str], ...]
    """As in the table: id, dpid, pr, match_op, match_exp, match_len, subst_exp, repl_exp, attrs."""

    @property
    def table(self) -> pd.DataFrame:
        """The rows, the columns that matter here."""
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=_COLUMNS).set_index("dpid")
        return frame[["pr", "match_exp", "subst_exp", "repl_exp"]]

    @property
    def sqlite(self) -> bytes:
        """A SQLite database with Kamailio's tables and these rows."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dialplan.sqlite"
            with closing(sqlite3.connect(path)) as database:
                database.executescript(TABLES + self.sql())
            return path.read_bytes()

    def sql(self, database: str = "sqlite") -> str:
        """The rows as one INSERT, for "sqlite", "mariadb" or "postgresql".

        Raises:
            LessonError: another database.
        """
        if database not in _ESCAPES:
            raise LessonError(f"{database!r} is none of {', '.join(_ESCAPES)}.")
        values = [", ".join(_literal(cell, _ESCAPES[database]) for cell in row) for row in self.rows]
        return f"INSERT INTO dialplan ({', '.join(_COLUMNS)}) VALUES\n  (" + "),\n  (".join(values) + ");\n"

    def __repr__(self) -> str:
        return self.table.to_string()

    def _repr_html_(self) -> str:
        header = "<tr><th>dpid</th><th>pr</th><th>match_exp, subst_exp</th><th>repl_exp</th></tr>"
        lines = [
            f"<tr><td>{row[1]}</td><td>{row[2]}</td><td>{_expressions(row[4], row[6])}</td>"
            f"<td><code>{escape(row[7])}</code></td></tr>"
            for row in self.rows
        ]
        return f"<table>{header}{''.join(lines)}</table>"


def dialplan(*rows: tuple[int, str, str] | tuple[int, str, str, str]) -> Dialplan:
    """Make a dialplan of rows; those of one dpid are tried in the order in which they stand here.

    Args:
        rows: (dpid, expression, replacement), or (dpid, match expression, substitution expression, replacement) where
            what decides and what takes apart are not the same. A replacement says \\1 for the first group.
    Raises:
        LessonError: a row of another shape.
    """
    full = []
    for number, row in enumerate(rows, start=1):
        if len(row) not in (3, 4) or not isinstance(row[0], int) or not all(isinstance(cell, str) for cell in row[1:]):
            raise LessonError(f"Row {number} is not (dpid, expression, replacement): {row!r}.")
        match, subst, replacement = row[1], row[-2], row[-1]
        full.append((number, row[0], number, _REGEX, match, 0, str(subst), str(replacement), ""))
    return Dialplan(tuple(full))


def _literal(cell: int | str, doubled: str) -> str:
    if isinstance(cell, int):
        return str(cell)
    return "'" + "".join(letter * 2 if letter in doubled else letter for letter in cell) + "'"


def _expressions(match: str, subst: str) -> str:
    both = (match,) if match == subst else (match, subst)
    return "<br>".join(f"<code>{escape(one)}</code>" for one in both)
