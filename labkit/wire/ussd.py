"""USSD over IMS: application/vnd.3gpp.ussd+xml, the body that carries what a user dials and what the network says.

Texts stand in elements (TS 24.390 section 5.1.3):

    <ussd-data>
        <language>en</language>
        <ussd-string>*100#</ussd-string>
        <anyExt><UnstructuredSS-Request/></anyExt>
    </ussd-data>

Recordings and examples in the world often show another form, with texts in attributes (`<ussd-string value="*100#"/>`)
and an element <message-type>. That is the dialect of one gateway product (RestComm, formerly Mobicents). A phone that
follows the specification finds no text in it. `parse_ussd` refuses it and says so; `dialect_in` names what is wrong
with a document, `translate_dialect` makes the standard form of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from labkit.errors import CallFailed, SipError, XmlError
from labkit.wire.safe_xml import parse_xml
from labkit.wire.sip import parse_uri

CONTENT_TYPE: Final = "application/vnd.3gpp.ussd+xml"
"""Media type of the body."""
INFO_PACKAGE: Final = "g.3gpp.ussd"
"""Info package (RFC 6086) of the INFOs that carry it (TS 24.390 section 5.1.2)."""
SPEC: Final = "TS 24.390 section 5.1.3"

ERROR_CODES: Final = {
    1: "error - unspecified",
    2: "language/alphabet not supported",
    3: "unexpected data value",
    4: "USSD-busy",
}
"""What an <error-code> means; one that is not listed is to be taken as 1."""
OPERATIONS: Final = {"request": "UnstructuredSS-Request", "notify": "UnstructuredSS-Notify"}
"""What the network wants, by the empty element in <anyExt> that says so: an answer, or only to be read."""

_CODE = re.compile(r"[0-9*#]{1,64}")
# XML 1.0 section 2.2: what may stand in a document at all.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class UssdData:
    """What one USSD body says."""

    text: str | None = None
    """What was dialled, or is to be shown; None where the body has no <ussd-string>."""
    language: str = ""
    """Language of the text, ISO 639-1, as written; empty where nobody says."""
    error_code: int | None = None
    """<error-code> as written; None without."""
    operation: str = ""
    """In what the network begins: "request" (it wants an answer) or "notify" (it does not); else empty."""
    alerting_pattern: int | None = field(default=None, repr=False)
    """How to ring for it (TS 24.008 table 10.5.3); None without."""

    @property
    def error(self) -> str:
        """The error in words; empty where there is none."""
        return "" if self.error_code is None else ERROR_CODES.get(self.error_code, ERROR_CODES[1])

    def to_bytes(self) -> bytes:
        """Write the body, elements in the order of the schema.

        Raises:
            XmlError: its text holds a character that XML has no way to carry.
        """
        lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<ussd-data>"]
        if self.language:
            lines.append(f"  <language>{_escaped(self.language)}</language>")
        if self.text is not None:
            lines.append(f"  <ussd-string>{_escaped(self.text)}</ussd-string>")
        if self.error_code is not None:
            lines.append(f"  <error-code>{self.error_code}</error-code>")
        extension = f"<{OPERATIONS[self.operation]}/>" if self.operation else ""
        if self.alerting_pattern is not None:
            extension += f"<alertingPattern>{self.alerting_pattern}</alertingPattern>"
        if extension:
            lines.append(f"  <anyExt>{extension}</anyExt>")
        return "\n".join([*lines, "</ussd-data>\n"]).encode()


def parse_ussd(raw: bytes) -> UssdData:
    """Read a body.

    Elements that the specification does not name are left out, for its schema lets others add theirs. The order of
    elements is not judged: networks differ in it, and no phone cares.

    Raises:
        XmlError: it is no XML that is safe to read, no ussd-data, or breaks the rules of section 5.1.3; for the dialect
            with attributes the message says which it is.
    """
    root = _root(raw)
    dialect = _dialect(root)
    if dialect:
        raise XmlError(f"Not as the specification has it: {dialect[0]}", field=dialect[0].split(">")[0][1:], spec=SPEC)
    return UssdData(
        text=_text(root, "ussd-string"),
        language=(_text(root, "language") or "").strip(),
        error_code=_number(root, "error-code"),
        operation=_operation(root),
        alerting_pattern=_number(_one(root, "anyExt"), "alertingPattern"),
    )


def dialect_in(raw: bytes) -> tuple[str, ...]:
    """Name what in a body is the attribute dialect and not the specification; empty where nothing is.

    Raises:
        XmlError: it is no ussd-data at all.
    """
    return _dialect(_root(raw))


def translate_dialect(raw: bytes) -> UssdData:
    """Read a body in either form; `.to_bytes()` of what comes back is the standard one.

    <message-type> becomes the operation only where the network begins something: in answers the specification has none.

    Raises:
        XmlError: it is in neither form.
    """
    root = _root(raw)
    if not _dialect(root):
        return parse_ussd(raw)
    kind = (root.findtext("anyExt/message-type") or "").strip()
    operations = {"unstructuredSSRequest_Request": "request", "unstructuredSSNotify_Request": "notify"}
    code = _value(root, "error-code")
    if code is not None and not (code.isascii() and code.isdigit() and len(code) < 10):
        raise XmlError(f"error-code is no number: {code[:40]!r}", field="error-code", spec=SPEC)
    return UssdData(
        text=_value(root, "ussd-string"),
        language=(_value(root, "language") or "").strip(),
        error_code=None if code is None else int(code),
        operation=operations.get(kind, ""),
    )


def ussd_uri(code: str, realm: str) -> str:
    """The Request-URI of a USSD code: a dial string of the home network (TS 24.390 annex A.1, RFC 4967).

    Args:
        code: what the user dialled, for example "*100#".
        realm: home network.
    Raises:
        CallFailed: it holds more than digits, "*" and "#".
    """
    if not _CODE.fullmatch(code):
        raise CallFailed(f"{code!r} is no USSD code: it is made of digits, * and #, for example *100#.")
    return f"sip:{code.replace('#', '%23')};phone-context={realm}@{realm};user=dialstring"


def code_in(uri: str) -> str:
    """The USSD code in a Request-URI; empty where it holds none.

    The user part has parameters of its own, as in a tel: URI; "#" is written %23, for a URI ends at a bare one.
    """
    try:
        parsed = parse_uri(uri)
    except SipError:
        return ""
    code = parsed.user.partition(";")[0].replace("%23", "#").replace("%2A", "*").replace("%2a", "*")
    return code if _CODE.fullmatch(code) and "#" in code else ""


# ---- reading --------------------------------------------------------------------------------------------------------
def _root(raw: bytes) -> Element:
    root = parse_xml(raw)
    if root.tag != "ussd-data":
        raise XmlError(f"Not a USSD body: its root is <{root.tag[:40]}>, not <ussd-data>", spec=SPEC)
    for name in ("language", "ussd-string", "error-code", "anyExt"):
        _one(root, name)
    return root


def _one(parent: Element | None, name: str) -> Element | None:
    found = [] if parent is None else [one for one in parent if one.tag == name]
    if len(found) > 1:
        raise XmlError(f"More than one <{name}>", field=name, spec=SPEC)
    return found[0] if found else None


def _text(parent: Element | None, name: str) -> str | None:
    """The text of an element that holds nothing but text; None where it is not there."""
    element = _one(parent, name)
    if element is None:
        return None
    if len(element):
        raise XmlError(f"<{name}> holds <{element[0].tag[:40]}>; it is for text alone", field=name, spec=SPEC)
    return element.text or ""


def _number(parent: Element | None, name: str) -> int | None:
    text = _text(parent, name)
    if text is None:
        return None
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise XmlError(f"<{name}> is no number: {digits[:40]!r}", field=name, spec=SPEC)
    return int(digits)


def _operation(root: Element) -> str:
    extension = _one(root, "anyExt")
    found = [name for name, tag in OPERATIONS.items() if _one(extension, tag) is not None]
    if len(found) > 1:
        raise XmlError("<anyExt> asks for an answer and for none", field="anyExt", spec=SPEC)
    return found[0] if found else ""


def _dialect(root: Element) -> tuple[str, ...]:
    found = [
        f"<{name}> has its text in an attribute, value={element.get('value', '')[:40]!r}; the text belongs into the "
        f"element, as in <{name}>...</{name}>"
        for name in ("language", "ussd-string", "error-code")
        if (element := _one(root, name)) is not None and "value" in element.attrib and not (element.text or "").strip()
    ]
    found += [
        f"<{tag}> stands in <ussd-data>; its place is in <anyExt>"
        for tag in OPERATIONS.values()
        if _one(root, tag) is not None
    ]
    kind = root.findtext("anyExt/message-type")
    if kind is not None:
        found.append(f"<message-type> says {kind.strip()[:60]!r}; <anyExt> has an empty element for that, if anything")
    return tuple(found)


def _value(root: Element, name: str) -> str | None:
    """What the dialect says: its attribute, else the text."""
    element = _one(root, name)
    return None if element is None else element.get("value", element.text or "")


def _escaped(text: str) -> str:
    found = _FORBIDDEN.search(text)
    if found is not None:
        raise XmlError(f"No XML document can hold the character U+{ord(found[0]):04X}", spec="XML 1.0 section 2.2")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
