"""What the made-up messages say, as the rows that a decoder must make of them."""

from __future__ import annotations

from typing import NamedTuple

from labkit.wire.diameter import Message

Row = dict[str, object]
"""Columns of the table that are present, by name."""


class End(NamedTuple):
    """One end of a conversation."""

    address: str
    """IPv4 or IPv6."""
    port: int
    """UDP or TCP port."""


class Media(NamedTuple):
    """What an RTP header says."""

    payload_type: int
    """What the payload is."""
    sequence: int
    """One more for each packet."""
    rtp_timestamp: int
    """Sampling instant of the first byte."""
    ssrc: int
    """The stream's number."""
    marker: bool
    """First packet after silence."""


Meaning = Row | Message | Media
"""The columns of a SIP message, a Diameter message, or what an RTP header says."""

_AVP_OF = {
    "session_id": "Session-Id",
    "origin_host": "Origin-Host",
    "result_code": "Result-Code",
    "user_name": "User-Name",
    "public_identity": "Public-Identity",
    "visited_network": "Visited-Network-Identifier",
    "server_name": "Server-Name",
    "server_assignment_type": "Server-Assignment-Type",
    "user_authorization_type": "User-Authorization-Type",
}


def row_of(meaning: Meaning) -> Row:
    """Give the columns that the message itself decides."""
    if isinstance(meaning, Message):
        return _diameter_row(meaning)
    if isinstance(meaning, Media):
        return {"protocol": "rtp", **meaning._asdict()}
    return meaning


def _diameter_row(message: Message) -> Row:
    row: Row = {
        "protocol": "diameter",
        "command": message.name,
        "command_code": message.command_code,
        "request": message.request,
        "flags": message.flags,
        "application_id": message.application_id,
        "hop_by_hop_id": message.hop_by_hop_id,
        "end_to_end_id": message.end_to_end_id,
    }
    for column, name in _AVP_OF.items():
        if (avp := message.find(name)) is not None:
            row[column] = avp.value.decode() if isinstance(avp.value, bytes) else avp.value
    if (group := message.find("Experimental-Result")) is not None:
        inner = group.find("Experimental-Result-Code")
        row["experimental_result_code"] = inner.value if inner else None
    return row
