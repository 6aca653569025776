"""Words for the numbers in short messages: causes, states, failures (TS 24.011 table 8.4, TS 23.040 section 9.2.3)."""

from __future__ import annotations

from typing import Final

RP_CAUSES: Final = {
    1: "unassigned number",
    8: "operator determined barring",
    10: "call barred",
    21: "short message transfer rejected",
    22: "memory capacity exceeded",
    27: "destination out of order",
    28: "unidentified subscriber",
    29: "facility rejected",
    30: "unknown subscriber",
    38: "network out of order",
    41: "temporary failure",
    42: "congestion",
    47: "resources unavailable, unspecified",
    50: "requested facility not subscribed",
    69: "requested facility not implemented",
    81: "invalid short message transfer reference value",
    95: "semantically incorrect message",
    96: "invalid mandatory information",
    97: "message type non-existent or not implemented",
    98: "message not compatible with short message protocol state",
    99: "information element non-existent or not implemented",
    111: "protocol error, unspecified",
    127: "interworking, unspecified",
}
"""RP-Cause (TS 24.011 section 8.2.5.4)."""
STATES: Final = {
    0x00: "received by the recipient",
    0x01: "forwarded, the centre cannot confirm delivery",
    0x02: "replaced by the centre",
    0x20: "congestion, the centre still tries",
    0x21: "recipient busy, the centre still tries",
    0x22: "no response from the recipient, the centre still tries",
    0x23: "service rejected, the centre still tries",
    0x24: "quality of service not available, the centre still tries",
    0x25: "error at the recipient, the centre still tries",
    0x40: "remote procedure error",
    0x41: "incompatible destination",
    0x42: "connection rejected by the recipient",
    0x43: "not obtainable",
    0x44: "quality of service not available",
    0x45: "no interworking available",
    0x46: "validity period expired",
    0x47: "deleted by the sender",
    0x48: "deleted by the centre",
    0x49: "the message does not exist",
    0x60: "congestion, given up",
    0x61: "recipient busy, given up",
    0x62: "no response from the recipient, given up",
    0x63: "service rejected, given up",
    0x64: "quality of service not available, given up",
    0x65: "error at the recipient, given up",
}
"""TP-ST (TS 23.040 section 9.2.3.15)."""
FAILURES: Final = {
    0x80: "telematic interworking not supported",
    0x81: "short message type 0 not supported",
    0x82: "cannot replace the short message",
    0x8F: "unspecified TP-PID error",
    0x90: "alphabet not supported",
    0x91: "message class not supported",
    0x9F: "unspecified TP-DCS error",
    0xA0: "command cannot be actioned",
    0xA1: "command unsupported",
    0xAF: "unspecified TP-Command error",
    0xB0: "TPDU not supported",
    0xC0: "centre busy",
    0xC1: "no subscription to the centre",
    0xC2: "centre system failure",
    0xC3: "invalid address",
    0xC4: "destination barred",
    0xC5: "rejected: a duplicate",
    0xC6: "TP-VPF not supported",
    0xC7: "TP-VP not supported",
    0xD0: "SIM storage full",
    0xD1: "no storage on the SIM",
    0xD2: "error in the phone",
    0xD3: "memory capacity exceeded",
    0xD4: "SIM application toolkit busy",
    0xD5: "SIM data download error",
    0xFF: "unspecified error",
}
"""TP-FCS (TS 23.040 section 9.2.3.22)."""
COMMANDS: Final = {
    0: "enquiry",
    1: "cancel the status report",
    2: "delete the short message",
    3: "enable status report",
}
"""TP-CT (TS 23.040 section 9.2.3.19)."""


def words(table: dict[int, str], number: int) -> str:
    """A number with its word: "22 memory capacity exceeded"."""
    return f"{number} {table.get(number, 'reserved')}"
