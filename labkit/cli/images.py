"""`./lab base-image` and `./lab compose`: for people who look after the docker engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.cli import exits


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe both."""
    base = commands.add_parser(
        "base-image",
        help="make the docker base image without a registry (debootstrap)",
        description="Make the image debian:trixie-slim with debootstrap, for a machine that reaches Debian's packages "
        "but no image registry. Where the image is there already, nothing is done.",
    )
    base.add_argument("--again", action="store_true", help="make it anew even if it is there")
    base.set_defaults(run=run_base_image)
    compose = commands.add_parser(
        "compose",
        help="export the lab as a compose.yaml",
        description="Write the topology of docker/lab.toml as a compose.yaml, for people who like compose. labkit "
        "itself does not need it.",
    )
    compose.add_argument("--to", type=Path, metavar="FILE", help="write it there instead of printing it")
    compose.set_defaults(run=run_compose)


def run_base_image(args: argparse.Namespace) -> int:
    """Make the base image."""
    from labkit.lab.base_image import make_base_image

    make_base_image(progress=print, again=args.again)
    return exits.OK


def run_compose(args: argparse.Namespace) -> int:
    """Print or write the compose file."""
    from labkit.lab.compose import compose_yaml

    text = compose_yaml()
    if args.to is None:
        print(text, end="")
    else:
        args.to.write_text(text, encoding="utf-8")
        print(f"wrote {args.to}")
    return exits.OK
