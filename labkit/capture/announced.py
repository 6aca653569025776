"""Which call an RTP stream belongs to: what the SDP in a capture announced."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from labkit.capture.fields import split_sip
from labkit.capture.media import Endpoint, announced_endpoints
from labkit.capture.relations import truth

if TYPE_CHECKING:
    import pandas as pd

_RTPMAP = re.compile(rb"\na=rtpmap:(\d{1,3}) ([^/\s]+)/(\d{1,6})")


class Announced(NamedTuple):
    """What an SDP says about the media at one address."""

    call_id: str
    """Call-ID of the message that carried the SDP."""
    formats: dict[int, tuple[str, int]]
    """Codec name and clock rate in hertz by payload type."""


class Announcements:
    """All SDP of a capture, by the address that it announces and the frame in which it did."""

    def __init__(self, table: pd.DataFrame, raw: Sequence[bytes]) -> None:
        self._frames: dict[Endpoint, list[int]] = {}
        self._entries: dict[Endpoint, list[Announced]] = {}
        seen: set[tuple[str, bytes]] = set()
        sip = table[truth((table["protocol"] == "sip") & table["call_id"].notna())]
        for row, frame, call_id in zip(sip.index, sip["frame"], sip["call_id"], strict=True):
            message = raw[row]
            if b"\nm=" not in message:
                continue
            body = split_sip(message)[2]
            if (call_id, body) not in seen:  # every hop carries it again
                seen.add((call_id, body))
                self._note(int(frame), str(call_id), body)

    def _note(self, frame: int, call_id: str, body: bytes) -> None:
        formats = {
            int(kind): (name.decode("ascii", "replace"), int(rate)) for kind, name, rate in _RTPMAP.findall(body)
        }
        for endpoint, _rtcp in announced_endpoints(body):
            self._frames.setdefault(endpoint, []).append(frame)
            self._entries.setdefault(endpoint, []).append(Announced(call_id, formats))

    def of(self, endpoint: Endpoint, frame: int) -> Announced | None:
        """What was last said about an address before a frame; where that is nothing, what was said first after it."""
        frames = self._frames.get(endpoint)
        if frames is None:
            return None
        return self._entries[endpoint][max(bisect_right(frames, frame) - 1, 0)]
