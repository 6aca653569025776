"""Things of the lab as a notebook holds them: a phone, a call, the HSS's door.

Each stands for a real object while the lab is live, and for none in replay. Every call goes over the tape, so the same
cell works in both. What can be called, and how, is read from the real class: the same names, arguments and docstrings.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.errors import LabkitError
from labkit.session import values
from labkit.session.loop import LabLoop

if TYPE_CHECKING:
    from labkit.session.tape import Tape


class Switchboard:
    """Connects taped objects with the tape in use, and with the phones' loop when the lab is live."""

    def __init__(self, tape: Tape, *, live: bool) -> None:
        self.tape = tape
        self.live = live
        self.loop = LabLoop()
        self._handle_types: dict[str, type] = {}
        self._handles: dict[int, Taped] = {}
        self._numbers: dict[str, int] = {}

    def hand_out(self, cls: type) -> None:
        """Objects of `cls` that a call returns are handed out taped too (a call that a phone made, for example)."""
        self._handle_types[cls.__name__] = cls

    def answer(self, label: str, value: Any) -> tuple[Any, Any]:
        """Return what the caller gets and what the tape keeps."""
        cls = self._handle_types.get(type(value).__name__)
        if cls is None:
            return value, values.to_json(value)
        taped = self._handles.get(id(value))
        if taped is None:
            taped = self._handles[id(value)] = Taped(self, self._next_label(label, cls), cls, value)
        return taped, {"$handle": taped.taped_label, "class": cls.__name__}

    def answer_again(self, kept: Any) -> Any:
        """Return what the caller gets in replay."""
        if isinstance(kept, dict) and "$handle" in kept:
            return Taped(self, kept["$handle"], self._handle_types[kept["class"]], None)
        return values.from_json(kept)

    def _next_label(self, label: str, cls: type) -> str:
        stem = f"{label.split('.')[0]}.{cls.__name__.lower()}"
        self._numbers[stem] = self._numbers.get(stem, 0) + 1
        return f"{stem}-{self._numbers[stem]}"


class Taped:
    """An object of the lab whose calls go over the tape."""

    def __init__(
        self,
        board: Switchboard,
        label: str,
        cls: type,
        target: Any,
        *,
        in_loop: bool = True,
        prepare: Callable[[], Any] | None = None,
    ) -> None:
        self._board = board
        self.taped_label = label
        self._cls = cls
        self._target = target
        self._in_loop = in_loop
        self._prepare = prepare

    def __repr__(self) -> str:
        return f"<{self._cls.__name__} {self.taped_label}>"

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._cls) if not name.startswith("_")]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        member = inspect.getattr_static(self._cls, name, None)
        if inspect.iscoroutinefunction(member):
            return self._awaitable(name, member)
        if inspect.isfunction(member):
            return self._callable(name, member)
        if member is None and self._board.live and not hasattr(self._real(), name):
            raise AttributeError(f"{self._cls.__name__} has no {name!r}; it has {', '.join(dir(self))}")
        return self._ask(name, {}, lambda: getattr(self._real(), name))

    def _real(self) -> Any:
        if self._target is None and self._prepare is not None:
            self._target = self._prepare()
        return self._target

    def _awaitable(self, name: str, member: Any) -> Callable[..., Any]:
        @functools.wraps(member)
        async def ask(*args: Any, **kwargs: Any) -> Any:
            shown = _arguments(member, args, kwargs)
            call = f"{self.taped_label}.{name}"
            if not self._board.live:
                await asyncio.sleep(0)
                return self._replay(call, shown)
            entry = self._board.tape.begin(call, shown)
            plain = [_unwrap(item) for item in args]
            named = {key: _unwrap(item) for key, item in kwargs.items()}
            with _Keeping(entry):
                value = await self._board.loop.run(getattr(self._real(), name)(*plain, **named))
                answer, entry["result"] = self._board.answer(self.taped_label, value)
                return answer

        return ask

    def _callable(self, name: str, member: Any) -> Callable[..., Any]:
        @functools.wraps(member)
        def ask(*args: Any, **kwargs: Any) -> Any:
            plain = [_unwrap(item) for item in args]
            named = {key: _unwrap(item) for key, item in kwargs.items()}
            return self._ask(
                name, _arguments(member, args, kwargs), lambda: getattr(self._real(), name)(*plain, **named)
            )

        return ask

    def _ask(self, name: str, shown: dict[str, Any], work: Callable[[], Any]) -> Any:
        call = f"{self.taped_label}.{name}"
        if not self._board.live:
            return self._replay(call, shown)
        entry = self._board.tape.begin(call, shown)
        with _Keeping(entry):
            self._real()  # made here and not in the loop, for which its making may have to wait
            value = self._board.loop.run_blocking(_in_loop(work)) if self._in_loop else work()
            answer, entry["result"] = self._board.answer(self.taped_label, value)
            return answer

    def _replay(self, call: str, shown: dict[str, Any]) -> Any:
        entry = self._board.tape.play(call, shown)
        if "error" in entry:
            raise values.error_from_json(entry["error"])
        return self._board.answer_again(entry.get("result"))


class _Keeping:
    """Puts an error of ours onto the tape on its way to the caller."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self._entry = entry

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, LabkitError):
            self._entry["error"] = values.error_to_json(error)


async def _in_loop(work: Callable[[], Any]) -> Any:
    return work()


def _unwrap(value: Any) -> Any:
    """Return the argument as the real object takes it: a phone is called by its public identity."""
    return value.public_identity if isinstance(value, Phone) else value


def _arguments(member: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name, as the tape shows them; a wrong call fails here as it would on the real class."""
    bound = inspect.signature(member).bind(None, *args, **kwargs)
    return {key: values.to_json(_unwrap(item)) for key, item in list(bound.arguments.items())[1:]}


class Phone(Taped):
    """A phone in a notebook: `await alice.register()`, `await alice.call(bob)`."""

    def __init__(self, board: Switchboard, name: str, cls: type, identity: Any, prepare: Callable[[], Any]) -> None:
        super().__init__(board, name, cls, None, prepare=prepare)
        self.identity = identity
        """The subscriber on this phone: impi, impus, k, opc, amf."""

    @property
    def public_identity(self) -> str:
        """The SIP URI by which others call this phone: the last sip: identity, the one with a name in it."""
        return str([uri for uri in self.identity.impus if uri.startswith("sip:")][-1])
