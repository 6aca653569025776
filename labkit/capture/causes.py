"""Which message brought about which: read from what the messages say, hardly ever from the clock.

A request that a proxy forwards carries the Via of the request it received; a response carries the Via stack of its
request (RFC 3261 sections 16.6, 16.7 and 17.1.3). A Diameter answer carries the identifiers of its request (RFC 6733
section 3). Only where two protocols meet at a node (a REGISTER makes an I-CSCF send a UAR) does the same subscriber
plus nearness in time decide, with a margin, because mirrored messages come with the clocks of several programs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from labkit.capture.rpc_steps import join_evapi, name_calls
from labkit.capture.step import Step

MARGIN_NS = 1_000_000
"""Two programs may disagree so much about when something happened."""
_LOCAL_CAUSE_NS = 2_000_000_000
"""A node that starts a request of its own does so this soon after what moved it, or it was a timer."""

# Order among the children of a request that arrived at a node
_DIAMETER, _PROVISIONAL, _AT_ONCE, _FORWARDED, _FINAL, _OWN_REQUEST = 0, 1, 2, 3, 4, 5

_RequestKey = tuple[str, str, int, str]


class _Index:
    """The steps, to be looked up by what they share with others."""

    def __init__(self, steps: list[Step]) -> None:
        self.requests: dict[_RequestKey, list[Step]] = defaultdict(list)
        self.responses: dict[_RequestKey, list[Step]] = defaultdict(list)
        self.forwarded: dict[_RequestKey, list[Step]] = defaultdict(list)
        """Responses by what they become when a proxy takes its own Vias off (two, when it talked to itself)."""
        self.in_call: dict[str, list[Step]] = defaultdict(list)
        self.diameter: dict[tuple[Any, ...], Step] = {}
        """Requests of Diameter, JSON-RPC and evapi, by what their answers repeat."""
        self.evapi: dict[str, list[Step]] = defaultdict(list)
        """What an engine told a proxy or was told by it, by call."""
        self.arrived: dict[str, list[Step]] = defaultdict(list)
        self.proxies: set[str] = set()
        self._served: dict[str, list[tuple[float, float, Step]]] = {}
        for step in steps:
            if step.request:
                self.arrived[step.dst].append(step)
            if step.protocol == "evapi":
                self.evapi[step.call_id].append(step)
            if not step.sip:
                self._add_diameter(step)
                continue
            self.in_call[step.call_id].append(step)
            key = (step.name, step.call_id, step.cseq, step.branch)
            (self.requests if step.request else self.responses)[key].append(step)
            if step.request and len(step.branches) > 1:
                self.proxies.add(step.src)
            for inner in () if step.request else step.branches[1:]:
                self.forwarded[(step.name, step.call_id, step.cseq, inner)].append(step)

    def _add_diameter(self, step: Step) -> None:
        if step.request:
            self.diameter[(step.src, step.dst, *step.ids)] = step
            self.proxies.add(step.src)
        else:
            self.proxies.add(step.src)

    def first_final(self, arrival: Step) -> Step | None:
        """The first final response that the node gave to a request it received."""
        key = (arrival.name, arrival.call_id, arrival.cseq, arrival.branch)
        finals = [step for step in self.responses[key] if step.final and step.src == arrival.dst]
        return min(finals, key=lambda step: step.time_ns, default=None)

    def served(self, node: str) -> list[tuple[float, float, Step]]:
        """SIP requests that a node received, each with the times between which the node was busy with it."""
        spans = self._served.get(node)
        if spans is None:
            spans = self._served[node] = []
            for arrival in self.arrived[node]:
                if arrival.sip and arrival.name not in ("ACK", "CANCEL"):
                    final = self.first_final(arrival)
                    end_ns = math.inf if final is None else final.time_ns + MARGIN_NS
                    spans.append((arrival.time_ns - MARGIN_NS, end_ns, arrival))
        return spans


def find_causes(steps: list[Step]) -> None:
    """Set parent, after, opens, place and children of every step."""
    name_calls(steps)
    index = _Index(steps)
    for step in steps:
        if step.sip and step.request:
            step.parent, step.place = _cause_of_request(step, index)
        elif step.sip:
            step.parent, step.place = _cause_of_response(step, index)
        elif not step.request:
            step.parent, step.place = index.diameter.get((step.dst, step.src, *step.ids)), (0,)
    _join_diameter(steps, index)
    join_evapi(steps, index.in_call, index.evapi)
    for step in steps:
        step.opens = step.parent is None or _is_answering(step, index)
    _break_circles(steps)
    for step in steps:
        if step.parent is not None and not step.opens:
            step.parent.children.append(step)
    for step in steps:
        step.children.sort(key=lambda child: (*child.place, child.time_ns))
        _order_forks(step, index)


# ---------------------------------------------------------------- SIP requests


def _cause_of_request(step: Step, index: _Index) -> tuple[Step | None, tuple[Any, ...]]:
    if step.name == "ACK" and (final := _acknowledged(step, index)):
        return final, (0,)
    arrival = _received_before(step, index)
    if arrival is not None:
        return arrival, (_FORWARDED, step.dst, sorted(step.users))
    if step.name == "ACK" and (success := _success_received(step, index)):
        return success, (2,)
    challenge = _challenge(step, index)
    if challenge is not None:
        return challenge, (2,)
    if step.src in index.proxies:
        return _stimulus(step, index), (_OWN_REQUEST, step.name, step.dst, sorted(step.users))
    return None, ()


def _acknowledged(ack: Step, index: _Index) -> Step | None:
    """The non-2xx response that a hop-by-hop ACK is for: it has the INVITE's branch (RFC 3261 section 17.1.1.3)."""
    finals = index.responses[("INVITE", ack.call_id, ack.cseq, ack.branch)]
    return next((step for step in finals if step.status >= 300 and step.dst == ack.src), None)


def _received_before(step: Step, index: _Index) -> Step | None:
    """The same request as it arrived at the node that now forwards it.

    The node's own Via is on top, below it that of the hop before; a node that hands a request to itself, out of sight,
    adds two.
    """
    for inner in step.branches[1:] or _inner_branches_of_cancelled(step, index):
        for arrival in index.requests[(step.name, step.call_id, step.cseq, inner)]:
            if arrival.dst == step.src:
                return arrival
    return None


def _inner_branches_of_cancelled(step: Step, index: _Index) -> tuple[str, ...]:
    """A CANCEL has one Via only; the INVITE that it cancels at this hop shows where it came from."""
    if step.name != "CANCEL":
        return ()
    invites = index.requests[("INVITE", step.call_id, step.cseq, step.branch)]
    return next((invite.branches[1:] for invite in invites if invite.src == step.src), ())


def _success_received(ack: Step, index: _Index) -> Step | None:
    finals = [
        step
        for step in index.in_call[ack.call_id]
        if step.name == "INVITE" and 200 <= step.status < 300 and step.cseq == ack.cseq and step.dst == ack.src
    ]
    same_dialog = [step for step in finals if step.to_tag == ack.to_tag]
    return next(iter(same_dialog or finals), None)


def _challenge(step: Step, index: _Index) -> Step | None:
    """The 401 or 407 that a request with new credentials follows."""
    earlier = [
        other
        for other in index.in_call[step.call_id]
        if other.final and other.name == step.name and other.dst == step.src and other.cseq < step.cseq
    ]
    last = max(earlier, key=lambda other: other.cseq, default=None)
    return last if last is not None and last.status in (401, 407) else None


def _stimulus(step: Step, index: _Index) -> Step | None:
    """What moved a node to a request of its own: the last request about the same subscriber or dialog."""
    reasons = [
        other
        for other in index.arrived[step.src]
        if -MARGIN_NS <= step.time_ns - other.time_ns <= _LOCAL_CAUSE_NS
        and (other.users & step.users or (other.call_id and other.call_id == step.call_id))
        and _may_move(other, step)
        and other is not step
    ]
    return max(reasons, key=lambda other: other.time_ns, default=None)


def _may_move(arrival: Step, own: Step) -> bool:
    """Whether a node may send `own` because of what arrived.

    What a core says about a registration (TS 24.229 sections 5.2.3 and 5.4.1.7, RFC 3680) follows from one. A centre
    that learns by a third-party REGISTER that a phone is back may have its MESSAGE at the S-CSCF within a millisecond.
    """
    if arrival.name in ("ACK", "CANCEL"):
        return False
    about_registration = own.name in ("REGISTER", "SUBSCRIBE", "NOTIFY")
    return not (about_registration and arrival.name in ("INVITE", "MESSAGE", "BYE"))


# ---------------------------------------------------------------- SIP responses


def _cause_of_response(step: Step, index: _Index) -> tuple[Step | None, tuple[Any, ...]]:
    received = [
        other
        for other in index.forwarded[(step.name, step.call_id, step.cseq, step.branch)]
        if other.dst == step.src and other.branches[-len(step.branches) :] == step.branches
    ]
    received.sort(key=lambda other: len(other.branches))
    same = [other for other in received if other.status == step.status and other.to_tag == step.to_tag]
    same = same or [other for other in received if other.status == step.status]
    # A proxy may answer with another status than it got, once it has got a final one from everybody.
    changed = [other for other in received if step.final and other.status >= 300]
    if same or changed:
        return (same or changed[-1:])[0], (1, step.status)
    requests = index.requests[(step.name, step.call_id, step.cseq, step.branch)]
    arrival = next((other for other in requests if (other.dst, other.src) == (step.src, step.dst)), None)
    if step.name == "CANCEL":
        return arrival, (_AT_ONCE,)
    return arrival, (_FINAL if step.final else _PROVISIONAL, 0)


def _is_answering(step: Step, index: _Index) -> bool:
    """Whether a final response to an INVITE is a deed of its own: somebody lifted the receiver, or gave up.

    It then begins an episode and comes after the CANCEL that it obeys.
    """
    if step.name != "INVITE" or not step.final or step.parent is None or not step.parent.request:
        return False
    cancels = index.requests[("CANCEL", step.call_id, step.cseq, step.branch)]
    step.after.extend(cancel for cancel in cancels if step.status == 487 and cancel.dst == step.src)
    key = (step.name, step.call_id, step.cseq, step.branch)
    rang = any(100 < other.status < 200 and other.src == step.src for other in index.responses[key])
    return rang or step.status in (408, 487)


# ---------------------------------------------------------------- Diameter


def _join_diameter(steps: list[Step], index: _Index) -> None:
    """Hang each Diameter request below the SIP request that the node needed it for."""
    used: set[tuple[int, str]] = set()
    for step in steps:
        if step.protocol != "diameter" or not step.request:
            continue
        waiting = [
            arrival
            for begin_ns, end_ns, arrival in index.served(step.src)
            if begin_ns <= step.time_ns <= end_ns
            and (arrival.users & step.users or not step.users)  # a faulty request may name nobody
            and _may_ask(arrival, step)
        ]
        waiting.sort(key=lambda arrival: arrival.time_ns)
        fresh = [arrival for arrival in waiting if (arrival.row, step.name) not in used]
        chosen = (fresh or waiting)[-1:]
        if chosen:
            step.parent, step.place = chosen[0], (_DIAMETER,)
            used.add((chosen[0].row, step.name))


def _may_ask(arrival: Step, question: Step) -> bool:
    """UAR and MAR are about a REGISTER, LIR is about anything else."""
    return question.name not in ("UAR", "MAR", "LIR") or (arrival.name == "REGISTER") == (question.name != "LIR")


# ---------------------------------------------------------------- the tree


def _order_forks(step: Step, index: _Index) -> None:
    """Put branches that were tried one after another in that order; those tried at once stay in order of content."""
    forks = [child for child in step.children if child.place[:1] == (_FORWARDED,)]
    if not (step.sip and step.request) or len(forks) < 2:
        return
    rounds: list[list[Step]] = []
    end_ns = None
    for fork in sorted(forks, key=lambda child: child.time_ns):
        answered = index.first_final(fork)
        if end_ns is None or fork.time_ns >= end_ns:
            rounds.append([])
            end_ns = None
        rounds[-1].append(fork)
        if answered is not None:
            end_ns = answered.time_ns if end_ns is None else min(end_ns, answered.time_ns)
    turn = {fork.row: number for number, forks in enumerate(rounds) for fork in forks}
    step.children.sort(key=lambda child: (child.place[0], turn.get(child.row, 0), child.place[1:], child.time_ns))


def _break_circles(steps: list[Step]) -> None:
    """Nonsense may make messages each other's cause; the first of such a circle becomes a beginning."""
    settled: set[int] = set()
    for step in steps:
        path: dict[int, Step] = {}
        walker: Step | None = step
        while walker is not None and walker.row not in settled and walker.row not in path:
            path[walker.row] = walker
            walker = walker.parent
        if walker is not None and walker.row in path:
            walker.parent, walker.opens = None, True
        settled.update(path)
