"""Offer and answer: what two phones agree on about the sound of a call (RFC 3264, RFC 6337).

Each side has a wish of its own: to talk and listen, or to hold. It always says its own wish, and lets the other side's
answer mask it: so when both hold and one resumes, the stream stays held by the other, and nothing gets stuck.
"""

from __future__ import annotations

import secrets

from labkit.errors import SdpError
from labkit.peers.transport import Endpoint
from labkit.wire import sdp

CODEC = "0"
"""PCMU, the one codec of these phones, as a payload type in SDP."""


class Negotiation:
    """The state of offer and answer on one side of one call."""

    def __init__(self, address: str, port: int) -> None:
        """Begin.

        Args:
            port: where sound is wanted; 0 for a session without any, as a USSD dialogue is: then every stream is
                offered and answered with port 0 (RFC 3264 sections 5.1 and 6).
        """
        self.wish = "sendrecv"
        """What this side wants: "sendrecv", or "sendonly" or "inactive" while it holds."""
        self.local: sdp.SessionDescription | None = None
        """What this side said last."""
        self.remote: sdp.SessionDescription | None = None
        """What the other side said last."""
        self.direction = "inactive"
        """Which way sound flows by agreement, from this side's view."""
        self._address, self._port = address, port
        self._session_id = secrets.randbits(31)
        self._stream = 0

    @property
    def remote_endpoint(self) -> Endpoint | None:
        """Where the other side wants to receive sound; None before it has said so, and while it is held the old way.

        To an address of 0.0.0.0 neither RTP nor RTCP is sent (RFC 3264 section 8.4).
        """
        if self.remote is None or self._stream >= len(self.remote.media):
            return None
        try:
            endpoint = self.remote.media_address(self._stream)
        except SdpError:
            return None
        return None if endpoint[0] == sdp.NOWHERE else endpoint

    @property
    def held_by_peer(self) -> bool:
        """Whether the other side said that it does not listen."""
        return self.remote is not None and bool(self.remote.media) and not sdp.receives(self._remote_direction())

    def _remote_direction(self) -> str:
        if self.remote is None or self._stream >= len(self.remote.media):
            return "inactive"
        return self.remote.direction_of(self._stream)

    @property
    def plays_music(self) -> bool:
        """Whether this side holds the other one and may send: then what it sends is music."""
        return self.wish == "sendonly"

    def offer(self, wish: str | None = None, *, nowhere: bool = False) -> bytes:
        """Write an offer with this side's wish; its version grows when something changed.

        Args:
            wish: a direction instead of the present wish, which stays as it is until the answer has come.
            nowhere: hold the old way: no direction, and 0.0.0.0 as the address to send to.
        """
        direction = "sendrecv" if nowhere else wish or self.wish
        if self.local is None:
            self.local = sdp.audio_description(
                self._address, self._port, session_id=self._session_id, direction=direction
            )
        else:
            changed = self.local.with_direction(direction, self._stream)
            self.local = self._changed(changed.with_connection(sdp.NOWHERE if nowhere else self._address))
        return self.local.to_bytes()

    def answer(self, raw: bytes) -> bytes:
        """Take the other side's offer and write the answer to it.

        Raises:
            SdpError: it is not readable, or has no stream that this phone can take (then its field is "codec").
        """
        offer = sdp.parse_sdp(raw)
        if not self._port:
            return self._answer_silent(offer)
        index = usable_stream(offer)
        direction = sdp.answer_direction(offer.direction_of(index), self.wish)
        self.remote, self._stream, self.direction = offer, index, direction
        ours = sdp.audio_description(self._address, self._port, session_id=self._session_id, direction=direction)
        media = tuple(ours.media[0] if number == index else sdp.refused(one) for number, one in enumerate(offer.media))
        answer = sdp.SessionDescription(ours.lines, media)
        self.local = answer if self.local is None else self._changed(answer)
        return self.local.to_bytes()

    def _answer_silent(self, offer: sdp.SessionDescription) -> bytes:
        ours = sdp.audio_description(self._address, 0, session_id=self._session_id)
        self.remote = offer
        self.local = sdp.SessionDescription(ours.lines, tuple(sdp.refused(one) for one in offer.media))
        return self.local.to_bytes()

    def take_answer(self, raw: bytes) -> None:
        """Take the answer to our offer.

        Raises:
            SdpError: it is not readable.
        """
        answer = sdp.parse_sdp(raw)
        if self.local is None:
            raise SdpError("An answer without an offer", spec="RFC 3264 section 5")
        self.remote = answer
        offered = self.local.direction_of(self._stream)
        taken = self._stream < len(answer.media) and answer.media[self._stream].port != 0
        self.direction = sdp.answer_direction(self._remote_direction(), offered) if taken else "inactive"

    def _changed(self, description: sdp.SessionDescription) -> sdp.SessionDescription:
        """The description with the version it must have: one more than the last one if anything differs."""
        assert self.local is not None
        same = description.with_version(self.local.origin.session_version)
        return same if same == self.local else same.next_version()


def usable_stream(offer: sdp.SessionDescription) -> int:
    """Find the first audio stream over RTP that has our codec.

    Raises:
        SdpError: there is none; its field is "codec".
    """
    for number, media in enumerate(offer.media):
        if media.kind == "audio" and media.protocol == "RTP/AVP" and media.port and CODEC in media.formats:
            offer.media_address(number)
            return number
    kinds = ", ".join(f"{media.kind} {' '.join(media.formats)}" for media in offer.media) or "nothing"
    raise SdpError(f"PCMU (payload type 0) was not offered, but {kinds}", field="codec", spec="RFC 3264 section 6")
