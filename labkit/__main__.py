"""`python -m labkit`: what `./lab` hands over to."""

from __future__ import annotations

import sys

from labkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
