"""From what Kamailio logs when it does not start, to one sentence with a place in the learner's text.

Kamailio finds faults in two steps: its parser names file, line and columns (`yyerror_at`), and what it fixes afterwards
(pseudo-variables, routes that are called, host names) names file and line at best, and its reason in the lines before.
Versions 5.6 and 6.0 say the same with small differences; the sentence here is the same for both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.errors import BlockRefused
from labkit.lab.learner.hints import syntax_hint
from labkit.lab.learner.log import whole_entries
from labkit.lab.learner.words import FUNCTION_MODULES

BLOCK_FILE = "block.cfg"
"""The learner's text as Kamailio sees it."""
_AT = re.compile(r"parse error in config file \S*?([^/\s]+), (?:from )?line (\d+), column (\d+)(?:-(\d+))?[^:]*: ?(.*)")
_FIXING = re.compile(r"(?:at|cfg:)\s*(?:cfg:)?\S*?([^/\s:]+\.cfg):(\d+)")
_DEFINING = re.compile(r"error at \S*?([^/\s]+\.cfg) line (\d+): (.*)")
_LEVEL = re.compile(r"^\s*\d+\(\d+\) (?:ERROR|CRITICAL|ALERT|BUG): (?:\{[^}]*\} )?(.*)")
_PATH = re.compile(r"/\S*/lesson/files/")
_VARIABLE_HINTS = {
    "sht": 'it comes from the module htable: write loadmodule "htable" above the block',
    "sdp": 'it comes from the module sdpops: write loadmodule "sdpops" above the block',
    "T_reply_code": 'it comes from the module tmx: write loadmodule "tmx" above the block',
    "T_branch_idx": "it comes from the module tm, and is there in a branch_route",
    "dlg": 'it comes from the module dialog: write loadmodule "dialog" above the block',
}
_BEGINS = re.compile(r"\s*\d+\(\d+\) [A-Z]+: |ERROR: |error -?\d+ |labkit: |loading modules| {3}")
_SOURCE = re.compile(r"^(?:<core>|[\w-]+) \[[^\]]*\]: \w+\(\): ")


def refusal(text: str, log: Iterable[str], loaded: Sequence[str] = ()) -> BlockRefused:
    """Say why a start was refused.

    Args:
        text: what the learner wrote.
        log: all lines of that start.
        loaded: modules that were loaded.
    """
    entries = [found[1] for line in whole_entries(log, _BEGINS, "\\n") if (found := _LEVEL.match(line))]
    said = [_PATH.sub("LESSON_FILES/", _SOURCE.sub("", entry)) for entry in entries]
    for number, entry in enumerate(entries):
        found = _AT.search(entry)
        if found and found[1] == BLOCK_FILE:
            return _of_parser(_Text(text, said), found, said[:number], loaded)
    for entry in entries:
        found = _DEFINING.search(entry)
        if found and found[1] == BLOCK_FILE:
            own = _Text(text, said)
            return own.refused(int(found[2]), 1, found[3].strip().rstrip("."), own.row(int(found[2])))
    for number, entry in enumerate(entries):
        found = _FIXING.search(entry)
        if found and found[1] == BLOCK_FILE:
            return _of_fixing(_Text(text, said), int(found[2]), said[: number + 1])
    return _of_a_module(_Text(text, said))


# ---- the parser -----------------------------------------------------------------------------------------------------
def _of_parser(text: _Text, found: re.Match[str], before: list[str], loaded: Sequence[str]) -> BlockRefused:
    line, what = int(found[2]), found[5].strip()
    column, end = text.character(line, int(found[3])), text.character(line, int(found[4] or found[3]))
    reason = before[-1] if before else ""
    if unknown := re.search(r"failed to find command (\w+) \(params (\d+)\)", reason):
        return _unknown_command(text, line, unknown[1], int(unknown[2]), loaded)
    if misused := re.search(r"misused command (\w+)", reason):
        what = f"{misused[1]}() cannot be used in this kind of block"
        return text.refused(line, text.find(line, misused[1], column), what, misused[1])
    if "failed to load module" in what:
        name = text.row(line)[column:].partition('"')[0]
        return text.refused(line, column + 1, f"the module {name} cannot be loaded here", name)
    if "Can't set module parameter" in what:
        return _bad_parameter(text, line, reason)
    if wrong := _variable(before[-3:]):
        return text.refused(line, column, wrong[0], wrong[1], hint=wrong[2])
    length = max(1, end - column + 1)
    if "read only pvar" in what:
        name = text.row(line)[column - 1 : end]
        return text.refused(line, column, f"{name} can be read and not set", name)
    if constant := re.search(r"function (\w+): parameter \d+ is not constant", what):
        hint = f'a variable stands inside the text: {constant[1]}("... $rU")'
        return text.refused(line, column, f"{constant[1]}() takes a text here", hint=hint, length=length)
    row = text.row(line)
    token = row[column - 1 : end].strip() or "the end of the line"
    hint = syntax_hint(text.text, line, column)
    return text.refused(line, column, f"syntax error at `{token}`", hint=hint, length=length)


def _unknown_command(text: _Text, line: int, name: str, params: int, loaded: Sequence[str]) -> BlockRefused:
    place = text.find(line, name, 1)
    module = FUNCTION_MODULES.get(name)
    if module in loaded:
        what = f"{name}() cannot be called with {params} parameter{'s' * (params != 1)}"
        return text.refused(
            line, place, what, name, hint=f"the documentation of the module {module} says what it takes"
        )
    if module is not None:
        hint = f'it comes from the module {module}: write loadmodule "{module}" above the block'
        return text.refused(line, place, f"there is no function {name}() without its module", name, hint=hint)
    near = difflib.get_close_matches(name, [each for each, of in FUNCTION_MODULES.items() if of in loaded], 1, 0.75)
    hint = f"did you mean {near[0]}()" if near else "look at its spelling, and at which module has it"
    return text.refused(line, place, f"there is no function {name}()", name, hint=hint)


def _bad_parameter(text: _Text, line: int, reason: str) -> BlockRefused:
    if unknown := re.search(r"parameter <(\w+)> of type <(\d+)\S*> not found in module <(\w+)>", reason):
        kind = "a text" if unknown[2] == "1" else "a number"
        what = f"the module {unknown[3]} has no parameter {unknown[1]!r} that takes {kind}"
        return text.refused(line, text.find(line, unknown[1], 1), what, unknown[1])
    if absent := re.search(r"No module matching <(\w+)> found", reason):
        what = f"a parameter is set for the module {absent[1]}, which is not loaded"
        hint = f'write loadmodule "{absent[1]}" in a line above'
        return text.refused(line, text.find(line, absent[1], 1), what, absent[1], hint=hint)
    if invalid := re.search(r"\[([^\]]+)\]$", reason):
        return text.refused(line, text.find(line, invalid[1], 1), "this value cannot be read", invalid[1])
    return text.refused(line, 1, "this module parameter cannot be set", text.row(line))


# ---- what is looked at after parsing --------------------------------------------------------------------------------
def _of_fixing(text: _Text, line: int, reasons: list[str]) -> BlockRefused:
    told = "\n".join(reasons)
    if absent := re.search(r'route "([^"]*)" not found', told):
        line, column = text.somewhere(line, absent[1])
        return text.refused(line, column, f"there is no route[{absent[1]}]", absent[1])
    if host := re.search(r'could not resolve hostname: "([^"]*)"', told):
        address, _, port = host[1].rpartition(":")
        apart = f'address and port are two things here: forward("{address}", {port})' if port.isdigit() else ""
        line, column = text.somewhere(line, host[1])
        return text.refused(line, column, f"`{host[1]}` is no host name and no address", host[1], hint=apart)
    if bad := re.search(r'Bad regular expression "(.*)"', told):
        line, column = text.somewhere(line, bad[1])
        return text.refused(line, column, "this regular expression cannot be read", bad[1])
    if bad := re.search(r"bad subst\.? re:? (.*)", told):
        line, column = text.somewhere(line, bad[1])
        hint = "it is written /what is looked for/what comes in its place/flags"
        return text.refused(line, column, "this substitution cannot be read", bad[1], hint=hint)
    if wrong := _variable(reasons):
        line, column = text.somewhere(line, wrong[1])
        return text.refused(line, column, wrong[0], wrong[1], hint=wrong[2])
    if typed := re.search(r"invalid expression \((\d+),(\d+)\): (.*)", told):
        return text.refused(int(typed[1]), int(typed[2]), f"this expression does not fit: {typed[3]}")
    row = text.row(line)
    what = "a parameter of this call does not fit"
    if "int conversions failed" in told:
        what = "a parameter of this call is neither a number nor a variable"
    return text.refused(line, len(row) - len(row.lstrip()) + 1, what, row.strip())


def _variable(reasons: Sequence[str]) -> tuple[str, str, str] | None:
    """What is wrong with a pseudo-variable: in words, its text, and a hint."""
    told = "\n".join(reasons)
    spelt = re.search(r"(?:wrong char \S+ in|parenthesis) \[(.*?)(?:\] at \[|\]?$)", told, re.MULTILINE)
    text = spelt[1] if spelt else ""
    if unknown := re.search(r'error searching pvar "([^"]*)"', told):
        name = unknown[1]
        if not name:
            return "a `$` stands alone in a text", "$", "a dollar sign itself is written $$"
        return f"there is no variable ${name}", text or f"${name}", _VARIABLE_HINTS.get(name, "")
    if index := re.search(r'pvar "(\w+)" does not get index param', told):
        hint = "hdrc counts; the values are in $(hdr(NAME)[n])" if index[1] == "hdrc" else ""
        return f"${index[1]} takes no index", text or f"${index[1]}", hint
    if empty := re.search(r'pvar "(\w+)" does not get empty name', told):
        return f"${empty[1]} needs a name in its parentheses", text or f"${empty[1]}", ""
    if change := re.search(r"unknown transformation: (?:[\w.,]*\}?/)?([\w.]+)", told):
        return f"there is no transformation {{...{change[1]}}}", change[1], ""
    if re.search(r"non-closing (?:inner-)?name parenthesis", told):
        return "a parenthesis of this variable is not closed", text.partition("\\n")[0] or "$", ""
    if "wrong char" in told or "invalid parsing" in told or "wrong format[" in told:
        return "a variable in this text cannot be read", text or "$", ""
    return None


def _of_a_module(text: _Text) -> BlockRefused:
    """No line says where: a module did not begin its work, or it is not about the learner's text at all."""
    reason = (text.said[0] if text.said else "it ended without a word").strip().rstrip(".")
    if name := re.search(r"LESSON_FILES/([\w./-]+)", reason):
        line, column = text.somewhere(0, name[1])
        return text.refused(line, column, reason, name[1])
    begun = next((found[1] for each in text.said if (found := re.search(r"initializing module (\w+)", each))), "")
    for row, written in enumerate(text.text.splitlines(), start=1):
        if begun and re.match(rf'\s*loadmodule\s+"?{begun}\b', written):
            return text.refused(row, text.find(row, begun, 1), f"the module {begun} does not begin: {reason}", begun)
    return BlockRefused(reason, text=text.text, said="\n".join(text.said))


# ---- places in the learner's text -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Text:
    """What the learner wrote, and what Kamailio said about it."""

    text: str
    said: Sequence[str]

    def row(self, line: int) -> str:
        rows = self.text.splitlines()
        return rows[line - 1] if 0 < line <= len(rows) else ""

    def character(self, line: int, column: int) -> int:
        """Column in characters of a column in bytes, as Kamailio counts."""
        return len(self.row(line).encode("utf-8", "surrogateescape")[: column - 1].decode("utf-8", "ignore")) + 1

    def find(self, line: int, word: str, otherwise: int) -> int:
        """Column of `word` in the line."""
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", self.row(line))
        return found.start() + 1 if found else otherwise

    def somewhere(self, line: int, word: str) -> tuple[int, int]:
        """Line and column of `word`: in that line, else in one before (a call may end lines later), else anywhere."""
        rows = self.text.splitlines()
        for number in [*range(min(line, len(rows)), 0, -1), *range(line + 1, len(rows) + 1)]:
            if word and (column := rows[number - 1].find(word)) >= 0:
                return number, column + 1
        row = self.row(line)
        return line, len(row) - len(row.lstrip()) + 1

    def refused(
        self, line: int, column: int, what: str, marked: str = "", *, hint: str = "", length: int = 1
    ) -> BlockRefused:
        """The error for a place; `marked` is what stands there, where that is known."""
        row = self.row(line)
        fits = marked and row[column - 1 :].startswith(marked)
        length = len(marked) if fits else max(1, min(length, len(row) - column + 1))
        said = "\n".join(self.said)
        return BlockRefused(what, text=self.text, line=line, column=column, length=length, hint=hint, said=said)
