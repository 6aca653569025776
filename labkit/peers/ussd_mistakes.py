"""What can be wrong with an INFO of a USSD gateway, each mistake on its own, to see who notices and what it says.

The first five are about the dialog (RFC 3261 section 12.2.1.1): a request belongs to one by Call-ID and both tags, is
new by its CSeq, finds its way by the route set, and ends at the other side's Contact. The others are about what the
INFO carries (RFC 6086, TS 24.390 section 5.1).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from labkit.peers.dialog_state import Dialog
from labkit.peers.info import info_lines
from labkit.wire.sip import parse_address
from labkit.wire.ussd import CONTENT_TYPE, INFO_PACKAGE, UssdData

_TAG = re.compile(r";tag=[^;>\s]*")


@dataclass(frozen=True, slots=True)
class InfoToSend:
    """An INFO as it will go out."""

    body: bytes
    content_type: str = CONTENT_TYPE
    headers: tuple[str, ...] = info_lines(INFO_PACKAGE)
    as_if: Callable[[Dialog], Dialog] | None = None


def info_with(said: UssdData, mistake: str = "") -> InfoToSend:
    """Write what the gateway says as an INFO, with one mistake of `MISTAKES` or none."""
    right = InfoToSend(said.to_bytes())
    return _MAKE[mistake](right, said) if mistake else right


def _unrelated(dialog: Dialog) -> Dialog:
    """As a request that a proxy makes up: the Call-ID is the same, and nothing else."""
    return replace(dialog, local=_with_tag(dialog.local), remote=_TAG.sub("", dialog.remote), local_cseq=10)


def _other_from_tag(dialog: Dialog) -> Dialog:
    return replace(dialog, local=_with_tag(dialog.local))


def _no_to_tag(dialog: Dialog) -> Dialog:
    return replace(dialog, remote=_TAG.sub("", dialog.remote))


def _falling_cseq(dialog: Dialog) -> Dialog:
    """Any number will do for the first request; a later one must be higher, and this is lower."""
    return replace(dialog, local_cseq=0) if dialog.local_cseq > 1 else dialog


def _no_route(dialog: Dialog) -> Dialog:
    return replace(dialog, route_set=())


def _to_identity(dialog: Dialog) -> Dialog:
    """To the public identity of From instead of the Contact."""
    return replace(dialog, remote_target=parse_address(dialog.remote).uri)


def _with_tag(written: str) -> str:
    return f"{_TAG.sub('', written)};tag={secrets.token_hex(4)}"


def _in_attributes(said: UssdData) -> bytes:
    """The dialect: see `labkit.wire.ussd`."""
    text = (said.text or "").replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("\n", "&#10;")
    return (
        "<?xml version='1.0' encoding='UTF-8'?>\n<ussd-data>\n"
        f'<language value="{said.language}"/>\n<ussd-string value="{text}"/>\n</ussd-data>'
    ).encode()


_Make = Callable[[InfoToSend, UssdData], InfoToSend]


def _dialog(wrong: Callable[[Dialog], Dialog]) -> _Make:
    return lambda right, said: replace(right, as_if=wrong)


_MAKE: Final[dict[str, _Make]] = {
    "no tags": _dialog(_unrelated),
    "from tag": _dialog(_other_from_tag),
    "to tag": _dialog(_no_to_tag),
    "cseq": _dialog(_falling_cseq),
    "route": _dialog(_no_route),
    "contact": _dialog(_to_identity),
    "no package": lambda right, said: replace(right, headers=()),
    "package": lambda right, said: replace(right, headers=info_lines("g.3gpp.mid-call")),
    "body type": lambda right, said: replace(right, content_type="text/plain", body=(said.text or "").encode()),
    "dialect": lambda right, said: replace(right, body=_in_attributes(said)),
}
MISTAKES: Final = tuple(_MAKE)
"""What may be wrong: the dialog's tags, its CSeq, its route set, its target; the package; the body."""
