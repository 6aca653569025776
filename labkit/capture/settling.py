"""Whether all that was asked in a capture has been answered in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit.capture.rows import Row, hop, plain_rows, transaction

if TYPE_CHECKING:
    from labkit.capture.messages import Messages


def settled(messages: Messages) -> list[str]:
    """Name what was asked and is not answered yet; empty when a capture may end.

    A SIP request needs a final response at each hop, an INVITE may also ring; what answers an INVITE needs its ACK. A
    Diameter request needs its answer, and so does a JSON-RPC call and an authorization over evapi.

    Returns:
        For example ["INVITE pcscf -> scscf", "UAR icscf -> hss"].
    """
    rows = plain_rows(messages.table)
    sip = [row for row in rows if row["protocol"] == "sip"]
    return [*_open_requests(sip), *_missing_acks(sip), *_open_diameter(rows), *_open_rpc(rows)]


def _named(what: str, hop: tuple[str, str]) -> str:
    return f"{what} {hop[0]} -> {hop[1]}"


def _open_requests(rows: list[Row]) -> Iterator[str]:
    answered = {
        (*transaction(row), *hop(row))
        for row in rows
        if row["status"] and (row["status"] >= 200 or (row["status"] > 100 and row["cseq_method"] == "INVITE"))
    }
    seen = set()
    for row in rows:
        key = (*transaction(row), *reversed(hop(row)))
        if row["method"] and row["method"] != "ACK" and key not in answered and key not in seen:
            seen.add(key)
            yield _named(row["method"], hop(row))


def _missing_acks(rows: list[Row]) -> Iterator[str]:
    """Final responses to INVITE whose ACK has not arrived: a 2xx is acknowledged end to end, others hop by hop."""
    finals = [row for row in rows if row["cseq_method"] == "INVITE" and (row["status"] or 0) >= 200]
    acks = [row for row in rows if row["method"] == "ACK"]
    hop_by_hop = {(*transaction(row), *hop(row)) for row in acks}
    arrived = {(row["call_id"], row["cseq"], hop(row)[1]) for row in acks}
    passed_on = {(row["call_id"], row["cseq"], hop(row)[1]) for row in finals if row["status"] < 300}
    seen = set()
    for row in finals:
        here, there = hop(row)
        if row["status"] >= 300:
            missing = (*transaction(row), there, here) not in hop_by_hop
        else:
            end = (row["call_id"], row["cseq"], here)
            missing = end not in passed_on and end not in arrived
        key = (*transaction(row), here)
        if missing and key not in seen:
            seen.add(key)
            yield _named(f"ACK of {row['status']}", (there, here))


def _open_diameter(rows: list[Row]) -> Iterator[str]:
    answered = {
        (row["hop_by_hop_id"], row["end_to_end_id"], *hop(row))
        for row in rows
        if row["protocol"] == "diameter" and not row["request"]
    }
    for row in rows:
        if row["protocol"] == "diameter" and row["request"]:
            key = (row["hop_by_hop_id"], row["end_to_end_id"], *reversed(hop(row)))
            if key not in answered:
                yield _named(row["command"], hop(row))


def _open_rpc(rows: list[Row]) -> Iterator[str]:
    waiting: dict[tuple[object, ...], Row] = {}
    for row in rows:
        if row["protocol"] == "jsonrpc" or row["method"] in ("CGR_AUTH_REQUEST", "CGR_AUTH_REPLY"):
            ends = (row["src"], row["src_port"], row["dst"], row["dst_port"])
            if row["request"]:
                waiting[(*ends, row["session_id"])] = row
            else:
                waiting.pop((*ends[2:], *ends[:2], row["session_id"]), None)
    for row in waiting.values():
        yield _named(row["method"], hop(row))
