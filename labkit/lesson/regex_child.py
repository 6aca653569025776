"""The process in which a learner's expressions run: one that can be killed, for an expression may run for ever.

Run by its path, with nothing but the standard library. Reads one JSON object: {"rows": [[pattern, flags], ...],
"texts": [text or null, ...]}. Writes one JSON line a text, as soon as it is done: the groups of the first row that
fits, with the row's number, or null. A pattern that is none gives {"error": ..., "row": ..., "pos": ...} and ends it.
"""

import json
import re
import sys

MEMORY_BYTES = 512 * 2**20


def bound_memory() -> None:
    """Bound what the process may take, where the system can: a pattern may ask for gigabytes while it is compiled."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def say(value: object) -> None:
    """Write one line, at once."""
    print(json.dumps(value), flush=True)


def main() -> None:
    """Read the question, answer it line by line."""
    work = json.loads(sys.stdin.read())
    rows = []
    for number, (pattern, flags) in enumerate(work["rows"]):
        try:
            rows.append(re.compile(pattern, flags))
        except (re.error, OverflowError, RecursionError, MemoryError) as refused:
            say({"error": getattr(refused, "msg", str(refused)), "row": number})
            return
    for text in work["texts"]:
        found = None
        for number, row in enumerate(rows):
            match = None if text is None else row.search(text)
            if match:
                found = {"row": number, "groups": [match[0], *match.groups(default="")]}
                break
        say(found)


if __name__ == "__main__":
    bound_memory()
    main()
