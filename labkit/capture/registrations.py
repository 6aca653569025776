"""Registrations as the phone saw them, with the questions about the subscriber that they took at the HSS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.capture.fields import uri_user
from labkit.capture.relations import result, truth
from labkit.capture.transactions import diameter_pairs, transactions

if TYPE_CHECKING:
    import pandas as pd

_CHALLENGES = (401, 407)
_PATIENCE_S = 32.0
"""So long a phone waits for an answer (64*T1, RFC 3261 section 17.1.2): Diameter after that is about another one."""


def registrations(table: pd.DataFrame) -> pd.DataFrame:
    """One row a registration as its phone saw it, with the Diameter that it took in between.

    A registration begins with a REGISTER of a phone (the first copy of it in the capture; the same Call-ID and CSeq at
    later hops are the core's) and ends with a final response that is no challenge. A third-party REGISTER, where From
    and To differ, is none. Diameter requests about the same subscriber in that time are joined; where two devices of
    one subscriber register at once, to the one that began later.

    Returns:
        frame, time, from, to, call_id, user, status, reason, requests (REGISTERs of the phone), retransmissions,
        duration_s, diameter (for example "UAR 2001, MAR 2001, SAR 2001"), diameter_s (time in which the HSS was
        waited for), user_authorization_type, server_assignment_type, server_name, final_frame.
    """
    import numpy as np

    tries = _tries(table)
    challenged = truth(tries["status"].isin(_CHALLENGES))
    same_call = truth(tries["call_id"] == tries["call_id"].shift())
    begins = ~(same_call & np.concatenate(([False], challenged[:-1]))) if len(tries) else challenged
    tries["number"] = np.cumsum(begins)
    grouped = tries.groupby("number", sort=False)
    last = grouped.tail(1).reset_index(drop=True)
    first = grouped.head(1).reset_index(drop=True)
    joined = _joined(first, last, diameter_pairs(table))
    sent = grouped["retransmissions"].sum().reset_index(drop=True)
    columns: dict[str, Any] = {
        **{name: first[name] for name in ("frame", "time", "from", "to", "call_id")},
        "user": first["to_user"],
        **{name: last[name] for name in ("status", "reason")},
        "requests": grouped.size().reset_index(drop=True),
        "retransmissions": sent,
        "duration_s": (last["time"] - first["time"]).dt.total_seconds() + last["duration_s"],
        **joined,
        "final_frame": last["final_frame"],
    }
    found = result(columns).sort_values("frame", kind="stable")
    return found.reset_index(drop=True)


def _tries(table: pd.DataFrame) -> pd.DataFrame:
    """REGISTER transactions at the phone's hop, those of one Call-ID together in order of CSeq."""
    found = transactions(table[truth(table["cseq_method"] == "REGISTER")])
    own = found[truth(found["from_user"] == found["to_user"])].drop_duplicates(["call_id", "cseq"])
    return own.sort_values(["call_id", "cseq"], kind="stable").reset_index(drop=True)


def _joined(first: pd.DataFrame, last: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    """Diameter of each registration, as columns."""
    import pandas as pd

    asked = _by_subscriber(pairs)
    spans = pd.DataFrame(
        {
            "user": first["to_user"].astype("string"),
            "time": first["time"],
            "end": last["time"] + pd.to_timedelta(last["duration_s"].astype(float).fillna(_PATIENCE_S), unit="s"),
            "registration": range(len(first)),
        }
    ).dropna(subset="user")
    names = ("user_authorization_type", "server_assignment_type", "server_name")
    nothing = pd.Series([None] * len(first), dtype=object)
    if not len(spans) or not len(asked):
        return {"diameter": nothing, "diameter_s": nothing, **dict.fromkeys(names, nothing)}
    found = pd.merge_asof(asked, spans.sort_values("time"), on="time", by="user", direction="backward")
    found = found[truth(found["time"] <= found["end"])].drop_duplicates(["registration", "frame", "session_id"])
    found = found.sort_values(["frame"], kind="stable")
    grouped = found.groupby("registration", sort=False)
    everyone = range(len(first))
    return {
        "diameter": grouped["step"].agg(", ".join).reindex(everyone),
        "diameter_s": grouped["duration_s"].sum(min_count=1).reindex(everyone),
        **{name: grouped[name].last().reindex(everyone) for name in names},
    }


def _by_subscriber(pairs: pd.DataFrame) -> pd.DataFrame:
    """Diameter pairs under each name that they give the subscriber: user part of IMPI and of IMPU."""
    import pandas as pd

    code = pairs["experimental_result_code"].fillna(pairs["result_code"]).astype("string").fillna("unanswered")
    pairs = pairs.assign(step=pairs["command"].fillna("?") + " " + code)
    private = pairs["user_name"].astype(object).map(lambda name: name.partition("@")[0], na_action="ignore")
    public = pairs["public_identity"].astype(object).map(uri_user, na_action="ignore")
    other = public[truth(public.notna() & (public != private))].index
    both = pd.concat(
        [pairs.assign(user=private.astype("string")), pairs.assign(user=public.astype("string")).loc[other]]
    )
    return both.dropna(subset="user").sort_values("time", kind="stable")
