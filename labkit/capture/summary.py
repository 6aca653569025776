"""What a capture holds, in the few lines that anybody wants to read first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from labkit.capture.derived import calls, diameter_pairs, registrations, rtp_streams
from labkit.capture.relations import hops, truth

if TYPE_CHECKING:
    import pandas as pd

    from labkit.capture.messages import Messages

_MOST_NODES = 12
"""So many of the most talkative nodes are shown; a capture at the access has thousands of phones."""

_NAMES = {"sip": "SIP", "diameter": "Diameter", "rtp": "RTP", "rtcp": "RTCP", "evapi": "evapi", "jsonrpc": "JSON-RPC"}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a capture holds; shown as text, and as a page in a notebook."""

    lines: tuple[str, ...]
    """A sentence each."""
    messages: pd.DataFrame
    """How often each kind of message came: protocol, message, count."""
    nodes: pd.DataFrame
    """Who speaks most: node, sent, received, speaks (the protocols)."""

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(line)}</li>" for line in self.lines)
        kinds, nodes = (table.to_html(index=False, border=0) for table in (self.messages, self.nodes))
        return f"<ul>{items}</ul><details><summary>messages, nodes</summary>{kinds}{nodes}</details>"


def summary(messages: Messages) -> Summary:
    """Sum up a capture: how long it is, what was said by whom, and what went wrong in it."""
    table = messages.table
    lines = [_span(table), _registrations(table), _calls(messages), _diameter(table), _media(table)]
    lines += [messages.warning, *messages.notes]
    return Summary(tuple(filter(None, lines)), _kinds(table), _nodes(table))


def _span(table: pd.DataFrame) -> str:
    if not len(table):
        return "No SIP, Diameter or RTP message was found."
    counts = table["protocol"].value_counts()
    parts = ", ".join(f"{count} {_NAMES[str(name)]}" for name, count in counts.items())
    seconds = (table["time"].iloc[-1] - table["time"].iloc[0]).total_seconds()
    return f"{len(table)} messages in {seconds:.1f} s from {table['time'].iloc[0]:%Y-%m-%d %H:%M:%S} UTC: {parts}."


def _registrations(table: pd.DataFrame) -> str:
    found = registrations(table)
    if not len(found):
        return ""
    good = truth((found["status"] >= 200) & (found["status"] < 300))
    failed = _counted(found.loc[~good, "status"])
    return f"{_number(len(found), 'registration')}: {int(good.sum())} succeeded{failed}."


def _calls(messages: Messages) -> str:
    found = calls(messages.table, messages.raw)
    if not len(found):
        return ""
    good = truth((found["status"] >= 200) & (found["status"] < 300))
    return f"{_number(len(found), 'call')}: {int(good.sum())} answered{_counted(found.loc[~good, 'status'])}."


def _diameter(table: pd.DataFrame) -> str:
    found = diameter_pairs(table)
    if not len(found):
        return ""
    code = found["experimental_result_code"].fillna(found["result_code"])
    good = truth((code >= 2000) & (code < 3000))
    slowest = found["duration_s"].max()
    slow = "" if slowest is None or slowest != slowest else f"; the slowest answer took {float(slowest) * 1000:.0f} ms"
    return f"{_number(len(found), 'Diameter request')}: {int(good.sum())} succeeded{_counted(code[~good])}{slow}."


def _media(table: pd.DataFrame) -> str:
    found = rtp_streams(table)
    if not len(found):
        return ""
    lossy = int(truth(found["lost"] > 0).sum())
    lost = f", {int(found['lost'].sum())} packets lost in {lossy} of them" if lossy else ", nothing lost"
    return f"{_number(len(found), 'RTP stream')}: {int(found['packets'].sum())} packets{lost}."


def _counted(codes: pd.Series[int]) -> str:
    """What became of the rest, most frequent first."""
    if not len(codes):
        return ""
    counts = Counter(
        "unanswered" if code is None else f"with {int(code)}"
        for code in codes.astype(object).where(codes.notna(), None)
    )
    return "".join(f", {count} {code}" for code, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _kinds(table: pd.DataFrame) -> pd.DataFrame:
    status = table["status"].astype("string") + " to " + table["cseq_method"].fillna("?")
    media = "payload type " + table["payload_type"].astype("string")
    words = table["method"].fillna(status).fillna(table["command"]).fillna(media).fillna("answer")
    grouped = table.assign(message=words).groupby(["protocol", "message"], sort=False).size()
    found = grouped.rename("count").reset_index().sort_values(["protocol", "count"], ascending=[True, False])
    return found.reset_index(drop=True)


def _nodes(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    here, there = hops(table)
    sent, received = here.value_counts(), there.value_counts()
    found = pd.DataFrame({"sent": sent, "received": received}).fillna(0).astype("int64")
    ends = pd.concat([here, there]).reset_index(drop=True)
    spoken = pd.concat([table["protocol"], table["protocol"]]).reset_index(drop=True)
    speaks = spoken.groupby(ends).agg(lambda names: ", ".join(sorted(set(names))))
    found["speaks"] = speaks.reindex(found.index)
    found = found.sort_values(["sent", "received"], ascending=False).head(_MOST_NODES)
    return found.rename_axis("node").reset_index()
