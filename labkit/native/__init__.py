"""Inner loops in C, for those who have a compiler: `compiled` is the module, or None where it was not built.

Whoever uses a loop has the same one in Python, and takes `native.compiled` at the time of the call. `./lab` builds the
module once, when it makes the environment; `python -m labkit.native` does so by hand. LABKIT_PURE=1 leaves it aside.
"""

from __future__ import annotations

import os
from types import ModuleType

_VERSION = 2
"""What LOOPS_VERSION in loops.h must be: a module that was built from another source is left aside."""


def _built() -> ModuleType | None:
    if os.environ.get("LABKIT_PURE", "") not in ("", "0"):
        return None
    try:
        from labkit.native import _loops
    except ImportError:
        return None
    return _loops if _loops.VERSION == _VERSION else None


compiled = _built()
"""The compiled loops, see _loops.pyi; None where there are none."""
