"""A Diameter message as a tree of named AVPs with typed values."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from labkit.errors import DiameterError
from labkit.view.diameter_words import APPLICATIONS, AVPS, COMMANDS, ENUMS
from labkit.view.explained import Explained, Part, readable, xml_lines
from labkit.wire import cx, diameter

_DEEPEST = 12
"""No specification nests groups deeper than a few levels; bytes from a stranger may."""
_CX_ENUMS: dict[str, type[IntEnum]] = {
    "User-Authorization-Type": cx.UserAuthorizationType,
    "Server-Assignment-Type": cx.ServerAssignmentType,
    "Reason-Code": cx.DeregistrationReason,
    "User-Data-Already-Available": cx.UserDataAlreadyAvailable,
}
_SAME_IN_EVERY_RUN = {
    "Digest-Algorithm",
    "Digest-Qop",
    "Digest-Realm",
    "Public-Identity",
    "Server-Name",
    "SIP-Authentication-Scheme",
    "User-Name",
    "Visited-Network-Identifier",
}
"""AVPs with text whose values an outline shows, beside those with numbers."""
_CHANGING_NUMBERS = {"Origin-State-Id", "Charging-Information", "Expiry-Time"}
_APPLICATION_AVPS = {"Auth-Application-Id", "Acct-Application-Id"}


def explain_diameter(raw: bytes) -> Explained:
    """Take a Diameter message apart; see `labkit.view.message.explain`."""
    try:
        message = diameter.parse_message(raw)
    except DiameterError as error:
        return Explained("Damaged Diameter message", str(error), raw[:20].hex(" ", 4), (Part("", raw.hex()),), raw)
    kind = "request" if message.request else "answer"
    about = COMMANDS.get(message.name, "")
    return Explained(f"Diameter {kind} {message.name}", about, _first_line(message), tuple(_parts(message.avps)), raw)


def _first_line(message: diameter.Message) -> str:
    letters = "".join(letter if message.flags & bit else "-" for letter, bit in _COMMAND_FLAGS)
    application = APPLICATIONS.get(message.application_id, "unknown")
    return (
        f"command {message.command_code}, flags {letters}, application {message.application_id} ({application}), "
        f"hop-by-hop 0x{message.hop_by_hop_id:08x}, end-to-end 0x{message.end_to_end_id:08x}"
    )


_COMMAND_FLAGS = (("R", 0x80), ("P", 0x40), ("E", 0x20), ("T", 0x10))
_AVP_FLAGS = (("V", diameter.AVP_VENDOR), ("M", diameter.AVP_MANDATORY), ("P", diameter.AVP_PROTECTED))


def _parts(avps: Iterable[diameter.Avp], depth: int = 0, group: str = "") -> list[Part]:
    parts: list[Part] = []
    siblings = tuple(avps)
    for avp in siblings:
        name = f"{avp.name} ({avp.code})"
        flags = "".join(letter if avp.flags & bit else "-" for letter, bit in _AVP_FLAGS)
        about = AVPS.get(avp.name, "")
        try:
            children = avp.children if depth < _DEEPEST else ()
            value, lines = ("", ()) if children else _value(avp, siblings)
        except DiameterError as error:
            parts.append(Part(name, avp.raw.hex(), f"does not fit its type: {error}", depth=depth, flags=flags))
            continue
        parts.append(Part(name, value, about, "", depth, flags, lines, _is_stable(avp)))
        parts += _parts(children, depth + 1, avp.name)
    return parts


def _is_stable(avp: diameter.Avp) -> bool:
    if avp.kind in ("Unsigned32", "Enumerated", "Integer32"):
        return avp.name not in _CHANGING_NUMBERS
    return avp.name in _SAME_IN_EVERY_RUN


def _value(avp: diameter.Avp, siblings: Iterable[diameter.Avp]) -> tuple[str, tuple[str, ...]]:
    """Return the value in one line, and further lines where it has an inner form."""
    if avp.name == "User-Data":
        return "", xml_lines(avp.raw.decode("utf-8", "replace"))
    if avp.name == "SIP-Authenticate" and len(avp.raw) == 32:
        return "", (f"RAND {avp.raw[:16].hex()}", f"AUTN {avp.raw[16:].hex()}")
    value = avp.value
    if isinstance(value, int):
        return _number(avp.name, value, siblings), ()
    if isinstance(value, bytes):
        return readable(value), ()
    return str(value), ()


def _number(name: str, value: int, siblings: Iterable[diameter.Avp]) -> str:
    word = ENUMS.get(name, {}).get(value, "")
    if name in _CX_ENUMS and value in _CX_ENUMS[name]._value2member_map_:
        word = _CX_ENUMS[name](value).name
    elif name == "Result-Code":
        word = diameter.result_name(value)
    elif name == "Experimental-Result-Code":
        vendor = next((int(avp.value) for avp in siblings if avp.name == "Vendor-Id"), diameter.TGPP_VENDOR)
        word = diameter.result_name(value, experimental=True, vendor=vendor)
    elif name == "Vendor-Id" and value == diameter.TGPP_VENDOR:
        word = "3GPP"
    elif name in _APPLICATION_AVPS:
        word = APPLICATIONS.get(value, "")
    return f"{value} {word}".rstrip()
