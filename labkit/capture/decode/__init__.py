"""From the bytes of a capture to its messages: `decode` for a whole one, `Decoder` for files, pipes and live frames.

Two ways, one result. Few frames go one by one through `capture.assembly`; many go through arrays: records
(wire.pcap_records) -> IP packets (layers, fragments) -> datagrams and streams (bulk) -> columns (sip, diameter,
media) -> batches (schema). What is rare is left to the first way in the middle of the second, so there is one place
for each odd case. The tests hold both ways against each other on the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.capture.decode.decoder import Decoder, Found
from labkit.capture.decode.schema import COLUMNS, PROTOCOLS

__all__ = ["COLUMNS", "PROTOCOLS", "Decoded", "Decoder", "Found", "decode"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `decode` found."""

    columns: dict[str, list[object]]
    """COLUMNS, each a list with one value a message, None where absent; src_node, dst_node are all None."""
    raw: list[bytes]
    """The messages themselves, aligned with the columns; of RTP and RTCP the whole packet."""
    names: dict[str, str]
    """Address to name, as the capture file itself says."""
    warning: str
    """Empty, or one sentence on a truncated or damaged capture."""


def decode(raw: bytes, few_frames: int | None = None) -> Decoded:
    """Decode a capture: every SIP, Diameter, RTP and RTCP message in it.

    Args:
        raw: a pcap or pcapng file, plain or gzip.
        few_frames: see `Decoder`; for tests.
    Returns:
        Columns in the order of frames; a message belongs to the frame that completes it, as Wireshark counts.
    Raises:
        CaptureError: the bytes are no capture.
    """
    decoder = Decoder(keep_raw=True) if few_frames is None else Decoder(keep_raw=True, few_frames=few_frames)
    rows = [*decoder.feed(raw).rows(), *decoder.finish().rows()]
    rows.sort(key=lambda row: row["frame"])  # type: ignore[arg-type, return-value]
    columns: dict[str, list[object]] = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return Decoded(columns, [row["raw"] for row in rows], decoder.names, decoder.warning)  # type: ignore[misc]
