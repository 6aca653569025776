"""Compile the loops beside themselves: `python -m labkit.native`. Needs a C compiler and the headers of Python."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def build() -> str:
    """Build the module; give an empty text, or why that did not work. What was built before is replaced, or stays."""
    try:
        from setuptools import setup
    except ImportError:
        return "setuptools is not installed"
    os.chdir(FOLDER.parents[1])  # where pyproject.toml is, which says what to build
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "experimental": the table of extension modules in pyproject.toml
        setup(script_args=["--quiet", "build_ext", "--build-temp", scratch, "--build-lib", scratch])
        for built in Path(scratch, "labkit", "native").glob("_loops.*"):
            unfinished = FOLDER / f"{built.name}.{os.getpid()}"
            shutil.copyfile(built, unfinished)
            unfinished.replace(FOLDER / built.name)  # at once: others may be importing it
            return ""
    return "the compiler refused (above)"


def main() -> int:
    """Build and say how that went."""
    try:
        problem = build()
    except OSError as error:
        problem = f"cannot write {error.filename}: {error.strerror}"
    print(f"The compiled loops were not built: {problem}. All works without them." if problem else "Built.")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
