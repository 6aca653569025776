"""Names of nodes beside addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_TOP_VIA = re.compile(rb"\n(?:via|v)[ \t]*:\s*SIP\s*/\s*2\.0\s*/\s*\w+\s+([^;,\s]+)", re.IGNORECASE)

ENGINE = "cgrates"
"""The charging engine's name in the lab."""
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
        return self.certain(address, port) or self._only.get(address)

    def certain(self, address: str, port: int) -> str | None:
        """The same without a guess."""
        return (
            self._names.get(endpoint_text(address, port))
            or self._learnt.get((address, port))
            or self._names.get(address)
        )

    @property
    def nodes(self) -> set[str]:
        """All names."""
        return set(self._names.values())

    def call(self, endpoint: Endpoint, name: str) -> None:
        """Name an endpoint."""
        self._learnt[endpoint] = name

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


def node_columns(rows: pa.Table, raw: Sequence[bytes], names: Mapping[str, str]) -> dict[str, pa.Array]:
    """Make the columns src_node and dst_node; every distinct endpoint is looked up once.

    Args:
        rows: with the columns src, src_port, dst, dst_port, method.
        raw: the messages, row by row.
        names: by "address" or "address:port".
    """
    import pyarrow as pa

    if not names:
        return dict.fromkeys(("src_node", "dst_node"), pa.nulls(len(rows), pa.string()))
    lookup = EndpointNames(names)
    requests = rows["method"].is_valid().to_numpy().nonzero()[0]
    asked = rows.select(["method", "src", "src_port"]).take(pa.array(requests)).to_pydict()
    sources = list(zip(asked["src"], asked["src_port"], strict=True))
    lookup.learn(asked["method"], sources, [raw[number] for number in requests.tolist()])
    _learn_engines(rows, lookup)
    return {f"{side}_node": _node_column(rows[side], rows[f"{side}_port"], lookup) for side in ("src", "dst")}


def _learn_engines(rows: pa.Table, lookup: EndpointNames) -> None:
    """The engine connects to the proxy's evapi port from a port that nobody knows beforehand; who else would?"""
    if ENGINE not in lookup.nodes:
        return
    import pyarrow.compute as pc

    chosen = rows.filter(pc.equal(rows["protocol"].cast("string"), "evapi"))
    columns = chosen.select(["src", "src_port", "dst", "dst_port"]).to_pydict()
    for source, source_port, target, target_port in set(zip(*columns.values(), strict=True)):
        for endpoint, other in (
            ((source, source_port), (target, target_port)),
            ((target, target_port), (source, source_port)),
        ):
            if lookup.certain(*endpoint) is None and lookup.certain(*other) is not None:
                lookup.call(endpoint, ENGINE)


def _node_column(addresses: Any, ports: Any, lookup: EndpointNames) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    coded = addresses.combine_chunks().dictionary_encode()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) and coded.num_chunks else coded
    if not len(coded):
        return pa.nulls(0, pa.string())
    keys = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64) << 16 | ports.to_numpy().astype(np.int64)
    distinct, which = np.unique(keys, return_inverse=True)
    texts = coded.dictionary.to_pylist()
    found = [lookup.of(texts[key >> 16], key & 0xFFFF) for key in distinct.tolist()]
    return pa.array(found, pa.string()).take(pa.array(which))
