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
    "open_capture": "labkit.session.capture",
    "practice_capture": "labkit.practice.evening",
    "read_capture": "labkit.capture.table",
    "decode_folder": "labkit.capture.folder",
    "check": "labkit.lesson.check",
    "solution": "labkit.lesson.check",
    "try_regex": "labkit.lesson.regex_trial",
    "sdp_bodies": "labkit.lesson.sdp_bodies",
    "dialplan": "labkit.lesson.dialplan",
    "turn_a_bit": "labkit.view.bit_turner",
    "try_increments": "labkit.view.increments",
    "draw_staircase": "labkit.view.charges",
    "draw_bill": "labkit.view.charges",
    "draw_chain": "labkit.view.chain",
    "progress": "labkit.view.progress",
    "aka": "labkit.wire.aka",
    "cgrates": "labkit.clients.cgrates",
    "rpc": "labkit.wire.rpc",
    "ifc": "labkit.wire.ifc",
    "sdp": "labkit.wire.sdp",
    "sip": "labkit.wire.sip",
    "sms": "labkit.wire.sms",
    "ussd": "labkit.wire.ussd",
    "ussd_pad": "labkit.view.ussd_pad",
    "faults": "labkit.lab.faults",
    "use_theme": "labkit.view.theme",
    "errors": "labkit.errors",
    "LabkitError": "labkit.errors",
    "CallFailed": "labkit.errors",
    "BlockRefused": "labkit.errors",
}
"""Every public name and the module it lives in."""

__all__ = ["__version__", *sorted(_ROOM_OF)]

if TYPE_CHECKING:
    from labkit import errors as errors
    from labkit.capture.folder import decode_folder as decode_folder
    from labkit.capture.table import read_capture as read_capture
    from labkit.clients import cgrates as cgrates
    from labkit.errors import BlockRefused as BlockRefused
    from labkit.errors import CallFailed as CallFailed
    from labkit.errors import LabkitError as LabkitError
    from labkit.lab.faults import faults as faults
    from labkit.lesson.check import check as check
    from labkit.lesson.check import solution as solution
    from labkit.lesson.dialplan import dialplan as dialplan
    from labkit.lesson.regex_trial import try_regex as try_regex
    from labkit.lesson.sdp_bodies import sdp_bodies as sdp_bodies
    from labkit.practice.evening import practice_capture as practice_capture
    from labkit.session.capture import Capture as Capture
    from labkit.session.capture import open_capture as open_capture
    from labkit.session.session import Session as Session
    from labkit.session.session import open as open
    from labkit.view.bit_turner import turn_a_bit as turn_a_bit
    from labkit.view.chain import draw_chain as draw_chain
    from labkit.view.charges import draw_bill as draw_bill
    from labkit.view.charges import draw_staircase as draw_staircase
    from labkit.view.increments import try_increments as try_increments
    from labkit.view.progress import progress as progress
    from labkit.view.theme import use_theme as use_theme
    from labkit.view.ussd_pad import ussd_pad as ussd_pad
    from labkit.wire import aka as aka
    from labkit.wire import ifc as ifc
    from labkit.wire import rpc as rpc
    from labkit.wire import sdp as sdp
    from labkit.wire import sip as sip
    from labkit.wire import sms as sms
    from labkit.wire import ussd as ussd


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"labkit has no {name!r}; it has {', '.join(sorted(_ROOM_OF))}")
    module = import_module(room)
    # `errors`, `aka`, `cgrates`, `ifc`, `sdp`, `sip`, `sms` and `ussd` are modules themselves
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF})
