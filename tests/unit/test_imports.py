"""Who may import whom: the design's direction of dependence, held by reading the imports.

    core ◀── adapters (capture, encode, spool, store, broker) ◀─┐
      ▲ ◀─── pipeline, delivery, reporter …                 ◀───┴── service, cli and the commands
      └───── errors

A room is a module or a package right below `async_motion`. An import inside a function counts as any other.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "async_motion"

LEAVES = frozenset({"core", "errors"})
"""What every room may import."""

ADAPTERS = frozenset({"capture", "encode", "spool", "store", "broker"})
"""Each knows one thing outside; none knows another, nor the settings."""

MIDDLE: dict[str, frozenset[str]] = {
    "buffers": frozenset(),
    "pipeline": frozenset({"buffers"}),
    "delivery": frozenset(),
    "reporter": frozenset(),
}
"""What stands between the adapters declares the protocols that it needs; here with its own parts."""

OUTSIDE: dict[str, frozenset[str]] = {
    "av": frozenset({"capture"}),
    "aiohttp": frozenset({"store", "web"}),
    "aiomqtt": frozenset({"broker"}),
    "iotcore": frozenset({"broker"}),
    "miniopy_async": frozenset({"store"}),
    "paho": frozenset({"broker"}),
    "sqlite3": frozenset({"spool"}),
}
"""Libraries that one kind of adapter hides from the rest."""

IMPURE = frozenset(
    {"asyncio", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time"}
)
"""Loops, clocks, sockets, logs and chance: none of them belongs in `core`."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] != "__init__" else ""


def imports(path: Path) -> set[str]:
    """Return the absolute names of all modules, and of what is taken from them, that a file imports."""
    found: set[str] = set()
    package = ["async_motion", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else package[: len(package) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    """Return the other rooms of ours that a file imports."""
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("async_motion.")}
    # `from async_motion import __version__` is not a room.
    return {room for room in rooms if not room.startswith("__")} - {room_of(path)}


def outside_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"async_motion"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(path)
    imported = rooms_imported(path)
    if room == "errors":
        # The tree of errors tells its readers where redaction is done; it needs nothing.
        assert imported == set()
    elif room == "core":
        assert imported <= {"errors"}
        outside = outside_imported(path)
        assert not outside & IMPURE, "core has no loop, clock, file, socket or log"
        assert outside - sys.stdlib_module_names <= {"cv2", "numpy"}
    elif room in ADAPTERS:
        assert imported <= LEAVES, "adapters know neither each other nor the settings"
    elif room in MIDDLE:
        assert imported <= LEAVES | MIDDLE[room], "what it needs it declares as a protocol"
    for library in outside_imported(path) & OUTSIDE.keys():
        assert room in OUTSIDE[library], f"{library} is hidden by {', '.join(sorted(OUTSIDE[library]))}"


def test_nobody_imports_the_service_but_who_starts_it() -> None:
    importers = {room_of(path) for path in modules() if "service" in rooms_imported(path)}
    assert importers <= {"cli", "__main__"}


def test_the_reader_of_imports_sees_all_kinds_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "store").mkdir()
    module = tmp_path / "store" / "minio.py"
    module.write_text(
        "import async_motion.settings\n"
        "from async_motion import spool, __version__\n"
        "from async_motion.core import names\n"
        "from ..broker import client\n"
        "from . import directory\n"
        "def f():\n    import time\n"
    )
    assert rooms_imported(module) == {"settings", "spool", "core", "broker"}
    assert outside_imported(module) == {"time"}


def test_the_rooms_that_the_law_names_exist() -> None:
    """A room that was renamed must not slip out of the law."""
    there = {room_of(path) for path in modules()}
    named = LEAVES | ADAPTERS | MIDDLE.keys()
    assert named <= there
