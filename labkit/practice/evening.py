"""An evening on the made-up network: who registers and who calls, and what goes wrong.

    practice_capture(path)      the same capture on every machine, for the same seed and size

What goes wrong is told nowhere in the capture as such: a few phones are refused, for several reasons behind one SIP
status; one HSS answers slowly for a while; one call is heard in one direction only, another is on hold and looks like
it, a third loses packets; the file itself ends in the middle of a packet, as after a full disk.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.practice.cable import Cable, Said, Seen
from labkit.practice.calling import Call, Voice
from labkit.practice.core import HSSES, MS, Core
from labkit.practice.registering import HOME, PATIENCE_MS, VISITED, Phone, phone_at, register
from labkit.practice.truth import Row, row_of
from labkit.wire import pcap

BEGIN_NS = 1773514800 * 10**9
"""14 March 2026, 19:00 UTC."""
_SECONDS = 180
_PACKETS_A_REGISTRATION, _PACKETS_A_CALL = 26, 950
_CALLS_SHARE = 0.6
_FATES = (*["unknown"] * 6, *["roaming"] * 11, *["wrong_key"] * 4, *["busy"] * 5, *["deaf"] * 2)
"""Failures in a capture of 100 000 packets."""
_SLOW = (0.45, 0.62)
"""Between these parts of the evening the second HSS is slow to assign servers."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A made-up capture before it is a file."""

    frames: list[Seen]
    """In order of time."""
    said: list[tuple[int, Said]]
    """Every message with the number of the frame that completes it, in that order."""

    @property
    def rows(self) -> list[Row]:
        """What a decoder must find: the columns of the table that are present."""
        return [
            {
                **{"frame": number, "time": self.frames[number - 1].time_ns, "transport": one.transport},
                **{"src": one.src.address, "src_port": one.src.port, "dst": one.dst.address, "dst_port": one.dst.port},
                **row_of(one.meaning),
            }
            for number, one in self.said
        ]

    def file(self, *, cut: bool = False) -> bytes:
        """Give it as a pcapng file with two interfaces, access and core; `cut` ends it in the middle of a packet."""
        kinds = (pcap.LINKTYPE_ETHERNET, pcap.LINKTYPE_ETHERNET)
        whole = [
            pcap.pcapng_packet(pcap.Frame(0, frame.time_ns, pcap.LINKTYPE_ETHERNET, frame.raw), int(frame.core))
            for frame in self.frames
        ]
        if cut:
            whole[-1] = whole[-1][: len(whole[-1]) // 2]
        return pcap.pcapng_start(None, "", kinds) + b"".join(whole)


def evening(packets: int = 100_000, seed: int = 20, *, overtaken: float = 0.001, repeated: float = 0.002) -> Traffic:
    """Make the traffic of an evening.

    Args:
        packets: so many, roughly.
        seed: another number gives other people, other times and other faults.
        overtaken: share of TCP segments that are overtaken by their successor.
        repeated: share of TCP segments that come a second time.
    """
    chance = random.Random(seed)
    core = Core(chance)
    registrations = max(len(_FATES), int(packets * (1 - _CALLS_SHARE) / _PACKETS_A_REGISTRATION))
    _registrations(core, registrations)
    _calls(core, max(6, int(packets * _CALLS_SHARE / _PACKETS_A_CALL)), packets)
    cable = Cable(chance, overtaken=overtaken, repeated=repeated)
    return Traffic(*cable.carry(core.said))


def practice_capture(path: Path | str, *, packets: int = 100_000, seed: int = 20) -> Path:
    """Write the capture of an evening on a network that nobody knows; give its path.

    Args:
        path: where; a .pcapng file.
        packets: so many, roughly.
        seed: another number gives other people, other times and other faults.
    """
    target = Path(path)
    collecting = gc.isenabled()
    gc.disable()  # half a million values are made, and all of them stay: looking for garbage takes a third of the time
    try:
        target.write_bytes(evening(packets, seed).file(cut=True))
    finally:
        if collecting:
            gc.enable()
    return target


def _registrations(core: Core, count: int) -> None:
    chance = core.chance
    fates = _spread(core, count, _FATES)
    for number in range(count):
        time_ns = BEGIN_NS + int(_SECONDS * 1000 * chance.betavariate(1.1, 1.3)) * MS
        fate = fates.get(number, "")
        phone = phone_at(core, number, VISITED if fate == "roaming" else HOME)
        if fate == "deaf":
            time_ns = min(time_ns, BEGIN_NS + (_SECONDS - 40) * 1000 * MS)
        register(core, time_ns, phone, fate, _slowness(core, phone, time_ns))


def _spread(core: Core, count: int, fates: Iterable[str]) -> dict[int, str]:
    """Give each fate to somebody; nobody who speaks TCP is deaf, for TCP repeats by itself."""
    places = core.chance.sample(range(count), count)
    found: dict[int, str] = {}
    for fate in fates:
        chosen = next(number for number in places if fate != "deaf" or number % 20 not in (4, 13))
        places.remove(chosen)
        found[chosen] = fate
    return found


def _slowness(core: Core, phone: Phone, time_ns: int) -> float:
    """Milliseconds that the HSS takes longer."""
    part = (time_ns - BEGIN_NS) / (_SECONDS * 1000 * MS)
    if phone.hss is not HSSES[1] or not _SLOW[0] < part < _SLOW[1]:
        return 0.0
    return core.chance.triangular(300, PATIENCE_MS * 1.15, 600)


def _calls(core: Core, count: int, packets: int) -> None:
    chance = core.chance
    special = dict(zip(chance.sample(range(count), 4), ("one_way", "held", "lossy", "busy"), strict=True))
    mean_s = max(0.5, packets * _CALLS_SHARE / count / 180)
    for number in range(count):
        caller, called = (phone_at(core, chance.randrange(2000, 9000)) for _ in range(2))
        fate = special.get(number, "busy" if chance.random() < 0.06 else "")
        voice = Voice(mean_s * chance.uniform(0.6, 1.4), 10000 + 4 * number, 18000 + 4 * number, fate)
        time_ns = BEGIN_NS + int(chance.uniform(2, _SECONDS - 2 * mean_s) * 1000) * MS
        Call(core, caller, called, voice, served=number % 5 == 2).run(time_ns, busy=fate == "busy")
