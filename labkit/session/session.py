"""`lk.open("01")`: the lab as a lesson sees it, live or replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labkit.session.capture import Capture, show_tables_whole
from labkit.session.cast import Cast
from labkit.session.doors import Doors
from labkit.session.magic import offer
from labkit.session.opening import find_lab
from labkit.session.spans import LiveSpans, RecordedSpans
from labkit.session.taped import Phone, Switchboard

if TYPE_CHECKING:
    import pandas as pd

    from labkit.lab.running import RunningLab
    from labkit.session.balance import BalanceWatch
    from labkit.session.ledger import Ledger
    from labkit.session.proxy import Proxy
    from labkit.session.tape import Tape


def open(lesson: str, *, engine: str | None = None, nodes: Sequence[str] = (), wire: bool = False) -> Session:
    """Open the lab for a lesson.

    Args:
        lesson: its number as in the file name, for example "01"; recordings are kept by it.
        engine: "docker", "local", "replay" or "auto"; by default LABKIT_ENGINE, else a lab that runs, else replay.
        nodes: nodes that the lesson needs besides those that every lab has, for example "scscf2".
        wire: the lesson looks at what no node can send a copy of; where packets cannot be sniffed it is replayed.
    Raises:
        EngineMissing: the engine that was asked for is not to be had here; the message says how to get it.
        ReplayError: replay was asked for and the lesson has no recording.
    """
    return Session(lesson, find_lab(engine, nodes, wire), nodes)


class Session:
    """A lab opened for one lesson: its phones, its HSS, its captures. The same object live and in replay."""

    def __init__(self, lesson: str, running: RunningLab | None, asked: Sequence[str] = ()) -> None:
        self.lesson = lesson
        """The lesson's number."""
        self._asked = tuple(asked)
        self._lab = running
        self._spans = LiveSpans(lesson, running, self._known) if running is not None else RecordedSpans(lesson)
        self._board = Switchboard(self._spans.own, live=running is not None)
        self._cast = Cast(self._board, running)
        self._doors = Doors(self._board, running)
        from labkit.peers.call import Call
        from labkit.peers.subscription import EventSubscription
        from labkit.peers.ussd_session import UssdSession

        for handed_out in (Call, EventSubscription, UssdSession):
            self._board.hand_out(handed_out)
        show_tables_whole()
        offer(self)

    # ---- what it is -------------------------------------------------------------------------------------------------
    @property
    def live(self) -> bool:
        """Whether real nodes run behind this, or a recording is replayed."""
        return self._lab is not None

    @property
    def mode(self) -> str:
        """One phrase: 'live on docker', 'live on local processes', or 'replay of a recording made on ...'."""
        if self._lab is not None:
            return "live on docker" if self._lab.engine_name == "docker" else "live on local processes"
        about = self._recording
        return f"replay of a recording made on {about['recorded'][:10]} ({about['engine']})"

    @property
    def versions(self) -> dict[str, str]:
        """Version of every node: of the running ones, or of those that were recorded."""
        if self._lab is not None:
            return self._lab.versions()
        return dict(self._recording["versions"])

    @property
    def nodes(self) -> pd.DataFrame:
        """What this lesson's lab is made of: one row a node, with what it is and which protocols it speaks."""
        from labkit.session.plan import nodes_table

        return nodes_table(self._asked)

    def plan(self) -> Any:
        """Draw the lab: its nodes, and what they say to each other over which protocol."""
        from labkit.session.plan import draw_plan

        return draw_plan()

    def __repr__(self) -> str:
        nodes = ", ".join(f"{node} {version}" for node, version in self.versions.items())
        return f"Lesson {self.lesson}, {self.mode}: {nodes}"

    # ---- whom it plays ----------------------------------------------------------------------------------------------
    def ue(self, name: str, *, device: str = "", via: str = "pcscf", **options: Any) -> Phone:
        """Return the phone of a test subscriber: "alice", "bob", ... (`./lab subscribers` lists them).

        `device` names a further phone of the same subscriber, with a line of its own in ladders: "alice-tablet".
        `via` is the node that it sends to: with "proxy" it calls without a registration, as a plain SIP phone does.
        `options` go to the phone itself: transport="tcp", k=bytes for a wrong key, and the like.
        """
        return self._cast.phone(name, device, via, options)

    def app_server(self, name: str, *, mode: str = "proxy", **options: Any) -> Any:
        """Return an application server for filter criteria to name by its `uri`; it listens from now on.

        Asked for again by the same name it is the same server, with the mode and the options of before.

        Args:
            name: its lifeline in ladders, and the user part of its URI.
            mode: "proxy", "answer", "refuse" or "silent"; with all other options as in labkit.peers.app_server.
        """
        from labkit.peers.app_server import AppServer

        return self._cast.server(name, AppServer, lambda lab: {"mode": mode, "mirror": lab.mirror_address, **options})

    def sms_centre(self, name: str = "smsc", **options: Any) -> Any:
        """Return a short message centre for filter criteria to name; it listens from now on.

        Asked for again by the same name it is the same centre, with the options of before.

        Args:
            name: its lifeline in ladders, and the user part of its URI.
            options: number, clock, report_timeout_s; as in labkit.peers.sms_centre.
        """
        from labkit.peers.sms_centre import SmsCentre

        return self._cast.server(
            name, SmsCentre, lambda lab: {"realm": lab.realm, "entry": lab.sip_address("icscf"), **options}
        )

    def ussd_gateway(self, name: str = "gateway", **options: Any) -> Any:
        """Return a USSD gateway for filter criteria to name by its `uri`; it listens from now on.

        Asked for again by the same name it is the same gateway, with the options of before.

        Args:
            name: its lifeline in ladders, and the user part of its URI.
            options: menus, patience_s, mistake and the like; as in labkit.peers.ussd_gateway.
        """
        from labkit.peers.ussd_gateway import UssdGateway

        return self._cast.server(
            name, UssdGateway, lambda lab: {"realm": lab.realm, "icscf": lab.sip_address("icscf"), **options}
        )

    def charging_trigger(self, name: str = "ctf") -> Any:
        """Return somebody who asks CGrateS for credit by Diameter, connected from now on (nodes=["cgrates"]).

        Asked for again by the same name it is the same one (labkit.peers.charging_trigger).
        """
        from labkit.peers.charging_trigger import ChargingTrigger

        return self._cast.server(
            name,
            ChargingTrigger,
            lambda lab: {"server": lab.address("cgrates", "diameter"), "realm": lab.realm},
        )

    @property
    def probe(self) -> Any:
        """An endpoint that plays messages at the proxy: `lab.probe.send(message)` (labkit.session.probe)."""
        return self._cast.probe(self._make_probe)

    # ---- whom it asks -----------------------------------------------------------------------------------------------
    @property
    def hss(self) -> Any:
        """The admin door of the HSS: `subscriber("alice")`, `deregister("alice")`, ... (labkit.clients.hss)."""
        return self._doors.hss

    @property
    def proxy(self) -> Proxy:
        """The plain proxy, for lessons opened with nodes=["proxy"]: `lab.proxy.route(text)` (labkit.session.proxy)."""
        return self._doors.proxy

    @property
    def cgrates(self) -> Any:
        """The door of CGrateS, for lessons opened with nodes=["cgrates"] (labkit.clients.cgrates)."""
        return self._doors.cgrates

    def watching(self, account: str) -> BalanceWatch:
        """Look at an account's balance and draw it, for the length of an `async with` block."""
        from labkit.session.balance import BalanceWatch

        return BalanceWatch(self._board, self.cgrates, account)

    def ledger(self, account: str) -> Ledger:
        """Return an empty book of an account, to note what each step of a session does to it."""
        from labkit.session.ledger import Ledger

        return Ledger(self.cgrates, account)

    def sql(self, query: str, **values: Any) -> pd.DataFrame:
        """Ask the lab's PostgreSQL, for lessons opened with nodes=["postgres"]; amounts are Decimal, times are in UTC.

        Args:
            query: one statement; %(name)s stands for one of `values`. Looking is allowed, changing is not.
        Raises:
            DatabaseError: the server's own words.
            DatabaseGone: it does not answer.
        """
        frame: pd.DataFrame = self._doors.postgres.query(query, **values).to_frame()
        return frame

    # ---- what happens in it -----------------------------------------------------------------------------------------
    @contextmanager
    def capture(self, name: str) -> Iterator[Capture]:
        """Collect every packet of the lab while the `with` block runs, and a little longer: until all is answered."""
        capture = Capture(name, self.lesson)
        with self._spans.span(capture, self._use_tape):
            yield capture

    @contextmanager
    def fault(self, name: str, **options: Any) -> Iterator[Any]:
        """Break something on purpose for the length of the `with` block, and mend it at the end, whatever happens."""
        if self._lab is None:
            yield None
            return
        with self._lab.fault(name, **options) as fault:
            yield fault

    async def at_once(self, *works: Awaitable[Any]) -> list[Any]:
        """Do several things in the same moment, and return what each gave: `lab.at_once(ours.hold(), theirs.hold())`.

        Every one of them has begun before any of them hears an answer.

        Raises:
            LabkitError: the first error of any of them, when all have ended.
        """
        if self.live:
            with self._board.loop.paused():
                begun = [asyncio.ensure_future(work) for work in works]
                await asyncio.sleep(0)
        else:
            begun = [asyncio.ensure_future(work) for work in works]
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    def close(self) -> None:
        """Switch the phones off and stop listening; the lab itself goes on. A lesson's last cell may call it."""
        self._spans.end()
        if self.live:
            self._doors.close()
            self._cast.leave()
            self._board.loop.stop()

    # ---- how its parts meet -----------------------------------------------------------------------------------------
    @property
    def _recording(self) -> dict[str, Any]:
        assert isinstance(self._spans, RecordedSpans)  # it is not live
        return self._spans.about

    def _use_tape(self, tape: Tape) -> None:
        self._board.tape = tape

    def _known(self) -> dict[str, str]:
        """Names of nodes, of phones, and of this notebook where it asks CGrateS."""
        assert self._lab is not None
        notebook = {f"{address}:{port}": "notebook" for address, port in self._doors.own_ends}
        return {**self._lab.names(), **self._cast.names, **notebook}

    def _make_probe(self, place: tuple[str, int]) -> Any:
        from labkit.capture.source import to_pcapng
        from labkit.capture.table import read_capture
        from labkit.session.probe import Probe

        assert self._lab is not None
        assert isinstance(self._spans, LiveSpans)
        spans = self._spans

        def read(sniffer: Any, begin: int, end: int) -> Any:
            known = self._known()
            return read_capture(to_pcapng(sniffer.frames(begin, end), known), names=known)

        return Probe(self.proxy._real(), self._lab.sip_address("proxy"), place, lambda: spans.sniffer, read)
