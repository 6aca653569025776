"""labkit: a lab that runs a real IMS core, plays its phones, and turns the packets into tables and pictures.

Nothing runs at import, and nothing heavy is imported: each name below is fetched from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOM_OF = {
    "open": "labkit.session.session",
    "Session": "labkit.session.session",
    "Capture": "labkit.session.capture",
    "read_capture": "labkit.capture.table",
    "check": "labkit.lesson.check",
    "solution": "labkit.lesson.check",
    "errors": "labkit.errors",
    "LabkitError": "labkit.errors",
    "CallFailed": "labkit.errors",
}
"""Every public name and the module it lives in."""

__all__ = ["__version__", *sorted(_ROOM_OF)]

if TYPE_CHECKING:
    from labkit import errors as errors
    from labkit.capture.table import read_capture as read_capture
    from labkit.errors import CallFailed as CallFailed
    from labkit.errors import LabkitError as LabkitError
    from labkit.lesson.check import check as check
    from labkit.lesson.check import solution as solution
    from labkit.session.capture import Capture as Capture
    from labkit.session.session import Session as Session
    from labkit.session.session import open as open


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"labkit has no {name!r}; it has {', '.join(sorted(_ROOM_OF))}")
    module = import_module(room)
    return getattr(module, name, module)  # `labkit.errors` is a module itself


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF})
