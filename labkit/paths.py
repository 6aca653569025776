"""Where the project's own files stand: notebooks, recordings, the topology.

labkit is run from its checkout (the lessons are files that people read and change), so everything is found relative
to the package; LABKIT_ROOT points elsewhere, for example into an image of a classroom.
"""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """Return the folder that holds notebooks/, data/ and docker/."""
    chosen = os.environ.get("LABKIT_ROOT")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[1]


def cassettes_folder() -> Path:
    """Return the folder of all recordings, one folder a lesson; LABKIT_CASSETTES puts it elsewhere."""
    chosen = os.environ.get("LABKIT_CASSETTES")
    return Path(chosen) if chosen else project_root() / "data" / "cassettes"


def subscribers_file() -> Path:
    """Return the file of the test subscribers, which the HSS and the phones both read."""
    return project_root() / "data" / "subscribers.toml"
