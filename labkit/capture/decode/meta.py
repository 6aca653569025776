"""Where messages were seen."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.capture.decode.arrays import Array, Ints, Keys, Rows

TRANSPORTS = ["udp", "tcp", "sctp", "ws"]


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
