"""What the exit code of a command means; `./lab --help` prints the same list."""

from __future__ import annotations

OK = 0
"""Done."""
FAILED = 1
"""It was tried and did not work: a test failed, a node did not come up, a file is no capture."""
WRONG_USE = 2
"""The command line cannot be understood; nothing was done."""
MISSING = 3
"""Something is missing on this machine: an engine, a tool, a right. `./lab doctor` says what and how to get it."""
INTERRUPTED = 130
"""Ctrl-C; what had been started was stopped first."""
