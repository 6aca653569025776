"""Short messages over IP: RP messages and the TPDUs in them, bytes to values and back.

    rp = parse_rp(message.body)             # RpData, RpAck, RpError or RpSmma
    rp.tpdu.user_data.text                  # what is written
    dissect(message.body).fields            # octet by octet

The layers: a SIP MESSAGE (TS 24.341) carries an RP message (TS 24.011), which carries a TPDU (TS 23.040), whose text is
in an alphabet of TS 23.038.
"""

from __future__ import annotations

from labkit.wire.gsm7 import fits, pack, to_septets, to_text, unpack
from labkit.wire.gsm7_tables import LANGUAGES
from labkit.wire.sms_address import Address
from labkit.wire.sms_codes import COMMANDS, FAILURES, RP_CAUSES, STATES
from labkit.wire.sms_coding import GSM7, OCTETS, UCS2, Coding, coding_of, dcs_for
from labkit.wire.sms_fields import Field, FieldReader
from labkit.wire.sms_read import read_tpdu
from labkit.wire.sms_rp import CONTENT_TYPE, Dissected, RpAck, RpData, RpError, RpMessage, RpSmma, dissect, parse_rp
from labkit.wire.sms_text import Element, Part, UserData, text_of, user_data
from labkit.wire.sms_time import from_time_stamp, relative_validity, to_relative_validity, to_time_stamp
from labkit.wire.sms_tpdu import (
    Command,
    Deliver,
    DeliverReport,
    StatusReport,
    Submit,
    SubmitReport,
    Tpdu,
    deliver_of,
)

__all__ = [
    "COMMANDS",
    "CONTENT_TYPE",
    "FAILURES",
    "GSM7",
    "LANGUAGES",
    "OCTETS",
    "RP_CAUSES",
    "STATES",
    "UCS2",
    "Address",
    "Coding",
    "Command",
    "Deliver",
    "DeliverReport",
    "Dissected",
    "Element",
    "Field",
    "Part",
    "RpAck",
    "RpData",
    "RpError",
    "RpMessage",
    "RpSmma",
    "StatusReport",
    "Submit",
    "SubmitReport",
    "Tpdu",
    "UserData",
    "coding_of",
    "dcs_for",
    "deliver_of",
    "dissect",
    "fits",
    "from_time_stamp",
    "label",
    "pack",
    "parse_rp",
    "parse_tpdu",
    "relative_validity",
    "text_of",
    "to_relative_validity",
    "to_septets",
    "to_text",
    "to_time_stamp",
    "unpack",
    "user_data",
]


def parse_tpdu(raw: bytes, *, to_phone: bool, in_report: bool = False, in_error: bool = False) -> Tpdu:
    """Read a TPDU that stands alone.

    Args:
        raw: its octets.
        to_phone: whether it goes from the centre to a phone.
        in_report: whether it stood in an RP-ACK or RP-ERROR.
        in_error: whether it stood in an RP-ERROR, where it has a TP-FCS.
    Raises:
        SmsError: it is damaged; says where.
    """
    return read_tpdu(FieldReader(raw), to_phone=to_phone, in_report=in_report, in_error=in_error)


def label(raw: bytes) -> str:
    """Name an RP message and its TPDU: "RP-DATA SMS-DELIVER", "RP-ERROR 22", "RP-ACK damaged"."""
    found = dissect(raw)
    message = found.message
    if message is None:
        types = [field.value.partition(" ")[2] for field in found.fields if field.name == "RP-MTI"]
        return f"{types[0] if types else 'RP-?'} damaged"
    if isinstance(message, RpError):
        return f"{message.name} {message.cause}"
    return f"{message.name} {message.tpdu.name}" if isinstance(message, RpData) else message.name
