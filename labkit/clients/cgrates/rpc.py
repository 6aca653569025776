"""One JSON-RPC call over HTTP: a time limit always, the engine's words as named errors, numbers as Decimal.

The engine answers every call with HTTP 200 and {"id", "result", "error"}. To a request it cannot read it does not
answer at all, so nothing is sent without a time limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from labkit.clients.cgrates.refusals import named_error, refuse_deadly
from labkit.clients.cgrates.units import from_json, to_json
from labkit.errors import ChargingEngineGone

TIMEOUT_S = 10.0
HEADERS = {"Content-Type": "application/json"}


def request_body(method: str, parameter: Any, number: int) -> str:
    """One call as text; BadChargingRequest for one that would kill the engine."""
    refuse_deadly(method, parameter)
    return to_json({"method": method, "params": [parameter], "id": number})


@contextmanager
def named_failures(url: str, method: str) -> Iterator[None]:
    """What HTTP says when it fails, as ChargingEngineGone."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise ChargingEngineGone(f"CGrateS does not answer {method} in time; ./lab logs cgrates says more") from error
    except httpx.TransportError as error:
        raise ChargingEngineGone(
            f"CGrateS at {url} is gone ({type(error).__name__} in {method}); ./lab status, ./lab logs cgrates"
        ) from error


def result_of(url: str, method: str, raw: bytes) -> Any:
    """The result in an answer; its error as a named one."""
    try:
        answer = from_json(raw)
    except ValueError as error:
        raise ChargingEngineGone(f"{url} answers {method} with no JSON: is this CGrateS?") from error
    if answer.get("error"):
        raise named_error(method, str(answer["error"]))
    return answer.get("result")


class JsonRpc:
    """The HTTP door of one engine."""

    def __init__(
        self, base_url: str, *, timeout_s: float = TIMEOUT_S, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = base_url.rstrip("/") + "/jsonrpc"
        self._http = httpx.AsyncClient(timeout=timeout_s, transport=transport, trust_env=False)
        self._ids = itertools.count(1)
        self.endpoints: set[tuple[str, int]] = set()
        """Own addresses and ports that it has spoken from, for whoever looks for them in a capture."""

    async def call(self, method: str, parameter: Any) -> Any:
        """The result of one call.

        Raises:
            ChargingError: the engine said no (its subclasses name why), or the call would have killed it.
            ChargingEngineGone: no engine there, no answer in time, or it ended while it worked.
        """
        body = request_body(method, parameter, next(self._ids))
        with named_failures(self._url, method):
            response = await self._http.post(self._url, content=body, headers=HEADERS)
        if (stream := response.extensions.get("network_stream")) is not None:
            self.endpoints.add(stream.get_extra_info("client_addr"))
        return result_of(self._url, method, response.content)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
