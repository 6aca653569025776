"""An RTP or RTCP packet with its header explained."""

from __future__ import annotations

from labkit.view.explained import Explained, Part

PAYLOADS = {0: "PCMU", 3: "GSM", 4: "G723", 8: "PCMA", 9: "G722", 13: "comfort noise", 18: "G729"}
"""Fixed payload types (RFC 3551 section 6)."""
_RTCP = {200: "SR", 201: "RR", 202: "SDES", 203: "BYE", 204: "APP", 205: "RTPFB", 206: "PSFB", 207: "XR"}
_RTCP_WORDS = {
    "SR": "what the sender sent, and what it heard",
    "RR": "what a listener heard",
    "BYE": "the source stops",
}


def explain_rtp(raw: bytes, protocol: str) -> Explained:
    """Take an RTP or RTCP packet apart; see `labkit.view.message.explain`."""
    if len(raw) < (12 if protocol == "rtp" else 8):
        return Explained(f"Damaged {protocol.upper()} packet", "too short for a header", raw.hex(), (), raw)
    if protocol == "rtcp":
        kind = _RTCP.get(raw[1], str(raw[1]))
        return Explained(f"RTCP {kind}", _RTCP_WORDS.get(kind, ""), raw[:8].hex(" ", 4), (), raw)
    payload_type = raw[1] & 0x7F
    parts = (
        Part("payload type", f"{payload_type} {PAYLOADS.get(payload_type, 'as SDP says')}", "the codec", "RFC 3551 6"),
        Part("marker", str(raw[1] >> 7), "1 on the first packet after a silence", "RFC 3551 4.1"),
        Part(
            "sequence", str(int.from_bytes(raw[2:4], "big")), "one more with every packet: finds losses", "RFC 3550 5.1"
        ),
        Part("timestamp", str(int.from_bytes(raw[4:8], "big")), "in samples, not in seconds", "RFC 3550 5.1"),
        Part("SSRC", f"0x{raw[8:12].hex()}", "names the source, a random number", "RFC 3550 5.1"),
        Part("payload", f"{len(raw) - 12 - 4 * (raw[0] & 15)} bytes"),
    )
    return Explained("RTP packet", "a slice of sound, usually 20 ms", raw[:12].hex(" ", 4), parts, raw)
