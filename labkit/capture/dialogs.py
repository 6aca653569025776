"""SIP dialogs: what two ends remember together, named by Call-ID and both tags (RFC 3261 section 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.capture.relations import codes, first_of_each, hops, matching, result, seconds_between, taken, truth

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

_MAKES_DIALOGS = ("INVITE", "SUBSCRIBE", "REFER")
"""Requests whose responses make a dialog (RFC 3261 section 12.1, RFC 6665 section 4.1, RFC 3515)."""


def dialogs(table: pd.DataFrame) -> pd.DataFrame:
    """One row a dialog: a forked call has several, a refused one that never rang has none (RFC 3261 section 12).

    Returns:
        frame (of the first response that named it), time, from (who asked), to, method (INVITE, SUBSCRIBE or REFER),
        call_id, from_tag, to_tag, from_user, to_user, state ('early', 'confirmed' or 'ended'), confirmed_s (from the
        first response to the first 2xx), duration_s (from the first 2xx to the BYE), ended_by (node that sent the
        BYE), messages (at all hops). In the order of time.
    """
    import numpy as np

    sip = table[truth(table["protocol"] == "sip")].reset_index(drop=True)
    key, _swapped = _dialog_keys(sip)
    tagged = truth(sip["from_tag"].notna() & sip["to_tag"].notna() & sip["call_id"].notna())
    makes = tagged & truth(sip["cseq_method"].isin(_MAKES_DIALOGS) & (sip["status"] > 100) & (sip["status"] < 300))
    success = makes & truth(sip["status"] >= 200)
    refused = tagged & truth((sip["cseq_method"] == "INVITE") & (sip["status"] >= 300))
    bye = tagged & truth(sip["method"] == "BYE")
    keys, first, _count = first_of_each(key, makes)
    order = np.argsort(first, kind="stable")
    keys, first = keys[order], first[order]
    confirmed, ended, failed = (_firsts(key, where, keys) for where in (success, bye, refused))
    all_keys, all_counts = np.unique(key[tagged], return_counts=True)
    here, there = hops(sip)
    state = np.where(confirmed >= 0, "confirmed", "early").astype(object)
    state[(ended >= 0) | ((failed >= 0) & (confirmed < 0))] = "ended"
    same = {name: taken(sip[name], first) for name in ("call_id", "from_tag", "to_tag", "from_user", "to_user")}
    hung_up = seconds_between(sip, np.maximum(confirmed, 0), np.where(confirmed >= 0, ended, -1))
    columns: dict[str, Any] = {
        **{"frame": taken(sip["frame"], first), "time": taken(sip["time"], first)},
        **{"from": taken(there, _lasts(key, makes, keys, sip, first)), "to": taken(here, first)},
        "method": taken(sip["cseq_method"], first),
        **same,
        "state": state,
        "confirmed_s": seconds_between(sip, first, confirmed),
        "duration_s": hung_up,
        "ended_by": taken(here, ended),
        "messages": matching(all_keys, keys, all_counts),
    }
    return result(columns)


def _dialog_keys(sip: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Number messages by Call-ID and both tags, whichever end speaks."""
    one, other = sip["from_tag"].fillna(""), sip["to_tag"].fillna("")
    swapped = truth(one > other)
    return codes(sip["call_id"], one.where(~swapped, other), other.where(~swapped, one)), swapped


def _firsts(
    key: npt.NDArray[np.int64], where: npt.NDArray[np.bool_], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    keys, first, _count = first_of_each(key, where)
    return matching(keys, wanted, first)


def _lasts(
    key: npt.NDArray[np.int64],
    where: npt.NDArray[np.bool_],
    wanted: npt.NDArray[np.int64],
    sip: pd.DataFrame,
    first: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Position of the last copy of the first response: that is the hop to who asked."""
    import numpy as np

    kind = codes(key, sip["status"])
    kinds_first = kind[first] if len(first) else first
    at = np.flatnonzero(where & np.isin(kind, kinds_first))
    last = np.full(int(kind.max(initial=-1)) + 1, -1, dtype=np.int64)
    last[kind[at]] = at  # the later row of a kind overwrites the earlier
    return last[kinds_first]
