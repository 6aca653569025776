"""A node's log as a learner reads it: which block and line wrote what (`log_prefix` in docker/proxy/kamailio.cfg)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LINE = re.compile(
    r"^\s*\d+\(\d+\) (\w+): (?:\{(.*?):(\d+|-?\d*):([^}]*)\} )?(<\w+>|\w+) ?(?:\[[^\]]*\])?: (.*)$", re.DOTALL
)
_BLOCK_OF = {"DEFAULT_ROUTE": "request_route", "DEFAULT_ONREPLY": "onreply_route", "<null>": ""}
_BEGINS = re.compile(r"\s*\d+\(\d+\) [A-Z]+: ")
_BANNER = re.compile(r"(Listening on|Aliases:)\s*$|\s+(udp|tcp|\*): ")
"""What Kamailio prints of its ports when it starts: on another stream, so it may come between any two lines."""
_INTERESTING = ("NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "INFO", "BUG")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the proxy logged."""

    block: str
    """The routing block that wrote it, as "route[RELAY]"; empty for what the program itself has to say."""
    line: int
    """Line of the learner's text; 0 where it is not about one of his lines."""
    level: str
    """"NOTICE" for xlog("L_NOTICE", ...), "ERROR" where nothing is said, and so on."""
    text: str

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.block, f"line {self.line}" if self.line else "")))
        said = self.text if self.block else f"{self.level}: {self.text}"
        return f"{where}: {said}" if where else said


def read_log(lines: Iterable[str], titles: Mapping[str, str], block_file: str) -> list[LogLine]:
    """Read what a Kamailio logged while it ran.

    Args:
        titles: name of a block as Kamailio logs it -> as it is written, "RELAY" -> "route[RELAY]".
        block_file: name of the file with the learner's text.
    """
    found = []
    for line in whole_entries(lines, _BEGINS, "\n"):
        match = _LINE.match(line)
        if match is None or match[1] not in _INTERESTING:
            continue
        level, route, number, file, source, text = match.groups()
        if source == "<script>":
            name = _BLOCK_OF.get(route, route) if route else ""
            own = bool(file) and file.rpartition("/")[2] == block_file
            place = int(number) if own and number else 0
            found.append(LogLine(titles.get(name, name), place, level, text.rstrip("\n")))
        elif level != "INFO":
            found.append(LogLine("", _named_line(text, block_file), level, _plain(text, block_file)))
    return found


def whole_entries(lines: Iterable[str], begins: re.Pattern[str], joint: str) -> list[str]:
    """Put lines together again that are one entry: a text of the learner's with a line end in it makes two of one.

    Args:
        lines: a Kamailio's log; its banner may come anywhere and is left out.
        begins: what the first line of an entry looks like.
        joint: stands where the line end was.
    """
    whole: list[str] = []
    for line in lines:
        if _BANNER.match(line):
            continue
        if begins.match(line) or not whole:
            whole.append(line)
        elif line.strip():
            whole[-1] += f"{joint}{line}"
    return whole


def _named_line(text: str, block_file: str) -> int:
    found = re.search(rf"{re.escape(block_file)}:(\d+)", text)
    return int(found[1]) if found else 0


def _plain(text: str, block_file: str) -> str:
    """A line of the program's own, without the function in its source and the path of the learner's file."""
    named = re.sub(rf"(?:cfg:)?/\S*{re.escape(block_file)}:(\d+)", r"line \1", text)
    return re.sub(r"^\w+\(\): ", "", named).rstrip("\n")
