"""What follows from the table: transactions, Diameter pairs, dialogs, registrations, RTP streams.

Each is a function of the table and gives a DataFrame. Times are timestamps (UTC), durations seconds; absent is <NA>.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labkit.capture.fields import uri_user
from labkit.capture.rows import Row, hop, plain_rows, transaction

if TYPE_CHECKING:
    import pandas as pd

_RTP_CLOCK_HZ = 8000
"""Of all the payload types that the lab uses (RFC 3551 section 6); others are measured as if they had it too."""


def transactions(table: pd.DataFrame) -> pd.DataFrame:
    """One row a SIP transaction at one hop (RFC 3261 section 17); an ACK belongs to its INVITE and has no row.

    Returns:
        frame (of the request), time, from, to, method, call_id, cseq, branch, status, reason, final_frame, duration_s,
        retransmissions (of the request).
    """
    found: dict[tuple[Any, ...], Row] = {}
    for row in plain_rows(table):
        if row["protocol"] != "sip":
            continue
        here, there = hop(row)
        if row["method"] not in (None, "ACK"):
            key = (*transaction(row), here, there)
            if key in found:
                found[key]["retransmissions"] += 1
            else:
                found[key] = _begun(row, "method", "call_id", "cseq", "branch") | {"retransmissions": 0}
        elif row["status"] is not None and row["status"] >= 200:
            _end(found.get((*transaction(row), there, here)), row, "status", "reason")
    return _frame(
        found.values(),
        ("method", "call_id", "cseq", "branch", "status", "reason", "final_frame", "duration_s", "retransmissions"),
    )


def diameter_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """One row a Diameter request with its answer (RFC 6733 section 3: the identifiers tie them together).

    Returns:
        frame (of the request), time, from, to, command, session_id, user_name, public_identity, result_code,
        experimental_result_code, server_name (of the answer, else of the request), final_frame, duration_s.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for row in plain_rows(table):
        if row["protocol"] != "diameter":
            continue
        here, there = hop(row)
        ids = (row["hop_by_hop_id"], row["end_to_end_id"])
        if row["request"]:
            begun = _begun(row, "command", "session_id", "user_name", "public_identity", "server_name")
            found.setdefault((*ids, here, there), begun)
        else:
            question = found.get((*ids, there, here))
            _end(question, row, "result_code", "experimental_result_code")
            if question is not None and row["server_name"]:
                question["server_name"] = row["server_name"]
    return _frame(
        found.values(),
        (
            *("command", "session_id", "user_name", "public_identity", "result_code", "experimental_result_code"),
            *("server_name", "final_frame", "duration_s"),
        ),
    )


def dialogs(table: pd.DataFrame) -> pd.DataFrame:
    """One row a call: what an INVITE without To tag began (RFC 3261 section 12).

    Returns:
        frame (of the first INVITE), time, from, to, call_id, from_user, to_user, status (final), setup_s (to the final
        response at the caller's hop), duration_s (from there to the BYE), ended_by (node), messages (all hops).
    """
    found: dict[str, Row] = {}
    for row in plain_rows(table):
        if row["protocol"] != "sip" or not row["call_id"]:
            continue
        call = found.get(row["call_id"])
        if call is None and row["method"] == "INVITE" and not row["to_tag"]:
            call = found[row["call_id"]] = _begun(row, "call_id", "from_user", "to_user") | {
                "key": (*transaction(row), *reversed(hop(row))),
                "messages": 0,
            }
        if call is not None:
            _follow_call(call, row)
    return _frame(
        found.values(),
        ("call_id", "from_user", "to_user", "status", "setup_s", "duration_s", "ended_by", "messages"),
    )


def _follow_call(call: Row, row: Row) -> None:
    call["messages"] += 1
    if row["status"] and row["status"] >= 200 and (*transaction(row), *hop(row)) == call["key"]:
        call["status"] = row["status"]
        call["setup_s"] = _seconds(row["time"] - call["time"])
        call["answered"] = row["time"]
    if row["method"] == "BYE" and "ended_by" not in call:
        call["ended_by"] = hop(row)[0]
        if "answered" in call:
            call["duration_s"] = _seconds(row["time"] - call["answered"])


def registrations(table: pd.DataFrame) -> pd.DataFrame:
    """One row a registration as its phone saw it, with the Diameter that it took in between.

    A registration begins with a REGISTER of a phone and ends with a final response that is no challenge. Diameter
    messages about the same subscriber in that time are joined.

    Returns:
        frame, time, from, to, call_id, user, status, reason, requests (REGISTERs of the phone), duration_s, diameter
        (for example "UAR 2001, MAR 2001, SAR 2001"), user_authorization_type, server_assignment_type, server_name.
    """
    rows = plain_rows(table)
    forwarders = {hop(row)[0] for row in rows if row["protocol"] == "diameter"}
    relayed = {row["branch"] for row in rows if row["method"] == "REGISTER" and hop(row)[1] in forwarders}
    found: list[Row] = []
    open_ones: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row["cseq_method"] != "REGISTER":
            continue
        here, there = hop(row)
        if row["method"]:
            if here not in forwarders and row["branch"] not in relayed and row["from_user"] == row["to_user"]:
                _register(found, open_ones, row)
        elif (row["status"] or 0) >= 200:
            one = open_ones.get((row["call_id"], there, here))
            if one is not None and row["cseq"] == one["cseq"]:
                _end(one, row, "status", "reason")
                if row["status"] not in (401, 407):
                    del open_ones[(row["call_id"], there, here)]
    questions = _questions_by_user(rows)
    for one in found:
        _join_diameter(one, questions.get(one["user"] or "", ()))
    return _frame(
        found,
        (
            *("call_id", "user", "status", "reason", "requests", "duration_s", "diameter"),
            *("user_authorization_type", "server_assignment_type", "server_name"),
        ),
    )


def _register(found: list[Row], open_ones: dict[tuple[Any, ...], Row], row: Row) -> None:
    key = (row["call_id"], *hop(row))
    one = open_ones.get(key)
    if one is None:
        one = open_ones[key] = _begun(row, "call_id") | {"user": row["to_user"], "cseq": None, "requests": 0}
        found.append(one)
    if row["cseq"] != one["cseq"]:  # else it is a retransmission
        one["cseq"], one["requests"] = row["cseq"], one["requests"] + 1


def _questions_by_user(rows: Iterable[Row]) -> dict[str, list[tuple[Row, Row]]]:
    """Diameter requests about each user, each with its answer (empty when there is none)."""
    answers: dict[tuple[Any, ...], Row] = {}
    questions: list[Row] = []
    for row in rows:
        if row["protocol"] == "diameter":
            ids = (row["hop_by_hop_id"], row["end_to_end_id"])
            if row["request"]:
                questions.append(row)
            else:
                answers[(*ids, *reversed(hop(row)))] = row
    found: dict[str, list[tuple[Row, Row]]] = {}
    for row in questions:
        answer = answers.get((row["hop_by_hop_id"], row["end_to_end_id"], *hop(row)), {})
        private = (row["user_name"] or "").partition("@")[0]
        for user in {private, uri_user(row["public_identity"] or "")} - {"", None}:
            found.setdefault(str(user), []).append((row, answer))
    return found


def _join_diameter(one: Row, questions: Iterable[tuple[Row, Row]]) -> None:
    end = one["time"] + round(one.get("duration_s", 0) * 10**9)
    steps: list[str] = []
    for row, answer in questions:
        if not one["time"] <= row["time"] <= end:
            continue
        code = answer.get("experimental_result_code") or answer.get("result_code")
        steps.append(f"{row['command']} {code or 'unanswered'}")
        for name in ("user_authorization_type", "server_assignment_type"):
            one[name] = row[name] if row[name] is not None else one.get(name)
        one["server_name"] = row["server_name"] or answer.get("server_name") or one.get("server_name")
    one["diameter"] = ", ".join(steps) or None


def rtp_streams(table: pd.DataFrame) -> pd.DataFrame:
    """One row an RTP stream: a source (SSRC) from one address to another.

    Returns:
        frame (of the first packet), time, from, to, src, src_port, dst, dst_port, ssrc, payload_type, packets, lost (by
        sequence number, never negative), jitter_ms (RFC 3550 section 6.4.1, at the last packet), longest_gap_ms,
        duration_s.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for row in plain_rows(table):
        if row["protocol"] != "rtp":
            continue
        key = (row["src"], row["src_port"], row["dst"], row["dst_port"], row["ssrc"])
        stream = found.get(key)
        if stream is None:
            stream = found[key] = _begun(row, "src", "src_port", "dst", "dst_port", "ssrc", "payload_type") | {
                "packets": 0,
                "lost": 0,
                "jitter_ms": 0.0,
                "longest_gap_ms": 0.0,
                "seen": set(),
                "last": row,
                "highest": row["sequence"],
                "first": row["sequence"],
            }
        _follow_stream(stream, row)
    return _frame(
        found.values(),
        (
            *("src", "src_port", "dst", "dst_port", "ssrc", "payload_type", "packets", "lost", "jitter_ms"),
            *("longest_gap_ms", "duration_s"),
        ),
    )


def _follow_stream(stream: Row, row: Row) -> None:
    last = stream["last"]
    ahead = ((row["sequence"] - stream["highest"] + 0x8000) & 0xFFFF) - 0x8000
    extended = stream["highest"] + ahead
    stream["highest"] = max(stream["highest"], extended)
    stream["first"] = min(stream["first"], extended)
    stream["seen"].add(extended)
    stream["packets"] += 1
    stream["lost"] = stream["highest"] - stream["first"] + 1 - len(stream["seen"])
    stream["duration_s"] = _seconds(row["time"] - stream["time"])
    if row is not last:
        gap_ms = (row["time"] - last["time"]) / 10**6
        ticks = ((row["rtp_timestamp"] - last["rtp_timestamp"] + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        difference_ms = abs(gap_ms - ticks * 1000 / _RTP_CLOCK_HZ)
        stream["jitter_ms"] += (difference_ms - stream["jitter_ms"]) / 16
        stream["longest_gap_ms"] = max(stream["longest_gap_ms"], gap_ms)
    stream["last"] = row


# ---------------------------------------------------------------- rows of the results

_TEXT = {
    *("from", "to", "method", "call_id", "branch", "reason", "command", "session_id", "user_name", "public_identity"),
    *("server_name", "from_user", "to_user", "ended_by", "user", "diameter", "src", "dst"),
}
_FLOAT = {"duration_s", "setup_s", "jitter_ms", "longest_gap_ms"}


def _begun(row: Row, *names: str) -> Row:
    here, there = hop(row)
    return {"frame": row["frame"], "time": row["time"], "from": here, "to": there} | {name: row[name] for name in names}


def _end(begun: Row | None, row: Row, *names: str) -> None:
    if begun is None:
        return
    begun.update({name: row[name] for name in names})
    begun["final_frame"] = row["frame"]
    begun["duration_s"] = _seconds(row["time"] - begun["time"])


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / 10**9


def _frame(rows: Iterable[Row], names: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    rows = list(rows)
    columns: dict[str, Any] = {}
    for name in ("frame", "time", "from", "to", *names):
        values = [row.get(name) for row in rows]
        if name == "time":
            columns[name] = pd.to_datetime(pd.Series(values, dtype="int64"), unit="ns", utc=True)
        else:
            dtype = "string" if name in _TEXT else "Float64" if name in _FLOAT else "Int64"
            columns[name] = pd.array(values, dtype=dtype)  # type: ignore[call-overload]
    return pd.DataFrame(columns)
