"""Whose sound it is: which node asked for media at an address and port, and so sends its own from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.capture.fields import split_sip
from labkit.capture.media import Endpoint, announced_endpoints

if TYPE_CHECKING:
    from labkit.capture.messages import Messages


class MediaEnds:
    """Names the two ends of RTP and RTCP packets by what the SDP of their calls announced.

    The address that a packet goes to is the one that was announced. The one that it comes from may be another, where
    something on the way translates addresses: then it is the other party of that call who sent it.
    """

    def __init__(self) -> None:
        self._owner: dict[Endpoint, tuple[str, str]] = {}
        self._parties: dict[str, dict[str, None]] = {}

    @classmethod
    def of(cls, messages: Messages) -> MediaEnds:
        """Learn from all SIP messages of a capture."""
        ends = cls()
        columns: list[Any] = [messages.table[name].tolist() for name in ("protocol", "src_node", "src")]
        for raw, protocol, node, address in zip(messages.raw, *columns, strict=True):
            if protocol == "sip":
                ends.learn(raw, node if isinstance(node, str) else str(address))
        return ends

    def learn(self, raw: bytes, source: str) -> None:
        """Note where a node asks for media; whoever asked first for an endpoint owns it (proxies pass the SDP on)."""
        if b"\nm=" not in raw:
            return
        _start, headers, body = split_sip(raw)
        call_id = headers.get("call-id", "")
        for pair in announced_endpoints(body):
            for endpoint in pair:
                if endpoint not in self._owner:
                    self._owner[endpoint] = source, call_id
                    self._parties.setdefault(call_id, {})[source] = None

    def ends(self, cells: Mapping[Any, Any]) -> tuple[str | None, str | None]:
        """Give (who sent, who gets) a packet by its src, src_port, dst and dst_port; None for who is not known."""
        sender = self._owner.get((cells["src"], cells["src_port"]), ("", ""))[0]
        receiver, call_id = self._owner.get((cells["dst"], cells["dst_port"]), ("", ""))
        others = [party for party in self._parties.get(call_id, ()) if party != receiver]
        if not sender and len(others) == 1:
            sender = others[0]
        return sender or None, receiver or None
