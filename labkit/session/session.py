"""`lk.open("01")`: the lab as a lesson sees it, live or replayed.

Mode: LABKIT_ENGINE says docker, local, replay or auto (`./lab up` and `./lab test` set it). Without it a lab that runs
already is used, and where none runs the lesson is replayed, so that a notebook opened on any machine works.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError, PortBusy, ReplayError
from labkit.paths import cassettes_folder, subscribers_file
from labkit.session.capture import Capture
from labkit.session.tape import Tape, tape_from
from labkit.session.taped import Phone, Switchboard, Taped

if TYPE_CHECKING:
    import pandas as pd

    from labkit.capture.cassette import Cassette
    from labkit.clients.hss import SubscriberState
    from labkit.lab.lab import RunningLab

OWN_SPAN = "lesson"
"""The span of a cassette folder that holds what was asked outside of every capture."""
_QUIET_S = 0.06
"""So long nothing new may arrive before a capture ends: longer than a hop through the core takes on a busy machine."""
_PATIENCE_S = 3.0
"""So long a capture waits for open transactions at its end; a call left ringing on purpose stays open for ever."""


def open(lesson: str, *, engine: str | None = None) -> Session:
    """Open the lab for a lesson.

    Args:
        lesson: its number as in the file name, for example "01"; recordings are kept by it.
        engine: "docker", "local", "replay" or "auto"; by default LABKIT_ENGINE, else a lab that runs, else replay.
    Raises:
        EngineMissing: the engine that was asked for is not to be had here; the message says how to get it.
        ReplayError: replay was asked for and the lesson has no recording.
    """
    wanted = engine or os.environ.get("LABKIT_ENGINE") or "running"
    running = _running_lab(wanted)
    return Session(lesson, running)


def _running_lab(wanted: str) -> RunningLab | None:
    if wanted == "replay":
        return None
    from labkit.lab.lab import attach, start_lab

    name = os.environ.get("LABKIT_NAME", "lab")
    found = attach(name)
    if wanted == "running":
        return found
    if found is not None and wanted in ("auto", found.engine_name):
        return found
    return start_lab(name=name, engine=wanted)


class Session:
    """A lab opened for one lesson: its phones, its HSS, its captures. The same object live and in replay."""

    def __init__(self, lesson: str, running: RunningLab | None) -> None:
        self.lesson = lesson
        """The lesson's number."""
        self._lab = running
        self._cassette = _cassette(lesson)
        self._own = self._tape(OWN_SPAN)
        self._board = Switchboard(self._own, live=running is not None)
        self._phones: dict[str, Phone] = {}
        self._phone_names: dict[str, str] = {}
        self._sniffer: Any = None
        from labkit.peers.dialog import Call

        self._board.hand_out(Call)
        _show_tables_whole()
        if running is not None:
            _fresh_start(running)

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
        about = self._cassette.about(OWN_SPAN)
        return f"replay of a recording made on {about['recorded'][:10]} ({about['engine']})"

    @property
    def versions(self) -> dict[str, str]:
        """Version of every node: of the running ones, or of those that were recorded."""
        if self._lab is not None:
            return self._lab.versions()
        return dict(self._cassette.about(OWN_SPAN)["versions"])

    @property
    def nodes(self) -> pd.DataFrame:
        """What the lab is made of: one row a node, with what it is and which protocols it speaks."""
        from labkit.session.plan import nodes_table

        return nodes_table()

    def plan(self) -> Any:
        """Draw the lab: its nodes, and what they say to each other over which protocol."""
        from labkit.session.plan import draw_plan

        return draw_plan()

    def __repr__(self) -> str:
        nodes = ", ".join(f"{node} {version}" for node, version in self.versions.items())
        return f"Lesson {self.lesson}, {self.mode}: {nodes}"

    # ---- what it has ------------------------------------------------------------------------------------------------
    def ue(self, name: str, **options: Any) -> Phone:
        """Return the phone of a test subscriber: "alice", "bob", ... (`./lab subscribers` lists them).

        `options` go to the phone itself: transport="tcp", k=bytes for a wrong key, and the like.
        """
        from labkit.peers.hss.subscribers import load_subscribers
        from labkit.peers.ue import UE

        if name in self._phones and not options:
            return self._phones[name]
        known = {subscriber.name: subscriber for subscriber in load_subscribers(subscribers_file())}
        if name not in known:
            raise LessonError(f"No test subscriber is named {name!r}; there are {', '.join(known)}.")
        index = list(known).index(name)
        phone = Phone(self._board, name, UE, known[name], lambda: self._switch_on(name, index, known[name], options))
        self._phones[name] = phone
        return phone

    @property
    def hss(self) -> Any:
        """The admin door of the HSS: `subscriber("alice")`, `deregister("alice")`, ... (labkit.clients.hss)."""
        from labkit.clients.hss import HssClient

        return Taped(self._board, "hss", HssClient, self._lab.hss if self._lab else None, in_loop=False)

    @contextmanager
    def capture(self, name: str) -> Iterator[Capture]:
        """Collect every packet of the lab while the `with` block runs, and a little longer: until all is answered."""
        capture = Capture(name, self.lesson)
        if self._lab is None:
            with self._replayed(capture):
                yield capture
            return
        tape = Tape(name, self.lesson)
        sniffer = self._listening()
        begin = sniffer.mark()
        self._board.tape = tape
        try:
            yield capture
        finally:
            self._board.tape = self._own
            self._finish(capture, tape, sniffer, begin)

    @contextmanager
    def fault(self, name: str, **options: Any) -> Iterator[Any]:
        """Break something on purpose for the length of the `with` block, and mend it at the end, whatever happens."""
        if self._lab is None:
            yield None
            return
        with self._lab.fault(name, **options) as fault:
            yield fault

    def close(self) -> None:
        """Switch the phones off and stop listening; the lab itself goes on. A lesson's last cell may call it."""
        if self._sniffer is not None:
            self._sniffer.stop()
            self._sniffer = None
        if self._lab is not None:
            self._record(OWN_SPAN, b"", self._own)
            self._board.loop.run_blocking(_switch_off(list(self._phones.values())))
            self._board.loop.stop()

    # ---- replay -----------------------------------------------------------------------------------------------------
    @contextmanager
    def _replayed(self, capture: Capture) -> Iterator[None]:
        packets, about = self._cassette.load(capture.name)
        self._board.tape = tape_from(self.lesson, capture.name, about["calls"])
        try:
            yield
        finally:
            self._board.tape = self._own
            capture.close(packets, about["names"], about["capture"])

    def _tape(self, span: str) -> Tape:
        if self._lab is not None:
            return Tape(span, self.lesson)
        if not self._cassette.holds(span):
            raise ReplayError(
                f"Lesson {self.lesson} has no recording to replay: run it live (./lab up), or record it with "
                f"./lab record {self.lesson}."
            )
        return tape_from(self.lesson, span, self._cassette.about(span)["calls"], repeat_last=True)

    # ---- live -------------------------------------------------------------------------------------------------------
    def _listening(self) -> Any:
        """Return the sniffer, started: one for the whole session, captures are spans of what it hears."""
        if self._sniffer is None:
            assert self._lab is not None
            self._sniffer = self._lab.sniffer()
            self._sniffer.start()
        return self._sniffer

    def _switch_on(self, name: str, index: int, subscriber: Any, options: dict[str, Any]) -> Any:
        """Make the real phone, on the first port that is free: another notebook may have the same phone open."""
        from labkit.peers.ue import UE

        assert self._lab is not None
        for attempt in range(20):
            address, port = self._lab.phone_address(index + attempt * 100)
            phone = UE(
                subscriber,
                address=address,
                port=port,
                pcscf=self._lab.sip_address("pcscf"),
                realm=self._lab.realm,
                **options,
            )
            try:
                self._board.loop.run_blocking(phone.start())
            except PortBusy:
                continue
            self._phone_names[f"{address}:{port}"] = name
            return phone
        raise PortBusy(f"No free port for the phone of {name}: close other notebooks that have it open.")

    def _finish(self, capture: Capture, tape: Tape, sniffer: Any, begin: int) -> None:
        assert self._lab is not None
        packets = self._until_settled(sniffer, begin)
        capture.close(packets, {**self._lab.names(), **self._phone_names}, sniffer.kind)
        self._record(capture.name, packets, tape, capture)

    def _until_settled(self, sniffer: Any, begin: int) -> bytes:
        """Return the span's packets once what was sent has been answered, and all of it has been seen."""
        from labkit.capture.source import to_pcapng
        from labkit.capture.table import read_capture, settled

        assert self._lab is not None
        names = {**self._lab.names(), **self._phone_names}
        give_up = time.monotonic() + _PATIENCE_S
        before = -1
        while True:
            frames = sniffer.frames(begin, sniffer.mark())
            packets = to_pcapng(frames, names)
            if time.monotonic() > give_up:
                return packets
            if len(frames) == before and not settled(read_capture(packets, names=names)):
                return packets
            before = len(frames)
            time.sleep(_QUIET_S)

    def _record(self, span: str, packets: bytes, tape: Tape, capture: Capture | None = None) -> None:
        """Keep a span in the lesson's cassette, where `./lab record` asked for that."""
        if os.environ.get("LABKIT_RECORD") != "1" or self._lab is None:
            return
        self._cassette.save(
            span,
            packets,
            engine=self._lab.engine_name,
            versions=self._lab.versions(),
            names=capture.names if capture else {},
            capture=capture.kind if capture else "none",
            calls=tape.calls,
        )


def _cassette(lesson: str) -> Cassette:
    from labkit.capture.cassette import Cassette

    return Cassette(cassettes_folder() / lesson, lesson)


def _show_tables_whole() -> None:
    """Have pandas show a lesson's tables as text without cutting columns off: the same on every terminal."""
    import pandas as pd

    pd.set_option("display.width", 160, "display.max_columns", 60, "display.max_colwidth", 80, "display.max_rows", 80)


def _fresh_start(running: RunningLab) -> None:
    """Bring the core to where a lesson starts: nobody registered, nothing changed.

    The S-CSCF keeps a record for some seconds after a de-registration, so where the HSS says that anybody was ever
    served since the last fresh start, the S-CSCF is started anew (about a second) and the HSS forgets.
    """
    if all(_untouched(subscriber) for subscriber in running.hss.subscribers()):
        return
    running.hss.reset()
    running.restart_node("scscf")


def _untouched(subscriber: SubscriberState) -> bool:
    """Whether the HSS was never asked for a challenge for this subscriber."""
    served = subscriber.pending or subscriber.scscf_name or subscriber.state != "not_registered"
    return not served and subscriber.sqn == int(subscriber.provisioned.get("sqn", "0"), 16)


async def _switch_off(phones: list[Phone]) -> None:
    for phone in phones:
        real = phone._target
        if real is not None:
            await real.stop()
