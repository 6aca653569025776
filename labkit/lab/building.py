"""One builder of images at a time.

Two builders would build the same, and what one cleans up after itself are stages that the other still needs. One daemon
serves every lab of a user, whatever its home, so the lock stands outside of all of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.lab.docker_client import connect
from labkit.lab.images import ImageRecipe, Progress, build_image, missing_images
from labkit.lab.state import file_lock

_LONGEST_BUILD_S = 1800.0
_LONGEST_STEP_S = 900


def build_missing(api: Any, recipes: Sequence[ImageRecipe], progress: Progress) -> None:
    """Build those images that the daemon does not have.

    Raises:
        StackError: one could not be built, or another builder takes longer than half an hour.
    """
    if not missing_images(api, recipes):
        return
    lock = Path(tempfile.gettempdir()) / f"labkit-images-{os.getuid()}.lock"
    with file_lock(lock, lambda: progress("waiting for another lab, which builds images"), _LONGEST_BUILD_S):
        for recipe in missing_images(api, recipes):
            build_image(connect(timeout_s=_LONGEST_STEP_S), recipe, progress)
