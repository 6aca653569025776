"""pyproject.toml, environment.yml and requirements.lock say the same set of packages."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")


def normal(requirement: str) -> tuple[str, str]:
    """Return (name, version limits) as PEP 503 and our eyes compare them."""
    match = re.match(r"([A-Za-z0-9._-]+)\s*(.*)", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[1]).lower(), match[2].replace(" ", "")


def wanted() -> dict[str, str]:
    """What pyproject.toml asks for, with all that is optional: lessons and tests use it."""
    extras = PROJECT["optional-dependencies"].values()
    return dict(normal(line) for line in [*PROJECT["dependencies"], *chain.from_iterable(extras)])


def in_conda() -> dict[str, str]:
    entries = yaml.safe_load(ENVIRONMENT)["dependencies"]
    flat = [line for entry in entries for line in (entry["pip"] if isinstance(entry, dict) else [entry])]
    return dict(normal(line) for line in flat)


def test_conda_environment_is_the_same_set() -> None:
    """environment.yml names the packages of pyproject.toml with the same limits, plus Python and pip themselves."""
    conda = in_conda()
    assert conda.pop("python") == PROJECT["requires-python"]
    conda.pop("pip")
    assert conda == wanted()


def test_every_line_has_its_reason() -> None:
    """Each package in environment.yml has a comment that says what it is for."""
    listed = ENVIRONMENT.split("dependencies:")[1].splitlines()
    lines = [line for line in listed if re.match(r"\s*- [A-Za-z]", line) and not line.endswith("pip:")]
    assert [line for line in lines if "#" not in line] == []


def test_lock_satisfies_the_limits() -> None:
    """requirements.lock pins every package of pyproject.toml to one exact version inside its limits."""
    from packaging.specifiers import SpecifierSet

    pinned = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            name, limits = normal(line.split(";")[0])
            assert re.fullmatch(r"==[^=*,]+", limits), f"{line}: not one exact version"
            pinned[name] = limits[2:]
    for name, limits in wanted().items():
        assert name in pinned, f"{name} is not in requirements.lock"
        assert SpecifierSet(limits).contains(pinned[name], prereleases=True), (
            f"{name} {pinned[name]} is outside {limits}"
        )


def test_locked_versions_install_on_the_oldest_python() -> None:
    """Every pinned version admits Python 3.11.2, which Debian 12 has, and the first 3.12 and 3.13."""
    from importlib import metadata

    from packaging.specifiers import SpecifierSet

    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            name, version = line.split("==")
            needs = metadata.metadata(name).get("Requires-Python", "")
            for python in ("3.11.2", "3.12.0", "3.13.0"):
                assert SpecifierSet(needs).contains(python), f"{name} {version} needs Python {needs}"
