"""A learner's piece of Kamailio configuration, read before anything is started.

Theory. Only a start proves a configuration, so this reads no more than it must: where strings, comments and braces
begin and end (Kamailio reports one that is never closed at the end of *another* file), which blocks there are (they
take the place of the plain proxy's blocks of the same name), which modules are loaded, and that nothing stands at the
top level that a lesson has no business with: other files, other programs, other addresses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from labkit.errors import BlockRefused

_TOKEN = re.compile(
    r"""(?P<comment>/\*|\#(?!!)|//)|(?P<directive>\#!|!!)|(?P<string>["'])|(?P<brace>[{}])|(?P<word>[A-Za-z_][\w.-]*)
    |(?P<space>\s+)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_BLOCK_KINDS = (
    "request_route",
    "route",
    "branch_route",
    "onreply_route",
    "reply_route",
    "failure_route",
    "onsend_route",
    "event_route",
)
_NAMED = re.compile(r"\s*\[\s*([\w:.-]+)\s*\]")
_OPENED = re.compile(r"\s*\{")
_LOADMODULE = re.compile(r'[ \t]*\(?[ \t]*["\']?([\w./-]*)["\']?(?:[ \t]*\))?')
_CORE_SETTING = re.compile(r"\s*=\s*[^\s{}]+")
_CORE_SETTINGS = frozenset({"debug", "max_while_loops", "max_recursive_level", "fr_timer", "return_mode", "flags"})
"""Settings of the core that a lesson may change: they touch nothing outside the program."""
_LAB_SETS = frozenset({"listen", "loadpath", "mpath", "children", "user", "group", "alias", "log_prefix", "workdir"})
_READS_FILES = frozenset({"include_file", "import_file"})
_DIRECTIVES = (
    "define",
    "ifdef",
    "ifndef",
    "else",
    "endif",
    "subst",
    "substdef",
    "trydef",
    "redefine",
    "ifexp",
    "KAMAILIO",
)
_OWN_EVENT = "event_route[core:pre-routing]"
"""The lab's own: how it finds out that the proxy lives, whatever the learner's blocks do."""


@dataclass(frozen=True, slots=True)
class Block:
    """One routing block."""

    kind: str
    """"request_route", "route", "onreply_route" and so on."""
    name: str
    """What stands in the square brackets; empty without."""
    line: int
    """Where it begins; the first line is 1."""

    @property
    def title(self) -> str:
        """As it is written: "route[RELAY]"."""
        return f"{self.kind}[{self.name}]" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class RoutingText:
    """A learner's text that may be started."""

    text: str
    """As it was written."""
    blocks: tuple[Block, ...]
    modules: tuple[str, ...]
    """Modules that it loads, beyond those of the plain proxy."""
    started: str
    """What Kamailio reads: the same lines and columns, without loading again what is loaded."""


def read_text(text: str, allowed: Collection[str], loaded: Collection[str]) -> RoutingText:
    """Read a learner's text.

    Args:
        text: routing blocks, and before them what they need: loadmodule, modparam, #!define.
        allowed: modules that it may load.
        loaded: modules that are loaded without it.
    Raises:
        BlockRefused: something of it cannot be started here; with line and column.
    """
    return _Reader(text, allowed, loaded).read()


class _Reader:
    def __init__(self, text: str, allowed: Collection[str], loaded: Collection[str]) -> None:
        self._text, self._allowed, self._loaded = text, allowed, loaded
        self._blocks: list[Block] = []
        self._modules: list[str] = []
        self._started = text

    def read(self) -> RoutingText:
        if "\0" in self._text:
            raise self._refused(self._text.index("\0"), "a NUL character stands in the text")
        for kind, begin, _here in self._tokens(0):
            self._check_anywhere(kind, begin)
        end = 0
        for kind, begin, here in self._tokens(0):
            if begin < end:
                continue
            end = here if kind in ("comment", "string") else self._statement(kind, begin)
        if not self._blocks:
            raise self._refused(0, "there is no routing block in it; a block begins with request_route {")
        return RoutingText(self._text, tuple(self._blocks), tuple(self._modules), self._started)

    def _check_anywhere(self, kind: str, begin: int) -> None:
        """Refuse what reads other files: Kamailio takes it at any place."""
        word = _word_at(self._text, begin + (2 if kind == "directive" else 0))
        if word in _READS_FILES:
            raise self._refused(begin, f"`{word}` is not for a lesson: the block is all that is read", length=len(word))
        if kind == "directive" and word not in _DIRECTIVES:
            raise self._refused(begin, f"#!{word} is not for a lesson to use", length=2 + len(word))

    # ---- the statements of the top level ----------------------------------------------------------------------------
    def _statement(self, kind: str, begin: int) -> int:
        """Take one statement; return where it ends."""
        if kind == "directive":
            end = self._text.find("\n", begin)
            return len(self._text) if end < 0 else end
        word = _word_at(self._text, begin)
        if word in _BLOCK_KINDS:
            return self._block(word, begin)
        after = begin + len(word)
        if word in ("loadmodule", "loadmodulex"):
            return self._loadmodule(begin, after)
        if word in ("modparam", "modparamx"):
            return self._past_parentheses(after)
        if word in _CORE_SETTINGS and (found := _CORE_SETTING.match(self._text, after)):
            return found.end()
        if self._text[begin] == ";":
            return begin + 1
        raise self._misplaced(word or self._text[begin], begin)

    def _block(self, kind: str, begin: int) -> int:
        after = begin + len(kind)
        found = _NAMED.match(self._text, after)
        name = found[1] if found else ""
        opened = _OPENED.match(self._text, found.end() if found else after)
        if opened is None:
            raise self._refused(
                begin, f"a `{{` is missing behind `{self._text[begin : found.end() if found else after]}`"
            )
        if kind == "route" and not name:
            kind = "request_route"  # the old spelling
        kind = "onreply_route" if kind == "reply_route" else kind
        block = Block(kind, name, self._place(begin)[0])
        if block.title == _OWN_EVENT:
            raise self._refused(begin, f"{_OWN_EVENT} is the lab's own here: it asks there whether the proxy lives")
        for other in self._blocks:
            if other.title == block.title:
                raise self._refused(begin, f"{block.title} stands twice, first in line {other.line}; leave one of them")
        self._blocks.append(block)
        return self._past_braces(opened.end() - 1)

    def _loadmodule(self, begin: int, after: int) -> int:
        found = _LOADMODULE.match(self._text, after)
        name = (found[1] if found else "").removesuffix(".so").rpartition("/")[2]
        if found is None or not name:
            raise self._refused(begin, 'the name of a module is missing; write for example loadmodule "htable"')
        if name in self._loaded:  # a second time is an error for Kamailio, and none of the learner's business
            self._started = self._started[:begin] + " " * (found.end() - begin) + self._started[found.end() :]
        elif name not in self._allowed:
            near = difflib.get_close_matches(name, self._allowed, 1) or [f"one of {', '.join(sorted(self._allowed))}"]
            what = f"the module {name!r} is not one that a lesson may load"
            raise self._refused(found.start(1), what, f"take {near[0]}", len(found[1]))
        else:
            self._modules.append(name)
        return found.end()

    def _misplaced(self, word: str, begin: int) -> BlockRefused:
        if word == "}":
            return self._refused(begin, "this `}` closes nothing; there is one too many, or a `{` is missing before it")
        where = "every statement belongs into a block, for example request_route { ... }"
        if word in _LAB_SETS:
            return self._refused(begin, f"`{word}` is not for a lesson to set: the lab has set it", length=len(word))
        return self._refused(begin, f"`{word}` stands outside of every block", where, len(word))

    # ---- moving over text -------------------------------------------------------------------------------------------
    def _tokens(self, place: int) -> Iterator[tuple[str, int, int]]:
        """Every token but space from `place` on: its kind, and where it begins and ends."""
        while place < len(self._text):
            found = _TOKEN.match(self._text, place)
            assert found is not None
            assert found.lastgroup is not None
            begin, place = place, found.end()
            if found.lastgroup == "comment":
                place = self._past_comment(begin, found[0])
            elif found.lastgroup == "string":
                place = self._past_string(begin)
            if found.lastgroup != "space":
                yield found.lastgroup, begin, place

    def _past_comment(self, begin: int, opening: str) -> int:
        closing = "*/" if opening == "/*" else "\n"
        end = self._text.find(closing, begin + len(opening))
        if end >= 0:
            return end + len(closing)
        if closing == "\n":
            return len(self._text)
        raise self._refused(begin, "the comment that begins here is never closed; `*/` is missing")

    def _past_string(self, begin: int) -> int:
        quote = self._text[begin]
        place = begin + 1
        while place < len(self._text) and self._text[place] != quote:
            place += 2 if self._text[place] == "\\" and quote == '"' else 1
        if place >= len(self._text):
            raise self._refused(begin, f"the text in quotes that begins here is never closed; a {quote} is missing")
        return place + 1

    def _past_braces(self, begin: int) -> int:
        """Where the block ends whose `{` stands at `begin`."""
        opened = []
        for kind, here, after in self._tokens(begin):
            if kind != "brace":
                continue
            if self._text[here] == "{":
                opened.append(here)
            else:
                opened.pop()
            if not opened:
                return after
        raise self._refused(opened[-1], "the `{` here is never closed; a `}` is missing")

    def _past_parentheses(self, begin: int) -> int:
        end = begin
        for kind, here, after in self._tokens(begin):
            end = after
            if kind == "other" and self._text[here] == ")":
                return after
            if kind == "brace":
                break
        return end

    def _place(self, offset: int) -> tuple[int, int]:
        before = self._text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    def _refused(self, offset: int, what: str, hint: str = "", length: int = 1) -> BlockRefused:
        line, column = self._place(offset)
        return BlockRefused(what, text=self._text, line=line, column=column, length=length, hint=hint)


_PLAIN_BLOCK = re.compile(r"^#!ifndef OWN_\w+\n((?:\w+_)?route(?:\[[\w:.-]+\])?) ?\{", re.MULTILINE)


def plain_blocks(text: str) -> list[str]:
    """The blocks of a configuration that a lesson may write itself, as they are written: "route[RELAY]"."""
    return _PLAIN_BLOCK.findall(text)


def own_name(title: str) -> str:
    """The name by which a configuration is told that a lesson has written a block: "route[RELAY]" -> "RELAY"."""
    return re.sub(r"\W+", "_", title.removeprefix("route[").rstrip("]")).upper()


def _word_at(text: str, place: int) -> str:
    found = re.compile(r"[A-Za-z_]\w*").match(text, place)
    return found[0] if found else ""
