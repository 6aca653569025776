"""Names of what a notebook's cell can show (IANA media types, and plotly's own)."""

from __future__ import annotations

from typing import Final

PLOTLY: Final = "application/vnd.plotly.v1+json"
HTML: Final = "text/html"
TEXT: Final = "text/plain"
