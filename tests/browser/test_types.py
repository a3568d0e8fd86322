"""The scripts of the pages are typed by JSDoc: TypeScript checks them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.need import need
from tests.support.npm import package
from tests.support.service import ROOT

TYPESCRIPT = "typescript@5.9.3"
STATIC = ROOT / "async_motion/web/static"
OPTIONS = ("--noEmit", "--checkJs", "--strict", "--target", "es2022", "--module", "es2022",
           "--lib", "es2023,dom,dom.iterable")  # fmt: skip


def errors(folder: Path) -> list[str]:
    """Return what `tsc` says about the scripts in a folder, one line for each error."""
    node = shutil.which("node")
    need(node is not None, "node")
    scripts = sorted(str(path) for path in folder.glob("*.js"))
    assert scripts
    done = subprocess.run(
        [node or "node", str(package(TYPESCRIPT) / "bin/tsc"), *OPTIONS, *scripts],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    found = done.stdout.splitlines()
    assert bool(found) == bool(done.returncode), done.stderr
    return found


def test_the_scripts_are_typed(tmp_path: Path) -> None:
    folder = tmp_path / "static"
    shutil.copytree(STATIC, folder)
    vendored = folder / "vendor/lit-html.js"
    vendored.write_text("// @ts-nocheck\n" + vendored.read_text())
    assert errors(folder) == []
    script = folder / "live-wall.js"
    script.write_text(script.read_text() + "\nask(7);\n")
    assert "live-wall.js" in errors(folder)[0]
