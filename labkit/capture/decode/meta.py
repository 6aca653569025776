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
        """Whether all are known to be RTP packets with the same ends, SSRC and payload type; see `decode.plain`."""
        return is_constant(self.src_port)

    def ends(self) -> tuple[int, int]:
        """Source and destination of the first, as address << 16 | port."""
        return int(self.src[0]) << 16 | int(self.src_port[0]), int(self.dst[0]) << 16 | int(self.dst_port[0])
