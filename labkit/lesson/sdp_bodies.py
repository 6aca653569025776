"""Thirty SDP bodies as equipment sends them, for expressions to be tried against (data/sdp/bodies.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Final

from labkit.errors import LessonError, SdpError
from labkit.paths import project_root
from labkit.wire.sdp import SessionDescription, parse_sdp

TRUTHS: Final = ("address", "port", "rtcp_port", "session_version")
"""What can be asked of a body: of its first audio stream, and the version in o=."""


@dataclass(frozen=True, slots=True)
class SdpBody:
    """One body and where it comes from."""

    name: str
    """A word for it, for example "rtcp-port"."""
    source: str
    """The recording, or the specification whose example it follows."""
    text: str
    """The body, line ends included."""

    @property
    def description(self) -> SessionDescription:
        """The body, read by the rules of RFC 8866."""
        try:
            return parse_sdp(self.text.encode("utf-8", "surrogateescape"))
        except SdpError as unreadable:
            raise LessonError(f"The body {self.name!r} is no SDP: {unreadable}.") from unreadable

    @property
    def truth(self) -> dict[str, str | None]:
        """What is true of its first audio stream, and of the session, by `TRUTHS`; None for what there is not."""
        description = self.description
        found: dict[str, str | None] = dict.fromkeys(TRUTHS)
        found["session_version"] = str(description.origin.session_version)
        audio = next((number for number, media in enumerate(description.media) if media.kind == "audio"), None)
        if audio is not None:
            address, port = description.media_address(audio)
            rtcp = description.rtcp_address(audio)
            found |= {"address": address, "port": str(port), "rtcp_port": str(rtcp[1]) if rtcp else None}
        return found

    def first_line(self, start: str) -> str | None:
        """The first line that begins with `start`, as sdp_get_line_startswith() of Kamailio gives it.

        It takes CR LF off, but leaves an LF that stands alone.
        """
        lines = (line.removesuffix("\r\n") for line in self.text.splitlines(keepends=True))
        return next((line for line in lines if line.startswith(start)), None)

    def __str__(self) -> str:
        return "\n".join(self.text.splitlines())


@cache
def sdp_bodies() -> dict[str, SdpBody]:
    """Return the thirty bodies by their names."""
    entries = tomllib.loads((project_root() / "data" / "sdp" / "bodies.toml").read_text(encoding="utf-8"))
    return {
        name: SdpBody(name, _source(entry), entry["body"].replace("\n", entry.get("line_end", "\r\n")))
        for name, entry in entries.items()
    }


def _source(entry: dict[str, str]) -> str:
    return f"recorded: {entry['recorded']}" if "recorded" in entry else f"after {entry['after']}"
