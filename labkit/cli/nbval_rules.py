"""What nbval compares in a lesson, as a pytest plugin (`-p labkit.cli.nbval_rules`).

Stored outputs are held against a run, live or replayed. Not compared are:

- `application/vnd.plotly.v1+json`: figures are built from the table that stands beside them, which is compared; their
  drawing is unit-tested in tests/test_view_*.py; and a new plotly changes the default template inside them.
- `text/html`: it may carry true frame numbers and times of this very capture, for the reader; the `text/plain` of the
  same output names messages by their stable numbers, and that is compared.
- `stderr`: warnings carry paths of temporary files and process ids.

Pictures (image/png) and widget models, whose ids are random, nbval leaves out by itself.
"""

from __future__ import annotations

from typing import Any

from labkit.view.mime import HTML, PLOTLY

NOT_COMPARED = (PLOTLY, HTML, "stderr")


def pytest_collectstart(collector: Any) -> None:
    """Tell every notebook that nbval collects what not to compare."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = (*collector.skip_compare, *NOT_COMPARED)
