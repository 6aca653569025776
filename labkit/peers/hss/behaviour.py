"""Misbehaviour on demand: slow answers, refusals, wrong secrets; each under a name, and each for a limited time.

It lives in memory alone: whoever asked for it may die, the time limit ends it, and an HSS that is restarted behaves.
Nothing that is provisioned changes. Watchdogs and the other messages of the base protocol are never touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from labkit.errors import LabkitError
from labkit.peers.hss.checks import CX_COMMANDS
from labkit.peers.hss.user import User
from labkit.wire.aka import SQN_DELTA, SQN_LIMIT
from labkit.wire.cx import Result
from labkit.wire.diameter import command_name

MAX_DELAY_S: Final = 60.0
"""No answer is held back longer."""

MAX_LIMIT_S: Final = 3600.0
"""No misbehaviour lasts longer."""

MAX_RULES: Final = 64
"""As many misbehaviours at a time."""

SQN_JUMP: Final = 2 * SQN_DELTA
"""How far "sqn-ahead" goes: twice of what a SIM takes for possible (TS 33.102 annex C.2.1)."""

WRONG: Final = ("k", "opc", "sqn-ahead", "sqn-behind")
"""What can be wrong about a subscriber: one bit of K or of OPc, or where the HSS counts SQN."""

CODES: Final = {command_name(code, True): code for code in sorted(CX_COMMANDS)}
"""Command code by name: UAR, SAR, LIR, MAR."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One thing that the HSS does wrong on purpose."""

    name: str
    """By which it is ended."""
    commands: tuple[str, ...] = ()
    """Requests that are answered so: UAR, MAR, SAR, LIR; empty is all of them."""
    delay_s: float = 0.0
    """How long each answer is held back."""
    result: Result | None = None
    """What is answered instead of the truth, nothing being written down; None: the truth."""
    user: str = ""
    """Short name of the subscriber whom `wrong` is about."""
    wrong: str = ""
    """One of `WRONG`."""


@dataclass(slots=True)
class _Rule:
    """A misbehaviour that is in force."""

    what: Misbehaviour
    user: User | None
    sqn_before: int
    timer: asyncio.TimerHandle

    def left_s(self) -> float:
        return max(self.timer.when() - asyncio.get_running_loop().time(), 0.0)


class Behaviour:
    """All that the HSS does wrong at the moment; `active` is False while that is nothing."""

    def __init__(self, on_change: Callable[[User | None], None]) -> None:
        """Call `on_change` after each change, with the user whose SQN was moved, if any."""
        self._on_change = on_change
        self._rules: dict[str, _Rule] = {}
        self.active = False
        """True when any request may have to be answered otherwise than usual."""

    def start(self, what: Misbehaviour, limit_s: float, user: User | None = None) -> None:
        """Begin to misbehave; a misbehaviour of the same name ends first.

        Args:
            what: the misbehaviour.
            limit_s: it ends by itself after this time.
            user: of whom something is wrong.
        Raises:
            LabkitError: it cannot be; nothing is changed then.
        """
        _check(what, limit_s, user)
        if len(self._rules) >= MAX_RULES and what.name not in self._rules:
            raise LabkitError(f"{MAX_RULES} misbehaviours are in force already; end some first")
        self.end(what.name)
        before = 0 if user is None else user.sqn
        timer = asyncio.get_running_loop().call_later(limit_s, self.end, what.name)
        self._rules[what.name] = _Rule(what, user, before, timer)
        if user is not None:
            _move_sqn(user, what.wrong)
        self._changed(user)

    def end(self, name: str | None = None) -> None:
        """Behave again: end the misbehaviour of that name, or all; nothing happens where there is none."""
        for rule in [rule for rule in self._rules.values() if name in (None, rule.what.name)]:
            rule.timer.cancel()
            del self._rules[rule.what.name]
            if rule.user is not None:
                _move_sqn_back(rule.user, rule.what.wrong, rule.sqn_before)
            self._changed(rule.user)

    def in_force(self) -> list[tuple[Misbehaviour, float]]:
        """List what is in force, with the seconds that each will last."""
        return [(rule.what, rule.left_s()) for rule in self._rules.values()]

    def towards(self, code: int) -> tuple[Result | None, float]:
        """Say how a request is to be answered: with which result instead of the true one, and how late."""
        delay_s, result = 0.0, None
        for rule in self._rules.values():
            if not rule.what.commands or code in (CODES[name] for name in rule.what.commands):
                delay_s = max(delay_s, rule.what.delay_s)
                result = rule.what.result or result
        return result, delay_s

    def spoil_secret(self, user: User) -> None:
        """Give a user the secret that is right or wrong at the moment; also after the right one was changed."""
        wrong = {rule.what.wrong for rule in self._rules.values() if rule.user is user}
        k, opc = user.subscriber.k, user.subscriber.opc
        user.use_secret(_turn_a_bit(k) if "k" in wrong else k, _turn_a_bit(opc) if "opc" in wrong else opc)

    def _changed(self, user: User | None) -> None:
        if user is not None:
            self.spoil_secret(user)
        self.active = any(rule.what.delay_s or rule.what.result for rule in self._rules.values())
        self._on_change(user)


def _check(what: Misbehaviour, limit_s: float, user: User | None) -> None:
    unknown = [name for name in what.commands if name not in CODES]
    if unknown:
        raise LabkitError(f"{unknown[0]!r} is no request that an HSS answers; there are {', '.join(CODES)}")
    if not 0 <= what.delay_s <= MAX_DELAY_S:
        raise LabkitError(f"delay_s is {what.delay_s}; it must be from 0 to {MAX_DELAY_S:.0f}")
    if not 0 < limit_s <= MAX_LIMIT_S:
        raise LabkitError(f"limit_s is {limit_s}; it must be above 0 and at most {MAX_LIMIT_S:.0f}")
    if what.result is not None and not 1000 <= what.result.code <= 5999:
        raise LabkitError(f"{what.result.code} is no result; give one from 1000 to 5999")
    if (user is None) != (not what.wrong) or what.wrong not in ("", *WRONG):
        raise LabkitError(f"wrong is {what.wrong!r}; give a user and one of {', '.join(WRONG)}, or neither")
    if user is not None and user.milenage is None:
        raise LabkitError(f"{user.subscriber.name} has no SIM: nothing of it can be wrong")
    if not (what.delay_s or what.result or what.wrong):
        raise LabkitError("say what to do wrong: delay_s, result, or user and wrong")


def _move_sqn(user: User, wrong: str) -> None:
    if wrong == "sqn-ahead":
        user.sqn = (user.sqn + SQN_JUMP) % SQN_LIMIT
    elif wrong == "sqn-behind":
        user.sqn = 0


def _move_sqn_back(user: User, wrong: str, sqn_before: int) -> None:
    """Put SQN where it was, unless a SIM has corrected it meanwhile."""
    if wrong == "sqn-ahead" and user.sqn >= sqn_before + SQN_JUMP:
        user.sqn -= SQN_JUMP
    elif wrong == "sqn-behind":
        user.sqn = max(user.sqn, sqn_before)


def _turn_a_bit(secret: bytes) -> bytes:
    return secret[:-1] + bytes([secret[-1] ^ 1])
