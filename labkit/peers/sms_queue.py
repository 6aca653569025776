"""The messages that a short message centre holds, and how each stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from labkit.wire.sms import Deliver, StatusReport

WAITING, SENT, DELIVERED, REFUSED, FAILED = "waiting", "sent", "delivered", "refused", "failed"
"""How a message stands: for its phone to come, under way, taken (RP-ACK), not taken (RP-ERROR), or impossible."""
NOTHING = "nothing"
"""A phone's report where none came."""


@dataclass(frozen=True, slots=True)
class HeldSms:
    """A short message at the centre."""

    to: str
    """For whom."""
    sender: str
    """TP-OA."""
    text: str
    """The text of this part."""
    state: str
    """"waiting", "sent", "delivered", "refused" or "failed"."""
    attempts: int
    """How often it was sent to the phone."""
    sip_status: int
    """What the MESSAGE of the last attempt was answered; 0 before the first."""
    report: str
    """The phone's last report: "RP-ACK", "RP-ERROR 22 memory capacity exceeded", "nothing"; "" before the first."""


@dataclass(eq=False, slots=True)
class Item:
    """The same for the centre itself."""

    number: str
    """For whom."""
    deliver: Deliver | StatusReport
    """What is sent."""
    text: str
    """What is written."""
    state: str = WAITING
    """How it stands."""
    attempts: int = 0
    """How often it was sent."""
    sip_status: int = 0
    """Answer to the last MESSAGE."""
    report: str = ""
    """The phone's last report."""
    status: int = 0
    """TP-ST for a status report."""
    reference: int = 0
    """TP-MR of the SUBMIT."""
    report_to: str = ""
    """Number that wants a status report; empty for none."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be tried."""
        return self.state in (DELIVERED, REFUSED, FAILED)

    @property
    def shown(self) -> HeldSms:
        """What a lesson sees."""
        sender = self.deliver.originator.text if isinstance(self.deliver, Deliver) else ""
        return HeldSms(self.number, sender, self.text, self.state, self.attempts, self.sip_status, self.report)


@dataclass(eq=False, slots=True)
class _Round:
    """One go at what waits for a number."""

    tried: set[int] = field(default_factory=set)
    stopped: bool = False
    again: bool = False


class Queue:
    """All messages in the order in which they came."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        """Every message."""
        self._rounds: dict[str, _Round] = {}
        self._unreachable: set[str] = set()

    def busy(self, number: str = "") -> bool:
        """Whether anything is under way, to that number or at all."""
        return number in self._rounds if number else bool(self._rounds)

    def add(self, number: str, deliver: Deliver | StatusReport, text: str) -> Item:
        """Take a message."""
        item = Item(number, deliver, text)
        self.items.append(item)
        return item

    def begin(self, number: str, *, anew: bool) -> bool:
        """Begin a round; False where there is nothing to do.

        Where one is under way, that one tries again what has failed in it if `anew`. Where the last one failed, nothing
        is tried until somebody has a reason to begin `anew`: the phone has come, or has room (TS 23.040 section 3.2.6).
        """
        running = self._rounds.get(number)
        if anew:
            self._unreachable.discard(number)
        elif number in self._unreachable:
            return False
        if running is not None:
            running.again |= anew
            return False
        self._rounds[number] = _Round()
        return True

    def next(self, number: str) -> Item | None:
        """The next message of the round; None when it is over."""
        round_ = self._rounds[number]
        if round_.again:
            self._rounds[number] = round_ = _Round()
            self._unreachable.discard(number)
        waiting = [] if round_.stopped else [item for item in self.items if item.number == number and not item.is_over]
        fresh = next((item for item in waiting if id(item) not in round_.tried), None)
        if fresh is not None:
            round_.tried.add(id(fresh))
        return fresh

    def stop(self, number: str) -> None:
        """The phone takes nothing now: leave the rest of the round."""
        self._rounds[number].stopped = True
        self._unreachable.add(number)

    def end(self, number: str) -> None:
        """The round is over."""
        self._rounds.pop(number, None)

    def more_behind(self, item: Item) -> bool:
        """Whether further messages for the same phone wait behind this one (TP-MMS)."""
        later = self.items[self.items.index(item) + 1 :]
        return any(one.number == item.number and one.state == WAITING for one in later)
