"""Where JSON-RPC over HTTP and evapi begin and end in a stream of bytes.

A stream is taken for one of them by its first bytes only: it costs streams of other protocols one look.
"""

from __future__ import annotations

import re

from labkit.errors import RpcError
from labkit.wire.rpc import LONGEST_LENGTH, chunk_at, split_http

EVAPI, JSONRPC = "evapi", "jsonrpc"
RPC = (EVAPI, JSONRPC)
LONGEST_HTTP_HEAD = 65536
LONGEST_RPC = 16 << 20
NOWHERE, UNDECIDED = -1, -2
"""No message starts there; more bytes are needed to tell."""

_EVAPI_START = re.compile(rb'[1-9]\d{0,6}:\{"')
_EVAPI_AGAIN = re.compile(rb',([1-9]\d{0,6}:\{")')
_HTTP_START = re.compile(rb"(?:POST /\S{0,2000} HTTP/1\.[01]|HTTP/1\.[01] \d\d\d[^\r\n]*)\r\n")
_JSON = re.compile(rb"\ncontent-type[ \t]*:[ \t]*application/json", re.IGNORECASE)
_LENGTH = re.compile(rb"\ncontent-length[ \t]*:[ \t]*(\d{1,9})[ \t]*\r?\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding[ \t]*:[^\r\n]*chunked[ \t]*\r?\n", re.IGNORECASE)
_ASKS = re.compile(rb'"method"\s*:\s*"')
_ANSWERS = re.compile(rb'"(?:result|error)"\s*:')
_HAS_ID = re.compile(rb'"id"\s*:')
_NETSTRING = re.compile(rb"(\d{1,7}):")
_TAIL = 24
"""Bytes at the end that may begin what goes on in the next ones."""


def rpc_start(raw: bytes, position: int) -> tuple[int, str]:
    """Tell whether a stream begins with one of the two: (where, protocol), or (NOWHERE or UNDECIDED, "")."""
    if _EVAPI_START.match(raw, position):
        return position, EVAPI
    if raw[position : position + 6] not in (b"POST /", b"HTTP/1"):
        return NOWHERE, ""
    end = raw.find(b"\r\n\r\n", position, position + LONGEST_HTTP_HEAD)
    if end < 0:
        return (UNDECIDED if len(raw) - position < LONGEST_HTTP_HEAD else NOWHERE), ""
    if _HTTP_START.match(raw, position) and _JSON.search(raw, position, end + 2):
        return position, JSONRPC
    return NOWHERE, ""


def rpc_again(protocol: str, raw: bytes, position: int) -> tuple[int, bool]:
    """Find the next message of a stream that is known: (where, True), or (what may be forgotten, False)."""
    start = _EVAPI_START if protocol == EVAPI else _HTTP_START
    if start.match(raw, position):
        return position, True
    found = (_EVAPI_AGAIN if protocol == EVAPI else _HTTP_START).search(raw, position)
    if found is not None:
        return found.start(found.re.groups), True
    return max(position, len(raw) - (_TAIL if protocol == EVAPI else 2048)), False


def take_rpc(protocol: str, raw: bytes, position: int, starts: list[int], ends: list[int]) -> int:
    """Note where the message at a position starts and ends.

    Returns:
        Its size; 0 where no message is; -1 or minus its size as far as that is known when more bytes are needed.
    """
    size, wanted = _netstring(raw, position) if protocol == EVAPI else _http(raw, position)
    if size > len(raw) - position:
        return -size
    if size > 0 and wanted:
        starts.append(position)
        ends.append(position + size)
    return size


def _netstring(raw: bytes, position: int) -> tuple[int, bool]:
    found = _NETSTRING.match(raw, position)
    if found is None:
        head = raw[position : position + LONGEST_LENGTH + 1]
        return (-1 if head.isdigit() and len(head) <= LONGEST_LENGTH else 0), False
    end = found.end() + int(found.group(1))
    if len(raw) > end and raw[end] != 0x2C:
        return 0, False
    return end + 1 - position, True


def _http(raw: bytes, position: int) -> tuple[int, bool]:
    """Size of an HTTP message, as far as it is known (RFC 9112 section 6), and whether JSON-RPC is in it."""
    end = raw.find(b"\r\n\r\n", position, position + LONGEST_HTTP_HEAD)
    if end < 0:
        return (-1 if len(raw) - position < LONGEST_HTTP_HEAD else 0), False
    asks = raw[position : position + 5] != b"HTTP/"
    if not (_HTTP_START.match(raw, position) or (asks and b" HTTP/1." in raw[position : raw.find(b"\r\n", position)])):
        return 0, False
    body = end + 4
    if _CHUNKED.search(raw, position, body):
        stop = _end_of_chunks(raw, body)
        if stop <= 0:
            return stop, False
    else:
        length = _LENGTH.search(raw, position, body)
        stop = body + (int(length.group(1)) if length else 0)
    if stop - body > LONGEST_RPC:
        return 0, False
    wanted = stop <= len(raw) and _has_rpc(split_http(raw[position:stop])[2], asks)
    return stop - position, wanted


def _end_of_chunks(raw: bytes, position: int) -> int:
    """Offset behind the last chunk; -1 while it has not come, 0 where there is no chunk."""
    begin = position
    try:
        while (found := chunk_at(raw, position)) is not None:
            start, size = found
            if size == 0:
                end = raw.find(b"\r\n", start)
                return -1 if end < 0 else end + 2
            position = start + size + 2
            if position - begin > LONGEST_RPC:
                return 0
    except RpcError:
        return 0
    return -1


def _has_rpc(body: bytes, asks: bool) -> bool:
    if asks:
        return _ASKS.search(body) is not None
    return _HAS_ID.search(body) is not None and _ANSWERS.search(body) is not None
