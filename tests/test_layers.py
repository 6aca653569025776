"""Which way things point: each idea has one room, and imports between rooms flow one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "labkit"

MAY_IMPORT = {
    "errors": set(),
    "paths": {"errors"},
    "native": set(),
    "wire": {"errors", "native"},
    "capture": {"wire", "errors", "paths", "native"},
    "peers": {"wire", "errors", "paths"},
    "clients": {"peers", "wire", "errors", "paths"},
    "lab": {"peers", "clients", "capture", "wire", "errors", "paths"},
    "view": {"capture", "wire", "errors", "paths"},
    "lesson": {"capture", "wire", "errors", "paths"},
    "practice": {"wire", "errors"},
    "session": {"lab", "peers", "clients", "capture", "view", "lesson", "wire", "errors", "paths"},
}
"""Room -> rooms it may import. What is not listed (cli, __main__, __init__) is on top and may import any."""

HEAVY = {
    "pandas",
    "numpy",
    "pyarrow",
    "plotly",
    "ipywidgets",
    "anywidget",
    "docker",
    "scapy",
    "httpx",
    "psycopg",
    "sipmessage",
    "IPython",
}
"""Imported only where used, so that `import labkit` is quick and replay works where they are not."""
NOT_IN = {
    "wire": HEAVY,
    "peers": HEAVY,
    "practice": HEAVY,
}
"""Room -> packages that no line of it imports, not even late."""
DECODE_MANY = [
    "arrays",
    "bulk",
    "columns",
    "diameter",
    "fragments",
    "layers",
    "media",
    "plain",
    "records",
    "sip",
    "sip_heads",
    "tcp",
    "text",
]
IMPORTED_LATE_THEMSELVES = {
    "capture/story.py": {"pandas"},  # a kind of DataFrame; canon() imports it when it has made its rows
    "view/long_ladder.py": {"numpy"},  # its texts are a kind of array; ladder() imports it when a ladder is long
    "clients/hss.py": {"httpx"},  # imported by whoever opens the HSS's door
    "clients/cgrates/rpc.py": {"httpx"},  # and these by whoever talks to CGrateS
    "clients/cgrates/blocking.py": {"httpx"},
    # the decoder's way for many frames at once; the decoder imports it when there are many
    **{f"capture/decode/{name}.py": {"numpy", "pyarrow"} for name in DECODE_MANY},
}
"""Modules that nothing imports early, and what they may therefore import at their top."""
UNIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "pty"}
"""Modules that Windows lacks."""


def room_of(path: Path) -> str:
    """Return the first name below labkit/."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, late: bool = True) -> Iterator[str]:
    """Yield the dotted names a module imports; without `late`, only those at module level and not for typing."""
    tree = tree_of(path)
    nodes: list[ast.stmt] = (
        [node for node in ast.walk(tree) if isinstance(node, ast.stmt)] if late else list(at_import(tree.body))
    )
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports by full name, not relative"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, without those under TYPE_CHECKING and in try blocks."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.If):
            continue  # guarded by a platform check
        yield node


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    """A module imports from its own room and from those below it; also where it imports late."""
    room = room_of(path)
    allowed = MAY_IMPORT.get(room)
    if allowed is None:
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "labkit" and len(parts) > 1 and parts[1] in MAY_IMPORT:
            assert parts[1] == room or parts[1] in allowed, f"{room} must not import {name}"
        assert parts[:2] != ["labkit", "cli"], f"{room} must not import the command line"
        assert name != "scapy.all", "scapy.all takes a second and prints warnings: import the layers needed"
        assert parts[0] not in NOT_IN.get(room, set()), f"{room} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_and_unix_modules_are_imported_late(path: Path) -> None:
    """No module imports pandas and the like, or a module that Windows lacks, when it is itself imported."""
    early = {name.split(".")[0] for name in imports(path, late=False)}
    allowed = IMPORTED_LATE_THEMSELVES.get(path.relative_to(PACKAGE).as_posix(), set())
    assert not early & (HEAVY - allowed), "import it inside the function that needs it"
    assert not early & UNIX_ONLY, "import it late, or under `if sys.platform ...`: replay works on Windows too"


def test_import_of_labkit_brings_nothing_heavy() -> None:
    """`import labkit` and every wire and peers module load no pandas, no plotly, no docker."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("wire", "peers")
        for path in (PACKAGE / room).rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    ]
    code = f"import sys, labkit, {', '.join(names)}\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_replay_path_needs_no_unix_module() -> None:
    """What a replay imports loads with the modules that Windows and a browser lack taken away."""
    absent = [*UNIX_ONLY, "docker"]
    code = (
        "import sys\n"
        f"for name in {absent!r}: sys.modules[name] = None\n"
        "import labkit.session.session, labkit.capture.table, labkit.capture.canon, labkit.capture.cassette\n"
        "import labkit.view.ladder, labkit.lesson.check\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)


def module_name(path: Path) -> str:
    """Return the dotted name of a module of ours."""
    parts = ("labkit", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other() -> None:
    """Whatever a module imports, also late or for typing alone, does not import it in turn, over others either."""
    names = {module_name(path) for path in modules()}
    wanted = {module_name(path): set(imports(path)) & names - {module_name(path), "labkit"} for path in modules()}
    # `from labkit.capture.decode import text` names the package as well, and means the module in it.
    for name, others in wanted.items():
        others -= {other for other in others if any(inner.startswith(f"{other}.") for inner in others)}
        others.discard(name.rpartition(".")[0])
    del wanted["labkit"]  # hands out the public names, late
    settled: set[str] = {"labkit"}
    while len(settled) <= len(wanted):
        now = {name for name, others in wanted.items() if name not in settled and others <= settled}
        assert now, f"a circle among {sorted(wanted.keys() - settled)}"
        settled |= now
