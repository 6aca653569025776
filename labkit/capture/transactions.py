"""Requests with their answers: SIP transactions at each hop, Diameter request/answer pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.capture.relations import (
    codes,
    ends_of_request,
    first_of_each,
    hops,
    matching,
    result,
    seconds_between,
    taken,
    truth,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


_UNANSWERED = ("CGR_CALL_START", "CGR_CALL_END", "CGR_SESSION_DISCONNECT")
"""Events of evapi that nobody answers."""


def transactions(table: pd.DataFrame) -> pd.DataFrame:
    """One row a SIP transaction at one hop (RFC 3261 section 17); an ACK belongs to its INVITE and has no row.

    Returns:
        frame (of the request), time, from, to, method, call_id, cseq, branch, from_user, to_user, status and reason (of
        the first final response), final_frame, duration_s (to it), retransmissions (of the request),
        response_retransmissions (of final responses; those of several branches of a fork are not counted).
        In the order of requests. A response without its request in the capture has no row.
    """
    import numpy as np

    sip = table[truth(table["protocol"] == "sip")].reset_index(drop=True)
    key = transaction_keys(sip)
    asks = truth(sip["method"].notna() & (sip["method"] != "ACK"))
    final = truth(sip["status"] >= 200)
    keys, asked, sent = first_of_each(key, asks)
    final_keys, answered, finals = first_of_each(key, final)
    _kinds, kind_at = np.unique(codes(key, sip["status"], sip["to_tag"])[final], return_index=True)
    distinct = np.sort(key[final][kind_at])
    repeated = finals - np.searchsorted(distinct, final_keys, side="right") + np.searchsorted(distinct, final_keys)
    end = matching(final_keys, keys, answered)
    again = matching(final_keys, keys, repeated)
    order = np.argsort(asked, kind="stable")
    asked, end = asked[order], end[order]
    here, there = hops(sip)
    columns = {
        name: taken(sip[name], asked) for name in ("method", "call_id", "cseq", "branch", "from_user", "to_user")
    }
    return result(
        {
            **{"frame": taken(sip["frame"], asked), "time": taken(sip["time"], asked)},
            **{"from": taken(here, asked), "to": taken(there, asked)},
            **columns,
            **{name: taken(sip[name], end) for name in ("status", "reason")},
            "final_frame": taken(sip["frame"], end),
            "duration_s": seconds_between(sip, asked, end),
            "retransmissions": sent[order] - 1,
            "response_retransmissions": np.maximum(again[order], 0),
        }
    )


def transaction_keys(sip: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Number SIP messages by the transaction they belong to at one hop (RFC 3261 section 17.1.3); ACK by its INVITE."""
    method = sip["method"].fillna(sip["cseq_method"])
    method = method.where(method != "ACK", "INVITE")
    asker, asked = ends_of_request(*hops(sip), truth(sip["status"].notna()))
    return codes(sip["branch"], sip["call_id"], sip["cseq"], method, asker, asked)


def diameter_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """One row a Diameter request with its answer (RFC 6733 section 3: the identifiers tie them together).

    Identifiers may be used again once answered; a request that is seen again before is a retransmission.

    Returns:
        frame (of the request), time, from, to, command, session_id, user_name, public_identity, result_code,
        experimental_result_code, server_name (of the answer, else of the request), user_authorization_type,
        server_assignment_type, final_frame, duration_s (the answer time), retransmissions. In the order of requests. An
        answer without its request in the capture has no row.
    """
    import numpy as np

    rows = table[truth(table["protocol"] == "diameter")].reset_index(drop=True)
    request = truth(rows["request"])
    key = _diameter_keys(rows, request)
    keys, asked, sent = first_of_each(key, request)
    answer_keys, answered, _count = first_of_each(key, ~request)
    end = matching(answer_keys, keys, answered)
    end = np.where(end > asked, end, -1)
    order = np.argsort(asked, kind="stable")
    asked, end = asked[order], end[order]
    here, there = hops(rows)
    of_request = ("command", "session_id", "user_name", "public_identity")
    columns: dict[str, Any] = {
        **{"frame": taken(rows["frame"], asked), "time": taken(rows["time"], asked)},
        **{"from": taken(here, asked), "to": taken(there, asked)},
        **{name: taken(rows[name], asked) for name in of_request},
        **{name: taken(rows[name], end) for name in ("result_code", "experimental_result_code")},
        "server_name": taken(rows["server_name"], end).fillna(taken(rows["server_name"], asked)),
        **{name: taken(rows[name], asked) for name in ("user_authorization_type", "server_assignment_type")},
        "final_frame": taken(rows["frame"], end),
        "duration_s": seconds_between(rows, asked, end),
        "retransmissions": sent[order] - 1,
    }
    return result(columns)


def rpc_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """One row a JSON-RPC call or an evapi message that is no answer, with its answer where there is one.

    Returns:
        frame (of the question), time, from, to, protocol, method (of evapi the event), number (the id of JSON-RPC; the
        SIP transaction or dialog of evapi), call_id, error (absent where all went well), final_frame, duration_s. In
        the order of questions. What an answer holds is in the message: `labkit.wire.rpc` reads it.
    """
    import numpy as np

    rows = table[truth(table["protocol"].isin(["jsonrpc", "evapi"]) & table["request"].notna())].reset_index(drop=True)
    request = truth(rows["request"])
    ends = (rows["src"], rows["src_port"], rows["dst"], rows["dst_port"])
    asker, port, asked_at, its_port = (
        mine.where(request, theirs) for mine, theirs in zip(ends, (*ends[2:], *ends[:2]), strict=True)
    )
    # Only an authorization is answered over evapi; other events of one dialog share its number.
    kind = rows["method"].where(rows["method"].isin(_UNANSWERED), "")
    apart = np.where(truth(kind != ""), np.arange(len(rows)), -1)
    key = exchanges(codes(asker, port, asked_at, its_port, rows["session_id"], apart), request)
    keys, asked, _count = first_of_each(key, request)
    answer_keys, answered, _count = first_of_each(key, ~request)
    end = matching(answer_keys, keys, answered)
    end = np.where(end > asked, end, -1)
    order = np.argsort(asked, kind="stable")
    asked, end = asked[order], end[order]
    here, there = hops(rows)
    return result(
        {
            **{"frame": taken(rows["frame"], asked), "time": taken(rows["time"], asked)},
            **{"from": taken(here, asked), "to": taken(there, asked)},
            **{name: taken(rows[name], asked) for name in ("protocol", "method")},
            "number": taken(rows["session_id"], asked),
            "call_id": taken(rows["call_id"], asked),
            "error": taken(rows["reason"], end),
            "final_frame": taken(rows["frame"], end),
            "duration_s": seconds_between(rows, asked, end),
        }
    )


def _diameter_keys(rows: pd.DataFrame, request: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number messages by what ties an answer to its request."""
    asker, asked = ends_of_request(*hops(rows), ~request)
    return exchanges(codes(rows["hop_by_hop_id"], rows["end_to_end_id"], rows["command_code"], asker, asked), request)


def exchanges(identifiers: npt.NDArray[np.int64], request: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number messages by exchange: the same identifiers begin a new one at a request after an answer."""
    import numpy as np

    order = np.argsort(identifiers, kind="stable")
    ordered, asks = identifiers[order], request[order]
    before = np.concatenate(([-1], ordered[:-1])) if len(ordered) else ordered
    after_answer = np.concatenate(([True], ~asks[:-1])) if len(ordered) else asks
    begins = (ordered != before) | (asks & after_answer)
    key = np.empty(len(ordered), dtype=np.int64)
    key[order] = np.cumsum(begins)
    return key
