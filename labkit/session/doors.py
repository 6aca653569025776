"""The doors of the lab's products as a lesson holds them: the HSS, CGrateS, PostgreSQL, the plain proxy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError
from labkit.session.taped import Switchboard, Taped

if TYPE_CHECKING:
    from labkit.lab.running import RunningLab
    from labkit.session.proxy import Proxy


class Doors:
    """Each is opened when it is first used."""

    def __init__(self, board: Switchboard, lab: RunningLab | None) -> None:
        self._board, self._lab = board, lab

    @property
    def hss(self) -> Taped:
        """The admin door of the HSS."""
        from labkit.clients.hss import HssClient

        return Taped(self._board, "hss", HssClient, self._lab.hss if self._lab else None, in_loop=False)

    @cached_property
    def proxy(self) -> Proxy:
        """The plain proxy, which learners' blocks drive."""
        from labkit.session.proxy import Proxy

        return Proxy(self._board, self._open_proxy)

    @cached_property
    def cgrates(self) -> Taped:
        """The JSON-RPC door of CGrateS."""
        from labkit.clients.cgrates import Cgrates

        return Taped(self._board, "cgrates", Cgrates, None, prepare=self._open_cgrates)

    @cached_property
    def postgres(self) -> Taped:
        """SQL."""
        from labkit.clients.postgres import Postgres

        return Taped(self._board, "postgres", Postgres, None, in_loop=False, prepare=self._open_postgres)

    @property
    def own_ends(self) -> Sequence[tuple[str, int]]:
        """Address and port of every connection by which this notebook asks CGrateS."""
        opened = self.__dict__.get("cgrates")
        return opened._target.rpc.endpoints if opened is not None and opened._target is not None else ()

    def close(self) -> None:
        """Close what stays open between two questions."""
        opened = self.__dict__.get("postgres")
        if opened is not None and opened._target is not None:
            opened._target.close()

    @property
    def _running(self) -> RunningLab:
        assert self._lab is not None  # no door is opened in replay
        return self._lab

    def _open_cgrates(self) -> Any:
        from labkit.clients.cgrates import Cgrates

        lab = self._running
        address, port = lab.address("cgrates", "http")
        return Cgrates(
            f"http://{address}:{port}",
            folder=lab.engine.conf_dir(lab.record, "cgrates"),
            bulk=lab.address("cgrates", "json"),
        )

    def _open_postgres(self) -> Any:
        from labkit.clients.postgres import Postgres

        return Postgres(*self._running.address("postgres", "sql"), self._running.record.token)

    def _open_proxy(self) -> Any:
        from labkit.lab.learner.proxy import LearnersProxy

        if "proxy" not in self._running.record.nodes:
            raise LessonError('The proxy does not run: open the lesson with nodes=["proxy"].')
        return LearnersProxy(self._running)
