"""The SQL door of the lab's PostgreSQL, which holds CGrateS's CDRs.

    with Postgres("127.80.1.22", 5432, password) as database:
        database.query("SELECT origin_id, cost FROM cdrs WHERE account = %(account)s", account="1001")

The user `reader` looks at everything and changes nothing: the server itself refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labkit.clients.rows import Rows
from labkit.errors import DatabaseError, DatabaseGone

if TYPE_CHECKING:
    import psycopg

TIMEOUT_S = 5


class Postgres:
    """One connection, opened with the first query, and again where it was lost."""

    def __init__(
        self, address: str, port: int, password: str, *, user: str = "reader", timeout_s: int = TIMEOUT_S
    ) -> None:
        self._where = f"{address}:{port}"
        self._how: dict[str, Any] = {
            "host": address,
            "port": port,
            "password": password,
            "user": user,
            "dbname": "cgrates",
            "connect_timeout": timeout_s,
            "autocommit": True,
        }
        self._open: psycopg.Connection | None = None

    def query(self, sql: str, **values: Any) -> Rows:
        """Ask in SQL.

        Args:
            sql: one statement; %(name)s stands for a value, and %% for a percent sign where there are values.
            values: what stands for what.
        Raises:
            DatabaseError: the server does not understand it, or this user may not do it.
            DatabaseGone: no server there.
        """
        had_one = self._open is not None
        try:
            return self._asked(sql, values)
        except DatabaseGone:
            if not had_one:
                raise
        return self._asked(sql, values)  # the server was started anew since the last query

    def clear(self) -> None:
        """Forget every CDR and every part of a tariff, as the user cgrates; the tables themselves stay."""
        found = self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'versions'")
        names = ", ".join(row[0] for row in found.rows)
        if names:
            self.query(f"TRUNCATE {names} RESTART IDENTITY")

    def close(self) -> None:
        """Close the connection."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, sql: str, values: dict[str, Any]) -> Rows:
        with self._named_errors(), self._connection().cursor() as cursor:
            cursor.execute(sql.encode(), values or None)
            columns = tuple(column.name for column in cursor.description or ())
            rows = tuple(tuple(map(_plain, row)) for row in cursor.fetchall()) if columns else ()
        return Rows(columns, rows)

    def _connection(self) -> psycopg.Connection:
        import psycopg

        if self._open is None or self._open.closed:
            self._open = psycopg.connect(**self._how)
        return self._open

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.OperationalError as error:
            lost = self._open is None or self._open.closed
            if not lost:
                raise _said_no(error) from error
            self.close()
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DatabaseGone(
                f"PostgreSQL at {self._where} is not to be reached ({said}); ./lab status, ./lab logs postgres"
            ) from error
        except psycopg.Error as error:
            raise _said_no(error) from error


def _said_no(error: psycopg.Error) -> DatabaseError:
    said = " ".join(str(error).split())
    return DatabaseError(f"PostgreSQL does not do that: {said}", code=error.sqlstate or "")


def _plain(value: Any) -> Any:
    """Times in UTC, whatever zone the server is in."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value
