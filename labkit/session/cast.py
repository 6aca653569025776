"""Whom a lesson plays: its phones and servers, each made on a free port when it is first used, and their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError, PortBusy
from labkit.paths import subscribers_file
from labkit.session.seen import seen_as
from labkit.session.taped import Phone, Switchboard, Taped

if TYPE_CHECKING:
    from labkit.lab.running import RunningLab

_PROBE = 139
"""Place of the probe among the phones."""
_FIRST_SERVER = 140
"""Place of the first server among the phones, behind the subscribers' own."""
_TRIES = 20


class Cast:
    """The phones and servers of one lesson, by name; without a lab their parts are read from the tape."""

    def __init__(self, board: Switchboard, lab: RunningLab | None) -> None:
        self._board, self._lab = board, lab
        self._phones: dict[str, Phone] = {}
        self._servers: dict[str, Taped] = {}
        self.names: dict[str, str] = {}
        """Who is behind an "address:port"."""

    def phone(self, name: str, device: str, via: str, options: dict[str, Any]) -> Phone:
        """Return a subscriber's phone; one that is asked for with options is made anew."""
        from labkit.peers.hss.subscribers import load_subscribers
        from labkit.peers.ue import UE

        label = device or name
        if label in self._phones and not options:
            return self._phones[label]
        known = {subscriber.name: subscriber for subscriber in load_subscribers(subscribers_file())}
        if name not in known:
            raise LessonError(f"No test subscriber is named {name!r}; there are {', '.join(known)}.")
        if device in known:
            raise LessonError(f"{device!r} is a test subscriber: name the further phone otherwise.")
        index = len(known) + len(self._phones) if device else list(known).index(name)

        def switch_on() -> Any:
            lab = self._running
            pcscf, told = lab.sip_address(via), {"mirror": lab.mirror_address, **options}
            return self._on_free_port(
                label,
                index,
                lambda address, port: UE(known[name], address=address, port=port, pcscf=pcscf, realm=lab.realm, **told),
            )

        self._phones[label] = Phone(self._board, label, UE, known[name], switch_on)
        return self._phones[label]

    def server(self, name: str, cls: type, options: Callable[[RunningLab], dict[str, Any]]) -> Taped:
        """Return the server of that name; one that is new listens from now on.

        Args:
            cls: what it is; made with its name, address and port, and with
            options: what it needs to know of the running lab.
        """
        if name not in self._servers:
            if name in self._phones:
                raise LessonError(f"{name!r} is a phone: name the application server otherwise.")
            index = _FIRST_SERVER + len(self._servers)

            def start() -> Any:
                told = options(self._running)
                return self._on_free_port(
                    name, index, lambda address, port: cls(name, address=address, port=port, **told)
                )

            server = Taped(self._board, name, cls, None, prepare=start)
            if self._board.live:
                server._real()
            self._servers[name] = server
        return self._servers[name]

    def probe(self, make: Callable[[tuple[str, int]], Any]) -> Taped:
        """Return the probe, made for an address among the phones."""
        from labkit.session.probe import Probe

        def place() -> Any:
            address, port = self._running.phone_address(_PROBE)
            self.names[f"{address}:{port}"] = "probe"
            return make((address, port))

        if "probe" not in self._servers:
            self._servers["probe"] = Taped(self._board, "probe", Probe, None, in_loop=False, prepare=place)
        return self._servers["probe"]

    def leave(self) -> None:
        """Switch all of them off."""
        self._board.loop.run_blocking(_switch_off([*self._phones.values(), *self._servers.values()]))

    @property
    def _running(self) -> RunningLab:
        assert self._lab is not None  # nobody is made in replay
        return self._lab

    def _on_free_port(self, name: str, index: int, make: Callable[[str, int], Any]) -> Any:
        """Start a phone or server on the first port that is free: another notebook may have the same one open."""
        for attempt in range(_TRIES):
            address, port = self._running.phone_address(index + attempt * 100)
            peer = make(address, port)
            try:
                self._board.loop.run_blocking(peer.start())
            except PortBusy:
                continue
            self.names |= {f"{each}:{port}": name for each in (address, seen_as(address))}
            return peer
        raise PortBusy(f"No free port for {name}: close other notebooks that have it open.")


async def _switch_off(peers: list[Taped]) -> None:
    for peer in peers:
        real = peer._target
        if real is not None:
            await real.stop()
