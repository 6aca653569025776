"""XML from the network: read without any of the tricks that XML allows.

A document type declaration is refused, for it is what entities come from: bombs that grow to gigabytes, and files of
the reader's own machine. No format of SIP or Diameter needs one. Size and depth are bounded.
"""

from __future__ import annotations

from typing import Any, Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from labkit.errors import XmlError

MAX_BYTES: Final = 1 << 20
"""Longest document that is read."""
MAX_DEPTH: Final = 64
"""Most elements inside each other."""


def parse_xml(raw: bytes) -> Element:
    """Read a document and return its root; the names of elements and attributes lose their namespace.

    Args:
        raw: the document, at most `MAX_BYTES` long.
    Raises:
        XmlError: it is not well formed, is too long or too deep, or has a document type declaration.
    Spec:
        XML 1.0 sections 2 and 2.8; for the reason of the refusal: RFC 3023 section 10.
    """
    if len(raw) > MAX_BYTES:
        raise XmlError(f"An XML document of {len(raw)} bytes; {MAX_BYTES} are read at most")
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise XmlError(f"More than {MAX_DEPTH} XML elements inside each other", offset=parser.CurrentByteIndex)
        builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_: Any) -> None:
        raise XmlError(
            "An XML document with a document type declaration is not read",
            offset=parser.CurrentByteIndex,
            field="DOCTYPE",
        )

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(raw, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise XmlError(f"Not well-formed XML: {error}", offset=max(parser.ErrorByteIndex, 0)) from error
    return builder.close()


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
