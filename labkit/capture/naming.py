"""Names of nodes beside addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_TOP_VIA = re.compile(rb"\n(?:via|v)[ \t]*:\s*SIP\s*/\s*2\.0\s*/\s*\w+\s+([^;,\s]+)", re.IGNORECASE)

Endpoint = tuple[str, int]
"""Address and port."""


class EndpointNames:
    """Looks up names by "address:port", else by "address".

    A phone that uses TCP talks from a port that nobody knows beforehand. It is recognised by the Via that it puts on
    top of its requests, or by being the only one with a name at its address.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._learnt: dict[Endpoint, str] = {}
        self._only = _only_names(names)

    def of(self, address: str, port: int) -> str | None:
        """Name of an endpoint, None when it has none."""
        return (
            self._names.get(endpoint_text(address, port))
            or self._learnt.get((address, port))
            or self._names.get(address)
            or self._only.get(address)
        )

    def learn(self, methods: Sequence[object], sources: Sequence[Endpoint], raw: Sequence[bytes]) -> None:
        """Look at the requests of a capture: the top Via says which phone speaks from a port.

        Args:
            methods: of each message, None where it is no SIP request.
            sources: address and port it came from.
            raw: the messages.
        """
        for method, source, message in zip(methods, sources, raw, strict=True):
            if method is None or source in self._learnt or endpoint_text(*source) in self._names:
                continue
            via = _TOP_VIA.search(message)
            sent_by = via.group(1).decode("ascii", "replace") if via else ""
            host, colon, _port = sent_by.rpartition(":")
            name = self._names.get(sent_by if colon and "]" not in _port else f"{sent_by}:5060")
            if name is not None and (host or sent_by).strip("[]") == source[0]:
                self._learnt[source] = name


def endpoint_text(address: str, port: int) -> str:
    """Write an endpoint as it stands in names: "address:port", IPv6 as "[address]:port"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _only_names(names: Mapping[str, str]) -> dict[str, str]:
    """Addresses of which exactly one name is known, whatever the port."""
    found: dict[str, set[str]] = {}
    for text, name in names.items():
        host, colon, port = text.rpartition(":")
        if colon and port.isdecimal() and (host.startswith("[") or ":" not in host):
            found.setdefault(host.strip("[]"), set()).add(name)
    return {address: next(iter(known)) for address, known in found.items() if len(known) == 1}
