"""Two labs with homes of their own that need the same image at the same moment."""

from __future__ import annotations

import secrets
import threading
from typing import Any

import pytest

from labkit.lab.building import build_missing
from labkit.lab.docker_client import connect
from labkit.lab.images import IMAGE_LABEL, STAGE_LABEL, ImageRecipe

pytestmark = pytest.mark.docker

SALT = secrets.token_hex(8)
DOCKERFILE = f"""\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}} AS first
LABEL {STAGE_LABEL}=two-builders
RUN sleep 1 && echo {SALT} > /made
FROM ${{BASE_IMAGE}}
RUN sleep 1
COPY --from=first /made /made
"""


@pytest.fixture
def api() -> Any:
    api = connect()
    yield api
    for image in api.images(filters={"label": f"{IMAGE_LABEL}=two-builders"}):
        for tag in image["RepoTags"] or ():
            api.remove_image(tag)


def test_the_second_waits_and_takes_what_the_first_has_built(api: Any) -> None:
    """One build, and both have the image; nobody's stage is cleaned away from under him."""
    recipe = ImageRecipe(
        name="two-builders",
        base="debian:trixie-slim",
        dockerfile="Dockerfile",
        files=(("Dockerfile", DOCKERFILE.encode()),),
    )
    told: list[list[str]] = [[], []]

    def build(lines: list[str]) -> None:
        build_missing(connect(), [recipe], lines.append)

    builders = [threading.Thread(target=build, args=(lines,)) for lines in told]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(120)
    assert api.inspect_image(recipe.tag)
    assert sorted(any(line.startswith("building") for line in lines) for lines in told) == [False, True]
