"""Cassettes: what a capture leaves behind. NAME.pcapng has the packets, NAME.json what was asked and answered.

Both are meant to be looked at: the packets open in Wireshark with names of nodes and, at each message, its number and
label in the story; the JSON is text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.errors import ReplayError
from labkit.wire import pcap

FORMAT = 1
"""Number of the format; a reader refuses what it does not know."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_NEEDED = ("lesson", "name", "engine", "recorded", "versions", "capture", "names", "calls")


class Cassette:
    """The recorded spans of one lesson: a folder with two files a span."""

    def __init__(self, folder: str | os.PathLike[str], lesson: str) -> None:
        """Name it; nothing is read or written yet.

        Args:
            folder: where its files are, or will be.
            lesson: number of the lesson, for the JSON and for messages.
        """
        self.folder = Path(folder)
        """Where its files are."""
        self.lesson = lesson
        """Number of the lesson."""

    def holds(self, name: str) -> bool:
        """Tell whether a span is recorded."""
        return self._path(name, ".json").is_file()

    def names(self) -> list[str]:
        """Names of the recorded spans, in alphabetical order."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def about(self, name: str) -> dict[str, Any]:
        """Give all about a span but its packets.

        Returns:
            lesson, name, engine, recorded (ISO time), versions, capture ("wire", "mirrored" or "none"), names, calls.
        Raises:
            ReplayError: it is not recorded, or the file is damaged.
        """
        path = self._path(name, ".json")
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ReplayError(
                f"Lesson {self.lesson} has no recording named {name!r}: record it with ./lab record {self.lesson}."
            ) from None
        except (OSError, ValueError) as error:
            raise ReplayError(f"The recording {path} cannot be read ({error}): {self._anew()}") from error
        missing = [key for key in _NEEDED if key not in about] if isinstance(about, dict) else list(_NEEDED)
        if missing or about.get("labkit") != FORMAT:
            lack = f"lacks {', '.join(missing)}" if missing else f"has format {about.get('labkit')!r}, not {FORMAT}"
            raise ReplayError(f"The recording {path} {lack}: {self._anew()}")
        return dict(about)

    def load(self, name: str) -> tuple[bytes, dict[str, Any]]:
        """Give the packets of a span as a pcapng file, and all about it.

        Raises:
            ReplayError: it is not recorded, or a file of it is damaged or missing.
        """
        about = self.about(name)
        path = self._path(name, ".pcapng")
        try:
            return path.read_bytes(), about
        except OSError as error:
            raise ReplayError(f"The recording {path} cannot be read ({error.strerror}): {self._anew()}") from error

    def save(
        self,
        name: str,
        packets: bytes,
        *,
        engine: str,
        versions: Mapping[str, str],
        names: Mapping[str, str],
        capture: str,
        calls: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a span, in place of an older one of the same name.

        Args:
            name: letters, digits, ".", "_" and "-".
            packets: a pcap or pcapng file; empty when the span has none.
            engine: "docker" or "local".
            versions: version by node.
            names: node names by "address" or "address:port".
            capture: "wire", "mirrored", or "none".
            calls: {"call", "args", "result" or "error"} in the order of asking; anything that JSON can hold.
        Raises:
            ReplayError: the name cannot be one of a file.
        """
        about = {
            "labkit": FORMAT,
            "lesson": self.lesson,
            "name": name,
            "engine": engine,
            "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": dict(versions),
            "capture": capture,
            "names": dict(names),
            "calls": [dict(call) for call in calls],
        }
        text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        if packets:
            _replace(self._path(name, ".pcapng"), annotated(packets, names))
        else:
            self._path(name, ".pcapng").unlink(missing_ok=True)
        _replace(self._path(name, ".json"), text.encode())

    def _path(self, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ReplayError(f"{name!r} cannot name a recording: use letters, digits, '.', '_' and '-'.")
        return self.folder / (name + suffix)

    def _anew(self) -> str:
        return f"record it anew with ./lab record {self.lesson}."


def annotated(packets: bytes, names: Mapping[str, str]) -> bytes:
    """Give a capture as pcapng in which each message's frame has its number and label in the story as comment.

    Args:
        packets: a pcap or pcapng file.
        names: node names by "address" or "address:port"; addresses go into a name-resolution block.
    """
    from labkit.capture.canon import canon
    from labkit.capture.table import read_capture

    comments: dict[int, list[str]] = {}
    for number, step in canon(read_capture(packets, names)).iterrows():
        line = f"{number}: {step['from']} -> {step['to']} {step['message']}"
        comments.setdefault(int(step["frame"]), []).append(line)
    file = pcap.read_capture_file(packets)
    frames = [replace(frame, comment="\n".join(comments.get(frame.number, []))) for frame in file.frames]
    return pcap.pcapng(frames, {**file.names, **names}, comment="Recorded by labkit; comments are message numbers.")


def _replace(path: Path, raw: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(raw)
    draft.replace(path)
