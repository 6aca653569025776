"""CGrateS's JSON-RPC without asyncio, for what the lab itself does to the engine (faults)."""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Any, Self

import httpx

from labkit.clients.cgrates.rpc import HEADERS, TIMEOUT_S, named_failures, request_body, result_of


class BlockingRpc:
    """The HTTP door of one engine; errors as of `JsonRpc`."""

    def __init__(self, base_url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = base_url.rstrip("/") + "/jsonrpc"
        self._http = httpx.Client(timeout=timeout_s, trust_env=False)
        self._ids = itertools.count(1)

    def call(self, method: str, parameter: Any) -> Any:
        """The result of one call."""
        body = request_body(method, parameter, next(self._ids))
        with named_failures(self._url, method):
            response = self._http.post(self._url, content=body, headers=HEADERS)
        return result_of(self._url, method, response.content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
