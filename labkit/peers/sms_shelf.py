"""Where a phone puts short messages: onto the screen, into its memory, parts of long ones aside until all are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from labkit.peers.mailbox import Mailbox
from labkit.wire.sms import Deliver, UserData, text_of

MAX_SETS: Final = 64
"""Long texts that may be incomplete at a time; the oldest goes first."""
_TYPE_0 = 0x40
"""TP-PID of a message that a phone acknowledges and throws away (TS 23.040 section 9.2.3.9)."""


@dataclass(frozen=True, slots=True)
class ReceivedSms:
    """A short message on a phone's screen."""

    text: str
    """The whole text."""
    sender: str
    """TP-OA: who is shown as the sender."""
    parts: int = 1
    """In how many messages it came."""
    kept: bool = True
    """Whether it is in the phone's memory; a message of class 0 is only shown."""
    message_class: int | None = field(repr=False, default=None)
    """0 to 3; None where it has none."""
    sent_at: str = field(repr=False, default="")
    """TP-SCTS of its last part."""
    centre: str = field(repr=False, default="")
    """RP-OA: the number of the centre that sent it."""


class Shelf:
    """Takes DELIVERs until the memory is full."""

    def __init__(self, room: int) -> None:
        self.room = room
        """Messages that the memory holds, parts counted one by one."""
        self.used = 0
        """How many are in it."""
        self.refused = False
        """Whether a message was refused for want of room."""
        self.shown: list[ReceivedSms] = []
        """Everything that was shown, in order."""
        self.new: Mailbox[ReceivedSms] = Mailbox()
        """What was shown and nobody has asked for yet."""
        self._sets: dict[tuple[str, int, int, int], dict[int, UserData]] = {}

    def take(self, tpdu: Deliver, centre: str) -> bool:
        """Take a message; False when there is no room for it."""
        if tpdu.pid == _TYPE_0:
            return True
        kept = tpdu.coding.message_class != 0
        if kept and self.used >= self.room:
            self.refused = True
            return False
        self.used += kept
        parts = self._parts(tpdu)
        if parts:
            stamp = tpdu.time_stamp.isoformat() if tpdu.time_stamp else ""
            sender = tpdu.originator.text
            whole = ReceivedSms(text_of(parts), sender, len(parts), kept, tpdu.coding.message_class, stamp, centre)
            self.shown.append(whole)
            self.new.put(whole)
        return True

    def empty(self) -> None:
        """Throw away what is in the memory."""
        self.used = 0
        self.refused = False

    def _parts(self, tpdu: Deliver) -> list[UserData]:
        """The parts of the text that this message completes, in order; none while some are missing."""
        part = tpdu.user_data.part
        if part is None:
            return [tpdu.user_data]
        key = (tpdu.originator.text, part.reference, part.total, part.bits)
        found = self._sets.setdefault(key, {})
        found[part.number] = tpdu.user_data
        if len(found) == part.total:
            del self._sets[key]
            return [found[number] for number in sorted(found)]
        if len(self._sets) > MAX_SETS:
            del self._sets[next(iter(self._sets))]
        return []
