"""The clocks of SIP (RFC 3261 section 17.1.1.1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timers:
    """The three base values from which all timers follow (RFC 3261 section 17.1.1.1)."""

    t1_s: float = 0.5
    """Estimate of a round trip: first retransmission after this."""
    t2_s: float = 4.0
    """Longest pause between retransmissions of requests other than INVITE, and of responses to INVITE."""
    t4_s: float = 5.0
    """Longest time a message stays in the network."""
    glare_own_s: tuple[float, float] = (2.1, 4.0)
    """After 491, the side that made the Call-ID tries again after a random time between these (section 14.1)."""
    glare_other_s: tuple[float, float] = (0.0, 2.0)
    """After 491, the other side tries again after a random time between these."""

    @property
    def give_up_s(self) -> float:
        """64*T1: timers B, F, H, J, and how long a 2xx waits for its ACK."""
        return 64 * self.t1_s
