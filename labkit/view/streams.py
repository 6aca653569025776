"""RTP in a ladder: one row a stream, never a row a packet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.capture.owners import MediaEnds
from labkit.view.arrow import Arrow
from labkit.view.message_rtp import PAYLOADS

if TYPE_CHECKING:
    from labkit.capture.table import Messages

_SETTLED_S = 0.15
"""A stream stands below what was said so long after its first packet: the messages that set it up may still be on
their way then, and which of them comes first is up to chance."""


def stream_arrows(messages: Messages, start_s: float) -> list[tuple[float, Arrow]]:
    """Return the RTP streams of a capture as arrows, each with the time after which it stands.

    Args:
        messages: the capture.
        start_s: the time that the ladder counts from, in seconds since 1970.
    """
    from labkit.capture.table import rtp_streams

    media = messages.table["protocol"] == "rtp"
    if not media.any():
        return []
    owners = MediaEnds.of(messages)
    row_of_frame = dict(zip(messages.table.loc[media, "frame"].tolist(), messages.table.index[media], strict=True))
    found = []
    for stream in rtp_streams(messages.table[media]).to_dict("records"):
        first_s = stream["time"].value * 1e-9
        lasts_s = float(stream["duration_s"] or 0) if stream["duration_s"] == stream["duration_s"] else 0.0
        sender, receiver = owners.ends(stream)
        arrow = Arrow(
            number=None,
            row=int(row_of_frame[stream["frame"]]),
            frame=int(stream["frame"]),
            time_s=round(max(first_s - start_s, 0), 6),
            source=sender or str(stream["from"]),
            target=receiver or str(stream["to"]),
            protocol="rtp",
            message=f"RTP {PAYLOADS.get(stream['payload_type'], stream['payload_type'])}",
            detail=_detail(int(stream["packets"]), int(stream["lost"]), float(stream["jitter_ms"]), lasts_s),
            lasts_s=lasts_s,
        )
        found.append((first_s + min(_SETTLED_S, lasts_s / 2), arrow))
    return sorted(found, key=lambda pair: (pair[0], pair[1].source, pair[1].target))


def _detail(packets: int, lost: int, jitter_ms: float, lasts_s: float) -> str:
    return f"{packets} packets in {lasts_s:.1f} s, {lost} lost, jitter {jitter_ms:.1f} ms"
