"""Any message explained: each protocol has a module of its own that takes it apart."""

from __future__ import annotations

from labkit.capture.rpc_words import RPC_PROTOCOLS
from labkit.view.explained import Explained
from labkit.view.message_diameter import explain_diameter
from labkit.view.message_rpc import explain_rpc
from labkit.view.message_rtp import explain_rtp
from labkit.view.message_sip import explain_sip


def explain(raw: bytes, protocol: str) -> Explained:
    """Take a message apart and explain its parts.

    Args:
        raw: the message alone, without UDP, TCP or IP.
        protocol: 'sip', 'diameter', 'rtp', 'rtcp', 'evapi' or 'jsonrpc', as in the column `protocol` of the table.
    Returns:
        The explanation. Of a damaged message, too: what cannot be read is shown as it is, with the reason.
    """
    if protocol == "sip":
        return explain_sip(raw)
    if protocol == "diameter":
        return explain_diameter(raw)
    if protocol in RPC_PROTOCOLS:
        return explain_rpc(raw, protocol)
    return explain_rtp(raw, protocol)
