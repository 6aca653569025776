"""Exchanges that were recorded with a real CGrateS 0.10.4, and an HTTP stub that plays them again."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from labkit.clients.cgrates import Cgrates
from labkit.clients.cgrates.units import from_json

FOLDER = Path(__file__).parent / "data" / "cgrates"
URL = "http://cgrates.test:2080"


def exchanges(name: str) -> list[dict[str, Any]]:
    """The recorded exchanges of a file, amounts as Decimal."""
    return list(from_json((FOLDER / f"{name}.json").read_bytes())["exchanges"])


def recorded(name: str, method: str) -> list[tuple[Any, dict[str, Any]]]:
    """(parameter, reply) of every call of this method in a file."""
    return [
        (exchange["request"]["params"][0], exchange["reply"])
        for exchange in exchanges(name)
        if exchange["request"]["method"] == method
    ]


class Engine:
    """Answers with what is put in, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one HTTP request."""
        asked = json.loads(request.content, parse_float=Decimal)
        self.asked.append((asked["method"], asked["params"][0]))
        answer = self._answers.pop(0) if self._answers else {"result": "OK", "error": None}
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return httpx.Response(200, content=answer)
        return httpx.Response(200, content=json.dumps({"id": asked["id"]} | answer, default=float))

    def client(self) -> Cgrates:
        """A client that talks to this."""
        return Cgrates(URL, transport=httpx.MockTransport(self))
