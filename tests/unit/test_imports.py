"""Which package may import which: the design's direction of dependence, held by reading the imports.

    core ◀── adapters (capture, jpeg, spool, store, broker) ◀──┐
      ▲ ◀─── camera, delivery, status, home_assistant, fleet ◀─┤
      │ ◀─── retrieval ◀── web                              ◀──┤
      └───── errors, tls, logs, settings                    ◀──┴── app ◀── tune, scan ◀──┬── cli
             retrieval, store, broker                       ◀───── client ◀──────────────┘

A package is a module or a package right below `async_motion`. An import inside a function counts as any
other. What is not in these tables is not allowed: a new package, or a new library, is entered here first.
"""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "async_motion"

NOTHING: frozenset[str] = frozenset()

LEAVES = frozenset({"core", "errors"})

ADAPTERS = frozenset({"capture", "jpeg", "spool", "store", "broker"})
"""Each knows one thing outside; none knows another, nor the settings."""

MIDDLE = frozenset({"camera", "delivery", "fleet", "status", "home_assistant", "retrieval", "web"})
"""What stands between the adapters declares the protocols that it needs."""

DESIGN: dict[str, frozenset[str]] = {
    "errors": NOTHING,
    "logs": NOTHING,
    "core": frozenset({"errors"}),
    **dict.fromkeys(ADAPTERS | MIDDLE | {"settings"}, LEAVES),
    "client": LEAVES | {"retrieval", "broker"},
    "web": LEAVES | {"retrieval"},
    "app": LEAVES | ADAPTERS | MIDDLE | {"settings", "logs"},
    "tune": LEAVES | {"capture", "settings", "app"},
    "scan": LEAVES | {"capture", "settings", "app"},
    "cli": LEAVES | {"app", "tune", "scan", "client"},
    "__main__": frozenset({"cli"}),
}
"""The direction of dependence: what each package may import by its place in the walk."""

BEYOND: dict[tuple[str, str], str] = {
    ("tls", "errors"): "a leaf: contexts, and why a handshake failed",
    ("broker", "tls"): "one builder of TLS contexts for all connections",
    ("store", "tls"): "as the broker",
    ("web", "tls"): "as the broker; it serves HTTPS",
    ("app", "tls"): "NATS, and when certificates expire",
    ("aws_secrets", "errors"): "a leaf: secrets that AWS keeps",
    ("settings", "aws_secrets"): "a setting may refer to such a secret",
    ("store", "aws_secrets"): "the store fetches rotated credentials while it runs",
    ("retrieval", "jpeg"): "contact sheets, thumbnails and reports are made of JPEGs",
    ("client", "store"): "a program names its bucket by address: `connect` opens it",
    ("scan", "retrieval"): "annotated stills and clips, as of stored frames",
    ("cli", "retrieval"): "commands that read the bucket",
    ("cli", "settings"): "each command loads the file that it is given",
    ("cli", "logs"): "each command chooses how it logs",
}
"""Imports beyond that direction, each with its reason."""

RULES = {
    "": NOTHING,  # async_motion/__init__.py
    "tls": NOTHING,
    "aws_secrets": NOTHING,
    **DESIGN,
}
"""`DESIGN` and `BEYOND` together. Enter a new package in `DESIGN`, a further import in `BEYOND`."""
for _package, _imported in BEYOND:
    RULES[_package] |= {_imported}

APART = (("core/detection", "core/events"),)
"""Packages inside one package that share no import, either way."""

OUTSIDE: dict[str, frozenset[str]] = {
    "aiohttp": frozenset({"store", "web"}),
    "aiomqtt": frozenset({"broker"}),
    "astral": frozenset({"camera"}),
    "av": frozenset({"capture", "retrieval"}),
    "certifi": frozenset({"store"}),
    "boto3": frozenset({"aws_secrets"}),
    "botocore": frozenset({"aws_secrets"}),
    "cv2": frozenset({"core", "capture", "jpeg", "app", "retrieval", "cli", "tune", "scan"}),
    "jinja2": frozenset({"web"}),
    "iotcore": frozenset({"broker"}),
    "miniopy_async": frozenset({"store"}),
    "multidict": frozenset({"store"}),
    "nacl": frozenset({"fleet"}),
    "nats": frozenset({"fleet"}),
    "numpy": frozenset({"core", "capture", "jpeg", "retrieval", "cli", "tune"}),
    "paho": frozenset({"broker"}),
    "prometheus_client": frozenset({"web"}),
    "pydantic": frozenset({"settings", "web"}),
    "rich": frozenset({"tune"}),
    "structlog": frozenset({"logs"}),
    "uvloop": frozenset({"cli"}),
    "ray": frozenset({"scan"}),
    "ruamel": frozenset({"settings"}),
    "yaml": frozenset({"settings", "tune"}),
    "yarl": frozenset({"store"}),
    # Of the standard library, what one package hides from the rest:
    "sqlite3": frozenset({"spool"}),
}
"""Every library from outside, and who may know it: it can be exchanged there without the rest knowing."""

PURE = frozenset(
    {"__future__", "abc", "bisect", "collections", "dataclasses", "datetime", "enum", "fractions"}
    | {"functools", "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "statistics"}
    | {"string", "types", "typing", "unicodedata", "urllib.parse", "zlib", "cv2", "numpy"}
)
"""What `core` may import from outside: no loop, clock, file, socket, log or chance of its own."""

PURE_MODULES = frozenset(
    {"home_assistant/entities", "home_assistant/payloads", "home_assistant/places"}
    | {"home_assistant/removal"}
    | {"tune/scoring", "tune/search"}
)
"""Modules outside `core` that are pure all the same."""

IMPURE_BUILTINS = frozenset({"breakpoint", "eval", "exec", "input", "open", "print"})

IMPURE_MEMBERS = frozenset(
    {"now", "today", "utcnow"}
    | {"VideoCapture", "VideoWriter", "imread", "imshow", "imwrite", "waitKey"}
    | {"fromfile", "load", "loadtxt", "memmap", "save", "savetxt", "savez", "tofile"}
    | {"random", "default_rng", "randn", "randu", "setRNGSeed", "theRNG"}
)
"""The clocks, files and chance that the modules of `PURE` hold all the same."""

OUT_OF_SIGHT = frozenset({"__import__", "import_module", "run_module", "run_path", "spec_from_file_location"})
"""Ways to import that this test cannot read."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] != "__init__" else ""


def imports(path: Path) -> set[str]:
    """Return the absolute names of all modules, and of what is taken from them, that a file imports."""
    found: set[str] = set()
    package = ["async_motion", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else package[: len(package) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def packages_imported(path: Path) -> set[str]:
    """Return our other packages that a file imports; `import async_motion` alone would hide which."""
    names = [name.split(".") for name in imports(path)]
    packages = {name[1] if len(name) > 1 else "all of them" for name in names if name[0] == "async_motion"}
    # `from async_motion import __version__` is not a package.
    return packages - {"__version__", package_of(path)}


def outside_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"async_motion"}


def members_used(path: Path) -> set[str]:
    """Return what a file takes out of modules and objects, by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return attributes | {part for name in imports(path) for part in name.split(".")}


def names_read(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def is_pure(name: str) -> bool:
    return any(name == pure or name.startswith(f"{pure}.") for pure in PURE)


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@each(modules())
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    package = package_of(path)
    assert package in RULES, f"{package} is a new package: say in RULES what it may import"
    assert packages_imported(path) <= RULES[package]


@each(modules())
def test_a_library_is_known_only_to_the_packages_that_hide_it(path: Path) -> None:
    for library in outside_imported(path):
        if library in OUTSIDE:
            assert package_of(path) in OUTSIDE[library], f"{library} is for {sorted(OUTSIDE[library])}"
        else:
            assert library in sys.stdlib_module_names, f"{library} is new: say in OUTSIDE who may know it"


def pure_modules() -> list[Path]:
    """Return the modules that must be pure: all of core, and those of `PURE_MODULES`."""
    return [
        path
        for path in modules()
        if package_of(path) == "core" or str(path.relative_to(ROOT).with_suffix("")) in PURE_MODULES
    ]


@each(pure_modules())
def test_a_pure_module_has_no_loop_clock_file_socket_log_or_chance(path: Path) -> None:
    outside = {name for name in imports(path) if not name.startswith("async_motion.")}
    assert {name for name in outside if not is_pure(name)} == set()
    assert members_used(path) & IMPURE_MEMBERS == set()
    assert names_read(path) & IMPURE_BUILTINS == set()


@pytest.mark.parametrize(("one", "other"), APART)
def test_packages_that_stand_apart_share_no_import(one: str, other: str) -> None:
    for here, there in ((one, other), (other, one)):
        target = "async_motion." + there.replace("/", ".")
        for path in sorted((ROOT / here).rglob("*.py")):
            assert not [name for name in imports(path) if name.startswith(target)], path


@each(modules())
def test_no_import_is_made_where_its_reader_cannot_see_it(path: Path) -> None:
    assert (members_used(path) | names_read(path)) & OUT_OF_SIGHT == set()


def test_the_rules_allow_no_more_than_is_imported() -> None:
    unused = {package: RULES[package] - imported for package, imported in import_graph().items()}
    assert {package: rest for package, rest in unused.items() if rest} == {}
    assert not [(package, name) for package, name in BEYOND if name in DESIGN.get(package, NOTHING)]


def test_the_rules_have_no_circles() -> None:
    assert list(TopologicalSorter(RULES).static_order())[-1] == "__main__"


def test_the_rules_name_what_exists() -> None:
    """A package that was renamed, or a library that was given up, must not leave its permission behind."""
    assert RULES.keys() <= {package_of(path) for path in modules()}
    assert frozenset().union(*RULES.values()) <= RULES.keys()
    known = {(library, package_of(path)) for path in modules() for library in outside_imported(path)}
    assert {(library, package) for library, packages in OUTSIDE.items() for package in packages} <= known


def test_the_package_table_of_the_readme_is_the_rules() -> None:
    page = ROOT / "README.md"
    rows = re.findall(
        r"^\| \[`(\w+)`\]\([^)]+\) \| .+ \| ?([\w, ]*?) ?\|$", page.read_text("utf-8"), re.MULTILINE
    )
    told = {package: frozenset(filter(None, imports.split(", "))) for package, imports in rows}
    rules = {package: rule for package, rule in RULES.items() if package not in ("", "__main__")}
    assert told == rules, f"enter it in the table of {page}, section Packages"


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
        "if TYPE_CHECKING:\n    from datetime import UTC as utc\n"
    )
    assert packages_imported(module) == {"settings", "spool", "core", "broker"}
    assert outside_imported(module) == {"time", "datetime"}
    module.write_text("import async_motion\nimport async_motion as am\nfrom async_motion import *\n")
    assert packages_imported(module) == {"all of them", "*"}


def test_the_reader_of_names_sees_what_core_must_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    module = tmp_path / "core.py"
    module.write_text("from numpy.random import Generator as chance\nclock = datetime.now\nopen('x')\n")
    assert members_used(module) & IMPURE_MEMBERS == {"random", "now"}
    assert names_read(module) & IMPURE_BUILTINS == {"open"}
    module.write_text("def age(now: float) -> float:\n    return now - 1.0\n")
    assert members_used(module) & IMPURE_MEMBERS == set(), "a name of one's own is not a clock"
    assert is_pure("numpy.typing.NDArray")
    assert not is_pure("numpydoc")


LATER = frozenset({"aws_secrets", "client", "fleet", "retrieval", "scan", "tls"})
"""What was added after the layout had its goal: at most 18 at the top, and 50 imports between them."""

MAX_TOP, MAX_EDGES = 18, 50
"""That goal, of all but `LATER`."""
MAX_TOP_ALL, MAX_EDGES_ALL = 24, 79
"""Modules and packages at the top, as the design names them, and the imports between them.

A new one is a decision: raise this with it.
"""


def import_graph() -> dict[str, set[str]]:
    """Return what each package imports."""
    graph: dict[str, set[str]] = {}
    for path in modules():
        if package_of(path):
            graph.setdefault(package_of(path), set()).update(packages_imported(path))
    return graph


def edges_of(graph: dict[str, set[str]]) -> int:
    return sum(len(imported) for imported in graph.values())


def test_the_import_graph_stays_small(capsys: pytest.CaptureFixture[str]) -> None:
    """The graph is printed, so that a change of it is seen."""
    graph = import_graph()
    first = {package: imported - LATER for package, imported in graph.items() if package not in LATER}
    with capsys.disabled():
        print(f"\n{len(graph)} at the top, {edges_of(graph)} imports between them")
        print(f"without {', '.join(sorted(LATER))}: {len(first)} at the top, {edges_of(first)} imports")
        for package, imported in sorted(graph.items()):
            print(f"  {package}: {', '.join(sorted(imported)) or '-'}")
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)
    assert graph.keys() >= LATER
    assert (len(first) <= MAX_TOP, edges_of(first) <= MAX_EDGES) == (True, True)
    assert (len(graph) <= MAX_TOP_ALL, edges_of(graph) <= MAX_EDGES_ALL) == (True, True)
