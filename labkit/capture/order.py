"""The order of the story: the same in every run, as long as the same things happened.

Episodes (something that a user, a timer or an operator did, and all that followed from it) stand in the order in which
they happened when one was over before the next began; those that overlapped stand in the order of who did what. Inside
an episode each chain is followed to its end before the next one starts.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Any

from labkit.capture.step import Step

_CLOCKS_NS = 1_000_000
"""So much may an episode seem to begin before the end of the one that it really followed."""
_FAR_BACK = 50
"""Episodes of one call further apart than this are surely not at the same time."""


class _Episode:
    def __init__(self, root: Step) -> None:
        self.root = root
        self.steps = _preorder(root)
        self.begin_ns = root.time_ns
        self.end_ns = _end(root, self.steps)
        slack_ns = min(_CLOCKS_NS, (self.end_ns - self.begin_ns) // 4)
        self.over_ns = self.end_ns - slack_ns
        self.key: tuple[Any, ...] = (
            root.src,
            root.name,
            root.status,
            root.dst,
            sorted(root.users),
            root.cseq,
            root.time_ns,
            root.row,
        )
        self.before: set[int] = set()
        """Rows of the roots of episodes that must come first."""


def in_order(steps: list[Step]) -> list[Step]:
    """Put steps, whose causes are known, in canonical order."""
    position: dict[int, int] = {}
    for episode in _ranked([_Episode(step) for step in steps if step.opens]):
        for step in episode.steps:
            position.setdefault(step.row, len(position))
    return _topological(steps, position)


def _preorder(root: Step) -> list[Step]:
    found, waiting = [], [root]
    while waiting:
        step = waiting.pop()
        found.append(step)
        waiting.extend(reversed(step.children))
    return found


def _end(root: Step, steps: list[Step]) -> int:
    """When the one who began the episode knew the outcome."""
    if root.sip and not root.request:
        known = [step for step in steps if step.status and step.cseq == root.cseq]
    elif root.sip:
        answers = [step for step in steps if step.status and step.dst == root.src]
        known = [step for step in answers if step.final] or answers
    else:
        known = [step for step in steps if not step.sip and not step.request]
    return max((step.time_ns for step in known or steps), default=root.time_ns)


def _ranked(episodes: list[_Episode]) -> list[_Episode]:
    _note_dialogs(episodes)
    _note_short_messages(episodes)
    _note_records(episodes)
    remaining = {episode.root.row: episode for episode in episodes}
    by_begin = sorted(episodes, key=lambda episode: (episode.begin_ns, episode.root.row))
    by_over = [(episode.over_ns, episode.root.row) for episode in episodes]
    heapq.heapify(by_over)
    ready: list[tuple[tuple[Any, ...], int]] = []
    ranked: list[_Episode] = []
    next_begin = 0
    while remaining:
        while by_over and by_over[0][1] not in remaining:
            heapq.heappop(by_over)
        # Whatever began before the first of the remaining episodes was over may be next.
        while next_begin < len(by_begin) and by_begin[next_begin].begin_ns <= by_over[0][0]:
            heapq.heappush(ready, (by_begin[next_begin].key, by_begin[next_begin].root.row))
            next_begin += 1
        chosen = _first_allowed(ready, remaining)
        if chosen is None:  # the clock and the dialog contradict each other: the clock gives way
            chosen = min(
                remaining.values(), key=lambda episode: (len(episode.before & remaining.keys()), episode.begin_ns)
            )
        del remaining[chosen.root.row]
        ranked.append(chosen)
    return ranked


def _first_allowed(ready: list[tuple[tuple[Any, ...], int]], remaining: dict[int, _Episode]) -> _Episode | None:
    put_back = []
    chosen = None
    while ready and chosen is None:
        entry = heapq.heappop(ready)
        episode = remaining.get(entry[1])
        if episode is None:
            continue
        if episode.before & remaining.keys():
            put_back.append(entry)
        else:
            chosen = episode
    for entry in put_back:
        heapq.heappush(ready, entry)
    return chosen


def _note_dialogs(episodes: list[_Episode]) -> None:
    """Within one Call-ID one thing comes after another, however near in time."""
    calls: dict[str, list[_Episode]] = defaultdict(list)
    for episode in episodes:
        if episode.root.sip:
            calls[episode.root.call_id].append(episode)
    for members in calls.values():
        members.sort(key=lambda episode: (episode.begin_ns, episode.root.row))
        for number, later in enumerate(members):
            for earlier in members[max(0, number - _FAR_BACK) : number]:
                if _follows(later, earlier):
                    later.before.add(earlier.root.row)
                elif _follows(earlier, later):
                    earlier.before.add(later.root.row)


def _note_short_messages(episodes: list[_Episode]) -> None:
    """A short message and the report on it are two requests, each with a Call-ID of its own (TS 24.341).

    A report comes after what it answers, by its In-Reply-To. What a phone or a centre sends because something reached
    it, a message that it passes on or a status report, comes after that.
    """
    for number, later in enumerate(episodes):
        if not later.root.sms:
            continue
        for earlier in episodes[max(0, number - _FAR_BACK) : number + _FAR_BACK]:
            answers = later.root.reply_to and later.root.reply_to == earlier.root.call_id
            if answers or (_moved_by(later, earlier) and not _moved_by(earlier, later)):
                later.before.add(earlier.root.row)


def _note_records(episodes: list[_Episode]) -> None:
    """What a charging engine is asked about a call comes after all that happened in the call."""
    for later in (episode for episode in episodes if episode.root.protocol == "jsonrpc" and episode.root.call_id):
        for earlier in episodes:
            if earlier.root.protocol != "jsonrpc" and earlier.root.call_id == later.root.call_id:
                later.before.add(earlier.root.row)


def _moved_by(later: _Episode, earlier: _Episode) -> bool:
    """Whether a short message went out from where a request of the other episode had come in before."""
    one, other = later.root, earlier.root
    if not one.sms or one.src == other.src or not (other.sms or other.name == "REGISTER"):
        return False
    came = (step.time_ns for step in earlier.steps if step.sip and step.request and step.dst == one.src)
    return min(came, default=one.time_ns + _CLOCKS_NS) <= one.time_ns + _CLOCKS_NS // 2


def _follows(later: _Episode, earlier: _Episode) -> bool:
    one, other = later.root, earlier.root
    if one.cseq == other.cseq and one.from_tag == other.from_tag:
        # INVITE, then CANCEL, then the response: the order in which one transaction goes.
        return _stage(one) > _stage(other)
    if one.from_tag == other.from_tag and one.request and other.request:
        return one.cseq > other.cseq
    if _is_glare(later) or _is_glare(earlier):
        return False
    # Whoever had got the one before doing the other, did it after; when neither had, they crossed each other.
    return _knew(later, earlier) and (not _knew(earlier, later) or later.begin_ns > earlier.begin_ns)


def _is_glare(episode: _Episode) -> bool:
    """Whether it was refused because it crossed one of the other side (RFC 3261 section 14.2).

    Where a node tells when it got a message, not the wire when it was sent, times alone do not show that.
    """
    return any(step.status == 491 and step.cseq == episode.root.cseq for step in episode.steps)


def _knew(later: _Episode, earlier: _Episode) -> bool:
    node = later.root.src
    seen_ns = min((step.time_ns for step in earlier.steps if node in (step.src, step.dst)), default=None)
    return seen_ns is not None and seen_ns <= later.begin_ns + _CLOCKS_NS // 2


def _stage(step: Step) -> int:
    return 2 if step.status else 1 if step.name == "CANCEL" else 0


def _topological(steps: list[Step], position: dict[int, int]) -> list[Step]:
    """Follow `position`, but let nothing come before its cause."""
    waits: dict[int, int] = {}
    followers: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        causes = {cause.row for cause in [step.parent, *step.after] if cause is not None and cause is not step}
        waits[step.row] = len(causes)
        for row in causes:
            followers[row].append(step)
    by_row = {step.row: step for step in steps}
    ready = [(position[step.row], step.row) for step in steps if not waits[step.row]]
    heapq.heapify(ready)
    ordered: list[Step] = []
    while ready:
        step = by_row[heapq.heappop(ready)[1]]
        ordered.append(step)
        for follower in followers[step.row]:
            waits[follower.row] -= 1
            if not waits[follower.row]:
                heapq.heappush(ready, (position[follower.row], follower.row))
    if len(ordered) < len(steps):  # contradictions in a damaged capture: leave nobody out
        done = {step.row for step in ordered}
        ordered.extend(sorted((s for s in steps if s.row not in done), key=lambda s: position[s.row]))
    return ordered
