"""Our SIP grammar against `sipmessage`, a library that shares no line with it, on every recorded message.

The phones use our own grammar: sipmessage refuses folded header lines and its errors name no place in the message. As a
second opinion it is just right.
"""

from __future__ import annotations

from urllib.parse import unquote

import pytest
import sipmessage

from labkit.wire.sip import SipMessage, parse_address, parse_message, parse_uri
from tests.sip_bytes import all_recorded

RECORDED = all_recorded()


def theirs_of(raw: bytes) -> sipmessage.Message:
    """Parse a message with the library."""
    return sipmessage.Message.parse(raw)


def test_there_is_something_to_compare() -> None:
    """The recordings hold requests and responses."""
    assert len(RECORDED) > 400
    assert {parse_message(raw).is_request for raw in RECORDED} == {True, False}


def test_identities_of_every_message_agree() -> None:
    """Call-ID, CSeq, the tags and users of From and To, and the body."""
    for raw in RECORDED:
        ours, theirs = parse_message(raw), theirs_of(raw)
        assert (ours.call_id, ours.cseq, ours.cseq_method) == (
            theirs.call_id,
            theirs.cseq.sequence,
            theirs.cseq.method,
        )
        for user, tag, address in (
            (ours.from_user, ours.from_tag, theirs.from_address),
            (ours.to_user, ours.to_tag, theirs.to_address),
        ):
            assert tag == address.parameters.get("tag")
            if address.uri.scheme != "tel":  # it has no user part, and the library shows no number
                assert _unescaped(user) == address.uri.user
        assert ours.body == theirs.body


def test_every_via_agrees() -> None:
    """All hops in order, and the branch of the top one."""
    for raw in RECORDED:
        ours, theirs = parse_message(raw), theirs_of(raw)
        assert len(ours.all("Via")) == len(theirs.via)
        assert ours.branch == theirs.via[0].parameters.get("branch")


@pytest.mark.parametrize(
    ("header", "property_name"), [("Route", "route"), ("Record-Route", "record_route"), ("Contact", "contact")]
)
def test_addresses_agree(header: str, property_name: str) -> None:
    """Route sets and contacts: the same URIs in the same order."""
    compared = 0
    for raw in RECORDED:
        ours, theirs = parse_message(raw), theirs_of(raw)
        found = getattr(theirs, property_name)
        if found and not isinstance(found[0], str):
            assert _hosts(ours, header) == [(one.uri.user, one.uri.host, one.uri.port) for one in found]
            compared += 1
    assert compared > 20


def _unescaped(user: str | None) -> str | None:
    """The library undoes %23 and the like; we keep what was written, as Wireshark does."""
    return None if user is None else unquote(user)


def _hosts(message: SipMessage, header: str) -> list[tuple[str | None, str, int | None]]:
    uris = [parse_uri(parse_address(value).uri) for value in message.all(header)]
    return [(uri.user or None, uri.host, uri.port) for uri in uris]
