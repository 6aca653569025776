"""SDP: session descriptions, byte for byte, and the arithmetic of offer and answer (RFC 8866, RFC 3264).

A description is kept as the lines that were written, cut into the session's part and one part for each m= line. Reading
gives typed views of the lines; editing replaces single lines and leaves the rest as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from labkit.errors import SdpError

DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
"""The four direction attributes (RFC 8866 section 6.7)."""
NOWHERE: Final = "0.0.0.0"
"""The address by which RFC 2543 held a call: neither RTP nor RTCP is sent there (RFC 3264 section 8.4)."""

# RFC 8866 section 9: every line is one lower case letter, "=", and a value; no blanks around "=".
_LINE = re.compile(r"[a-z]=.*")
_PORT = re.compile(r"(\d{1,5})(?:/(\d{1,5}))?")
# RFC 3605 section 2.1: port [nettype addrtype connection-address]
_RTCP = re.compile(r"(\d{1,5})(?: +IN +(IP[46]) +(\S+))?\s*")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where media is to be sent: a c= line (RFC 8866 section 5.7)."""

    address_type: str
    """"IP4" or "IP6"."""
    address: str
    """Host name or address, without TTL and count of a multicast group."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made the session, and which version of it this is: the o= line (RFC 8866 section 5.2)."""

    username: str
    """User of the host that made it, "-" when it has none."""
    session_id: int
    """The same for all versions of one session."""
    session_version: int
    """Grows by one whenever the description changes (RFC 3264 section 8)."""
    address_type: str
    """"IP4" or "IP6"."""
    address: str
    """Host that made the session; never where media goes: that is in c=."""


@dataclass(frozen=True, slots=True)
class Media:
    """One stream: an m= line and the lines up to the next one (RFC 8866 section 5.14)."""

    kind: str
    """"audio", "video", ..."""
    port: int
    """Port where the writer wants to receive; 0 refuses or ends the stream (RFC 3264 section 6)."""
    protocol: str
    """"RTP/AVP", ..."""
    formats: tuple[str, ...]
    """Payload types in order of preference, as written."""
    lines: tuple[str, ...]
    """All lines of the stream as written, the m= line first."""

    @property
    def connection(self) -> Connection | None:
        """The stream's own c= line; None when the session's one holds."""
        return _connection(self.lines)

    @property
    def direction(self) -> str | None:
        """The stream's own direction; None when the session's one holds."""
        return _direction(self.lines)

    @property
    def rtpmap(self) -> dict[str, str]:
        """Encoding by payload type as told by a=rtpmap, for example {"0": "PCMU/8000"}."""
        return dict(
            (number, encoding.strip())
            for number, _, encoding in (value.partition(" ") for value in attributes(self.lines, "rtpmap"))
        )


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """What one side says about the media of a call."""

    lines: tuple[str, ...]
    """The session's own lines as written, from v= to the first m= line."""
    media: tuple[Media, ...]
    """The streams in order."""
    line_end: str = "\r\n"
    """How lines end: CR LF by the book, LF by some."""
    ends_complete: bool = True
    """Whether the last line has its line end, too."""

    @property
    def origin(self) -> Origin:
        """The o= line.

        Raises:
            SdpError: there is none, or it is not six words with numbers where numbers belong.
        """
        words = (_value(self.lines, "o") or "").split()
        if len(words) != 6 or not _is_number(words[1]) or not _is_number(words[2]):
            raise SdpError("The o= line is missing or not six words", field="o", spec="RFC 8866 section 5.2")
        return Origin(words[0], int(words[1]), int(words[2]), words[4], words[5])

    @property
    def connection(self) -> Connection | None:
        """The session's c= line, the default for streams that have none."""
        return _connection(self.lines)

    @property
    def direction(self) -> str | None:
        """The session's direction, the default for streams that have none."""
        return _direction(self.lines)

    def direction_of(self, index: int = 0) -> str:
        """The direction that holds for one stream: its own, else the session's, else sendrecv.

        The old way to hold, an address of 0.0.0.0, takes away what the writer receives (RFC 3264 section 8.4). With
        port 9 it means that candidates are still to come, and is no hold (RFC 8840 section 4.1).
        """
        media = self.media[index]
        written = media.direction or self.direction or "sendrecv"
        connection = media.connection or self.connection
        if connection is not None and connection.address == NOWHERE and media.port != 9:
            return {"sendrecv": "sendonly", "recvonly": "inactive"}.get(written, written)
        return written

    def media_address(self, index: int = 0) -> tuple[str, int]:
        """Where the writer wants to receive one stream: (address, port).

        Raises:
            SdpError: neither the stream nor the session has a c= line.
        """
        connection = self.media[index].connection or self.connection
        if connection is None:
            raise SdpError("No c= line says where media goes", field="c", spec="RFC 8866 section 5.7")
        return connection.address, self.media[index].port

    def rtcp_address(self, index: int = 0) -> tuple[str, int] | None:
        """Where the writer wants RTCP of one stream: (address, port), as long as it is not multiplexed with RTP.

        By the stream's a=rtcp, else the next port after RTP's. None for what is no RTP, or is refused.

        Spec:
            RFC 3605 section 2.1; RFC 3550 section 11.
        """
        media = self.media[index]
        address, port = self.media_address(index)
        if "RTP/" not in media.protocol or port == 0:
            return None
        written = _RTCP.fullmatch(next(iter(attributes(media.lines, "rtcp")), ""))
        if written is None:
            return address, port + 1
        return written[3] or address, int(written[1])

    def with_direction(self, direction: str, index: int | None = None) -> SessionDescription:
        """The same description with another direction for one stream, or for all of them.

        Raises:
            SdpError: no such direction.
        """
        _check_direction(direction)
        media = tuple(
            _with_lines(one, _set_direction(one.lines, direction)) if index in (None, number) else one
            for number, one in enumerate(self.media)
        )
        return replace(self, media=media)

    def with_connection(self, address: str) -> SessionDescription:
        """The same description with another address in every c= line."""
        line = f"c=IN {address_type(address)} {address}"

        def swap(lines: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(line if one.startswith("c=") else one for one in lines)

        return replace(self, lines=swap(self.lines), media=tuple(_with_lines(m, swap(m.lines)) for m in self.media))

    def with_version(self, session_version: int) -> SessionDescription:
        """The same description with another session version in o=.

        Raises:
            SdpError: there is no readable o= line.
        """
        origin = self.origin
        line = f"o={origin.username} {origin.session_id} {session_version} IN {origin.address_type} {origin.address}"
        return replace(self, lines=tuple(line if one.startswith("o=") else one for one in self.lines))

    def next_version(self) -> SessionDescription:
        """The same description, one version on, as a changed offer needs it (RFC 3264 section 8)."""
        return self.with_version(self.origin.session_version + 1)

    def to_bytes(self) -> bytes:
        """The description as bytes, exactly as it was read where it was not edited."""
        lines = [*self.lines, *(line for media in self.media for line in media.lines)]
        text = self.line_end.join(lines) + (self.line_end if self.ends_complete and lines else "")
        return text.encode("utf-8", "surrogateescape")


def parse_sdp(raw: bytes) -> SessionDescription:
    """Read a session description.

    Args:
        raw: the body of a SIP message of type application/sdp.
    Returns:
        The description; unknown lines and attributes are kept.
    Raises:
        SdpError: it does not begin with v=0, a line is no `letter=value`, an m= line is not readable, or line ends are
            mixed. `offset` says where.
    Spec:
        RFC 8866 section 5.
    """
    text = bytes(raw).decode("utf-8", "surrogateescape")
    line_end = "\r\n" if "\r\n" in text else "\n"
    ends_complete = text.endswith(line_end)
    lines = (text[: -len(line_end)] if ends_complete else text).split(line_end)
    if lines[0] != "v=0":
        raise SdpError(f"The first line is not v=0 but {lines[0][:40]!r}", offset=0, spec="RFC 8866 section 5.1")
    session: list[str] = []
    streams: list[list[str]] = []
    offset = 0
    for line in lines:
        if not _LINE.fullmatch(line):
            raise SdpError(f"Not a line of SDP: {line[:40]!r}", offset=offset, spec="RFC 8866 section 5")
        if line[0] == "m":
            streams.append([line])
        else:
            (streams[-1] if streams else session).append(line)
        offset += len((line + line_end).encode("utf-8", "surrogateescape"))
    media = tuple(_parse_media(stream, bytes(raw)) for stream in streams)
    return SessionDescription(tuple(session), media, line_end, ends_complete)


def _parse_media(lines: list[str], raw: bytes) -> Media:
    words = lines[0][2:].split()
    port = _PORT.fullmatch(words[1]) if len(words) > 3 else None
    if port is None or not port[1].isascii() or int(port[1]) > 65535:
        offset = raw.find(lines[0].encode("utf-8", "surrogateescape"))
        raise SdpError(f"Unreadable stream: {lines[0][:60]!r}", offset=offset, field="m", spec="RFC 8866 section 5.14")
    return Media(words[0], int(port[1]), words[2], tuple(words[3:]), tuple(lines))


def audio_description(
    address: str,
    port: int,
    *,
    session_id: int,
    session_version: int = 1,
    direction: str = "sendrecv",
    formats: Iterable[tuple[int, str]] = ((0, "PCMU/8000"),),
) -> SessionDescription:
    """Make a description with one audio stream over RTP.

    Args:
        address: IPv4 or IPv6 address where audio is wanted.
        port: UDP port where audio is wanted.
        session_id: number that stays the same in all versions of this session.
        session_version: 1 at first, one more for every change.
        direction: one of `DIRECTIONS`.
        formats: (payload type, encoding) in order of preference.
    Raises:
        SdpError: no such direction.
    """
    _check_direction(direction)
    family, codecs = address_type(address), tuple(formats)
    numbers = tuple(str(number) for number, _ in codecs)
    session = (
        "v=0",
        f"o=- {session_id} {session_version} IN {family} {address}",
        "s=-",
        f"c=IN {family} {address}",
        "t=0 0",
    )
    stream = (
        f"m=audio {port} RTP/AVP {' '.join(numbers)}",
        *(f"a=rtpmap:{number} {encoding}" for number, encoding in codecs),
        "a=ptime:20",
        f"a={direction}",
    )
    return SessionDescription(session, (Media("audio", port, "RTP/AVP", numbers, stream),))


def refused(media: Media) -> Media:
    """The answer to a stream that is not wanted: the same m= line with port 0 (RFC 3264 section 6)."""
    line = f"m={media.kind} 0 {media.protocol} {' '.join(media.formats)}"
    return Media(media.kind, 0, media.protocol, media.formats, (line,))


def answer_direction(offered: str, wanted: str = "sendrecv") -> str:
    """Work out the direction of an answer from what was offered and what this side wants itself.

    Each direction is written from the view of its writer: who offers sendonly will not listen. This side may send only
    if the other one listens, and listen only if the other one sends.

    Args:
        offered: direction in the offer.
        wanted: what this side would offer if it were asked freely.
    Returns:
        One of `DIRECTIONS`.
    Raises:
        SdpError: no such direction.
    Spec:
        RFC 3264 section 6.1; RFC 6337 section 5.3.
    Example:
        >>> answer_direction("sendonly")
        'recvonly'
        >>> answer_direction("sendrecv", wanted="sendonly")
        'sendonly'
    """
    _check_direction(offered)
    _check_direction(wanted)
    send = sends(wanted) and receives(offered)
    receive = receives(wanted) and sends(offered)
    return {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}.get(
        (send, receive), "inactive"
    )


def mirrored_direction(direction: str) -> str:
    """The same direction from the view of the other side: sendonly is recvonly there."""
    _check_direction(direction)
    return {"sendonly": "recvonly", "recvonly": "sendonly"}.get(direction, direction)


def sends(direction: str) -> bool:
    """Whether the writer of this direction sends media."""
    return direction in ("sendrecv", "sendonly")


def receives(direction: str) -> bool:
    """Whether the writer of this direction takes media."""
    return direction in ("sendrecv", "recvonly")


def attributes(lines: Iterable[str], name: str) -> tuple[str, ...]:
    """Values of all a= lines of that name; an attribute without a value gives ""."""
    found = (line[2:].partition(":") for line in lines if line.startswith("a="))
    return tuple(value for written, _, value in found if written == name)


def address_type(address: str) -> str:
    """ "IP6" for an address with a colon, else "IP4"."""
    return "IP6" if ":" in address else "IP4"


def _value(lines: Iterable[str], letter: str) -> str | None:
    return next((line[2:] for line in lines if line.startswith(f"{letter}=")), None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 40


def _connection(lines: Iterable[str]) -> Connection | None:
    words = (_value(lines, "c") or "").split()
    return Connection(words[1], words[2].partition("/")[0]) if len(words) == 3 else None


def _direction(lines: Iterable[str]) -> str | None:
    return next((line[2:] for line in lines if line.startswith("a=") and line[2:] in DIRECTIONS), None)


def _set_direction(lines: tuple[str, ...], direction: str) -> tuple[str, ...]:
    kept = tuple(line for line in lines if not (line.startswith("a=") and line[2:] in DIRECTIONS))
    return (*kept, f"a={direction}")


def _with_lines(media: Media, lines: tuple[str, ...]) -> Media:
    return replace(media, lines=lines)


def _check_direction(direction: str) -> None:
    if direction not in DIRECTIONS:
        raise SdpError(f"No direction: {direction!r}; use one of {', '.join(DIRECTIONS)}", field="direction")
