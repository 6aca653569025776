"""Offers and answers of a capture: who asked for what, what the other side said, and when (RFC 3264).

Each exchange is told as its two ends know it: what the one wrote and what the other one wrote, however many proxies
carried it between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.capture.fields import split_sip
from labkit.capture.rows import Row, hop, plain_rows
from labkit.errors import SdpError
from labkit.wire.sdp import NOWHERE, parse_sdp

if TYPE_CHECKING:
    from labkit.capture.messages import Messages

NOT_SAID = "not said"
"""What stands where an SDP has no direction; it means sendrecv (RFC 8866 section 6.7)."""

_CARRIERS = ("INVITE", "UPDATE")
"""Requests that carry offers (RFC 3261 section 13.2.1, RFC 3311)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An offer and what became of it."""

    call_id: str
    """Call-ID of the dialog."""
    by: str
    """Node that wrote the offer."""
    to: str
    """Node that wrote the answer, or the refusal; empty while there is none."""
    request: str
    """Method that carried it: INVITE or UPDATE."""
    offer: str
    """Direction as it was written; "c=0.0.0.0" for the old way to hold, NOT_SAID where there is none."""
    answer: str
    """The same of the answer; of a refusal its status and reason."""
    sent_ns: int
    """When the request left its sender, in nanoseconds since 1970."""
    done_ns: int
    """When the answer had done its work: its ACK left; without ACK, it arrived; 0 while there is none."""
    taken: bool
    """Whether there is an answer that is no refusal."""


def exchanges(messages: Messages) -> list[Exchange]:
    """Give the offers of a capture in the order in which they were sent, whether they were taken or refused."""
    rows = plain_rows(messages.table)
    groups: dict[tuple[object, ...], list[tuple[Row, bytes]]] = {}
    for row, raw in zip(rows, messages.raw, strict=True):
        method = row["method"] or row["cseq_method"]
        if row["protocol"] == "sip" and method in (*_CARRIERS, "ACK"):
            key = row["call_id"], row["from_tag"], row["cseq"], "INVITE" if method == "ACK" else method
            groups.setdefault(key, []).append((row, raw))
    found = (_exchange(sorted(group, key=lambda one: one[0]["time"])) for group in groups.values())
    return sorted((one for one in found if one is not None), key=lambda one: one.sent_ns)


def _exchange(group: Sequence[tuple[Row, bytes]]) -> Exchange | None:
    """One transaction as its ends see it; None where it carries no offer, or its request is not in the capture."""
    requests = [(row, raw) for row, raw in group if row["method"] in _CARRIERS]
    if not requests:
        return None
    asked, raw = requests[0]
    finals = [(row, raw) for row, raw in group if (row["status"] or 0) >= 200]
    acks = [(row, raw) for row, raw in group if row["method"] == "ACK"]
    answers = [(row, raw) for row, raw in group if (row["status"] or 0) > 100]
    first_said, then_said = _written(raw), next(_all_written(answers), "")
    by, to = hop(asked)[0], hop(finals[0][0])[0] if finals else ""
    if not first_said:  # the offer comes with the answer, and the answer with the ACK (RFC 3261 section 13.2.1)
        first_said, then_said, by, to = then_said, next(_all_written(acks), ""), to, by
    if not first_said:
        return None
    status = finals[0][0]["status"] if finals else 0
    if status >= 300:
        then_said, to = f"{status} {finals[0][0]['reason'] or ''}".strip(), hop(finals[0][0])[0]
    return Exchange(
        call_id=asked["call_id"],
        by=by,
        to=to,
        request=asked["method"],
        offer=first_said,
        answer=then_said,
        sent_ns=asked["time"],
        done_ns=_done_ns(hop(asked)[0], [row for row, _raw in finals], [row for row, _raw in acks]),
        taken=200 <= status < 300 and bool(then_said),
    )


def _done_ns(asker: str, finals: Sequence[Row], acks: Sequence[Row]) -> int:
    """When who asked had heard the answer and said so."""
    thanked = [row["time"] for row in acks if hop(row)[0] == asker]
    heard = [row["time"] for row in finals if hop(row)[1] == asker]
    return min(thanked, default=min(heard, default=0))


def _all_written(messages: Iterable[tuple[Row, bytes]]) -> Iterator[str]:
    return (said for _row, raw in messages if (said := _written(raw)))


def _written(raw: bytes) -> str:
    """The direction of the first stream in a message's SDP, as it stands there; empty where there is no SDP."""
    body = split_sip(raw)[2]
    if not body.startswith(b"v=0"):
        return ""
    try:
        description = parse_sdp(body)
    except SdpError:
        return ""
    if not description.media:
        return ""
    stream = description.media[0]
    connection = stream.connection or description.connection
    if connection is not None and connection.address == NOWHERE and stream.port != 9:
        return f"c={NOWHERE}"
    return stream.direction or description.direction or NOT_SAID
