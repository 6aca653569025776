"""One row of a ladder: a message, or a stream of media."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrow:
    """One message as an arrow."""

    number: int | None
    """Number in the canonical story, from 1; None for a message that the story leaves out."""
    row: int
    """Row in `Messages.table`."""
    frame: int
    """Frame number in the capture file, from 1."""
    time_s: float
    """Seconds since the first message of the capture that is drawn."""
    source: str
    """Name of the node that sent it."""
    target: str
    """Name of the node that it was sent to."""
    protocol: str
    """'sip', 'diameter', 'evapi', 'jsonrpc', or 'rtp' for a whole stream."""
    message: str
    """'REGISTER', '401 Unauthorized', 'UAR', 'UAA DIAMETER_FIRST_REGISTRATION', 'RTP PCMU'."""
    detail: str
    """What an engineer looks for next: 'CSeq 1' of SIP, the user of a Diameter request. May be empty."""
    call: str = ""
    """'call-1' for the first Call-ID, and so on; empty for what is not SIP."""
    again: bool = False
    """A retransmission: the same bytes between the same sockets were seen before."""
    refused: bool = False
    """A final response or answer that says no (a challenge is none)."""
    lasts_s: float = 0.0
    """Seconds from the first to the last packet of a stream; 0 for messages."""

    @property
    def label(self) -> str:
        """The message and its detail in one line."""
        return f"{self.message}  {self.detail}" if self.detail else self.message

    @property
    def short_message(self) -> tuple[str, str]:
        """The message in two parts for a narrow place: 'UAA' and 'DIAMETER_SUCCESS', '403 Forbidden' and why.

        What a server adds to a reason phrase after a dash is left out where nothing was refused.
        """
        if self.protocol == "diameter":
            command, _, result = self.message.partition(" ")
            return command, result
        if self.message.startswith("MESSAGE RP-"):
            return self.message.removeprefix("MESSAGE "), ""
        phrase, _, why = self.message.partition(" - ")
        return phrase, why if self.refused else ""

    @property
    def short_label(self) -> str:
        """`short_message` and the detail in one line."""
        return "  ".join(part for part in (*self.short_message, self.short_detail) if part)

    @property
    def short_detail(self) -> str:
        """The detail without the type that every UAR of a first REGISTER has in this core."""
        return self.detail.removesuffix(" REGISTRATION_AND_CAPABILITIES")

    @property
    def sentence(self) -> str:
        """The arrow without a picture: 'alice -> pcscf: REGISTER (call-1, CSeq 1)'."""
        extra = ", ".join(part for part in (self.call, self.detail) if part)
        return f"{self.source} -> {self.target}: {self.message}" + (f" ({extra})" if extra else "")
