"""Where messages were seen."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.capture.decode.arrays import Array, Ints, Keys, Rows, is_constant

TRANSPORTS = ("udp", "tcp", "sctp", "ws")


@dataclass(slots=True)
class Meta(Rows):
    """Frame, time and ends of some messages."""

    frame: Array
    """Number of the frame."""
    time: Ints
    """Nanoseconds since 1970."""
    src: Keys
    """Key of the address."""
    src_port: Array
    """Port."""
    dst: Keys
    """Key of the address."""
    dst_port: Array
    """Port."""
    transport: Array
    """Index in TRANSPORTS."""

    @property
    def one_stream(self) -> bool:
        """Whether all have the same ends, as far as that is known at once."""
        return all(map(is_constant, (self.src, self.src_port, self.dst, self.dst_port)))
